"""A rollout in pretended time: which windows a step has, and when the rollout leaves it.

The real judge is asked about windows that somebody else makes up or remembers; the rules of time are those of the
engine (hold, maxWait, an evidence for each step) and of the daemon (tiles settle, a tile in which the weight was on its
way is no evidence). For plans and backtests: nothing here steers a real rollout.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum

from canary.analysis.judge import Judge
from canary.model.policy import OnInconclusive, Policy
from canary.model.verdict import ArmCounts, Outcome, Reason, Verdict, Window

Supply = Callable[[Window], Window | None]
"""Fills in the counts of an empty window (`start`, `end`, `step`, `weight`, `warm` are set). None: there is no more."""


class Ending(StrEnum):
    LEFT = "left"
    """Its time was over and the verdict a pass."""
    FAILED = "failed"
    UNDECIDED = "undecided"
    """No pass by hold + maxWait: the policy's `onInconclusive` decides."""
    NO_MORE_DATA = "no_more_data"


@dataclass(frozen=True, slots=True)
class Timing:
    """How windows come about; all seconds.

    Tiles end at multiples of `tile_s` plus `phase_s`, are final `settle_s` later and looked at `look_s` after that.
    `lag_s` is how long before its start a tile begins to count (its first scrape), `propagation_s` what a weight needs
    from its write to every proxy. The fast abort looks back `interval_s` where that is not 0, `abort_s` after each
    tile's end: it does not wait for tiles to settle.
    """

    tile_s: float
    settle_s: float
    propagation_s: float
    lag_s: float
    look_s: float = 0.0
    phase_s: float = 0.0
    interval_s: float = 0.0
    abort_s: float = 0.25

    def first_start(self, began: float) -> float:
        """The start of the first tile that counts only requests at a weight written at `began`."""
        earliest = began + self.propagation_s + self.lag_s - self.phase_s
        return math.ceil(round(earliest / self.tile_s, 9)) * self.tile_s + self.phase_s

    def seen(self, end: float) -> float:
        """When the verdict of a window that ends at `end` is known."""
        return end + self.settle_s + self.look_s


@dataclass(frozen=True, slots=True)
class Walked:
    """What became of one step. Times are those of the windows; `first_pass` is the first look at which it could pass.

    `left` is when the step ended: left, failed, given up, or as far as there was data. `canary` and `stable` are the
    requests and errors of its windows, those in the warm-up among them. `verdict` is the last one, None before any
    window.
    """

    step: int
    weight: int
    began: float
    left: float
    ending: Ending
    verdict: Verdict | None
    canary: ArmCounts
    stable: ArmCounts
    first_pass: float | None = None
    overdue: bool = False
    """It was undecided by hold + maxWait, and only left later because the walk went on (`patience_s`)."""


NEVER_A_PASS = frozenset({Reason.NO_DATA, Reason.NO_TRAFFIC, Reason.NO_CANARY_TRAFFIC, Reason.WARMING_UP})
"""Holds in which nothing was measured yet: no policy promotes on them."""


def goes_on(policy: Policy, walked: Walked) -> bool:
    """Whether the next step follows this one: it passed, or the policy goes on for want of a verdict."""
    if walked.ending is Ending.UNDECIDED and policy.analysis.on_inconclusive is OnInconclusive.PROMOTE:
        return walked.verdict is not None and walked.verdict.reason not in NEVER_A_PASS
    return walked.ending is Ending.LEFT


@dataclass(frozen=True, slots=True)
class Walk:
    """One judge, one policy, one supply of counts."""

    policy: Policy
    judge: Judge
    timing: Timing
    supply: Supply
    tell: Callable[[Window, float, Verdict], None] | None = None
    """Told of each window, when its verdict was known, and the verdict."""
    growth: float = 0.0
    """0: every tile is a window of its own. Above: windows grow to this share of the time the step has run, whole
    tiles, cut where the hold is over: less work where nothing happens, for times that are right to this share."""

    def step(self, step: int, began: float, warm_from: float, patience_s: float = 0.0) -> Walked:
        """Walk one step whose weight is on the route from `began`; tiles from `warm_from` on are evidence.

        `patience_s` goes on for so long after hold + maxWait, to learn when it would have passed.
        """
        strategy, timing = self.policy.strategy, self.timing
        weight = self.policy.weight_of(step)
        hold_end = began + strategy.hold_of(step).total_seconds()
        max_wait_s = self.policy.analysis.max_wait.total_seconds()
        deadline = began + strategy.longest_hold_of(step).total_seconds() + max_wait_s
        walked = Walked(step, weight, began, began, Ending.NO_MORE_DATA, None, ArmCounts(), ArmCounts())
        recent: deque[Window] = deque()
        start, seen = timing.first_start(began), began
        if timing.interval_s:  # the fast abort does not wait for a tile of its own
            start -= timing.tile_s * math.floor((start - began) / timing.tile_s)
        evidence_from = timing.first_start(began)

        while True:
            end = self._end(start, began, hold_end) if start >= evidence_from else start + timing.tile_s
            next_seen = timing.seen(end)
            if walked.verdict is not None and walked.verdict.outcome is Outcome.PASS and next_seen > hold_end:
                left = replace(walked, left=max(hold_end, seen), ending=Ending.LEFT)
                return self._stragglers(left, start, evidence_from, warm_from)
            if next_seen > deadline + patience_s:
                return replace(walked, left=max(deadline + patience_s, seen), ending=Ending.UNDECIDED)
            walked = replace(walked, overdue=True) if next_seen > deadline else walked
            window = self._filled(start, end, step, weight, warm_from)
            if window is None:
                return replace(walked, left=seen)
            walked, start = _with(walked, window), end
            verdict = aborted(self.judge, recent, window, timing) if timing.interval_s else None
            if verdict is not None:
                seen = end + timing.abort_s
            elif window.start >= evidence_from:
                seen = next_seen
                verdict = self.judge.observe(window, seen)
            else:
                continue
            if self.tell:
                self.tell(window, seen, verdict)
            walked = replace(walked, verdict=verdict)
            if verdict.outcome is Outcome.FAIL:
                return replace(walked, left=seen, ending=Ending.FAILED)
            if verdict.outcome is Outcome.PASS and walked.first_pass is None:
                walked = replace(walked, first_pass=seen)

    def _end(self, start: float, began: float, hold_end: float) -> float:
        """Where the window that begins at `start` ends: a whole number of tiles later."""
        tile_s = self.timing.tile_s
        tiles = max(1, math.floor(self.growth * (start - began) / tile_s))
        until_hold = math.floor(round((hold_end - self.timing.seen(start)) / tile_s, 9))
        if 0 < until_hold < tiles:
            tiles = until_hold
        return start + tiles * tile_s

    def _filled(self, start: float, end: float, step: int, weight: int, warm_from: float) -> Window | None:
        judged = min(step, self.policy.strategy.last_step)  # the bake goes on with the evidence of the step at 100 %
        return self.supply(Window(start, end, judged, weight, ArmCounts(), ArmCounts(), warm=start >= warm_from))

    def _stragglers(self, walked: Walked, start: float, evidence_from: float, warm_from: float) -> Walked:
        """Tiles that ended before the step was left settle after it: they are evidence all the same."""
        tile_s = self.timing.tile_s
        while start + tile_s <= walked.left and start >= evidence_from:
            window = self._filled(start, start + tile_s, walked.step, walked.weight, warm_from)
            if window is None:
                break
            start, seen = window.end, self.timing.seen(window.end)
            verdict = self.judge.observe(window, seen)
            if self.tell:
                self.tell(window, seen, verdict)
            walked = _with(walked, window)
            if verdict.outcome is Outcome.FAIL:
                return replace(walked, left=seen, ending=Ending.FAILED, verdict=verdict)
        return walked


def aborted(judge: Judge, recent: deque[Window], tile: Window, timing: Timing) -> Verdict | None:
    """The fast abort's look at the tiles that ended within its interval; `recent` holds those before this one."""
    recent.append(tile)
    while recent[0].end <= tile.end - timing.interval_s:
        recent.popleft()
    canary, stable = ArmCounts(), ArmCounts()
    for one in recent:
        canary, stable = _plus(canary, one.canary), _plus(stable, one.stable)
    return judge.abort(canary, stable)


def _with(walked: Walked, window: Window) -> Walked:
    return replace(walked, canary=_plus(walked.canary, window.canary), stable=_plus(walked.stable, window.stable))


def _plus(sum_: ArmCounts, more: ArmCounts) -> ArmCounts:
    """Requests and errors alone."""
    return ArmCounts(sum_.requests + more.requests, sum_.errors + more.errors)
