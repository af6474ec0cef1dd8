"""A pass needs evidence too: that the canary is *not* more than twice as bad as stable, plus one in a hundred.

Silence is no proof of health. H0': p_c >= 2 p_b + 1 %; bets on g < 1 times that boundary grow while the canary has
fewer errors than it allows. Reaching 20 while H0' holds has a chance of at most a twentieth (Ville). With no errors at
all that takes 385 canary requests at 10 % weight. The evidence is cumulative over the rollout: later steps add to it,
and lose it when the canary turns bad.
"""

from __future__ import annotations

import math

from canary.analysis import comparison
from canary.analysis.mixture import log_sum, shown
from canary.analysis.relative import Pairing
from canary.analysis.witness import Finding, is_compared
from canary.model.verdict import Evidence, Reason, Window

RATIO, SLACK = 2.0, 0.01
NEEDED = 20.0
_MULTIPLES = (0.0, 0.1, 0.25, 0.5, 0.75)
_BETS = tuple((multiple, math.log(multiple) if multiple else -math.inf) for multiple in _MULTIPLES)
_LOG_SHARE = math.log(1 / len(_MULTIPLES))


class Health:
    """The process against "twice as bad as stable plus 1 %"; `phi` >= 1 is the dispersion of stable's errors."""

    def __init__(self, phi: float = 1.0) -> None:
        self._phi = phi
        self._logs = [_LOG_SHARE] * len(_MULTIPLES)
        self._log_e = 0.0
        self._pairing = Pairing(figures=2)
        self._sums = [0, 0, 0, 0]
        self.is_asked = False

    def observe(self, window: Window) -> None:
        self.is_asked = is_compared(window.step, window.weight)
        if not self.is_asked:
            return
        canary, stable = window.canary, window.stable
        pair = self._pairing.add(window.step, (canary.requests, canary.errors), (stable.requests, stable.errors))
        if pair is None:
            return
        (n_c, s_c), (n_b, s_b) = pair
        weighed = RATIO * n_c
        for place, (multiple, log_multiple) in enumerate(_BETS):
            less, parts = 1 - multiple, weighed * multiple + n_b
            log_kappa = math.log1p(weighed * less / parts)
            lost = s_c * (log_multiple + log_kappa) if s_c else 0.0  # 0 ln 0 = 0
            self._logs[place] += (lost + s_b * log_kappa + SLACK * n_c * n_b * less / parts) / self._phi
        self._log_e = log_sum(self._logs)
        self._sums = [sum(two) for two in zip(self._sums, (n_c, s_c, n_b, s_b), strict=True)]

    @property
    def e_value(self) -> float:
        return shown(self._log_e)

    @property
    def has_passed(self) -> bool:
        return self.e_value >= NEEDED

    def breach(self) -> Finding | None:
        """Never: too little evidence of health is no evidence of damage."""
        return None

    def doubt(self) -> Finding | None:
        if not self.is_asked or self.has_passed:
            return None
        return Finding(Reason.INCONCLUSIVE, comparison.not_yet_healthy(self.evidence[0], self._more_needed()))

    def _more_needed(self) -> int | None:
        """About how many more canary requests like those so far would do, None when they would not."""
        grown = max(self._logs) - _LOG_SHARE
        if not self._sums[0] or grown <= 0:
            return None
        return math.ceil((math.log(NEEDED) - self._log_e) * self._sums[0] / grown)

    @property
    def evidence(self) -> tuple[Evidence, ...]:
        """E against the boundary: the larger the better."""
        n_c, s_c, n_b, s_b = self._sums
        bound = min(1.0, RATIO * (s_b / n_b if n_b else 0.0) + SLACK)
        return (Evidence("pass", n_c, s_c, n_b, s_b, bound, self.e_value, NEEDED),)
