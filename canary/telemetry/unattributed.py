"""Requests of a service that reached no version: no healthy host (UH), no cluster (NC), an overflow (UO). Pure.

They are in no workload's series: when every host of the canary is ejected, its own series stands still while its share
of the requests fails. The service is read from `destination_service`, the host. Never from
`destination_service_namespace`: Istio takes that label from the peer, so without a host it is "unknown" (a caller's
proxy) or the waypoint's own namespace (istio/proxy, istio_stats.cc, populatePeerInfo).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from canary.model.verdict import ArmCounts
from canary.telemetry.queries import REQUESTS, TARGET_NAMESPACE, ServiceName, counted, one_of, quoted
from canary.telemetry.rows import series_of, whole
from canary.telemetry.tiles import Grid

SERVICE, CALLER_NAMESPACE, FLAGS = "destination_service", "source_workload_namespace", "response_flags"

WITHOUT_HOST = frozenset({"UH", "NC", "UO"})
"""Envoy's response flags for "there was no host to send it to": no healthy one, no cluster, overflow."""

_NO_CLUSTER = quoted("(.*,)?NC(,.*)?")
_NO_CLUSTER_OR_ROUTE = quoted("(.*,)?(NC|NR)(,.*)?")
"""A request without a route (NR) is nobody's, whatever host it names: an outsider may name any."""


def unattributed_query(
    services: Collection[ServiceName], reporter: str, trusted_namespaces: Collection[str], window_s: float
) -> str:
    """Requests of the window that reached no workload, by host, caller's namespace and response flags.

    Two selections: a request that reached a cluster carries its Service's name; one without a cluster (NC) has the
    Host header under that label, in any of its spellings, so all of these few are asked for. Requests whose client went
    away (code 0) say nothing and are left out.
    """
    matchers = [f"reporter={quoted(reporter)}", 'destination_workload="unknown"', 'response_code!="0"']
    if trusted_namespaces:
        matchers.append(f"{TARGET_NAMESPACE}=~{one_of(trusted_namespaces)}")
    names = one_of(service.name for service in services)
    by_name = [f"destination_service_name=~{names}", f"{FLAGS}!~{_NO_CLUSTER_OR_ROUTE}"]
    by_host = [f"{FLAGS}=~{_NO_CLUSTER}"]
    with_cluster, without_cluster = (f"{REQUESTS}{{{', '.join((*matchers, *which))}}}" for which in (by_name, by_host))
    return f"""\
sum by ({SERVICE}, {CALLER_NAMESPACE}, {FLAGS}) (
{counted(with_cluster, window_s)}
  or
{counted(without_cluster, window_s)}
)"""


def read_unattributed(
    rows: Iterable[Any], services: Collection[ServiceName], grid: Grid
) -> Mapping[ServiceName, Mapping[float, ArmCounts]]:
    """The range answer to `unattributed_query`, by service and tile end; a service without such a series is absent."""
    asked = frozenset(services)
    found: dict[ServiceName, dict[float, ArmCounts]] = defaultdict(dict)
    for labels, points in series_of(rows):
        service = service_of(labels.get(SERVICE, ""), labels.get(CALLER_NAMESPACE, ""))
        if service is None or service not in asked:
            continue
        has_failed = not WITHOUT_HOST.isdisjoint(labels.get(FLAGS, "").split(","))
        per_tile = found[service]
        for time_s, value in points:
            end, requests = grid.end(grid.index(time_s)), whole(value, service)
            per_tile[end] = per_tile.get(end, ArmCounts()) + ArmCounts(requests, requests if has_failed else 0)
    return found


def service_of(host: str, caller_namespace: str) -> ServiceName | None:
    """The Service that a host means to a caller: `payment` (in the caller's own namespace), `payment.shop`,
    `payment.shop.svc`, `payment.shop.svc.cluster.local`, with or without a port. None for every other host."""
    name, colon, port = host.lower().rpartition(":")
    if not (colon and port.isdigit()):
        name = host.lower()
    first, *rest = name.split(".")
    namespace = rest[0] if rest else caller_namespace
    if not first or not namespace or (len(rest) > 1 and rest[1] != "svc"):
        return None
    return ServiceName(namespace, first)
