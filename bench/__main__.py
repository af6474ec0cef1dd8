"""What a tick costs: `make bench`. Counts and ratios of one run, never bare times: machines differ, and are shared.

A real Prometheus scrapes an exporter of N services with two versions each, and once all that may surround them
(ejections, node exporters, istiod); N judges are fed as in the daemon.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from canary.daemon.evidence import Evidence
from canary.daemon.surroundings import Exported
from canary.daemon.tracks import Case
from canary.engine.observed import Observed
from canary.engine.step import step
from canary.model.policy import ISTIO_BUCKETS_MS, Policy
from canary.model.policy_yaml import parse_policy
from canary.model.rollout import Rollout
from canary.model.route import RouteState
from canary.sandbox.prometheus import PrometheusServer, ScrapeTarget
from canary.shipped import shipped
from canary.telemetry.queries import Workload
from canary.telemetry.settings import SourceSettings
from canary.telemetry.source import PrometheusSource
from canary.telemetry.tiles import Tile

NAMESPACE = "bench"
TILE_S, SETTLE_S = 1.0, 2.0
TICKS, LOOKS = 5, 10
REPEATS = 200


NODES = 20


def exposition(services: int, *, surrounded: bool) -> bytes:
    """Istio's metrics of `services` services with versions v1 and v2, at rest."""
    lines = []
    if surrounded:
        lines.append("pilot_total_xds_rejects 0")
        lines += [f'node_uname_info{{node="node-{number}"}} 1' for number in range(NODES)]
        for number in range(NODES):
            for mode in ("idle", "user", "steal"):
                lines.append(f'node_cpu_seconds_total{{node="node-{number}",cpu="0",mode="{mode}"}} 1000')
    for number in range(services):
        for version in ("v1", "v2"):
            labels = (
                f'reporter="source",destination_workload="svc{number}-{version}",'
                f'destination_workload_namespace="{NAMESPACE}",grpc_response_status=""'
            )
            lines.append(f'istio_requests_total{{{labels},response_code="200"}} 1000')
            lines.append(f'istio_requests_total{{{labels},response_code="503"}} 1')
            name = "istio_request_duration_milliseconds"
            for bound in (*ISTIO_BUCKETS_MS, "+Inf"):
                lines.append(f'{name}_bucket{{{labels},response_code="200",le="{bound}"}} 1000')
            lines.append(f'{name}_count{{{labels},response_code="200"}} 1000')
            if surrounded:
                cluster = f'{{cluster_name="outbound|80|{version}|svc{number}.{NAMESPACE}.svc.cluster.local"}}'
                lines.append(f"envoy_cluster_outlier_detection_ejections_active{cluster} 0")
                lines.append(f"envoy_cluster_membership_total{cluster} 3")
    return ("\n".join(lines) + "\n").encode()


def case(number: int, policy: Policy, since: datetime) -> Case:
    """A rollout at 10 % since `since`, as the daemon reads it."""
    arm = {"label": "version", "revision": "r"}
    status = {
        "phase": "Progressing",
        "service": f"svc{number}",
        "targetRevision": "r",
        "step": {"index": 1, "of": policy.strategy.last_step},
        "weight": {"desired": 10, "configured": 10},
        "resumedAt": since,
        "tile": "1s",
        "stable": arm | {"deployment": f"svc{number}-v1", "subset": "v1", "value": "v1"},
        "canary": arm | {"deployment": f"svc{number}-v2", "subset": "v2", "value": "v2"},
        "route": {"virtualService": f"svc{number}", "host": f"svc{number}"},
        "policy": {"name": policy.name, "digest": policy.digest},
        "weightChanges": [{"step": 1, "weight": 10, "asked": since, "reached": since}],
    }
    meta = {"namespace": NAMESPACE, "name": f"svc{number}-v2-r-1", "uid": str(number), "resourceVersion": "1"}
    document = {"metadata": meta | {"creationTimestamp": since}, "status": status}
    rollout = Rollout.parse(document | {"spec": {"target": f"svc{number}-v2", "policyName": policy.name}})
    nodes = frozenset({f"node-{number % NODES}"})
    return Case(rollout, policy, nodes, nodes)


def serve(body: bytes) -> ThreadingHTTPServer:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """A scrape a second is not news."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


class WithoutPast(PrometheusSource):
    """Stable's past is not read: five hundred times would be most of the bench's time."""

    def histories(self, *_: Any, **__: Any) -> Mapping[Workload, tuple[Tile, ...]]:
        return {}


def begin(source: PrometheusSource, one: Case) -> int:
    """Queries until the first verdict of a rollout."""
    source.facts()
    sent = source.queries_sent
    Evidence(source).tick([one], time.time(), settle_s=SETTLE_S)
    return source.queries_sent - sent


def measure(source: PrometheusSource, cases: list[Case], exported: Exported) -> tuple[float, ...]:
    """Queries per tick and per look for disasters; milliseconds of a look, and of this process per tick."""
    evidence = Evidence(source)
    evidence.exports(exported)
    evidence.tick(cases, time.time(), settle_s=SETTLE_S)
    while evidence.is_behind:
        evidence.tick(cases, time.time(), settle_s=SETTLE_S)
    sent, spent = source.queries_sent, 0.0
    for _ in range(TICKS):
        time.sleep(TILE_S)  # so that each tick has a tile of its own
        before = time.process_time()
        evidence.tick(cases, time.time(), settle_s=SETTLE_S)
        spent += time.process_time() - before
    ticks = (source.queries_sent - sent) / TICKS
    sent, begun = source.queries_sent, time.monotonic()
    for _ in range(LOOKS):
        evidence.look_for_disasters(cases, time.time())
    look_ms = 1000 * (time.monotonic() - begun) / LOOKS
    return ticks, (source.queries_sent - sent) / LOOKS, look_ms, 1000 * spent / TICKS


def step_microseconds(cases: list[Case]) -> float:
    """Processor time of one `engine.step` on a rollout that just goes on."""
    one = cases[0]
    observed = Observed(
        one.rollout,
        policy=one.policy,
        route=RouteState(10, False, "1"),
        target_revision="r",
        stable_revision="r",
    )
    now = datetime.now(UTC)
    before = time.process_time()
    for _ in range(REPEATS):
        step(observed, now)
    return 1e6 * (time.process_time() - before) / REPEATS


def exported_by(source: PrometheusSource) -> Exported:
    facts = source.facts(refresh=True)
    return Exported(facts.has_ejections, facts.has_steal, facts.has_control_plane)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--rollouts", type=int, nargs="+", default=[1, 10, 100, 500])
    sizes = sorted(parser.parse_args().rollouts)
    policy = parse_policy((shipped("policies") / "demo.yaml").read_text(), "demo.yaml")
    columns = ("source has", "rollouts", "queries to begin", "a tick", "a look", "a look takes", "CPU a tick", "each")
    table = Table(*columns, "step()")
    for surrounded in (False, True):
        exporter = serve(exposition(sizes[-1], surrounded=surrounded))
        address = f"127.0.0.1:{exporter.server_address[1]}"
        target = ScrapeTarget(address, "istio-system", "exporter", path="/metrics", keep=None)
        with tempfile.TemporaryDirectory() as folder, PrometheusServer(Path(folder), [target]) as prometheus:
            source = WithoutPast(SourceSettings(prometheus.url, timeout_s=30))
            deadline = time.monotonic() + 60
            while not source.facts().scrape_interval_s and time.monotonic() < deadline:
                time.sleep(0.5)  # Prometheus makes its first scrape some seconds after its start
                source.facts(refresh=True)
            exported = exported_by(source)
            for size in sizes:
                cases = [case(number, policy, datetime.now(UTC) - timedelta(seconds=10)) for number in range(size)]
                ticks, looks, look_ms, cpu_ms = measure(source, cases, exported)
                table.add_row(
                    "all" if surrounded else "counts only",
                    str(size),
                    f"{begin(PrometheusSource(SourceSettings(prometheus.url)), cases[0])} each",
                    f"{ticks:g}",
                    f"{looks:g}",
                    f"{look_ms:.1f} ms",
                    f"{cpu_ms:.1f} ms",
                    f"{cpu_ms / size:.3f} ms",
                    f"{step_microseconds(cases):.0f} µs",
                )
            source.close()
        exporter.shutdown()
        exporter.server_close()
    Console(width=140).print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
