"""Which tile belongs to which step of a rollout. Pure, and a function of recorded times and of the source's data alone.

A restarted controller asks for the same tiles and builds the same windows, so it has the same evidence. A tile in which
the weight was on its way must never become a window: its requests belong to two weights.
"""

from __future__ import annotations

from collections.abc import Sequence

from canary.model.policy import Policy
from canary.model.rollout import RolloutStatus, WeightChange
from canary.model.verdict import ArmCounts, Window

PROPAGATION_S = 1.0
"""From a write to every proxy having it: istiod debounces 100 ms and pushes; measured 0.1 s."""


def first_traffic(status: RolloutStatus) -> float | None:
    """When the canary is known to have been reachable first (Unix seconds), None while it is not.

    Not always the first change: a wish that comes in between may overtake the note that its weight was reached.
    """
    return next((change.reached.timestamp() for change in status.weight_changes if change.reached), None)


def first_tile_end(status: RolloutStatus, tile_s: float) -> float | None:
    """The end of the first tile that can be evidence, None before there is traffic."""
    begun = first_traffic(status)
    if begun is None:
        return None
    earliest, tile = _microseconds(begun + PROPAGATION_S), _microseconds(tile_s)
    return (-(-earliest // tile) * tile + tile) / 1e6


def last_tile_before(status: RolloutStatus, tile_s: float) -> float | None:
    """The end of the last tile before the canary could be reached, None before that was asked for."""
    if not status.weight_changes:
        return None
    tile = _microseconds(tile_s)
    return _microseconds(status.weight_changes[0].asked.timestamp()) // tile * tile / 1e6


def change_at(
    changes: Sequence[WeightChange], start: float, end: float, counted_from: float | None = None
) -> WeightChange | None:
    """The step whose weight was on the route during all that a tile counts, None when it changed in it.

    A tile (`start`, `end`] is cut at scrapes: it counts from each target's last scrape before its start. `counted_from`
    is the earliest of those, where the source told it; else they may have begun up to a scrape interval earlier, which
    a tile is never shorter than.
    """
    since = start - (end - start) if counted_from is None else min(counted_from, start)
    for index, change in enumerate(changes):
        if change.reached is None:
            continue
        known = change.reached.timestamp() + PROPAGATION_S
        if _microseconds(known) > _microseconds(since):
            continue
        later = changes[index + 1].asked.timestamp() if index + 1 < len(changes) else None
        if later is None or end <= later:
            return change
    return None


def depends_on_its_scrapes(changes: Sequence[WeightChange], start: float, end: float) -> bool:
    """Whether a tile is evidence or not depends on when the scrapes were that it counts from."""
    return change_at(changes, start, end) is None and change_at(changes, start, end, counted_from=start) is not None


def window(
    policy: Policy,
    status: RolloutStatus,
    tile: tuple[float, float],
    arms: tuple[ArmCounts, ArmCounts],
    counted_from: float | None = None,
) -> Window | None:
    """The window of one tile (start, end) with what canary and stable did, None when it is no evidence of any step."""
    start, end = tile
    change, begun = change_at(status.weight_changes, start, end, counted_from), first_traffic(status)
    if change is None or begun is None:
        return None
    return Window(
        start=start,
        end=end,
        step=min(change.step, policy.strategy.last_step),  # the bake goes on with the evidence of the step at 100 %
        weight=change.weight,
        canary=arms[0],
        stable=arms[1],
        warm=start >= begun + policy.analysis.warmup.total_seconds(),
    )


def look_back_s(policy: Policy, status: RolloutStatus, tile_s: float, now: float) -> float:
    """How far the fast abort looks back at `now` (seconds): the outlier interval, or less while the weight is younger.

    Both versions must be seen over the same time: over the whole interval, an outage of both that began with the
    canary's first requests, or with a jump of its weight, is most of the canary's requests and few of stable's. Halves
    and quarters only, so that many rollouts still share a few queries; never less than two scrapes, or nothing could
    have been counted.
    """
    interval_s = policy.outlier_detection.interval.total_seconds()
    step = status.step.index if status.step else 0
    reached = [
        change.reached.timestamp()
        for change in status.weight_changes
        if change.reached is not None and (step == 0 or change.weight > 0)
    ]
    needed_s = max(now - max(reached) if reached else interval_s, 2 * tile_s)
    return next((part for part in (interval_s / 4, interval_s / 2) if part >= needed_s), interval_s)


def _microseconds(seconds: float) -> int:
    """Times are recorded to the microsecond; as whole ones they compare and divide exactly."""
    return round(seconds * 1e6)
