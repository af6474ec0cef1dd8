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

SUBSET, QUESTION = "canary_subset", "canary_question"
"""A cluster's name without direction and port, to join on; and what a row of the one query tells."""
EJECTING, OUT_OF, SEEN = "ejecting", "out_of", "seen"

_TARGET = ("job", "instance", TARGET_NAMESPACE)
_Hosts = defaultdict[tuple[SubsetName, float], dict[tuple[str, ...], int]]
"""By subset and tile end: hosts by target, all ports of the service together."""


def ejections_query(
    subsets: Collection[SubsetName], believed_namespaces: Collection[str], *, own_namespace_only: bool
) -> str:
    """Who ejects hosts of which subset, how many and of how many; and of how many hosts the others know.

    Every proxy of a mesh knows every service, so those that eject nothing are summed up by Prometheus: the largest
    number of hosts that any of them knows, per cluster (and namespace, with `own_namespace_only`).
    `believed_namespaces` are the targets' own (none: any target's). A caller counts where it exports both gauges. A
    target that is gone ejects nobody, so its last values are not remembered.
    """
    subset_names: dict[str, set[str]] = defaultdict(set)
    for subset in subsets:
        subset_names[f"{subset.service}.{subset.namespace}"].add(subset.subset)
    clusters = "|".join(
        f"(?:{'|'.join(map(literal, sorted(names)))})[|]{literal(host)}" for host, names in sorted(subset_names.items())
    )
    matchers = [f"{CLUSTER}=~{quoted(f'outbound[|][0-9]+[|](?:{clusters})[.]svc[.].+')}"]
    if believed_namespaces:
        matchers.append(f"{TARGET_NAMESPACE}=~{one_of(believed_namespaces)}")

    ejected, members = (f"{gauge}{{{', '.join(matchers)}}}" for gauge in (EJECTED, MEMBERS))
    target, seen_by = ", ".join(_TARGET), f"{CLUSTER}, {TARGET_NAMESPACE}" if own_namespace_only else CLUSTER

    def with_subset(series: str) -> str:
        return f'label_replace({series}, "{SUBSET}", "$1", "{CLUSTER}", "outbound[|][0-9]+[|](.+)")'

    ejecting, of_ejecting = f"({ejected} > 0)", f"({members} and on ({target}) ({ejected} > 0))"
    answers = {
        EJECTING: ejecting,
        # All ports of the subset: the caller may have ejected hosts of one of them only.
        OUT_OF: f"({with_subset(of_ejecting)} and on ({target}, {SUBSET}) {with_subset(ejecting)})",
        SEEN: f"max by ({seen_by}) ({members} and on ({target}, {CLUSTER}) {ejected})",
    }
    return "\nor\n".join(
        f'label_replace({answer}, "{QUESTION}", "{question}", "", "")' for question, answer in answers.items()
    )


def read_ejections(
    rows: Iterable[Any], subsets: Collection[SubsetName], grid: Grid, *, own_namespace_only: bool
) -> Mapping[SubsetName, Mapping[float, tuple[int, int]]]:
    """(ejected, members) of the worst caller by subset and tile end, from the range answer to `ejections_query`.

    With `own_namespace_only`, only callers in the subset's own namespace are believed.
    """
    asked = frozenset(subsets)
    answers: dict[str, _Hosts] = {question: defaultdict(dict) for question in (EJECTING, OUT_OF, SEEN)}
    for labels, points in series_of(rows):
        subset = subset_of(label(labels, CLUSTER))
        if subset is None or subset not in asked:
            continue
        if own_namespace_only and labels.get(TARGET_NAMESPACE) != subset.namespace:
            continue
        if (hosts := answers.get(question := label(labels, QUESTION))) is None:
            raise TelemetryAnswer(f"Prometheus answered {question[:60]!r}, which was not asked for")
        caller = tuple(labels.get(name, "") for name in _TARGET)
        for time_s, value in points:
            of_subset = hosts[subset, grid.end(grid.index(time_s))]
            of_subset[caller] = of_subset.get(caller, 0) + whole(value, subset, "hosts")

    worst: dict[SubsetName, dict[float, tuple[int, int]]] = defaultdict(dict)
    for (subset, end), seen in answers[SEEN].items():
        out_of = answers[OUT_OF].get((subset, end), {})
        # A host that is just being removed may still count as ejected: no more than all can be.
        views = [
            (min(ejected, out_of[caller]), out_of[caller])
            for caller, ejected in answers[EJECTING].get((subset, end), {}).items()
            if caller in out_of
        ]
        worst[subset][end] = max([(0, max(seen.values())), *views], key=_ejected_share)
    return worst


def subset_of(cluster: str) -> SubsetName | None:
    """`outbound|80|v2|payment.shop.svc.cluster.local` as istiod names it; None for any other cluster."""
    direction, *name = cluster.split("|", 3)
    if direction != "outbound" or len(name) < 3:
        return None
    _, subset, host = name
    service, *rest = host.split(".")
    return SubsetName(rest[0], service, subset) if len(rest) > 2 and rest[1] == "svc" else None


def _ejected_share(seen: tuple[int, int]) -> tuple[float, int]:
    ejected, members = seen
    return (ejected / members if members else 0.0, members)
