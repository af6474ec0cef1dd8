"""At 100 % no stable is left to compare with; the policy may ask to compare with what stable was (`frozenBound`).

The bound is frozen when the last step begins: p0 = rho UCB99(stable so far) + eps, Clopper & Pearson's upper bound,
so that a short history is no reason to convict. What this cannot see is a change of the whole service: a drift of both
versions to three times the errors broke the bound in every simulated rollout at 1,000 requests per second
(docs/bench-verdict.md). `keepStable` has no such weakness.
"""

from __future__ import annotations

from canary.analysis import comparison
from canary.analysis.absolute import BoundedShare
from canary.analysis.interval import upper_bound
from canary.analysis.witness import FULL_WEIGHT, HEADER_STEP, PASSES_BELOW, Finding
from canary.model.objectives import Tolerance
from canary.model.verdict import Evidence, Reason, Window

UCB_ALPHA = 0.01


class FrozenBound:
    """H0 "at 100 % the canary fails no more than stable did, within the tolerance"; errors only, limit 1/alpha."""

    def __init__(self, tolerance: Tolerance, alpha: float, phi: float = 1.0) -> None:
        self._tolerance, self._alpha, self._phi = tolerance, alpha, phi
        self._stable_total = self._stable_bad = 0
        self._total = self._bad = 0
        self._bound = 1.0
        self._share: BoundedShare | None = None

    def observe(self, window: Window) -> None:
        if window.step == HEADER_STEP or window.weight < FULL_WEIGHT:
            self._stable_total += window.stable.requests
            self._stable_bad += window.stable.errors
            return
        if self._share is None:
            most = upper_bound(self._stable_total, self._stable_bad, UCB_ALPHA)
            self._bound = self._tolerance.ratio * most + self._tolerance.slack
            if self._bound >= BoundedShare.HIGHEST_BET:
                return  # stable was hardly seen, or failed all the time: nothing to compare with
            self._share = self.begun()
        self._share.observe(window.step, window.canary.requests, window.canary.errors, window.start)
        self._total += window.canary.requests
        self._bad += window.canary.errors

    def begun(self) -> BoundedShare:
        """The process against the frozen bound, before the first window at 100 %."""
        return BoundedShare(self._bound, self._alpha, self._phi)

    def breach(self) -> Finding | None:
        if self._share is None or not self._share.mixture.has_decided:
            return None
        return Finding(Reason.ERROR_RATE, comparison.worse_than_frozen(self.evidence[0]))

    def doubt(self) -> Finding | None:
        if self._share is None or self._share.mixture.e_value < PASSES_BELOW:
            return None
        return Finding(Reason.INCONCLUSIVE, f"undecided: {comparison.worse_than_frozen(self.evidence[0])}.")

    @property
    def evidence(self) -> tuple[Evidence, ...]:
        if self._share is None:
            return ()
        mixture = self._share.mixture
        counts = (self._total, self._bad, self._stable_total, self._stable_bad)
        return (Evidence("error_rate_vs_frozen", *counts, self._bound, mixture.e_value, mixture.limit),)
