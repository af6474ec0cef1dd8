"""Errors of the canary against those of stable: two questions, and both must be answered yes to roll back.

"Worse at all?" needs strong evidence, because healthy releases are asked it thousands of times; "worse than we
tolerate?" only some, because who is proven worse is merely asked by how much. One process at the tolerance would need
far more requests for the same bound on false rollbacks (docs/why-two.md).
"""

from __future__ import annotations

import math

from canary.analysis import comparison
from canary.analysis.mixture import BEYOND, WORSE, shown
from canary.analysis.relative import OneWindowRule, Pairing, RelativeShare
from canary.analysis.witness import PASSES_BELOW, Finding, is_compared
from canary.model.objectives import HarmBudget, Tolerance
from canary.model.verdict import Baseline, Evidence, Reason, Window

BEYOND_LIMIT = 5.0
"""Evidence for "worse than tolerated": who is inside the tolerance is rolled back with at most a fifth's chance."""

HARM_NEEDS = 20.0
"""Evidence for "worse at all" without which a harm budget would roll back a third of healthy releases at 1,000 rps."""

_NOT_WORSE = Tolerance.model_validate({"ratio": 1, "slack": "0%"})


class ErrorsVsStable:
    """H0 "no worse than stable" (limit 1/alpha), H0 "within the tolerance" (limit 5), and the harm budget if any.

    Not asked in the header stage, whose users are no random sample, nor at 100 %, where no stable is left.
    """

    def __init__(self, tolerance: Tolerance, alpha: float, baseline: Baseline, harm: HarmBudget | None = None) -> None:
        limit = 1 / alpha
        self._tolerance = tolerance
        self._harm_budget = harm.errors if harm else math.inf
        self._history_s = baseline.history_s
        self._worse = RelativeShare(WORSE, _NOT_WORSE, limit=limit, cap=limit, phi=baseline.errors_phi)
        self._beyond = RelativeShare(BEYOND, tolerance, limit=BEYOND_LIMIT, cap=limit, phi=baseline.errors_phi)
        self._star = OneWindowRule()
        self._pairing = Pairing(figures=2)
        self._sums = (0, 0, 0, 0)
        self._step: int | None = None
        self._step_sums = (0, 0, 0, 0)
        self._earlier_harm = 0.0
        self._is_asked = False

    def observe(self, window: Window) -> None:
        self._is_asked = is_compared(window.step, window.weight)
        if not self._is_asked:
            return
        canary, stable = window.canary, window.stable
        pair = self._pairing.add(window.step, (canary.requests, canary.errors), (stable.requests, stable.errors))
        if pair is None:
            return
        (n_c, s_c), (n_b, s_b) = pair
        self._worse.observe(window.step, (n_c, s_c), (n_b, s_b), at=window.start)
        self._beyond.observe(window.step, (n_c, s_c), (n_b, s_b), at=window.start)
        self._star.update(self._worse.mixture.log_e)
        if window.step != self._step:
            self._earlier_harm += _excess(self._step_sums)
            self._step, self._step_sums = window.step, (0, 0, 0, 0)
        self._step_sums = _added(self._step_sums, (n_c, s_c, n_b, s_b))
        self._sums = _added(self._sums, (n_c, s_c, n_b, s_b))

    @property
    def harm(self) -> float:
        """Errors that the canary cost beyond what stable's rate explains, step by step, as far as they are evidence."""
        return self._earlier_harm + _excess(self._step_sums)

    @property
    def worse(self) -> float:
        """E_A*, against "no worse than stable"."""
        return shown(self._star.log_e)

    @property
    def beyond(self) -> float:
        """E_T, against "within the tolerance"."""
        return self._beyond.mixture.e_value

    def breach(self) -> Finding | None:
        if self.worse >= self._worse.mixture.limit and self.beyond >= BEYOND_LIMIT:
            worse, beyond = self.evidence
            text = comparison.worse_than_stable(worse, beyond, self._tolerance, self._history_s)
            return Finding(Reason.ERROR_RATE, text)
        return None

    def harm_breach(self) -> Finding | None:
        """The harm budget is spent, and there is evidence that it was the canary."""
        if self.harm > self._harm_budget and self.worse >= HARM_NEEDS:
            text = comparison.harm_done(self.evidence[0], self.harm, self._harm_budget, HARM_NEEDS)
            return Finding(Reason.HARM_BUDGET, text)
        return None

    def doubt(self) -> Finding | None:
        if not self._is_asked or self.worse < PASSES_BELOW:
            return None
        worse, beyond = self.evidence
        if self.worse >= self._worse.mixture.limit:
            text = comparison.worse_but_tolerated(worse, beyond, self._tolerance, PASSES_BELOW)
        else:
            text = comparison.perhaps_worse(worse, None, PASSES_BELOW)
        return Finding(Reason.INCONCLUSIVE, text)

    @property
    def evidence(self) -> tuple[Evidence, Evidence]:
        """E_A* and E_T, over all windows that both arms had requests in."""
        n_c, s_c, n_b, s_b = self._sums
        share = s_b / n_b if n_b else 0.0
        tolerated = min(1.0, self._tolerance.ratio * share + self._tolerance.slack)
        limit = self._worse.mixture.limit
        return (
            Evidence("error_rate_vs_stable", n_c, s_c, n_b, s_b, share, self.worse, limit),
            Evidence("error_rate_vs_tolerated", n_c, s_c, n_b, s_b, tolerated, self.beyond, BEYOND_LIMIT),
        )


def _added(sums: tuple[int, int, int, int], counts: tuple[int, int, int, int]) -> tuple[int, int, int, int]:
    return sums[0] + counts[0], sums[1] + counts[1], sums[2] + counts[2], sums[3] + counts[3]


def _excess(sums: tuple[int, int, int, int]) -> float:
    n_c, s_c, n_b, s_b = sums
    return s_c - n_c * s_b / n_b if n_b else 0.0
