"""Random counts for forecasts: binomial and Poisson, exact, and the same from the same seed on every Python.

The standard library has no Poisson, and a binomial only from 3.12 on. Both samplers here are exact (no normal
approximation): waiting times where few events are expected, Hoermann's transformed rejection where many are. They are
for imagined rollouts only: nothing that judges a real one may depend on chance.
"""

from __future__ import annotations

import math
from random import Random

MANY = 10.0
"""Expected events from which on rejection is the faster way, and valid (Hoermann 1993)."""


def binomial(rng: Random, trials: int, share: float) -> int:
    """How many of `trials` independent ones, each with the chance `share`, come true.

    BTRS of W. Hoermann, "The generation of binomial random variates" (1993); below `MANY` expected ones the waiting
    times of Devroye, "Non-Uniform Random Variate Generation" (1986), X.4.3. Raises ValueError for a negative or NaN
    argument or a share above 1.
    """
    if trials < 0 or not 0 <= share <= 1:
        raise ValueError(f"no binomial with {trials} trials and a share of {share}")
    if share > 0.5:
        return trials - binomial(rng, trials, 1 - share)
    if not trials or not share:
        return 0
    if trials * share < MANY:
        return _by_waiting(rng, trials, share)
    return _by_rejection(rng, trials, share)


def _by_waiting(rng: Random, trials: int, share: float) -> int:
    log_miss, tried, found = math.log1p(-share), 0, 0
    if not log_miss:
        return 0  # a share that vanishes beside 1
    while True:
        wait = math.log(1 - rng.random()) / log_miss
        if wait >= trials:  # also keeps the sum small enough to be exact
            return found
        tried += int(wait) + 1
        if tried > trials:
            return found
        found += 1


def _by_rejection(rng: Random, trials: int, share: float) -> int:
    deviation = math.sqrt(trials * share * (1 - share))
    b = 1.15 + 2.53 * deviation
    a = -0.0873 + 0.0248 * b + 0.01 * share
    quick = 0.92 - 4.2 / b
    mode = math.floor((trials + 1) * share)
    at_mode = math.lgamma(mode + 1) + math.lgamma(trials - mode + 1)
    log_odds = math.log(share / (1 - share))
    while True:
        u, v = rng.random() - 0.5, 1 - rng.random()
        left = 0.5 - abs(u)
        if not left:
            continue
        found = math.floor((2 * a / left + b) * u + trials * share + 0.5)
        if not 0 <= found <= trials:
            continue
        if left >= 0.07 and v <= quick:
            return found
        v *= (2.83 + 5.1 / b) * deviation / (a / (left * left) + b)
        worth = at_mode - math.lgamma(found + 1) - math.lgamma(trials - found + 1) + (found - mode) * log_odds
        if math.log(v) <= worth:
            return found


def poisson(rng: Random, mean: float) -> int:
    """How many independent events happen where `mean` are expected.

    PTRS of W. Hoermann, "The transformed rejection method for generating Poisson random variables" (1993); below `MANY`
    the waiting times. Raises ValueError for a mean that is negative or not finite.
    """
    if not 0 <= mean < math.inf:
        raise ValueError(f"no Poisson with a mean of {mean}")
    if mean < MANY:
        found, left = 0, mean
        while (left := left + math.log(1 - rng.random())) >= 0 and mean:
            found += 1
        return found
    b = 0.931 + 2.53 * math.sqrt(mean)
    a = -0.059 + 0.02483 * b
    log_alpha = math.log(1.1239 + 1.1328 / (b - 3.4))
    quick, log_mean = 0.9277 - 3.6224 / (b - 2), math.log(mean)
    while True:
        u, v = rng.random() - 0.5, 1 - rng.random()
        left = 0.5 - abs(u)
        if not left:
            continue
        found = math.floor((2 * a / left + b) * u + mean + 0.43)
        if left >= 0.07 and v <= quick:
            return found
        if found < 0 or (left < 0.013 and v > left):
            continue
        worth = found * log_mean - mean - math.lgamma(found + 1)
        if math.log(v) + log_alpha - math.log(a / (left * left) + b) <= worth:
            return found


def clumped(rng: Random, trials: int, share: float, phi: float) -> int:
    """Like `binomial`, with `phi` >= 1 times its variance: bad requests come in bursts.

    Beta-binomial: each call has a share of its own, drawn around `share`.
    """
    if phi <= 1 or trials <= 1 or not 0 < share < 1:
        return binomial(rng, trials, share)
    if trials <= phi:
        return trials if rng.random() < share else 0
    strength = (trials - phi) / (phi - 1)
    return binomial(rng, trials, min(1.0, max(0.0, rng.betavariate(share * strength, (1 - share) * strength))))
