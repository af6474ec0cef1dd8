"""A controller that starts in the middle of a rollout knows, bit for bit, what one knows that saw it all.

Everything that a window carries comes from a real Prometheus, which scrapes counters that grow by chance, fail to be
scraped now and then, and begin and end in between.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from canary.analysis.record import Record
from canary.analysis.state import dump
from canary.daemon import windows
from canary.daemon.evidence import Evidence
from canary.daemon.surroundings import Exported
from canary.daemon.tracks import Case
from canary.model.policy import Policy
from canary.model.rollout import ArmStatus, Phase, Rollout, RolloutSpec, RolloutStatus, StepStatus, WeightChange
from canary.model.verdict import Window
from canary.sandbox.prometheus import PrometheusServer, ScrapeTarget
from canary.telemetry.settings import SourceSettings
from canary.telemetry.source import PrometheusSource

pytestmark = pytest.mark.slow

TILE_S, SETTLE_S = 1.0, 1.0
BOUNDS = ("100", "250", "500", "1000", "+Inf")
POLICY = Policy.model_validate(
    {
        "name": "everything",
        "strategy": {"weights": [20, 50, 100], "hold": "10s"},
        "analysis": {
            "warmup": "0s", "errorRate": {"max": "20%"}, "p99": {"max": "1s"},
            "metrics": [{"name": "depth", "query": 'queue_depth{app="{{canary}}"}', "max": 1000}],
        },
    }
)  # fmt: skip


class Mesh(ThreadingHTTPServer):
    """What a caller's proxy, a node exporter and an application expose, in one page; some scrapes of it fail."""

    daemon_threads = True

    def __init__(self) -> None:
        chance = random.Random(4)
        counters: dict[str, int] = {}
        lock = threading.Lock()
        begun = time.time()

        def grow(series: str, by: int) -> str:
            counters[series] = counters.get(series, 0) + by
            return f"{series} {counters[series]}"

        def lines() -> Iterator[str]:
            steal = 0.0
            for version in ("v1", "v2"):
                arm = (
                    f'reporter="source",destination_workload_namespace="shop",destination_workload="payment-{version}"'
                )
                total = chance.randrange(20, 60)
                failed = chance.randrange(3) if time.time() - begun > 9 else 0  # this series is born in the middle
                yield grow(f'istio_requests_total{{{arm},response_code="200"}}', total - failed)
                if failed:
                    yield grow(f'istio_requests_total{{{arm},response_code="503"}}', failed)
                timed = 0
                for bound in BOUNDS:
                    timed = total - failed if bound == "+Inf" else min(total - failed, timed + chance.randrange(9))
                    le = f'{arm},response_code="200",le="{bound}"'
                    yield grow(f"istio_request_duration_milliseconds_bucket{{{le}}}", timed)
                cluster = f'cluster_name="outbound|80|{version}|payment.shop.svc.cluster.local"'
                yield f"envoy_cluster_outlier_detection_ejections_active{{{cluster}}} {chance.randrange(2)}"
                yield f"envoy_cluster_membership_total{{{cluster}}} 3"
            lost = 'reporter="source",destination_workload="unknown",destination_workload_namespace="unknown"'
            service = 'destination_service="payment.shop.svc.cluster.local",destination_service_name="payment"'
            flags = 'source_workload_namespace="shop",response_flags="UH",response_code="503"'
            yield grow(f"istio_requests_total{{{lost},{service},{flags}}}", chance.randrange(2))
            yield f'queue_depth{{app="payment-v2"}} {chance.randrange(100)}'
            yield 'node_uname_info{nodename="node-2"} 1'
            steal = counters["steal"] = counters.get("steal", 0) + chance.randrange(10)
            yield f'node_cpu_seconds_total{{cpu="0",mode="steal"}} {steal / 10}'
            yield f'node_cpu_seconds_total{{cpu="0",mode="idle"}} {time.time() - begun}'

        class Exposition(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                with lock:
                    body = "".join(f"{line}\n" for line in lines()).encode()
                    self.send_response(500 if chance.random() < 0.1 else 200)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                """Scrapes are not news."""

        super().__init__(("127.0.0.1", 0), Exposition)
        threading.Thread(target=self.serve_forever, daemon=True).start()


@pytest.fixture
def source(tmp_path: Path) -> Iterator[PrometheusSource]:
    mesh = Mesh()
    target = ScrapeTarget(f"127.0.0.1:{mesh.server_port}", namespace="shop", keep=None)
    with PrometheusServer(tmp_path / "prometheus", [target], scrape_interval_s=0.5) as server:
        made = PrometheusSource(SourceSettings(server.url))
        yield made
        made.close()
    mesh.shutdown()
    mesh.server_close()


def case(changes: tuple[WeightChange, ...]) -> Case:
    arms = {
        role: ArmStatus(deployment=f"payment-{version}", subset=version, label="version", value=version)
        for role, version in (("stable", "v1"), ("canary", "v2"))
    }
    status = RolloutStatus(
        phase=Phase.PROGRESSING, service="payment", step=StepStatus(index=changes[-1].step, of=3),
        tile=timedelta(seconds=TILE_S), weight_changes=changes, **arms,
    )  # fmt: skip
    rollout = Rollout(
        namespace="shop", name="payment-v2-x-1", uid="u-1", resource_version="1", generation=1,
        created=datetime.now(UTC), deleting=False, finalizers=(), status=status,
        spec=RolloutSpec(target="payment-v2", policy_name=POLICY.name),
    )  # fmt: skip
    return Case(rollout, POLICY, frozenset({"node-2"}), frozenset({"node-2"}))


def change(step: int, asked: float) -> WeightChange:
    at = datetime.fromtimestamp(asked, UTC)
    return WeightChange(step=step, weight=(20, 50, 100)[step - 1], asked=at, reached=at + timedelta(milliseconds=70))


def evidence_on(source: PrometheusSource) -> Evidence:
    evidence = Evidence(source)
    evidence.exports(Exported(ejections=True, steal=True, control_plane=True))
    return evidence


def kept(evidence: Evidence, one: Case) -> tuple[Any, list[Window]]:
    """The judge's whole state, and the windows on record."""
    recorder = evidence.recorder(one.rollout.uid)
    assert recorder is not None
    record = Record.unpack(recorder.pack())
    return dump(evidence._tracks[one.rollout.uid].judge), [seen.window for seen in record.lives[-1].windows]


def test_evidence_after_a_restart_is_the_same_bit_for_bit(
    source: PrometheusSource, wait: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(windows, "PROPAGATION_S", 0.2)
    wait(lambda: source.facts(refresh=True).has_requests, 30)
    time.sleep(4)  # stable has a past
    live = evidence_on(source)
    begun = time.time()
    changes: tuple[WeightChange, ...] = (change(1, begun),)
    one = case(changes)
    now = begun
    while now < begun + 26:
        now = time.time()
        due = 1 + (now > begun + 9.3) + (now > begun + 17.8)
        if due > len(changes):
            changes = (*changes, change(due, now))
            one = case(changes)
        assert live.tick([one], now, SETTLE_S) == ""
        live.look_for_disasters([one], now)
        live.verdict(one, now)
        time.sleep(0.23)

    restarted = evidence_on(source)
    assert restarted.tick([one], now, SETTLE_S) == ""
    while restarted.is_behind:  # on a busy machine it is begun in slices
        assert restarted.tick([one], now, SETTLE_S) == ""

    state, seen = kept(live, one)
    state_again, seen_again = kept(restarted, one)
    assert seen_again == seen
    assert state_again == state
    assert restarted.verdict(one, now) == live.verdict(one, now)
    # and all of it was there to be the same
    assert {window.step for window in seen} == {1, 2, 3}
    assert len(seen) > 12
    assert any(window.canary.errors for window in seen)
    assert any(window.unattributed.errors for window in seen)
    assert any(window.ejections and window.ejections.canary_members == 3 for window in seen)
    assert any("depth" in window.metrics for window in seen)
    just_after = {one.reached.timestamp() + 0.2 + TILE_S: one.step for one in changes if one.reached}
    early = [
        window for window in seen for known, step in just_after.items() if window.step == step and window.start < known
    ]
    assert early or len(seen) > 14, "no tile right after a weight was judged by its scrapes"
