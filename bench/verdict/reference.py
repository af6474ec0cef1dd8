"""The processes of the judge written a second time, from the formulas alone, for many rollouts at once in numpy.

Two uses: a test compares every E value with the product's judge on the same windows, so that neither can be wrong
alone; and the curves of the docs, which need many thousand rollouts, are drawn with it. It shares no code with
`canary.analysis` and must stay so.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]

WORSE = ((1.25, 1.5, 1.9, 2.5, 3.5, 6, 12, 25, 60, 300), (1, 2, 3, 3, 2, 1.5, 1.5, 1.5, 1, 0.5))
BEYOND = ((1.2, 1.45, 1.8, 2.4, 4, 10, 40), (1, 2, 3, 3, 2, 1, 1))
PASSING = (0.0, 0.1, 0.25, 0.5, 0.75)
LIMIT = 200.0
TOLERATED_LIMIT = 5.0
PASS_LIMIT = 20.0


def increments(multiples: Floats, rho: float, eps: float, counts: tuple[Floats, ...]) -> Floats:
    """ln of what a window is worth to each bet, [rollout, bet], of (n_c, s_c, n_b, s_b), [rollout, 1] each."""
    n_c, s_c, n_b, s_b = counts
    kappa = (rho * n_c + n_b) / (rho * multiples * n_c + n_b)
    x = multiples * kappa
    with np.errstate(divide="ignore", invalid="ignore"):
        of_errors = np.where(s_c > 0, s_c * np.log(x), 0.0)
    return of_errors + s_b * np.log(kappa) - eps * n_c * (x - 1)


class Process:
    """A mixture of bets with "no bet", re-mixed at each step, over many rollouts."""

    def __init__(
        self,
        grid: tuple[tuple[float, ...], tuple[float, ...]],
        rho: float,
        eps: float,
        phi: Floats,
        cap: float = LIMIT,
    ) -> None:
        multiples, proportions = grid
        self.multiples = np.array(multiples)
        self.rho, self.eps, self.cap = rho, eps, cap
        self.phi = phi[:, None]
        dealt = np.array([0.2, *(0.8 * np.array(proportions) / sum(proportions))])
        self.log_dealt = np.log(dealt)
        self.log_stakes = np.tile(self.log_dealt, (len(phi), 1))
        self.step = np.full(len(phi), -1)

    def observe(self, step: int, counts: tuple[Floats, ...], is_pair: NDArray[np.bool_]) -> Floats:
        """Take in one window, only of the rollouts in `is_pair`; ln E of all."""
        again = is_pair & (self.step >= 0) & (self.step != step)
        log_e = log_sum(self.log_stakes)
        remixed = np.logaddexp(np.log(0.8) + self.log_stakes, np.log(0.2) + self.log_dealt + log_e[:, None])
        self.log_stakes = np.where(again[:, None], remixed, self.log_stakes)
        self.step = np.where(is_pair, step, self.step)
        worth = np.minimum(increments(self.multiples, self.rho, self.eps, counts) / self.phi, np.log(self.cap))
        self.log_stakes[:, 1:] += np.where(is_pair[:, None], worth, 0.0)
        return log_sum(self.log_stakes)


class PassProcess:
    """The evidence for a pass: bets that the canary is well below rho' p_b + eps', without "no bet" or re-mixing."""

    def __init__(self, phi: Floats, rho: float = 2.0, eps: float = 0.01) -> None:
        self.phi, self.rho, self.eps = phi[:, None], rho, eps
        self.multiples = np.array(PASSING)
        self.log_stakes = np.full((len(phi), len(PASSING)), -np.log(len(PASSING)))

    def observe(self, counts: tuple[Floats, ...], is_pair: NDArray[np.bool_]) -> Floats:
        n_c, s_c, n_b, s_b = counts
        with np.errstate(divide="ignore", invalid="ignore"):
            kappa = (self.rho * n_c + n_b) / (self.rho * self.multiples * n_c + n_b)
            x = self.multiples * kappa
            of_errors = np.where(s_c > 0, s_c * np.log(x), 0.0)
            worth = (of_errors + s_b * np.log(kappa) + self.eps * n_c * (1 - x)) / self.phi
        self.log_stakes = self.log_stakes + np.where(is_pair[:, None], worth, 0.0)
        return log_sum(self.log_stakes)


class OneWindow:
    """E* = E / max(1, R / 6), R the largest growth in one window so far."""

    def __init__(self, rollouts: int) -> None:
        self.before = np.zeros(rollouts)
        self.largest = np.zeros(rollouts)

    def starred(self, log_e: Floats) -> Floats:
        self.largest = np.maximum(self.largest, log_e - self.before)
        self.before = log_e
        starred: Floats = log_e - np.maximum(0.0, self.largest - np.log(6))
        return starred


@dataclass(frozen=True)
class Trace:
    """Logarithms of the evidence after each window, [rollout, window]."""

    worse: Floats
    worse_starred: Floats
    tolerated: Floats
    passing: Floats

    @property
    def fails(self) -> NDArray[np.bool_]:
        """Where the two together say: roll back."""
        both: NDArray[np.bool_] = (self.worse_starred >= np.log(LIMIT)) & (self.tolerated >= np.log(TOLERATED_LIMIT))
        return both


def trace(
    counts: tuple[Counts, Counts, Counts, Counts],
    steps: Counts,
    phi: Floats,
    tolerance: tuple[float, float] = (1.2, 0.0005),
) -> Trace:
    """Both error processes and the pass over whole rollouts: (n_c, s_c, n_b, s_b), each [rollout, window]."""
    rollouts, windows = counts[0].shape
    worse, beyond = Process(WORSE, 1.0, 0.0, phi), Process(BEYOND, *tolerance, phi)
    passing, one_window = PassProcess(phi), OneWindow(rollouts)
    pending = np.zeros((4, rollouts))
    found = np.zeros((4, rollouts, windows))
    for window in range(windows):
        new = np.array([figure[:, window] for figure in counts], dtype=float)
        if window and steps[window] != steps[window - 1]:
            pending[:] = 0.0
        pending += new
        is_pair = (pending[0] > 0) & (pending[2] > 0)
        pair = _columns(np.where(is_pair, pending, 1.0))
        log_worse = worse.observe(int(steps[window]), pair, is_pair)
        log_beyond = beyond.observe(int(steps[window]), pair, is_pair)
        log_pass = passing.observe(pair, is_pair)
        found[:, :, window] = log_worse, one_window.starred(log_worse), log_beyond, log_pass
        pending[:, is_pair] = 0.0
    return Trace(*found)


def latency_trace(
    timed: tuple[Counts, Counts],
    slower: tuple[Counts, Counts],
    steps: Counts,
    phi: Floats,
    tolerance: tuple[float, float] = (1.25, 0.002),
) -> tuple[Floats, Floats]:
    """ln E and ln E* of the latency, [rollout, window]: `timed` [rollout, window], `slower` [rollout, window, bound],
    each (canary, stable); `phi` [rollout, bound]. E is the mean over the bounds."""
    rollouts, windows, bounds = slower[0].shape
    processes = [Process(WORSE, *tolerance, phi[:, bound]) for bound in range(bounds)]
    one_window = OneWindow(rollouts)
    pending = np.zeros((2 + 2 * bounds, rollouts))
    found = np.zeros((2, rollouts, windows))
    for window in range(windows):
        if window and steps[window] != steps[window - 1]:
            pending[:] = 0.0
        pending[0] += timed[0][:, window]
        pending[1] += timed[1][:, window]
        pending[2 : 2 + bounds] += slower[0][:, window].T
        pending[2 + bounds :] += slower[1][:, window].T
        is_pair = (pending[0] > 0) & (pending[1] > 0)
        safe = np.where(is_pair, pending, 1.0)
        logs = []
        for bound, process in enumerate(processes):
            pair = _columns(np.array([safe[0], safe[2 + bound], safe[1], safe[2 + bounds + bound]]))
            logs.append(process.observe(int(steps[window]), pair, is_pair))
        log_e = log_sum(np.array(logs).T) - np.log(bounds)
        found[:, :, window] = log_e, one_window.starred(log_e)
        pending[:, is_pair] = 0.0
    return found[0], found[1]


def dispersion(counts: Counts, requests: Counts, window_s: float) -> Floats:
    """phi of each rollout's ten minutes before, [rollout, window] in: the Pearson dispersion in windows of the tile and
    of its multiple nearest 30 s, each counted only where it is significant."""
    phi = np.ones(len(counts))
    for merged in sorted({1, max(1, round(30 / window_s))}):
        whole = counts.shape[1] // merged * merged
        bad = counts[:, :whole].reshape(len(counts), -1, merged).sum(axis=2)
        total = requests[:, :whole].reshape(len(counts), -1, merged).sum(axis=2)
        share = bad.sum(axis=1, keepdims=True) / np.maximum(total.sum(axis=1, keepdims=True), 1)
        expected = total * share
        with np.errstate(divide="ignore", invalid="ignore"):
            pearson = np.where(expected > 0, (bad - expected) ** 2 / expected, 0.0).sum(axis=1) / bad.shape[1]
            mean = bad.mean(axis=1)
            significant = 1 + 2.5 * np.sqrt((2 + 1 / mean) / (bad.shape[1] - 1))
        phi = np.where((mean > 0) & (pearson > significant), np.maximum(phi, pearson), phi)
    return phi


def log_sum(logs: Floats) -> Floats:
    """ln(sum(exp(x))) along the last axis."""
    largest = logs.max(axis=-1, keepdims=True)
    found: Floats = largest[..., 0] + np.log(np.exp(logs - largest).sum(axis=-1))
    return found


def _columns(rows: Floats) -> tuple[Floats, ...]:
    return tuple(row[:, None] for row in rows)
