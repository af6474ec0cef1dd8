"""CPU time that the hypervisor took from a node, as the node exporter counts it. Pure.

Steal makes every request on the node slower, whichever version serves it. It is read to excuse a canary, never to
convict it, and a node that nobody measures is simply absent.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from canary.errors import TelemetryAnswer
from canary.telemetry.queries import last, milliseconds, one_of
from canary.telemetry.rows import label, number, series_of
from canary.telemetry.tiles import Grid

CPU, NODE_INFO = "node_cpu_seconds_total", "node_uname_info"
TWO_SCRAPES_S = 150.0
"""How far back the last two scrapes of an exporter may lie: scrape intervals over 75 s are not read."""


@dataclass(frozen=True, slots=True)
class Exporters:
    """The node exporters of the nodes asked for. Two may measure the same node, as two monitoring systems do."""

    nodes: Mapping[tuple[str, str], frozenset[str]]
    """(job, instance) to the names of its node."""


def exporters_query(nodes: Collection[str], range_s: float) -> str:
    """The targets that call themselves one of `nodes`, in the `range_s` seconds (and 5 min) before the evaluation: by
    `nodename`, the kernel's name, or by a `node` label that service discovery set."""
    look_back = f"{round(range_s) + 300}s"
    named = (last(f"{NODE_INFO}{{{by}=~{one_of(nodes)}}}", look_back=look_back) for by in ("nodename", "node"))
    return f"group by (job, instance, node, nodename) ({' or '.join(named)})"


def read_exporters(rows: Iterable[Any], nodes: Collection[str]) -> Exporters:
    found: dict[tuple[str, str], set[str]] = defaultdict(set)
    for labels, _ in series_of(rows):
        names = {labels.get("nodename", ""), labels.get("node", "")} & set(nodes)
        found[labels.get("job", ""), labels.get("instance", "")] |= names
    return Exporters({target: frozenset(names) for target, names in found.items()})


def steal_query(exporters: Exporters, window_s: float) -> str:
    """The share (0-1) of all CPU time that was stolen in the `window_s` seconds before each evaluation, by target.

    Between the first and the last scrape of the window where it holds several; else between the last two scrapes, so
    that nodes that are scraped more slowly than the window have a value at every tile, too, and all of them from one
    scrape interval. `rate` and `irate` extrapolate, but all counters of a target alike, so the quotient is that of the
    counters' own differences; a counter that fell (a reboot) counts from 0.
    """
    targets = exporters.nodes.keys()
    matchers = f"job=~{one_of(job for job, _ in targets)}, instance=~{one_of(instance for _, instance in targets)}"
    every, stolen = f"{CPU}{{{matchers}}}", f'{CPU}{{mode="steal", {matchers}}}'

    def share(growth: str, range_s: float) -> str:
        part, whole = (
            f"sum by (job, instance) ({growth}({series}[{milliseconds(range_s)}]))" for series in (stolen, every)
        )
        return f"({part} / {whole} >= 0)"  # 0/0, no time to share, is not >= 0

    return f"{share('rate', window_s)}\nor\n{share('irate', max(TWO_SCRAPES_S, window_s))}"


def read_steal(rows: Iterable[Any], exporters: Exporters, grid: Grid) -> Mapping[str, Mapping[float, float]]:
    """Shares by node and tile end, from the range answer to `steal_query`.

    Where several exporters claim a node the smallest share counts: whoever is scraped may claim to be any node, and
    must not be able to excuse a canary there that an honest exporter convicts.
    """
    found: dict[str, dict[float, float]] = defaultdict(dict)
    for labels, points in series_of(rows):
        target = (label(labels, "job"), label(labels, "instance"))
        for node in exporters.nodes.get(target, ()):
            for time_s, value in points:
                end, share = grid.end(grid.index(time_s)), number(value, f"node {node}")
                if share > 1 + 1e-9:
                    raise TelemetryAnswer(f"Prometheus answered that {share:g} of the CPU time of {node} was stolen")
                found[node][end] = min(share, 1.0, found[node].get(end, math.inf))
    return found
