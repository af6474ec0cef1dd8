"""Is the canary worse than the stable version beside it? A test martingale on the counts of both, window by window.

H0: p_c <= rho p_b + eps, for whatever p_b, even one that changes from window to window: an outage, a busy hour or a
slow drift of the whole service is no evidence, because both versions are counted over the same time. Nothing is
estimated; p_b cancels. A bet on "the canary's rate is g times the boundary" multiplies its stake by e^l with

    kappa = (rho n_c + n_b) / (rho g n_c + n_b),    x = g kappa
    l = (s_c ln x + s_b ln kappa - eps n_c (x - 1)) / phi

for n requests and s bad ones of canary (c) and stable (b). Under H0 E[e^l] <= 1: with independent requests the
logarithm of the expectation is at most (p_c - rho p_b - eps) n_c (x - 1) <= 0, because n_b (1 - kappa) is
rho n_c (x - 1); and dividing by phi >= 1 keeps it so (Jensen).
Source: test martingales, Shafer & Vovk 2019; Howard et al. 2021 for the boundary; the split of the exponent is ours.
"""

from __future__ import annotations

import math

from canary.analysis.mixture import Grid, Mixture
from canary.model.objectives import Tolerance

ONE_WINDOW_GROWTH = math.log(6)


Odds = list[tuple[float, float, float]]
"""For each multiple g: ln x, ln kappa and x - 1. The same for all that is counted among the same requests."""


def odds_of(grid: Grid, ratio: float, n_c: int, n_b: int) -> Odds:
    """What a bad request of the canary (x) and of stable (kappa) multiplies each stake of `grid` by. Both n above 0."""
    weighed, log1p = ratio * n_c, math.log1p
    found = []
    for multiple, log_multiple in zip(grid.multiples, grid.log_multiples, strict=True):
        more, parts = multiple - 1, weighed * multiple + n_b
        log_kappa = log1p(-weighed * more / parts)
        found.append((log_multiple + log_kappa, log_kappa, n_b * more / parts))
    return found


class RelativeShare:
    """The mixture against H0: the canary's share of bad requests is at most `tolerance.ratio` x stable's + `slack`.

    `limit` is where it decides, `cap` the most that a bet may grow by in one window. `phi` >= 1 is the dispersion of
    stable's counts. Raises ValueError for another phi.
    """

    __slots__ = ("_phi", "_ratio", "_slack", "mixture")

    def __init__(self, grid: Grid, tolerance: Tolerance, *, limit: float, cap: float, phi: float = 1.0) -> None:
        if not 1 <= phi < math.inf:
            raise ValueError(f"dispersion must be at least 1 and finite, not {phi}")
        self.mixture = Mixture(grid, 1 / limit, cap=cap)
        self._ratio, self._slack, self._phi = tolerance.ratio, tolerance.slack, phi

    def odds(self, n_c: int, n_b: int) -> Odds:
        return odds_of(self.mixture.grid, self._ratio, n_c, n_b)

    def observe(
        self,
        step: int,
        canary: tuple[int, int],
        stable: tuple[int, int],
        odds: Odds | None = None,
        at: float = 0.0,
    ) -> None:
        """Take in one window: (requests, bad ones) of either arm, both with at least one request.

        `odds` are those of these requests, for who has them already; `at` as in `Mixture.update`.
        """
        (n_c, s_c), (n_b, s_b) = canary, stable
        harm, phi = self._slack * n_c, self._phi
        if not (s_c or s_b or harm):
            self.mixture.update(step, (), at)
            return
        self.mixture.update(
            step,
            [
                (s_c * log_x + s_b * log_kappa - harm * more) / phi
                for log_x, log_kappa, more in odds or self.odds(n_c, n_b)
            ],
            at,
        )


class OneWindowRule:
    """E* = E / max(1, R / 6), R the largest growth of E in one window so far: no single odd window decides.

    E* may dip when one more error comes, because that error may make R larger; E itself never does.
    """

    __slots__ = ("_before", "_largest", "log_e")

    def __init__(self) -> None:
        self._before = 0.0
        self._largest = 0.0
        self.log_e = 0.0
        """ln E*, of the newest window."""

    def update(self, log_e: float) -> None:
        """Take in ln E after one more window."""
        self._largest = max(self._largest, log_e - self._before)
        self._before = log_e
        self.log_e = log_e - max(0.0, self._largest - ONE_WINDOW_GROWTH)


class Pairing:
    """Windows of one step put together until both arms have requests: their scrapes may fall into different tiles.

    Holds `figures` counts per arm, the first of them the requests.
    """

    __slots__ = ("_canary", "_figures", "_stable", "_step")

    def __init__(self, figures: int) -> None:
        self._figures = figures
        self._step: int | None = None
        self._canary = [0] * figures
        self._stable = [0] * figures

    def add(self, step: int, canary: tuple[int, ...], stable: tuple[int, ...]) -> tuple[list[int], list[int]] | None:
        """Both arms' counts once both have requests, None until then. Another step begins afresh."""
        if step != self._step:
            self._step, self._canary, self._stable = step, [0] * self._figures, [0] * self._figures
        for place, count in enumerate(canary):
            self._canary[place] += count
        for place, count in enumerate(stable):
            self._stable[place] += count
        if not (self._canary[0] and self._stable[0]):
            return None
        pair = self._canary, self._stable
        self._canary, self._stable = [0] * self._figures, [0] * self._figures
        return pair
