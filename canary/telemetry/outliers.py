"""Hosts that Envoy's outlier detection has ejected, per subset, where callers' proxies export it. Pure.

Each caller's proxy ejects by itself, and what it ejected is gone for this caller alone. So a subset is as its worst
caller sees it, never the sum of all: one caller whose requests have nowhere to go is a failure already.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from canary.errors import TelemetryAnswer
from canary.telemetry.queries import TARGET_NAMESPACE, SubsetName, literal, one_of, quoted
from canary.telemetry.rows import label, series_of, whole
from canary.telemetry.tiles import Grid

EJECTED = "envoy_cluster_outlier_detection_ejections_active"
MEMBERS = "envoy_cluster_membership_total"
CLUSTER = "cluster_name"

Caller = tuple[str, str, str]
"""(job, instance, namespace) of the scraped proxy."""

_Hosts = defaultdict[tuple[SubsetName, float], defaultdict[Caller, int]]


def ejections_query(subsets: Collection[SubsetName], believed_namespaces: Collection[str]) -> str:
    """Both gauges as they are at each evaluation, by caller and cluster; `believed_namespaces` are the targets' own
    (none: any target's). A target that is gone ejects nobody, so its last values are not remembered."""
    hosts: dict[str, set[str]] = defaultdict(set)
    for subset in subsets:
        hosts[f"{subset.service}.{subset.namespace}"].add(subset.subset)
    clusters = "|".join(
        f"(?:{'|'.join(map(literal, sorted(names)))})[|]{literal(host)}" for host, names in sorted(hosts.items())
    )
    matchers = [
        f"__name__=~{one_of([EJECTED, MEMBERS])}",
        f"{CLUSTER}=~{quoted(f'outbound[|][0-9]+[|](?:{clusters})[.]svc[.].+')}",
        *([f"{TARGET_NAMESPACE}=~{one_of(believed_namespaces)}"] if believed_namespaces else []),
    ]
    return f"max by (__name__, job, instance, {TARGET_NAMESPACE}, {CLUSTER}) ({{{', '.join(matchers)}}})"


def read_ejections(
    rows: Iterable[Any], subsets: Collection[SubsetName], grid: Grid, *, own_namespace_only: bool
) -> Mapping[SubsetName, Mapping[float, tuple[int, int]]]:
    """(ejected, members) of the worst caller by subset and tile end, from the range answer to `ejections_query`.

    A caller counts where it exports both gauges; several ports of a Service add up within one caller. With
    `own_namespace_only`, only callers in the subset's own namespace are believed.
    """
    asked = frozenset(subsets)
    ejected: _Hosts = defaultdict(lambda: defaultdict(int))
    members: _Hosts = defaultdict(lambda: defaultdict(int))
    gauges = {EJECTED: ejected, MEMBERS: members}
    for labels, points in series_of(rows):
        subset = subset_of(label(labels, CLUSTER))
        if subset is None or subset not in asked:
            continue
        caller = (labels.get("job", ""), labels.get("instance", ""), labels.get(TARGET_NAMESPACE, ""))
        if own_namespace_only and caller[2] != subset.namespace:
            continue
        gauge = gauges.get(name := label(labels, "__name__"))
        if gauge is None:
            raise TelemetryAnswer(f"Prometheus answered {name[:60]!r}, which was not asked for")
        for time_s, value in points:
            gauge[subset, grid.end(grid.index(time_s))][caller] += whole(value, subset, "hosts")

    worst: dict[SubsetName, dict[float, tuple[int, int]]] = defaultdict(dict)
    for (subset, end), by_caller in ejected.items():
        hosts = members[subset, end]
        # A host that is just being removed may still count as ejected: no more than all can be.
        seen = [(min(out, hosts[caller]), hosts[caller]) for caller, out in by_caller.items() if caller in hosts]
        if seen:
            worst[subset][end] = max(seen, key=_ejected_share)
    return worst


def subset_of(cluster: str) -> SubsetName | None:
    """`outbound|80|v2|payment.shop.svc.cluster.local` as istiod names it; None for any other cluster."""
    direction, _, rest = cluster.partition("|")
    _, _, rest = rest.partition("|")
    subset, bar, host = rest.partition("|")
    parts = host.split(".")
    if direction != "outbound" or not bar or len(parts) < 4 or parts[2] != "svc":
        return None
    return SubsetName(parts[1], parts[0], subset)


def _ejected_share(seen: tuple[int, int]) -> tuple[float, int]:
    ejected, members = seen
    return (ejected / members if members else 0.0, members)
