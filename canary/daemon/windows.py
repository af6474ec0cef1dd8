"""Which tile belongs to which step of a rollout. Pure, and a function of recorded times alone.

A restarted controller asks for the same tiles and builds the same windows, so it has the same evidence.
"""

from __future__ import annotations

from collections.abc import Sequence

from canary.model.policy import Policy
from canary.model.rollout import RolloutStatus, WeightChange
from canary.model.verdict import ArmCounts, Window

PROPAGATION_S = 1.0
"""From a write to every proxy having it: istiod debounces 100 ms and pushes; measured 0.1 s."""


def margin_s(tile_s: float) -> float:
    """What must lie between a weight's write and the first tile judged at it (seconds).

    A tile is cut at scrapes, and its first scrape may have begun up to a scrape interval before its start.
    """
    return PROPAGATION_S + tile_s


def first_traffic(status: RolloutStatus) -> float | None:
    """When the canary could first be reached (Unix seconds), None when it could not yet."""
    changes = status.weight_changes
    return changes[0].reached.timestamp() if changes and changes[0].reached else None


def first_tile_end(status: RolloutStatus, tile_s: float) -> float | None:
    """The end of the first tile that can be evidence, None before there is traffic."""
    begun = first_traffic(status)
    if begun is None:
        return None
    earliest, tile = _microseconds(begun + margin_s(tile_s)), _microseconds(tile_s)
    return (-(-earliest // tile) * tile + tile) / 1e6


def change_at(changes: Sequence[WeightChange], start: float, end: float) -> WeightChange | None:
    """The step whose weight was on the route during the whole of a tile, None when it changed in it."""
    for index, change in enumerate(changes):
        if change.reached is None:
            continue
        known = change.reached.timestamp() + margin_s(end - start)
        if _microseconds(known) > _microseconds(start):
            continue
        later = changes[index + 1].asked.timestamp() if index + 1 < len(changes) else None
        if later is None or end <= later:
            return change
    return None


def window(
    policy: Policy, status: RolloutStatus, tile: tuple[float, float], canary: ArmCounts, stable: ArmCounts
) -> Window | None:
    """The window of one tile (start, end), None when the tile is no evidence of any step."""
    start, end = tile
    change, begun = change_at(status.weight_changes, start, end), first_traffic(status)
    if change is None or begun is None:
        return None
    return Window(
        start=start,
        end=end,
        step=min(change.step, policy.strategy.last_step),  # the bake goes on with the evidence of the step at 100 %
        weight=change.weight,
        canary=canary,
        stable=stable,
        warm=start >= begun + policy.analysis.warmup.total_seconds(),
    )


def look_back_s(policy: Policy, status: RolloutStatus, tile_s: float, now: float) -> float:
    """How far the fast abort looks back at `now` (seconds): the outlier interval, or less while the canary is younger.

    Both versions must be seen over the same time: over the whole interval, an outage of both that began with the
    canary's first requests is nearly all of the canary's time and little of stable's. Halves and quarters only, so
    that many rollouts still share a few queries; never less than two scrapes, or nothing could have been counted.
    """
    interval_s = policy.outlier_detection.interval.total_seconds()
    step = status.step.index if status.step else 0
    begun = next((change.reached for change in status.weight_changes if step == 0 or change.weight > 0), None)
    needed_s = max(now - begun.timestamp() if begun else interval_s, 2 * tile_s)
    return next((part for part in (interval_s / 4, interval_s / 2) if part >= needed_s), interval_s)


def _microseconds(seconds: float) -> int:
    """Times are recorded to the microsecond; as whole ones they compare and divide exactly."""
    return round(seconds * 1e6)
