"""The controller on a real Prometheus that scrapes counters of which every value is known."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from canary.model.rollout import Phase
from canary.sandbox.prometheus import PrometheusServer, ScrapeTarget
from canary.telemetry.settings import SourceSettings

pytestmark = pytest.mark.slow

ATTEMPT = "payment-v2-v2a-1"
BOUNDS = ("500", "1000", "+Inf")


class Mesh(ThreadingHTTPServer):
    """Counters of v1 and v2 of a namespace: each gets PER_SECOND requests, and v2 fails from `fails_since` on."""

    daemon_threads = True
    PER_SECOND = 200

    def __init__(self) -> None:
        self.namespace = ""
        self.fails_since = float("inf")
        self._begun = time.time()
        mesh = self

        class Exposition(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.end_headers()
                self.wfile.write("".join(f"{line}\n" for line in mesh.lines()).encode())

            def log_message(self, *_: Any) -> None:
                """Scrapes are not news."""

        super().__init__(("127.0.0.1", 0), Exposition)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def lines(self) -> Iterator[str]:
        if not self.namespace:
            yield "something_else 1"
            return
        now = time.time()
        total = int((now - self._begun) * self.PER_SECOND)
        failed = total - int((min(now, self.fails_since) - self._begun) * self.PER_SECOND)
        for version, errors in (("v1", 0), ("v2", failed)):
            workload = f'destination_workload="payment-{version}"'
            arm = f'reporter="source",destination_workload_namespace="{self.namespace}",{workload}'
            yield f'istio_requests_total{{{arm},response_code="200"}} {total - errors}'
            yield f'istio_requests_total{{{arm},response_code="503"}} {errors}'
            for bound in BOUNDS:
                labels = f'{arm},response_code="200",le="{bound}"'
                yield f"istio_request_duration_milliseconds_bucket{{{labels}}} {total - errors}"


@pytest.fixture
def mesh() -> Iterator[Mesh]:
    made = Mesh()
    yield made
    made.shutdown()
    made.server_close()


@pytest.fixture
def prometheus(tmp_path: Any, mesh: Mesh) -> Iterator[PrometheusServer]:
    target = ScrapeTarget(f"127.0.0.1:{mesh.server_port}", namespace="shop", keep=None)
    server = PrometheusServer(tmp_path / "prometheus", [target], scrape_interval_s=0.5)
    yield server
    server.stop()


@pytest.fixture
def start(prometheus: PrometheusServer, run_daemon: Callable[..., Any]) -> Callable[[], Any]:
    """A controller that finds everything out by itself but how often to look."""
    source = SourceSettings(prometheus.url, timeout_s=2.0)
    return lambda: run_daemon(source=source, tile_s=None, tick_s=0.5, settle_s=None, abort_period_s=0.5)


def test_found_after_its_controller_and_without_istio_at_first_it_is_waited_for_and_then_believed(
    released: Any, mesh: Mesh, prometheus: PrometheusServer, start: Callable[[], Any]
) -> None:
    before = released.written()
    start()
    released.release("v2", policy="quick")

    away = released.stalled(ATTEMPT, "TelemetryUnavailable")
    assert prometheus.url in away.status.message
    assert released.event("payment-v2", "TelemetryUnavailable") == away.status.message

    prometheus.start()
    without = released.stalled(ATTEMPT, "MetricsMissing")
    assert "istio_requests_total" in without.status.message
    assert prometheus.url in without.status.message
    assert released.written() == before

    mesh.namespace = released.namespace
    done = released.reaches(ATTEMPT, Phase.SUCCEEDED, seconds=60)
    assert done.status.tile is not None
    assert done.status.tile.total_seconds() == 1.0  # scraped every 0.5 s; a tile is a second at least
    assert released.weights() == {"v1": 0, "v2": 100}


def test_a_release_that_fails_every_request_loses_its_traffic_within_seconds(
    released: Any, mesh: Mesh, prometheus: PrometheusServer, start: Callable[[], Any]
) -> None:
    mesh.namespace = released.namespace
    prometheus.start()
    start()
    released.release("v2", policy="slow")
    released.reaches(ATTEMPT, Phase.PROGRESSING, seconds=60)
    released.until_judged(ATTEMPT)

    mesh.fails_since = time.time()
    ended = released.reaches(ATTEMPT, Phase.ROLLED_BACK)

    back = next(one.asked for one in ended.status.weight_changes if one.weight == 0)
    assert back.timestamp() - mesh.fails_since < 5.0
    assert released.weights() == {"v1": 100}


def test_prometheus_killed_for_longer_than_the_step_holds_and_never_rolls_back(
    released: Any, mesh: Mesh, prometheus: PrometheusServer, start: Callable[[], Any], wait: Callable[..., Any]
) -> None:
    mesh.namespace = released.namespace
    prometheus.start()
    controller = start()
    released.release("v2", policy="slow")
    released.reaches(ATTEMPT, Phase.PROGRESSING, seconds=60)
    released.until_judged(ATTEMPT)

    prometheus.kill()
    held = released.stalled(ATTEMPT, "TelemetryUnavailable")
    controller.ticks(10)
    writes = len(controller.writes)
    controller.ticks(10)

    assert len(controller.writes) == writes  # an outage is said once
    assert held.status.phase is Phase.PROGRESSING
    assert released.rollout(ATTEMPT).status.resumed_at is None
    prometheus.start()
    wait(lambda: released.rollout(ATTEMPT).status.resumed_at is not None, 40, what="for the step to go on")
    assert released.weights() == {"v1": 50, "v2": 50}
    assert [one.phase for one in released.rollout(ATTEMPT).status.history] == [
        one.phase for one in held.status.history
    ]  # nothing but the hold
