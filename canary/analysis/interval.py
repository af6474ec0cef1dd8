"""How sure a share is, for people to read. Decisions never look at it."""

from __future__ import annotations

import math
from collections.abc import Callable

_BISECTIONS = 30


def confidence_sequence(total: int, bad: int, alpha: float) -> tuple[float, float] | None:
    """The shares (0-1) that `bad` of `total` leave plausible, right at every look at once with chance 1 - alpha.

    All p for which the beta-binomial mixture martingale, with Jeffreys' Beta(1/2, 1/2), stays below 1/alpha (Robbins
    1970; Howard et al. 2021). None without a request.
    """
    if total == 0:
        return None
    good = total - bad
    log_mixed = _log_beta(bad + 0.5, good + 0.5) - _log_beta(0.5, 0.5)
    threshold = math.log(1 / alpha)

    def is_plausible(share: float) -> bool:
        if not 0 < share < 1:
            return False  # rounded to an end of the scale that the counts rule out: the caller answers the others
        likelihood = bad * math.log(share) + good * math.log1p(-share)
        return log_mixed - likelihood < threshold

    middle = bad / total
    low = 0.0 if bad == 0 else _edge(middle, 0.0, is_plausible)
    high = 1.0 if good == 0 else _edge(middle, 1.0, is_plausible)
    return low, high


def _edge(inside: float, outside: float, is_plausible: Callable[[float], bool]) -> float:
    for _ in range(_BISECTIONS):
        between = (inside + outside) / 2
        if is_plausible(between):
            inside = between
        else:
            outside = between
    return outside


def _log_beta(a: float, b: float) -> float:
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)
