"""What istiod says about itself: whether the proxies get, and take, their configuration. Pure.

While they do not, callers run with different weights and hosts, and their latency says little about either version.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from canary.analysis.sentence import share_text
from canary.telemetry.queries import TARGET_NAMESPACE, counted, quoted
from canary.telemetry.rows import label, series_of, whole
from canary.telemetry.tiles import Grid

CONVERGENCE, REJECTS = "pilot_proxy_convergence_time", "pilot_total_xds_rejects"
QUESTION = "canary_question"
"""Tells the rows of the one query apart."""
PUSHES, IN_TIME, REJECTED = "pushes", "in_time", "rejected"

RECENT_S = 120.0
"""Pushes are bursts with silence between them, so the last two minutes count, or the tile where it is longer."""
SLOW_S = 10
LIMIT = 0.01
"""Not converging: P99 of the time to bring a change to a proxy is above 10 s, a bucket bound of the histogram, so that
"more than 1 % slower" is exact (healthy is below one second); or more than 1 % of what was pushed was rejected. One
namespace whose proxies reject everything they get must not excuse every other rollout of a large mesh for good."""


def control_plane_matcher(namespace: str) -> str:
    """Which targets are istiods: those in `namespace`, "" for any."""
    return f"{TARGET_NAMESPACE}={quoted(namespace)}" if namespace else ""


def control_plane_query(namespace: str, tile_s: float) -> str:
    """Pushes, pushes in time and rejected configurations of all istiods together; `namespace` is where the targets
    must be, "" for anywhere. Nothing where istiod is not scraped."""
    window_s = max(RECENT_S, tile_s)
    matcher = control_plane_matcher(namespace)
    bound = f"le=~{quoted(f'{SLOW_S}([.]0)?')}"
    asked = {
        PUSHES: f"{CONVERGENCE}_count{{{matcher}}}",
        IN_TIME: f"{CONVERGENCE}_bucket{{{', '.join(filter(None, (bound, matcher)))}}}",
        REJECTED: f"{REJECTS}{{{matcher}}}",
    }
    return "\nor\n".join(
        f'label_replace(sum (\n{counted(series, window_s)}\n), "{QUESTION}", "{question}", "", "")'
        for question, series in asked.items()
    )


def read_control_plane(rows: Iterable[Any], grid: Grid) -> Mapping[float, str]:
    """What is wrong, in words, by tile end; ends at which nothing is are absent."""
    counts: dict[float, dict[str, int]] = defaultdict(dict)
    for labels, points in series_of(rows):
        question = label(labels, QUESTION)
        for time_s, value in points:
            counts[grid.end(grid.index(time_s))][question] = whole(value, "the control plane", question)
    found = {end: _what_is_wrong(at_end) for end, at_end in counts.items()}
    return {end: words for end, words in sorted(found.items()) if words}


def _what_is_wrong(counts: Mapping[str, int]) -> str:
    causes = []
    pushes, in_time, rejected = counts.get(PUSHES, 0), counts.get(IN_TIME), counts.get(REJECTED, 0)
    slow = max(0, pushes - in_time) if in_time is not None else 0
    if slow > LIMIT * pushes:
        causes.append(f"{slow:,} of {pushes:,} pushes to proxies ({share_text(slow / pushes)}) took over {SLOW_S} s")
    if rejected > LIMIT * pushes:
        noun = "configuration" if rejected == 1 else "configurations"
        causes.append(f"proxies rejected {rejected:,} {noun}")
    return f"the control plane does not converge: {' and '.join(causes)}" if causes else ""
