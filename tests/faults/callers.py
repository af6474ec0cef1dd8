"""Callers of the services under test: no request is really sent, but each is counted as the route says at that moment.

Counters follow the routes as they stand in the API server, read past every fault, and are scraped by a real Prometheus
from two targets, each with half of the requests. Rates are exact, without noise: what a judge sees is the truth about
weights and versions, and whoever is promoted or sent back against it was judged wrongly. Requests that a route sends
where nobody can answer are counted as lost.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from canary.cluster.gateway import Gateway
from canary.cluster.kinds import DESTINATIONRULE, VIRTUALSERVICE
from canary.cluster.reflector import Change, Reflector
from canary.errors import ClusterError
from canary.model.policy import ISTIO_BUCKETS_MS

Object = dict[str, Any]
TARGETS = 2

QUICK = {5: 0.4, 10: 0.7, 25: 0.95, 50: 0.995, 100: 1.0}
SLOW = {5: 0.3, 10: 0.5, 25: 0.6, 50: 0.7, 100: 0.7, 1000: 1.0}
"""Share of requests done within so many milliseconds, by bucket."""


@dataclass(frozen=True, slots=True)
class Behaviour:
    """How a version treats its requests: the share that fails with 503, and how fast the others are."""

    errors: float = 0.0
    within: Mapping[int, float] = field(default_factory=lambda: QUICK)

    def share_within(self, bound_ms: float) -> float:
        return max((share for bound, share in self.within.items() if bound <= bound_ms), default=0.0)


@dataclass
class Service:
    """`payment` in one namespace: who calls it how often, and what its versions do."""

    namespace: str
    per_second: float
    versions: dict[str, Behaviour] = field(default_factory=dict)
    """The versions that have a ready pod."""
    shares: dict[str, float] = field(default_factory=dict)
    """Version -> share of the requests, as the route has it now; "" for a destination that nobody answers for."""
    requests: dict[str, float] = field(default_factory=dict)
    errors: dict[str, float] = field(default_factory=dict)
    lost: float = 0.0
    lost_because: str = ""
    counted_until: float = field(default_factory=time.monotonic)
    served: dict[str, Behaviour] = field(default_factory=dict)
    """Every version there ever was: its series stay with the proxies that called it."""

    def advance(self, now: float) -> None:
        """Count what was sent since the last time, by the shares that held all that time."""
        requests = self.per_second * max(0.0, now - self.counted_until)
        self.counted_until = now
        for version, share in self.shares.items():
            if version in self.versions:
                self.requests[version] = self.requests.get(version, 0.0) + share * requests
                failed = share * requests * self.versions[version].errors
                self.errors[version] = self.errors.get(version, 0.0) + failed
            else:
                self.lost += share * requests

    def lines(self, target: int) -> Iterator[str]:
        for version, behaviour in self.served.items():
            total, failed = (_half(counts.get(version, 0.0), target) for counts in (self.requests, self.errors))
            if not total:
                continue  # a proxy has no series before the first request
            arm = (
                f'reporter="source",destination_workload_namespace="{self.namespace}",'
                f'destination_workload="payment-{version}",destination_service_name="payment",'
                f'destination_service_namespace="{self.namespace}"'
            )
            yield f'istio_requests_total{{{arm},response_code="200"}} {total - failed}'
            if failed:
                yield f'istio_requests_total{{{arm},response_code="503"}} {failed}'
            timed = total - failed
            for bound in ISTIO_BUCKETS_MS:
                count = int(timed * behaviour.share_within(bound))
                labels = f'{arm},response_code="200",le="{bound:g}"'
                yield f"istio_request_duration_milliseconds_bucket{{{labels}}} {count}"
            labels = f'{arm},response_code="200",le="+Inf"'
            yield f"istio_request_duration_milliseconds_bucket{{{labels}}} {timed}"


def _half(count: float, target: int) -> int:
    """What one of the targets has counted: whole requests, and both together exactly all of them."""
    whole = int(count)
    return whole // TARGETS + (1 if target < whole % TARGETS else 0)


class Callers:
    """Everybody's callers, and the two targets where Prometheus finds what they counted."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._lock = threading.RLock()
        self._services: dict[str, Service] = {}
        self._routes: dict[str, Object] = {}
        self._rules: dict[str, Object] = {}
        self.targets = [Target(self, number) for number in range(TARGETS)]
        self._reflectors = [
            Reflector(
                gateway, VIRTUALSERVICE, project=dict, on_change=lambda change: self._heard(self._routes, change)
            ),
            Reflector(
                gateway, DESTINATIONRULE, project=dict, on_change=lambda change: self._heard(self._rules, change)
            ),
        ]

    def start(self) -> None:
        for reflector in self._reflectors:
            reflector.start()
        for target in self.targets:
            target.start()

    def stop(self) -> None:
        for reflector in self._reflectors:
            reflector.stop()
        for target in self.targets:
            target.stop()

    def call(self, namespace: str, per_second: float) -> None:
        """From now on somebody calls `payment` there so often."""
        with self._lock:
            service = self._services.setdefault(namespace, Service(namespace, per_second))
            service.advance(time.monotonic())
            service.per_second = per_second
        self._follow(namespace)

    def forget(self, namespace: str) -> None:
        """Nobody calls there any more, and no proxy tells of it: its series end."""
        with self._lock:
            self._services.pop(namespace, None)

    def serve(self, namespace: str, version: str, behaviour: Behaviour) -> None:
        """A version has a ready pod and behaves so."""
        with self._lock:
            service = self._services[namespace]
            service.advance(time.monotonic())
            service.versions[version] = service.served[version] = behaviour
        self._follow(namespace)

    def withdraw(self, namespace: str, version: str) -> None:
        """A version's pods are gone."""
        with self._lock:
            service = self._services[namespace]
            service.advance(time.monotonic())
            service.versions.pop(version, None)
        self._follow(namespace)

    @property
    def lost(self) -> dict[str, str]:
        """Namespace -> how many requests found nobody, and why; without those that lost none."""
        with self._lock:
            self._advance()
            return {
                service.namespace: f"{service.lost:.0f} requests: {service.lost_because}"
                for service in self._services.values()
                if service.lost >= 1
            }

    @property
    def sent(self) -> int:
        with self._lock:
            self._advance()
            return round(sum(sum(service.requests.values()) + service.lost for service in self._services.values()))

    def exposition(self, target: int) -> bytes:
        with self._lock:
            self._advance()
            lines = [line for service in self._services.values() for line in service.lines(target)]
        return "".join(f"{line}\n" for line in lines).encode()

    def restarted(self) -> None:
        """The callers' proxies were restarted: all counters begin from nothing."""
        with self._lock:
            for service in self._services.values():
                service.advance(time.monotonic())
                service.requests.clear()
                service.errors.clear()

    def _advance(self) -> None:
        now = time.monotonic()
        for service in self._services.values():
            service.advance(now)

    def _heard(self, kept: dict[str, Object], change: Change[Object]) -> None:
        namespace, name = change.key
        if name != "payment":
            return
        with self._lock:
            if change.new is None:
                kept.pop(namespace, None)
            else:
                kept[namespace] = change.new
        self._follow(namespace)

    def _follow(self, namespace: str) -> None:
        """Divide the requests as the route says from now on."""
        with self._lock:
            if namespace not in self._services:
                return
            shares, why = _divided(self._routes.get(namespace), self._rules.get(namespace), self._services[namespace])
        if "" in shares:
            # two watches have no common order: ask whether it was ever so
            shares, why = self._asked(namespace) or (shares, why)
        with self._lock:
            service = self._services.get(namespace)
            if service is None:
                return  # nobody calls any more
            service.advance(time.monotonic())
            service.shares = shares
            service.lost_because = why or service.lost_because

    def _asked(self, namespace: str) -> tuple[dict[str, float], str] | None:
        """The division as the API server has it now; None when it changes while it is looked at, or is not to be had.

        Only a route that is the same before and after the rule was read has really met that rule.
        """
        try:
            route = self._gateway.get(VIRTUALSERVICE, namespace, "payment")
            for _ in range(10):
                rule = self._gateway.get(DESTINATIONRULE, namespace, "payment")
                again = self._gateway.get(VIRTUALSERVICE, namespace, "payment")
                if again["metadata"]["resourceVersion"] == route["metadata"]["resourceVersion"]:
                    with self._lock:
                        service = self._services.get(namespace)
                        return _divided(route, rule, service) if service else None
                route = again
        except ClusterError:
            return None
        return None


def _divided(route: Object | None, rule: Object | None, service: Service) -> tuple[dict[str, float], str]:
    """(share by version, why some share has nobody)."""
    if route is None:
        return {}, ""
    labels = {
        subset["name"]: subset.get("labels") or {} for subset in ((rule or {}).get("spec") or {}).get("subsets", ())
    }
    shares: dict[str, float] = {}
    why = ""
    entries = route["spec"]["http"][-1]["route"]
    for entry in entries:
        share = entry.get("weight", 100 if len(entries) == 1 else 0) / 100
        if not share:
            continue
        subset = entry["destination"].get("subset", "")
        version = labels.get(subset, {}).get("version", "")
        if version not in service.versions:
            why = f"subset {subset} " + ("has no ready pod" if version else "is not in the DestinationRule")
            version = ""
        shares[version] = shares.get(version, 0.0) + share
    return shares, why


class Target(ThreadingHTTPServer):
    """One scrape target. `fails` is what is wrong with it: "", "down" (500), "cut" (half a page), "hangs"."""

    daemon_threads = True

    def __init__(self, callers: Callers, number: int) -> None:
        self.fails = ""
        self._ended = threading.Event()
        target = self

        class Exposition(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                fails = target.fails
                if fails == "hangs":
                    target._ended.wait(5)  # longer than a scrape may take
                    return
                body = callers.exposition(number)
                self.send_response(500 if fails == "down" else 200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(b"" if fails == "down" else body[: len(body) // 2] if fails == "cut" else body)

            def log_message(self, *_: Any) -> None:
                """Scrapes are not news."""

        super().__init__(("127.0.0.1", 0), Exposition)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A Prometheus that goes away in the middle of a scrape is what these tests are about."""

    def start(self) -> None:
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    def stop(self) -> None:
        self._ended.set()
        self.shutdown()
        self.server_close()
