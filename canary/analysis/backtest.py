"""Recorded counts through a policy: what it would have decided, when and why. Pure, and the same each time.

`judged` takes the windows of the steps that really were; `walked` cuts tiles into the steps that a policy would have
made of them. Verdicts come when their tile had settled, as they do live; the fast abort is looked at with each tile's
end, so it may be late by a tile. A metrics source that was away is not relived: there are no stale verdicts here.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from canary.analysis.judge import Judge
from canary.analysis.walk import Ending, Timing, Walk, Walked, aborted, goes_on
from canary.model.policy import Policy
from canary.model.verdict import ArmCounts, Outcome, Verdict, Window


@dataclass(frozen=True, slots=True)
class Told:
    """A change of the verdict: outcome, reason or step. `at` is when it was known (Unix seconds)."""

    at: float
    step: int
    weight: int
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class StepEnd:
    """The last verdict of a step, and from when to when (Unix seconds) its windows were."""

    step: int
    weight: int
    start: float
    end: float
    canary: ArmCounts
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Backtest:
    """`changes` in their order; `failed` is the one that would have rolled back, None for none. `steps` are those that
    were judged before. `stopped` is the step at which the policy would have stopped for want of a verdict, None when it
    would not: known for steps of the policy's own making only."""

    changes: tuple[Told, ...]
    steps: tuple[StepEnd, ...]
    failed: Told | None
    windows: int
    stopped: Walked | None = None


class _Listener:
    """Keeps what changed."""

    def __init__(self) -> None:
        self.changes: list[Told] = []
        self.steps: list[StepEnd] = []
        self.windows = 0

    def tell(self, window: Window, at: float, verdict: Verdict) -> None:
        last = self.changes[-1] if self.changes else None
        now = (window.step, verdict.outcome, verdict.reason)
        if last is None or (last.step, last.verdict.outcome, last.verdict.reason) != now:
            self.changes.append(Told(at, window.step, window.weight, verdict))
        self.windows += 1
        if self.steps and self.steps[-1].step == window.step:
            before = self.steps[-1]
            counts = ArmCounts(
                before.canary.requests + window.canary.requests, before.canary.errors + window.canary.errors
            )
            self.steps[-1] = replace(before, weight=window.weight, end=window.end, canary=counts, verdict=verdict)
        else:
            counts = ArmCounts(window.canary.requests, window.canary.errors)
            self.steps.append(StepEnd(window.step, window.weight, window.start, window.end, counts, verdict))

    def result(self, stopped: Walked | None = None) -> Backtest:
        failed = next((told for told in self.changes if told.verdict.outcome is Outcome.FAIL), None)
        return Backtest(tuple(self.changes), tuple(self.steps), failed, self.windows, stopped)


def judged(judge: Judge, windows: Sequence[Window], timing: Timing, tiles: Sequence[Window] = ()) -> Backtest:
    """The verdicts on these windows, in their order, up to the first that fails.

    `tiles` are all tiles of the rollout's time, also those that are evidence of no step, for the fast abort (where
    `timing.interval_s` is not 0). Raises ValueError for windows that the judge cannot take.
    """
    listener = _Listener()
    looks = [(timing.seen(window.end), 1, window) for window in windows]
    if timing.interval_s:
        looks += [(tile.end + timing.abort_s, 0, tile) for tile in tiles]
    recent: deque[Window] = deque()
    for at, is_window, window in sorted(looks, key=lambda look: look[:2]):
        verdict = judge.observe(window, at) if is_window else aborted(judge, recent, window, timing)
        if verdict is None:
            continue
        listener.tell(window, at, verdict)
        if verdict.outcome is Outcome.FAIL:
            break
    return listener.result()


def walked(
    policy: Policy, judge: Judge, tiles: Mapping[float, tuple[ArmCounts, ArmCounts]], timing: Timing, began: float
) -> Backtest:
    """What the policy would have made of these tiles, (canary, stable) by their end, with its first weight on the route
    from `began`. The steps are the policy's; the weights are those that the requests really had."""
    listener = _Listener()

    def supply(window: Window) -> Window | None:
        found = tiles.get(round(window.end, 3))
        return (
            None
            if found is None
            else replace(window, weight=_observed(*found, window.weight), canary=found[0], stable=found[1])
        )

    walk = Walk(policy, judge, timing, supply, listener.tell)
    warm_from = began + policy.analysis.warmup.total_seconds()
    for step in range(1, policy.strategy.last_step + (2 if policy.strategy.bake else 1)):
        end = walk.step(step, began, warm_from)
        if not goes_on(policy, end):
            return listener.result(end if end.ending is Ending.UNDECIDED else None)
        began = end.left
    return listener.result()


def _observed(canary: ArmCounts, stable: ArmCounts, otherwise: int) -> int:
    """The canary's integer percent of the requests: 100 only when stable had none."""
    total = canary.requests + stable.requests
    if not canary.requests:
        return otherwise
    return 100 if not stable.requests else max(1, min(99, round(100 * canary.requests / total)))
