"""Evidence that may be looked at after every window: a mixture of bets against "the canary is no worse than a bound".

Each bet says "the canary's rate is g times the bound" and multiplies its stake, window by window, by the likelihood
ratio of what happened. If the bound holds, no stake grows on average, whatever the canary does next, so the sum E of
all stakes is a test martingale (Shafer & Vovk 2019): P(E ever reaches 1/alpha) <= alpha (Ville's inequality; Howard et
al. 2021), however often one looks. At every new step a fifth of E is dealt out afresh, and a twentieth after every
minute within it (fixed share: Herbster & Warmuth 1998), so that bets which lost while the canary was healthy can win
again when it turns bad.

What a window is worth to a bet (its log-likelihood ratio) is the caller's: any increments l with E[exp(l)] <= 1 under
the bound keep the guarantee. This module never sees counts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

NO_BET_SHARE = 0.2
FIXED_SHARE = 0.2
"""Of E, dealt out afresh at every new step."""

MINUTE_SHARE, MINUTE_S = 0.05, 60.0
"""Of E, dealt out afresh after every minute within a step: a bet that lost for long could not win again in time, for it
may grow by the cap only. Small, for what is dealt to bets that lose is lost: an hour costs E a factor of 11."""

LARGEST_LOG_E = 690.0
"""exp of it is still a float (1e299): a larger E is shown as this one."""


@dataclass(frozen=True, slots=True)
class Grid:
    """Which multiples of the bound are bet on, and how the stake of 1 is dealt.

    `multiples` are the g of the bets; `shares` has one entry more, "no bet" first, and sums to 1.
    """

    multiples: tuple[float, ...]
    shares: tuple[float, ...]
    log_multiples: tuple[float, ...]
    log_shares: tuple[float, ...] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "log_shares", tuple(math.log(share) for share in self.shares))

    @classmethod
    def dealt(cls, multiples: Sequence[float], proportions: Sequence[float]) -> Grid:
        """A fifth on "no bet", the rest on the multiples in these proportions."""
        rest = (1 - NO_BET_SHARE) / sum(proportions)
        shares = (NO_BET_SHARE, *(rest * part for part in proportions))
        return cls(tuple(multiples), shares, tuple(math.log(multiple) for multiple in multiples))


WORSE = Grid.dealt(
    multiples=(1.25, 1.5, 1.9, 2.5, 3.5, 6, 12, 25, 60, 300),
    proportions=(1, 2, 3, 3, 2, 1.5, 1.5, 1.5, 1, 0.5),
)
"""From a quarter worse to three hundred times: the grid of "worse at all?" and of the absolute objectives."""

BEYOND = Grid.dealt(multiples=(1.2, 1.45, 1.8, 2.4, 4, 10, 40), proportions=(1, 2, 3, 3, 2, 1, 1))
"""The grid of "worse than the policy tolerates?"."""


class Mixture:
    """One test martingale E, kept as the logarithms of its stakes: eleven floats, however long the rollout runs.

    `alpha` is the chance of a false alarm it may spend over its whole life; it decides at `limit` = 1/alpha. No bet may
    grow by more than `cap` (the limit, unless said otherwise) in one window: capping only lowers E.
    """

    __slots__ = ("_dealt_at", "_log_cap", "_log_limit", "_log_stakes", "_step", "grid", "limit", "log_e")

    def __init__(self, grid: Grid, alpha: float, cap: float | None = None) -> None:
        self.grid = grid
        self.limit = round(1 / alpha, 6)
        self.log_e = 0.0
        self._log_limit = math.log(self.limit)
        self._log_cap = self._log_limit if cap is None else math.log(cap)
        self._log_stakes = list(grid.log_shares)
        self._step: int | None = None
        self._dealt_at = 0.0

    @property
    def e_value(self) -> float:
        """E, at least 0 and always finite."""
        return shown(self.log_e)

    @property
    def has_decided(self) -> bool:
        """E has reached the limit: the bound is broken, or a chance of alpha came true."""
        return self.log_e >= self._log_limit

    def update(self, step: int, increments: Sequence[float], at: float = 0.0) -> None:
        """Take in one window: `increments` are the log-likelihood ratios of the grid's multiples, in their order.

        None at all says that the window is worth nothing to any bet. `at` is when it began (seconds): stakes are dealt
        afresh by step and by time, never by what was seen, so E stays a test martingale.
        """
        if step != self._step:
            if self._step is not None:
                self._deal_again(FIXED_SHARE)
            self._step, self._dealt_at = step, at
        elif at >= self._dealt_at + MINUTE_S:
            self._deal_again(MINUTE_SHARE)
            self._dealt_at = at
        if not increments:
            return
        stakes, cap = self._log_stakes, self._log_cap
        for place, increment in enumerate(increments, start=1):
            stakes[place] += increment if increment < cap else cap
        self.log_e = log_sum(stakes)

    def _deal_again(self, share_of_e: float) -> None:
        keep, dealt = math.log(1 - share_of_e), math.log(share_of_e) + self.log_e
        self._log_stakes = [
            log_sum((keep + stake, dealt + share))
            for stake, share in zip(self._log_stakes, self.grid.log_shares, strict=True)
        ]


def shown(log_e: float) -> float:
    """E of its logarithm, at least 0 and always finite."""
    return math.exp(min(log_e, LARGEST_LOG_E))


def log_sum(logs: Sequence[float]) -> float:
    """ln(sum(exp(x))) of x below infinity, one of them finite, without overflow or underflow."""
    try:
        total = sum(map(math.exp, logs))
        if 1e-290 < total < 1e290:
            return math.log(total)
    except OverflowError:
        pass
    largest = max(logs)
    return largest + math.log(sum([math.exp(value - largest) for value in logs]))
