"""What workloads did before anybody asked: tiles with every bucket of their latency histograms. Pure.

Which bounds a mesh has is learnt from the answer, so a custom bucket layout works as Istio's own does.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from canary.telemetry.queries import Scope, Workload
from canary.telemetry.tiles import Grid, Tile, bucket_counts, read_tiles


def read_histories(
    status_rows: Sequence[Any], latency_rows: Sequence[Any], scope: Scope, grid: Grid
) -> Mapping[Workload, tuple[Tile, ...]]:
    """The range answers to `status_query` and `latency_query` (of every bound), by workload.

    A bound that one tile of a workload has and another has not (the layout was changed in between) is left out of all
    its tiles: it could not be compared. All pods of a workload must have one layout, as in `tiles`: one mesh
    configuration.
    """
    return read_tiles(status_rows, latency_rows, scope, grid, common_bounds(latency_rows, scope, grid)).tiles


def common_bounds(latency_rows: Sequence[Any], scope: Scope, grid: Grid) -> Mapping[Workload, list[float]]:
    """The finite bounds (ms), ascending, that every tile of a workload with a timed request has."""
    found: dict[Workload, dict[int, dict[float, int]]] = defaultdict(lambda: defaultdict(dict))
    for workload, bound, index, timed in bucket_counts(latency_rows, scope, grid):
        at_most = found[workload][index]
        at_most[bound] = at_most.get(bound, 0) + timed
    return {workload: _common(list(per_tile.values())) for workload, per_tile in found.items()}


def _common(tiles: Sequence[Mapping[float, int]]) -> list[float]:
    with_requests = [set(at_most) for at_most in tiles if at_most.get(math.inf)]
    layouts = with_requests or [set(at_most) for at_most in tiles]
    return sorted(set.intersection(*layouts) - {math.inf}) if layouts else []
