"""What a tick costs: `make bench`. Counts and ratios of one run, never bare times: machines differ, and are shared.

A real Prometheus scrapes an exporter of N services with two versions each; N judges are fed as in the daemon.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import threading
import time
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from rich.console import Console
from rich.table import Table

from canary.daemon.evidence import Evidence
from canary.daemon.tracks import Case
from canary.engine.observed import Observed
from canary.engine.step import step
from canary.model.policy import ISTIO_BUCKETS_MS, Policy
from canary.model.policy_yaml import parse_policy
from canary.model.rollout import Rollout
from canary.model.route import RouteState
from canary.sandbox.prometheus import PrometheusServer, ScrapeTarget
from canary.shipped import shipped
from canary.telemetry.settings import SourceSettings
from canary.telemetry.source import PrometheusSource

NAMESPACE = "bench"
TICKS = 5
REPEATS = 200


def exposition(services: int) -> bytes:
    """Istio's metrics of `services` services with versions v1 and v2, at rest."""
    lines = []
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
    return Case(Rollout.parse(document | {"spec": {"target": f"svc{number}-v2", "policyName": policy.name}}), policy)


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


def measure(source: PrometheusSource, cases: list[Case]) -> tuple[float, float, float]:
    """(queries per tick, queries per look for disasters, processor milliseconds per tick of this process)."""
    evidence = Evidence(source)
    evidence.tick(cases, time.time(), settle_s=2.0)  # the judges' first tiles
    sent, spent = source.queries_sent, 0.0
    for _ in range(TICKS):
        before = time.process_time()
        evidence.tick(cases, time.time() + TICKS, settle_s=2.0)
        spent += time.process_time() - before
    ticks = (source.queries_sent - sent) / TICKS
    sent = source.queries_sent
    evidence.look_for_disasters(cases, time.time())
    return ticks, float(source.queries_sent - sent), 1000 * spent / TICKS


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


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--rollouts", type=int, nargs="+", default=[1, 10, 100, 500])
    sizes = sorted(parser.parse_args().rollouts)
    policy = parse_policy((shipped("policies") / "demo.yaml").read_text(), "demo.yaml")
    exporter = serve(exposition(sizes[-1]))
    address = f"127.0.0.1:{exporter.server_address[1]}"
    table = Table("rollouts", "queries a tick", "queries a look", "CPU a tick", "CPU per rollout", "step()")
    with tempfile.TemporaryDirectory() as folder:
        prometheus = PrometheusServer(Path(folder), [ScrapeTarget(address, NAMESPACE, "exporter", path="/metrics")])
        prometheus.start()
        try:
            source = PrometheusSource(SourceSettings(prometheus.url))
            deadline = time.monotonic() + 60
            while not source.facts().scrape_interval_s and time.monotonic() < deadline:
                time.sleep(0.5)  # Prometheus makes its first scrape some seconds after its start
                source.facts(refresh=True)
            for size in sizes:
                since = datetime.now(UTC) - timedelta(seconds=10)
                cases = [case(number, policy, since) for number in range(size)]
                queries, looks, cpu_ms = measure(source, cases)
                table.add_row(
                    str(size),
                    f"{queries:g}",
                    f"{looks:g}",
                    f"{cpu_ms:.1f} ms",
                    f"{cpu_ms / size:.3f} ms",
                    f"{step_microseconds(cases):.0f} µs",
                )
        finally:
            prometheus.stop()
            exporter.shutdown()
    Console().print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
