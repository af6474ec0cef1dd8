"""A/A on history: stable's own past, split into a pretended canary and a pretended stable by the policy's weights.

Both halves are the same version, so every rollback is a false one. Each request of a tile goes to the canary with the
chance of the weight (binomial thinning of the errors, of the others, and of each class of latencies, seeded): bursts in
time stay, as both halves see them; errors that come by pod or by user are spread over both halves, which a real canary
with pods of its own would not do. The header stage and the bake are left out, and the policy's own metrics are taken to
keep their limits.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from random import Random

from canary.analysis.baseline import HISTORY_S, baseline_of
from canary.analysis.draws import binomial
from canary.analysis.interval import upper_bound
from canary.analysis.judge import Judge
from canary.analysis.sentence import out_of, share_text
from canary.analysis.walk import Ending, Timing, Walk, Walked, goes_on
from canary.model.policy import Policy
from canary.model.units import format_duration
from canary.model.verdict import ArmCounts, Baseline, Outcome, Verdict, Window

HOUR_S = 3600.0
TWO_SIDED = 0.025
"""Either side of a 95 % interval."""


@dataclass(frozen=True, slots=True)
class Hour:
    """What became of the rollouts that began in one hour (`start` in Unix seconds).

    `splits` were tried, `rolled_back` of them were, `undecided` stopped for want of a verdict, `cut` ran out of data.
    `unwell` says what limit the service itself broke in that time, "" for none; `sentence` is the verdict of the first
    rollback, "" for none.
    """

    start: float
    requests: int
    errors: int
    splits: int
    rolled_back: int
    undecided: int
    cut: int
    unwell: str = ""
    sentence: str = ""


@dataclass(frozen=True, slots=True)
class FalseAlarms:
    """`rollouts` in healthy `hours`, `rolled_back` of them; `interval` is that of the share, with 95 % confidence."""

    hours: int
    rollouts: int
    rolled_back: int
    interval: tuple[float, float]

    @property
    def share(self) -> float:
        return self.rolled_back / self.rollouts if self.rollouts else 0.0


def false_alarms(hours: Sequence[Hour]) -> FalseAlarms:
    """How often healthy hours would have been rolled back.

    The interval is Clopper & Pearson's with one trial per hour: rollouts in the same hour see the same requests, and
    may be wrong together.
    """
    healthy = [hour for hour in hours if not hour.unwell]
    rollouts, rolled_back = sum(hour.splits for hour in healthy), sum(hour.rolled_back for hour in healthy)
    if not rollouts:
        return FalseAlarms(len(healthy), 0, 0, (0.0, 1.0))
    trials, wrong = len(healthy), rolled_back * len(healthy) / rollouts
    low, high = int(wrong), -int(-wrong // 1)
    interval = (1 - upper_bound(trials, trials - low, TWO_SIDED), upper_bound(trials, high, TWO_SIDED))
    return FalseAlarms(trials, rollouts, rolled_back, (interval[0] if low else 0.0, interval[1]))


def needed_s(policy: Policy, timing: Timing) -> float:
    """How much history the rollouts of an hour take from its beginning on: that hour, and what their steps hold."""
    holds = [policy.strategy.hold_of(step).total_seconds() for step in range(1, policy.strategy.last_step + 1)]
    return HOUR_S + sum(holds) + len(holds) * (timing.propagation_s + 4 * timing.tile_s + timing.settle_s)


@dataclass(frozen=True, slots=True)
class Past:
    """A service's `tiles` by their end (Unix seconds), `slower` at all bounds, to be judged by `policy`."""

    policy: Policy
    tiles: Mapping[float, ArmCounts]
    timing: Timing

    def hour(self, start: float, *, splits: int, seed: int) -> Hour | None:
        """Try `splits` rollouts that begin, evenly spread, in the hour from `start`; None when it has no request.

        For their baselines the tiles of ten minutes before the hour are wanted, too.
        """
        inside = self._between(start, start + HOUR_S)
        if not any(tile.requests for tile in inside):
            return None
        hour = Hour(start, sum(tile.requests for tile in inside), sum(tile.errors for tile in inside), splits, 0, 0, 0)
        last = start + HOUR_S
        for number in range(splits):
            end = self._rollout(start + HOUR_S * number / splits, Random(f"{seed}/{start}/{number}"))
            last = max(last, end.left)
            sentence = end.verdict.sentence if end.verdict and end.ending is Ending.FAILED else ""
            hour = replace(
                hour,
                rolled_back=hour.rolled_back + (end.ending is Ending.FAILED),
                undecided=hour.undecided + (end.ending is Ending.UNDECIDED),
                cut=hour.cut + (end.ending is Ending.NO_MORE_DATA),
                sentence=hour.sentence or sentence,
            )
        return replace(hour, unwell=self._unwell(start, last))

    def _rollout(self, began: float, rng: Random) -> Walked:
        judge = Judge(self.policy, self._baseline(began))
        bounds, kept = sorted(judge.bounds), _kept(self.policy)

        def supply(window: Window) -> Window | None:
            tile = self.tiles.get(round(window.end, 3))
            if tile is None:
                return None
            canary, stable = split(rng, tile, window.weight / 100, bounds)
            return replace(window, canary=canary, stable=stable, metrics=kept)

        walk = Walk(self.policy, judge, self.timing, supply)
        warm_from = began + self.policy.analysis.warmup.total_seconds()
        for step in range(1, self.policy.strategy.last_step + 1):
            end = walk.step(step, began, warm_from)
            if not goes_on(self.policy, end):
                return end
            began = end.left
        return end

    def _unwell(self, start: float, last: float) -> str:
        """The limit that the service itself broke: all of its requests, judged as a canary at 100 % is. "" for none."""
        judge, kept, tile_s = Judge(self.policy, self._baseline(start)), _kept(self.policy), self.timing.tile_s
        bounds, end = sorted(judge.bounds), _first_end(start, tile_s)
        while round(end, 3) <= last:
            tile = self.tiles.get(round(end, 3))
            if tile is not None:
                counts = _at(tile, bounds)
                step = self.policy.strategy.last_step
                window = Window(end - tile_s, end, step, 100, counts, ArmCounts(), metrics=kept)
                verdict = judge.observe(window, end)
                if verdict.outcome is Outcome.FAIL:
                    return _broken(self.policy, verdict)
            end += tile_s
        return ""

    def _baseline(self, began: float) -> Baseline:
        return baseline_of(self._between(began - HISTORY_S, began), self.timing.tile_s, self.policy)

    def _between(self, start: float, end: float) -> list[ArmCounts]:
        """The tiles that lie in this time, in order."""
        tile_s = self.timing.tile_s
        first, number = _first_end(start, tile_s), int((end - start) / tile_s + 1e-6)
        found = (self.tiles.get(round(first + place * tile_s, 3)) for place in range(number))
        return [tile for tile in found if tile is not None]


def _broken(policy: Policy, verdict: Verdict) -> str:
    """What the service itself broke, in words about the service."""
    most, p99 = policy.analysis.error_rate.max, policy.analysis.p99.max
    for one in verdict.evidence:
        if one.e_value >= one.limit and one.metric == "error_rate" and most is not None:
            failed = out_of(one.canary_bad, one.canary_total)
            return f"{failed} of its requests failed, over errorRate.max {share_text(most)}"
        if one.e_value >= one.limit and one.metric == "p99" and p99 is not None:
            slow = out_of(one.canary_bad, one.canary_total)
            return f"{slow} of its requests were slower than p99.max {format_duration(p99)}, where P99 allows 1 %"
    return verdict.sentence


def split(rng: Random, tile: ArmCounts, share: float, bounds: Sequence[float]) -> tuple[ArmCounts, ArmCounts]:
    """(canary, stable) of one tile: each request goes to the canary with the chance `share`. `bounds` ascending.

    Raises ValueError where the tile was not counted at one of the bounds.
    """
    tile = _at(tile, bounds)
    errors = binomial(rng, tile.errors, share)
    requests = errors + binomial(rng, tile.requests - tile.errors, share)
    at_least = [tile.timed, *(tile.slower[bound] for bound in bounds), 0]
    classes = [binomial(rng, max(0, more - fewer), share) for more, fewer in pairwise(at_least)]
    slower = {bound: sum(classes[place + 1 :]) for place, bound in enumerate(bounds)}
    canary = ArmCounts(requests, errors, sum(classes), slower)
    stable = ArmCounts(
        tile.requests - requests,
        tile.errors - errors,
        tile.timed - canary.timed,
        {bound: tile.slower[bound] - slower[bound] for bound in bounds},
    )
    return canary, stable


def _at(tile: ArmCounts, bounds: Sequence[float]) -> ArmCounts:
    """The tile at these bounds and no others."""
    missing = [bound for bound in bounds if tile.timed and bound not in tile.slower]
    if missing:
        raise ValueError(f"the latency histogram has no bucket bound at {missing[0]:g} ms, which the policy judges by")
    return replace(tile, slower={bound: tile.slower.get(bound, 0) for bound in bounds})


def _kept(policy: Policy) -> dict[str, float]:
    return {metric.name: metric.max for metric in policy.analysis.metrics}


def _first_end(start: float, tile_s: float) -> float:
    """The end of the first tile that begins at `start` or later."""
    return math.ceil(round(start / tile_s, 6)) * tile_s + tile_s
