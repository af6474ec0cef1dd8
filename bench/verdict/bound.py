"""The most that any rule could catch: Neyman and Pearson's bound, with every rate known beforehand.

A rule that falsely rolls back with a chance of at most alpha, whatever the true rates of a harmless canary are, does so
in particular for each single pair of rates. For one such pair nothing catches a given regression more often than the
likelihood-ratio test of that pair against the regression (Neyman & Pearson 1933), so the lowest such power, over all
harmless pairs, bounds every rule: sequential or not, clever or not. The power is exact: the log-likelihood ratio is a
sum of multiples of Poisson counts, whose distribution is inverted from its characteristic function on a fine lattice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

LATTICE = 2.0**-8
"""The log-likelihood ratio in steps of so many nats."""
SIZE = 2**17


@dataclass(frozen=True)
class Regression:
    """Shares of failing requests (0-1) of stable and canary, and the requests of either version by step."""

    stable: float
    canary: float
    canary_requests: tuple[float, ...]
    stable_requests: tuple[float, ...]

    def until(self, seconds: float, hold_s: float) -> Regression:
        """The same, stopped so many seconds after the start of a plan with such steps."""
        parts = [min(1.0, max(0.0, seconds / hold_s - step)) for step in range(len(self.canary_requests))]
        canary = tuple(requests * part for requests, part in zip(self.canary_requests, parts, strict=True))
        stable = tuple(requests * part for requests, part in zip(self.stable_requests, parts, strict=True))
        return replace(self, canary_requests=canary, stable_requests=stable)


def regression(stable: float, canary: float, rps: float, weights: Sequence[int], hold_s: float) -> Regression:
    """The requests that are expected in a plan."""
    total = rps * hold_s
    return Regression(
        stable,
        canary,
        tuple(total * weight / 100 for weight in weights),
        tuple(total * (1 - weight / 100) for weight in weights),
    )


def power(truth: Regression, harmless: Sequence[tuple[float, float]], alpha: float) -> float:
    """How often the best test of level `alpha` against the harmless shares (canary, stable) of each step catches
    the regression."""
    rates, harmless_rates = [], []
    for n_c, n_b, (p_c, p_b) in zip(truth.canary_requests, truth.stable_requests, harmless, strict=True):
        rates += [n_c * truth.canary, n_b * truth.stable]
        harmless_rates += [n_c * p_c, n_b * p_b]
    seen = np.array(rates) > 0
    true, null = np.array(rates)[seen], np.array(harmless_rates)[seen]
    worth = np.log(true / null)
    under_null, under_truth = _distribution(null, worth), _distribution(true, worth)
    tail = np.cumsum(under_null[::-1])[::-1]
    caught = np.cumsum(under_truth[::-1])[::-1]
    at = int(np.argmax(tail <= alpha))
    return float(caught[at] + under_truth[at - 1] * (alpha - tail[at]) / max(under_null[at - 1], 1e-300))


def _distribution(rates: Floats, worth: Floats) -> Floats:
    """Chances of sum(worth x Poisson(rate)) on the lattice from -SIZE/2 to SIZE/2 steps."""
    steps = np.round(worth / LATTICE)
    frequencies = 2 * np.pi * np.arange(SIZE) / SIZE
    exponent = np.zeros(SIZE, dtype=complex)
    for rate, step in zip(rates, steps, strict=True):
        exponent += rate * (np.exp(1j * frequencies * step) - 1)
    chances = np.fft.fft(np.exp(exponent)).real / SIZE
    return np.maximum(np.fft.fftshift(chances), 0.0)


def bound_if_constant(truth: Regression, rho: float, eps: float, alpha: float) -> float:
    """The bound when harmless means canary <= rho stable + eps, with one stable share in all steps."""
    from scipy.optimize import minimize_scalar

    def of(stable: float) -> float:
        return power(truth, [(rho * stable + eps, stable)] * len(truth.canary_requests), alpha)

    found = minimize_scalar(of, bounds=(truth.stable, (truth.canary - eps) / rho), method="bounded")
    return float(found.fun)


def bound(truth: Regression, rho: float, eps: float, alpha: float) -> float:
    """The bound when stable's share may differ from step to step, as the judge allows and services do: the harmless
    pair of each step that is nearest to the regression."""
    from scipy.optimize import minimize_scalar

    nearest = []
    for n_c, n_b in zip(truth.canary_requests, truth.stable_requests, strict=True):

        def distance(stable: float, n_c: float = n_c, n_b: float = n_b) -> float:
            return n_c * _divergence(truth.canary, rho * stable + eps) + n_b * _divergence(truth.stable, stable)

        if not n_b:
            nearest.append(
                (truth.canary, truth.stable)
            )  # nothing beside it: stable may be anything, so this proves nothing
            continue
        found = minimize_scalar(distance, bounds=(truth.stable, (truth.canary - eps) / rho), method="bounded")
        nearest.append((rho * found.x + eps, found.x))
    return power(truth, nearest, alpha)


def _divergence(true: float, null: float) -> float:
    return float(true * np.log(true / null) - true + null)
