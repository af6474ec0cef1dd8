"""`canary backtest --healthy`: a service's own past, hour by hour, split into two halves that are the same version.

Only hours that Prometheus has are asked for in detail; what it does not have is counted, not passed over.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from canary.analysis.baseline import HISTORY_S
from canary.analysis.splits import HOUR_S, FalseAlarms, Hour, Past, false_alarms, needed_s
from canary.analysis.walk import Timing
from canary.cli.metrics_source import Asked
from canary.daemon.windows import PROPAGATION_S
from canary.errors import InputError, TelemetryAnswer
from canary.model.policy import Policy
from canary.telemetry.queries import Workload
from canary.telemetry.tiles import arm_counts

MORE_S = 6 * HOUR_S
"""Hours that follow each other are asked for together, so many at a time."""


@dataclass(frozen=True, slots=True)
class OwnPast:
    """`asked_hours` whole hours up to `until` (Unix seconds); `hours` those with requests, `found` their summary.

    `begins` is the start of the first one with requests.
    """

    workload: Workload
    policy: Policy
    hours: tuple[Hour, ...]
    found: FalseAlarms
    asked_hours: int
    until: float
    begins: float
    splits: int
    seed: int
    tile_s: float


def own_past(
    asked: Asked,
    workload: Workload,
    policy: Policy,
    *,
    span_s: float,
    until: float,
    splits: int,
    seed: int,
    tell: Callable[[int, int], None],
) -> OwnPast:
    """Judge `span_s` seconds of a workload's past. `tell` is told (hours done, hours there are).

    Raises TelemetryError when Prometheus does not answer, or has no whole hour of it, InputError when its histogram
    lacks a bound that the policy judges by.
    """
    timing = Timing(asked.tile_s, asked.settle_s, PROPAGATION_S, lag_s=asked.tile_s, look_s=asked.tile_s / 2,
                    interval_s=policy.outlier_detection.interval.total_seconds())  # fmt: skip
    last = math.floor((until - asked.settle_s) / HOUR_S) * HOUR_S
    number = max(1, round(span_s / HOUR_S))
    starts = _with_requests(asked, workload, last, number)
    if not starts:
        raise TelemetryAnswer(
            f"Prometheus has no whole hour with requests to Deployment {workload.namespace}/{workload.name} in the "
            f"last {number} hours: its retention, another name, or a Prometheus that is too young"
        )
    hours: list[Hour] = []
    for group in _groups(starts):
        first = (group[0] - HISTORY_S) // timing.tile_s * timing.tile_s + timing.tile_s
        end = min(group[-1] + needed_s(policy, timing), until - asked.settle_s) // timing.tile_s * timing.tile_s
        tiles = asked.source.history(workload, first_end=first, last_end=end, tile_s=timing.tile_s)
        counts = {round(tile.end, 3): arm_counts(tile, policy.analysis.grpc_errors) for tile in tiles}
        past = Past(policy, counts, timing)
        for start in group:
            try:
                hour = past.hour(start, splits=splits, seed=seed)
            except ValueError as error:
                raise InputError(f"policy {policy.name} cannot judge {workload.name}: {error}") from error
            hours += [hour] if hour else []
            tell(len(hours), len(starts))
    return OwnPast(
        workload, policy, tuple(hours), false_alarms(hours), number, last, starts[0], splits, seed, timing.tile_s
    )


def _with_requests(asked: Asked, workload: Workload, last: float, number: int) -> list[float]:
    """The starts of the whole hours, up to `last`, in which there was any request: one coarse question."""
    first_end = last - (number - 1) * HOUR_S
    batch = asked.source.tiles([workload], (), first_end=first_end, last_end=last, tile_s=HOUR_S)
    return [tile.start for tile in batch.tiles.get(workload, ()) if sum(tile.status.values())]


def _groups(starts: list[float]) -> list[list[float]]:
    groups: list[list[float]] = []
    for start in starts:
        if groups and start == groups[-1][-1] + HOUR_S and start - groups[-1][0] < MORE_S:
            groups[-1].append(start)
        else:
            groups.append([start])
    return groups
