"""Slow requests of the canary against those of stable, at a few bucket bounds fixed before the rollout.

"Slower than L" takes the place of "failed": a share of requests, counted exactly by the histogram; no quantile is ever
estimated. The bounds are those at which stable's tail is neither empty nor the rule (`baseline`), and one process is
kept for each; their E is averaged, and an average of test martingales is one.
"""

from __future__ import annotations

import math

from canary.analysis import comparison
from canary.analysis.mixture import WORSE, log_sum, shown
from canary.analysis.relative import OneWindowRule, Pairing, RelativeShare
from canary.analysis.witness import PASSES_BELOW, Finding, is_compared
from canary.model.objectives import Tolerance
from canary.model.verdict import Baseline, Evidence, Reason, Window


class LatencyVsStable:
    """H0 "at every bound, slow requests are within the tolerance", limit 1/alpha. At least one bound."""

    def __init__(self, tolerance: Tolerance, alpha: float, baseline: Baseline) -> None:
        limit = 1 / alpha
        self._tolerance, self._limit, self._history_s = tolerance, round(limit, 6), baseline.history_s
        self.bounds = tuple(sorted(baseline.latency_phi))
        """Bucket bounds in milliseconds."""
        self._shares = tuple(
            RelativeShare(WORSE, tolerance, limit=limit, cap=limit, phi=baseline.latency_phi[bound])
            for bound in self.bounds
        )
        self._star = OneWindowRule()
        self._pairing = Pairing(figures=1 + len(self.bounds))
        self._canary = [0] * (1 + len(self.bounds))
        self._stable = [0] * (1 + len(self.bounds))
        self._is_asked = False

    def check(self, window: Window) -> None:
        """Raise ValueError, naming the bound, unless both arms were counted at every one."""
        for arm in (window.canary, window.stable):
            missing = [bound for bound in self.bounds if arm.timed and bound not in arm.slower]
            if missing:
                raise ValueError(f"a window counts no requests slower than {missing[0]:g} ms, a bound that is judged")

    def skip(self, window: Window) -> None:
        """A window that is no evidence about latency: only where the rollout is counts."""
        self._is_asked = is_compared(window.step, window.weight)

    def observe(self, window: Window) -> None:
        self._is_asked = is_compared(window.step, window.weight)
        if not self._is_asked:
            return
        pair = self._pairing.add(
            window.step,
            (window.canary.timed, *(window.canary.slower.get(bound, 0) for bound in self.bounds)),
            (window.stable.timed, *(window.stable.slower.get(bound, 0) for bound in self.bounds)),
        )
        if pair is None:
            return
        canary, stable = pair
        odds = self._shares[0].odds(canary[0], stable[0])
        for place, share in enumerate(self._shares, start=1):
            share.observe(window.step, (canary[0], canary[place]), (stable[0], stable[place]), odds, window.start)
        logs = [share.mixture.log_e for share in self._shares]
        self._star.update(log_sum(logs) - math.log(len(logs)))
        self._canary = [sum(two) for two in zip(self._canary, canary, strict=True)]
        self._stable = [sum(two) for two in zip(self._stable, stable, strict=True)]

    @property
    def worse(self) -> float:
        """E*, the average over the bounds under the one-window rule."""
        return shown(self._star.log_e)

    @property
    def is_breached(self) -> bool:
        return self.worse >= self._limit

    def breach(self) -> Finding | None:
        if not self.is_breached:
            return None
        text = comparison.slower_than_stable(self.evidence[0], self._bound, self._tolerance, self._history_s)
        return Finding(Reason.LATENCY, text)

    def doubt(self) -> Finding | None:
        if not self._is_asked or self.worse < PASSES_BELOW:
            return None
        text = comparison.perhaps_worse(self.evidence[0], self._bound, PASSES_BELOW)
        return Finding(Reason.INCONCLUSIVE, text)

    @property
    def _bound(self) -> float:
        """The bound at which the evidence is strongest (ms)."""
        return self.bounds[self._strongest]

    @property
    def _strongest(self) -> int:
        return max(range(len(self.bounds)), key=lambda place: self._shares[place].mixture.log_e)

    @property
    def evidence(self) -> tuple[Evidence, ...]:
        """E* with the counts at the bound where the evidence is strongest."""
        place = 1 + self._strongest
        n_c, s_c, n_b, s_b = self._canary[0], self._canary[place], self._stable[0], self._stable[place]
        tolerated = min(1.0, self._tolerance.ratio * (s_b / n_b if n_b else 0.0) + self._tolerance.slack)
        return (Evidence("latency_vs_stable", n_c, s_c, n_b, s_b, tolerated, self.worse, self._limit),)
