"""Other controllers' rules, written from their descriptions and sources, on the same traffic as our judge.

Each rule sees the counts by tick and answers at which tick it would roll back. They walk the same plan of weights and
times, though Flagger, for one, stops climbing while a check fails; what they cost between a failed check and the
route, propagation aside, is part of the rule. Sources: fluxcd/flagger pkg/controller/scheduler.go (failed checks add
up over the whole analysis, and the next check after the threshold rolls back), argo-rollouts' analysis docs
(failureLimit), spinnaker/kayenta NetflixACAJudge (Mann-Whitney, 98 %).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from bench.verdict.drive import ENDING, NEVER
from bench.verdict.traffic import BUCKETS_MS, Arm, Counts, Drawn, Plan

NO_TICK = -1


class Rule(Protocol):
    @property
    def name(self) -> str: ...

    def rolls_back_at(self, drawn: Drawn) -> Counts:
        """The tick (0-based) at whose end each rollout is rolled back, `NO_TICK` for never."""


@dataclass(frozen=True)
class FixedThreshold:
    """Flagger's way, and with `failures` 1 and no delay Argo Rollouts' with failureLimit 0.

    Every `interval_s` the success rate and the P99 of the last `over_s` are compared with fixed limits. No request, or
    a breach, is a failed check; `failures` of them (they add up, a good check takes none back) roll back, at the check
    after when `one_more_interval`. A P99 is over its limit exactly when more than 1 % took longer.
    """

    name: str
    success: float = 0.99
    p99_ms: float | None = 500.0
    interval_s: float = 10.0
    over_s: float = 30.0
    failures: int = 5
    one_more_interval: bool = True
    idle_fails: bool = True

    def rolls_back_at(self, drawn: Drawn) -> Counts:
        arm, plan = drawn.canary, drawn.plan
        every, over = round(self.interval_s / plan.tick_s), round(self.over_s / plan.tick_s)
        checks = np.arange(every - 1, arm.requests.shape[1], every)
        requests, errors = (_over(counts, over)[:, checks] for counts in (arm.requests, arm.errors))
        is_failed = errors > (1 - self.success) * requests
        if self.idle_fails:
            is_failed |= requests == 0
        if self.p99_ms is not None:
            slower = arm.slower[:, :, int(np.searchsorted(BUCKETS_MS, self.p99_ms))]
            is_failed |= _over(slower, over)[:, checks] > 0.01 * _over(arm.timed, over)[:, checks]
        is_over = np.cumsum(is_failed, axis=1) >= self.failures
        tick = _first(is_over, checks)
        if self.one_more_interval:
            tick = np.where(tick == NO_TICK, NO_TICK, tick + every)
        return np.where(tick < arm.requests.shape[1], tick, NO_TICK)


@dataclass(frozen=True)
class TwiceStable:
    """Canary's error rate over `factor` times stable's in one window: roll back."""

    name: str = "canary > 2x stable"
    factor: float = 2.0

    def rolls_back_at(self, drawn: Drawn) -> Counts:
        canary, stable, ends = _compared(drawn)
        is_over = (
            (canary.requests > 0)
            & (stable.requests > 0)
            & (canary.errors * stable.requests > self.factor * stable.errors * canary.requests)
        )
        return _first(is_over, ends)


@dataclass(frozen=True)
class MannWhitney:
    """Kayenta's way, looked at continuously: at every check the error rates of all windows so far of either version.

    Kayenta calls a metric High when the 98 % confidence interval of the shift lies above zero (by a quarter of the
    estimated shift): one-sided p below 1 %. The quarter is left out, which only makes it quicker.
    """

    name: str = "Mann-Whitney at every check"
    alpha: float = 0.01
    least_windows: int = 5

    def rolls_back_at(self, drawn: Drawn) -> Counts:
        from scipy.stats import mannwhitneyu

        canary, stable, ends = _compared(drawn)
        rates = [
            np.where(arm.requests > 0, arm.errors / np.maximum(arm.requests, 1), np.nan) for arm in (canary, stable)
        ]
        is_over = np.zeros(rates[0].shape, dtype=bool)
        for window in range(self.least_windows, rates[0].shape[1] + 1):
            so_far = [rate[:, :window] for rate in rates]
            varies = np.nanmax(np.concatenate(so_far, axis=1), axis=1) > np.nanmin(
                np.concatenate(so_far, axis=1), axis=1
            )
            if varies.any():
                found = mannwhitneyu(
                    so_far[0][varies],
                    so_far[1][varies],
                    alternative="greater",
                    method="asymptotic",
                    axis=1,
                    nan_policy="omit" if any(np.isnan(rate).any() for rate in so_far) else "propagate",
                )
                is_over[varies, window - 1] = found.pvalue < self.alpha
        return _first(is_over, ends)


FLAGGER = FixedThreshold("Flagger: success >= 99 %, P99 <= 500 ms, 5 failed checks")
AT_ONCE = FixedThreshold("", p99_ms=None, failures=1, one_more_interval=False, idle_fails=False)
RULES: tuple[Rule, ...] = (
    FLAGGER,
    replace(FLAGGER, name="the same at 98 %", success=0.98),
    replace(AT_ONCE, name="Argo Rollouts: success >= 99 %, failureLimit 0"),
    replace(AT_ONCE, name="error rate <= 1.5 %, once a minute", success=0.985, interval_s=60.0, over_s=60.0),
    TwiceStable(),
    MannWhitney(),
)


def endings(rule: Rule, drawn: Drawn) -> NDArray[np.void]:
    """One `ENDING` per rollout under `rule`; seconds count from the start."""
    ticks = rule.rolls_back_at(drawn)
    found = np.zeros(len(ticks), dtype=ENDING)
    found["rolled_back"] = ticks != NO_TICK
    rows = np.arange(len(ticks))
    for figure, counts in (("requests", drawn.canary.requests), ("errors", drawn.canary.errors)):
        found[figure] = np.where(ticks != NO_TICK, np.cumsum(counts, axis=1)[rows, ticks], NEVER)
    found["seconds"] = np.where(ticks != NO_TICK, (ticks + 1) * drawn.plan.tick_s, NEVER)
    found["requests_to_pass"] = found["looks_with_five"] = NEVER
    return found


def _compared(drawn: Drawn) -> tuple[Arm, Arm, Counts]:
    """Both arms by window as long as both serve, and the last tick of each of these windows."""
    plan: Plan = drawn.plan
    a_window = plan.ticks_per_window
    windows = int((drawn.tick_weights < 100).sum()) // a_window
    canary, stable = (arm.by_window(a_window).first(windows) for arm in (drawn.canary, drawn.stable))
    return canary, stable, (np.arange(windows) + 1) * a_window - 1


def _over(counts: Counts, ticks: int) -> Counts:
    """Sums over the last `ticks` ticks, fewer at the start."""
    cumulated = np.cumsum(counts, axis=1)
    found: Counts = cumulated - np.pad(cumulated, ((0, 0), (ticks, 0)))[:, : counts.shape[1]]
    return found


def _first(is_over: NDArray[np.bool_], ticks: Counts) -> Counts:
    """The tick of the first true one in each row."""
    return np.where(is_over.any(axis=1), ticks[is_over.argmax(axis=1)], NO_TICK)
