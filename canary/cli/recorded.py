"""What Prometheus, or a file, still has of a rollout: the windows it was judged by, or the tiles of two versions.

A rollout's windows are cut by the daemon's own code, from the same questions, so they are the ones it judged.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from canary.analysis.baseline import HISTORY_S, baseline_of
from canary.analysis.judge import Judge
from canary.cli.metrics_source import Asked
from canary.daemon import windows
from canary.daemon.baselines import history_ends, read_baselines
from canary.daemon.feeding import Feeder, Reach
from canary.daemon.metrics import Metrics
from canary.daemon.surroundings import Surroundings
from canary.daemon.tracks import Case, Track
from canary.errors import InputError, TelemetryAnswer
from canary.model.phase import Phase
from canary.model.policy import Policy
from canary.model.rollout import Rollout
from canary.model.verdict import ArmCounts, Baseline, SourceState, Window
from canary.telemetry.queries import Workload
from canary.telemetry.tiles import arm_counts


@dataclass(frozen=True, slots=True)
class Recorded:
    """`windows` are evidence, `tiles` everything there is, for the fast abort. `began` is when the canary could first
    be reached, `until` the end of the last tile (Unix seconds)."""

    baseline: Baseline
    windows: tuple[Window, ...]
    tiles: tuple[Window, ...]
    began: float
    until: float


@dataclass(frozen=True, slots=True)
class Pair:
    """(canary, stable) of each tile by its end; `began` is the start of the canary's first tile with requests."""

    baseline: Baseline
    tiles: Mapping[float, tuple[ArmCounts, ArmCounts]]
    began: float
    until: float


@dataclass(slots=True)
class _Listening(Track):
    """A track that keeps the windows it is fed, and judges none."""

    heard: list[Window] = field(default_factory=list)

    def observe(self, case: Case, window: Window, now: float) -> bool:  # noqa: ARG002 - a track's
        self.heard.append(window)
        return True


def ended(rollout: Rollout) -> float | None:
    """When its last step was over (Unix seconds), None while it is not."""
    changes = rollout.status.weight_changes
    last = changes[-1].asked if changes else rollout.created
    over = [
        entry.at
        for entry in rollout.status.history
        if entry.at >= last and (entry.phase is Phase.ROLLING_BACK or entry.phase.is_terminal)
    ]
    return min(over).timestamp() if over else None


def of_rollout(asked: Asked, rollout: Rollout, policy: Policy, since: float, until: float) -> Recorded:
    """The windows of a rollout's steps as they really were, between `since` and `until` (Unix seconds).

    Raises InputError when the canary never had traffic, TelemetryError when Prometheus does not have its figures.
    """
    if rollout.status.tile is None:
        rollout = _with_tile(rollout, asked.tile_s)
    case = Case(rollout, policy)
    first_end, began = windows.first_tile_end(rollout.status, case.tile_s), windows.first_traffic(rollout.status)
    if first_end is None or began is None:
        raise InputError(f"rollout {rollout.name} never gave its canary any traffic: there is nothing to judge")
    settled = min(until, time.time() - asked.settle_s)
    last_end = math.floor(round(settled / case.tile_s, 6)) * case.tile_s
    if last_end < first_end:
        raise InputError(f"rollout {rollout.name} has no whole tile of {case.tile_s:g} s yet")
    past = history_ends(case)
    assert past is not None  # there is a first tile, so something was asked for before it
    baseline = read_baselines(asked.source, [case], past)[rollout.uid]
    state = SourceState(available=True, tile_s=case.tile_s, settle_s=asked.settle_s)
    track = _Listening(Judge(policy, baseline), state, first_end)
    metrics = Metrics()
    surroundings = Surroundings(asked.source, metrics, time.monotonic)
    surroundings.exported = asked.exported
    reach = Reach(last_end, case.tile_s, asked.settle_s, last_end + asked.settle_s)
    problem = Feeder(asked.source, surroundings, metrics, time.monotonic).feed([(case, track)], reach)
    if problem or not track.source.available:
        raise TelemetryAnswer(problem or track.source.detail)
    tiles = _tiles(asked, case, first_end, last_end)
    _refuse_nothing(tiles, case.canary, case.stable, first_end, last_end)
    return Recorded(
        baseline,
        tuple(window for window in track.heard if window.start >= since),
        tuple(tile for tile in tiles if tile.start >= max(since, began - case.tile_s)),
        began,
        last_end,
    )


def of_pair(asked: Asked, canary: Workload, stable: Workload, policy: Policy, since: float, until: float) -> Pair:
    """The tiles of two Deployments, and stable's baseline from before the canary's first request.

    Raises InputError when the canary had no request in that time, TelemetryError when Prometheus does not answer.
    """
    tile_s = asked.tile_s
    first_end = math.ceil(round(since / tile_s, 6)) * tile_s + tile_s
    last_end = math.floor(round((until - asked.settle_s) / tile_s, 6)) * tile_s
    if last_end < first_end:
        raise InputError(f"there is no whole tile of {tile_s:g} s between --since and --until")
    errors = policy.analysis.grpc_errors

    def counts(arm: Workload, first: float, last: float) -> dict[float, ArmCounts]:
        found = asked.source.history(arm, first_end=first, last_end=last, tile_s=tile_s)
        return {round(tile.end, 3): arm_counts(tile, errors) for tile in found}

    of_canary = counts(canary, first_end, last_end)
    first = next((end for end in sorted(of_canary) if of_canary[end].requests), None)
    if first is None:
        raise InputError(
            f"Prometheus has no request to Deployment {canary.namespace}/{canary.name} in that time (its name, the "
            "time, or Prometheus' retention)"
        )
    began = first - tile_s
    earliest = math.floor((began - HISTORY_S) / tile_s) * tile_s + tile_s
    of_stable = counts(stable, earliest, last_end)
    before = [of_stable[end] for end in sorted(of_stable) if end <= began]
    baseline = baseline_of(before, tile_s, policy)
    bounds = sorted(Judge(policy, baseline).bounds)
    tiles = {
        end: (_at(of_canary[end], bounds), _at(of_stable.get(end, ArmCounts()), bounds))
        for end in sorted(of_canary)
        if end >= first
    }
    return Pair(baseline, tiles, began, last_end)


def _tiles(asked: Asked, case: Case, first_end: float, last_end: float) -> list[Window]:
    batch = asked.source.tiles(case.arms, (), first_end=first_end, last_end=last_end, tile_s=case.tile_s)
    canary, stable = ({tile.end: tile for tile in batch.tiles.get(arm, ())} for arm in case.arms)
    errors, found = case.policy.analysis.grpc_errors, []
    for end in sorted(canary.keys() | stable.keys()):
        of_canary, of_stable = (arm_counts(arm[end], errors) if end in arm else ArmCounts() for arm in (canary, stable))
        start = end - case.tile_s
        change = windows.change_at(case.rollout.status.weight_changes, start, end, counted_from=start)
        step = min(change.step, case.policy.strategy.last_step) if change else 0
        found.append(Window(start, end, step, change.weight if change else 0, of_canary, of_stable))
    return found


def _refuse_nothing(
    tiles: Sequence[Window], canary: Workload, stable: Workload, first_end: float, last_end: float
) -> None:
    if any(tile.canary.requests or tile.stable.requests for tile in tiles):
        return
    raise TelemetryAnswer(
        f"Prometheus has no request to {canary.name} or {stable.name} in namespace {canary.namespace} between "
        f"{utc(first_end)} and {utc(last_end)}: its retention is over, or it is another Prometheus"
    )


def _at(counts: ArmCounts, bounds: Sequence[float]) -> ArmCounts:
    """With these bounds; those that a histogram lacks are missing only where there is something to count."""
    slower = {bound: counts.slower[bound] for bound in bounds if bound in counts.slower}
    return replace(counts, slower=slower if counts.timed else dict.fromkeys(bounds, 0))


def _with_tile(rollout: Rollout, tile_s: float) -> Rollout:
    from datetime import timedelta

    status = rollout.status.model_copy(update={"tile": timedelta(seconds=tile_s)})
    return rollout.model_copy(update={"status": status})


def utc(time_s: float) -> str:
    """Unix seconds as people write a time."""
    from datetime import UTC, datetime

    return datetime.fromtimestamp(time_s, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
