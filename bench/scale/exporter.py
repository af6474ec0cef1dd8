"""The mesh's metrics of N services, as their callers' gateways export them: a process of its own.

Each gateway is a port, the nodes' exporters and istiod are one more. Requests follow the weights on the
VirtualServices, which are watched; a version that never had a request has no series, as Envoy does it. What is scraped
is made by %-formatting of texts that were put together once, so that it costs next to nothing beside what is measured.
"""

from __future__ import annotations

import argparse
import json
import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from bench.scale.shape import (
    CANARY,
    MESH_NAMESPACE,
    PER_TARGET,
    REQUESTS_PER_SECOND,
    STABLE,
    Service,
    failing,
    nodes,
    services,
)
from canary.cluster.gateway import Gateway
from canary.cluster.kinds import VIRTUALSERVICE
from canary.cluster.reflector import Change, Reflector
from canary.model.policy import ISTIO_BUCKETS_MS

MEDIAN_MS, SIGMA = 20.0, 0.5
ERROR_SHARE = 0.0002
DURATION = "istio_request_duration_milliseconds"


def _at_most(bound_ms: float) -> float:
    """The share of requests that take at most so long: log-normal."""
    return 0.5 * (1 + math.erf(math.log(bound_ms / MEDIAN_MS) / (SIGMA * math.sqrt(2))))


SHARES = tuple(_at_most(float(bound)) for bound in ISTIO_BUCKETS_MS)


@dataclass
class Arm:
    """One version's counters, and the text they stand in."""

    good_lines: bytes
    bad_line: bytes
    error_share: float
    good: float = 0.0
    bad: float = 0.0

    def count(self, requests: float) -> None:
        self.bad += requests * self.error_share
        self.good += requests * (1 - self.error_share)

    def lines(self) -> bytes:
        good, bad = int(self.good), int(self.bad)
        text = b""
        if good:
            buckets = [int(share * good) for share in SHARES]
            text = self.good_lines % (good, *buckets, good, good, good * 23)
        return text + self.bad_line % bad if bad else text


def arm(service: Service, version: str, error_share: float) -> Arm:
    labels = (
        f'reporter="source",source_workload="gateway",source_workload_namespace="{MESH_NAMESPACE}",'
        f'source_canonical_service="gateway",destination_workload="{service.deployment(version)}",'
        f'destination_workload_namespace="{service.namespace}",destination_version="{version}",'
        f'destination_service="{service.host}",destination_service_name="{service.name}",'
        f'destination_service_namespace="{service.namespace}",request_protocol="http",grpc_response_status="",'
        'response_flags="-",connection_security_policy="unknown"'
    )
    good = f'{labels},response_code="200"'
    lines = [f"istio_requests_total{{{good}}} %d"]
    lines += [f'{DURATION}_bucket{{{good},le="{bound}"}} %d' for bound in (*ISTIO_BUCKETS_MS, "+Inf")]
    lines += [f"{DURATION}_count{{{good}}} %d", f"{DURATION}_sum{{{good}}} %d"]
    bad = f'istio_requests_total{{{labels},response_code="503"}} %d\n'
    return Arm("".join(f"{line}\n" for line in lines).encode(), bad.encode(), error_share)


@dataclass
class Gateways:
    """What each gateway has counted, and when a failing canary's first errors were scraped."""

    count: int
    weights: dict[tuple[str, str], int] = field(default_factory=dict)
    heard: dict[tuple[str, str], list[tuple[float, int]]] = field(default_factory=dict)
    """By (namespace, service): when which weight of the canary was on the route (Unix seconds)."""
    first_bad: dict[str, float] = field(default_factory=dict)
    """By service: when a scrape had been answered for the first time in which its canary had errors."""

    def __post_init__(self) -> None:
        bad = set(failing(self.count))
        everyone = services(self.count)
        self.targets = [everyone[begin : begin + PER_TARGET] for begin in range(0, self.count, PER_TARGET)]
        self.failing = {service for service in everyone if service in bad}
        self._arms = {
            service: (arm(service, STABLE, ERROR_SHARE), arm(service, CANARY, 1.0 if service in bad else ERROR_SHARE))
            for service in everyone
        }
        self._counted_at = [time.time()] * len(self.targets)
        self._fixed = [self._ejections(members) for members in self.targets]
        self._lock = threading.Lock()

    def _ejections(self, members: list[Service]) -> bytes:
        lines = []
        for service in members:
            for version in (STABLE, CANARY):
                cluster = f'{{cluster_name="outbound|80|{version}|{service.host}"}}'
                lines.append(f"envoy_cluster_outlier_detection_ejections_active{cluster} 0\n")
                lines.append(f"envoy_cluster_membership_total{cluster} 1\n")
        return "".join(lines).encode()

    def heard_of(self, change: Change[int]) -> None:
        if change.new is not None:
            with self._lock:
                self.weights[change.key] = change.new
                self.heard.setdefault(change.key, []).append((time.time(), change.new))

    def scrape(self, target: int) -> bytes:
        """Count on until now, and tell."""
        with self._lock:
            now = time.time()
            seconds, self._counted_at[target] = now - self._counted_at[target], now
            parts = [self._fixed[target]]
            for service in self.targets[target]:
                weight = self.weights.get((service.namespace, service.name), 0)
                stable, canary = self._arms[service]
                stable.count(seconds * REQUESTS_PER_SECOND * (100 - weight) / 100)
                canary.count(seconds * REQUESTS_PER_SECOND * weight / 100)
                parts += (stable.lines(), canary.lines())
        return b"".join(parts)

    def scraped(self, target: int) -> None:
        """A scrape has been answered."""
        with self._lock:
            for service in self.failing.intersection(self.targets[target]):
                if int(self._arms[service][1].bad):
                    self.first_bad.setdefault(service.name, time.time())

    def told(self) -> dict[str, Any]:
        with self._lock:
            heard = {"/".join(key): moments for key, moments in self.heard.items()}
            return {"heard": heard, "first_bad": dict(self.first_bad)}


def around(count: int) -> bytes:
    """The node exporters and istiod, as one target: nothing is stolen, all proxies have their configuration."""
    lines = ["pilot_total_xds_rejects 0", "pilot_proxy_convergence_time_count 1000"]
    lines.append('pilot_proxy_convergence_time_bucket{le="10"} 1000')
    seconds = int(time.time()) % 1_000_000
    for node in nodes(count):
        lines.append(f'node_uname_info{{node="{node}",nodename="{node}"}} 1')
        for mode, value in (("idle", seconds), ("user", seconds // 4), ("steal", 7)):
            lines.append(f'node_cpu_seconds_total{{node="{node}",cpu="0",mode="{mode}"}} {value}')
    return "".join(f"{line}\n" for line in lines).encode()


def serve(body: Callable[[str], bytes], done: Callable[[], None]) -> ThreadingHTTPServer:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            content = body(urlsplit(self.path).path)
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)
            done()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """A scrape is not news."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def canary_weight(raw: dict[str, Any]) -> int:
    """The weight of subset v2 on a VirtualService."""
    found = [
        entry.get("weight", 100)
        for route in raw.get("spec", {}).get("http", ())
        for entry in route.get("route", ())
        if entry.get("destination", {}).get("subset") == CANARY
    ]
    return int(found[-1]) if found else 0


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.scale.exporter", description=__doc__)
    parser.add_argument("--services", type=int, required=True)
    parser.add_argument("--kubeconfig", required=True)
    parser.add_argument("--ports", type=Path, required=True, help="where to write the ports, once they are open")
    options = parser.parse_args()
    gateways = Gateways(options.services)
    routes = Reflector(
        Gateway.connect(options.kubeconfig), VIRTUALSERVICE, project=canary_weight, on_change=gateways.heard_of
    )
    routes.start()
    ports = []
    for target in range(len(gateways.targets)):
        server = serve(lambda _, target=target: gateways.scrape(target), lambda target=target: gateways.scraped(target))  # type: ignore[misc]
        ports.append(server.server_address[1])
    nodes_port = serve(lambda _: around(options.services), lambda: None).server_address[1]
    told_port = serve(lambda _: json.dumps(gateways.told()).encode(), lambda: None).server_address[1]
    document = {"gateways": ports, "nodes": nodes_port, "told": told_port}
    unfinished = options.ports.with_suffix(".part")
    unfinished.write_text(json.dumps(document))
    unfinished.rename(options.ports)
    threading.Event().wait()


if __name__ == "__main__":
    main()
