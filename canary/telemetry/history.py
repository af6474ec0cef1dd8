"""What a workload did before anybody asked: tiles with every bucket of its latency histogram. Pure.

Which bounds a mesh has is learnt from the answer, so a custom bucket layout works as Istio's own does.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from canary.telemetry.queries import Scope, Workload
from canary.telemetry.tiles import Grid, Tile, bucket_counts, read_tiles


def read_history(
    status_rows: Sequence[Any], latency_rows: Sequence[Any], scope: Scope, grid: Grid, workload: Workload
) -> tuple[Tile, ...]:
    """The range answers to `status_query` and `latency_query` (of every bound) for one workload.

    A bound that one tile has and another has not (the layout was changed in between) is left out of all of them: it
    could not be compared. All pods of the workload must have one layout, as in `tiles`: one mesh configuration.
    """
    bounds = common_bounds(latency_rows, scope, grid)
    return read_tiles(status_rows, latency_rows, scope, grid, bounds).tiles.get(workload, ())


def common_bounds(latency_rows: Sequence[Any], scope: Scope, grid: Grid) -> list[float]:
    """The finite bounds (ms), ascending, that every tile with a timed request has."""
    per_tile: dict[int, dict[float, int]] = defaultdict(dict)
    for _, bound, index, timed in bucket_counts(latency_rows, scope, grid):
        per_tile[index][bound] = per_tile[index].get(bound, 0) + timed
    with_requests = [set(at_most) for at_most in per_tile.values() if at_most.get(math.inf)]
    layouts = with_requests or [set(at_most) for at_most in per_tile.values()]
    return sorted(set.intersection(*layouts) - {math.inf}) if layouts else []
