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


def upper_bound(total: int, bad: int, alpha: float) -> float:
    """The largest share (0-1) that `bad` of `total` leave plausible: Clopper & Pearson's one-sided bound (1934).

    The p at which seeing at most `bad` of `total` has the chance `alpha`; 1 without a request or when all are bad.
    Beyond `_SUMMED` bad ones or `_COUNTED` requests it is Chernoff's, which is never smaller and takes no sum.
    """
    if bad >= total:
        return 1.0
    chance = _chance_of_at_most if bad <= _SUMMED and total <= _COUNTED else _chernoff
    low, high = bad / total, 1.0
    for _ in range(_BISECTIONS * 2):
        middle = (low + high) / 2
        if chance(bad, total, middle) > alpha:
            low = middle
        else:
            high = middle
    return high


_SUMMED, _COUNTED = 100_000, 1_000_000_000
"""Beyond, the sum takes long and the logarithm of the factorials loses its last digits."""


def _chernoff(bad: int, total: int, share: float) -> float:
    """A bound on P(Binomial(total, share) <= bad), for share >= bad / total (Chernoff 1952)."""
    if share >= 1:
        return 0.0
    seen = bad / total
    lost = bad * math.log(share / seen) if bad else 0.0
    return math.exp(min(0.0, lost + (total - bad) * (math.log1p(-share) - math.log1p(-seen))))


def _chance_of_at_most(bad: int, total: int, share: float) -> float:
    """P(Binomial(total, share) <= bad) for share >= bad / total: terms fall from the last one down."""
    if share >= 1:
        return 0.0
    log_choose = math.lgamma(total + 1) - math.lgamma(bad + 1) - math.lgamma(total - bad + 1)
    log_term = log_choose + bad * math.log(share) + (total - bad) * math.log1p(-share) if share else -math.inf
    term = largest = math.exp(log_term)
    chance, odds = 0.0, (1 - share) / share if share else math.inf
    for count in range(bad, -1, -1):
        chance += term
        if term <= largest * 1e-17:
            break
        term *= odds * count / (total - count + 1)
    return min(1.0, chance)
