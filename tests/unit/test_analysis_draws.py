"""The samplers against the distributions themselves: a chi-square test with a fixed seed, whichever way they draw."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from canary.analysis.draws import binomial, clumped, poisson

NUMBER = 20_000


def excess(sample: list[int], chance: Callable[[int], float]) -> float:
    """How many of its standard deviations the chi-square statistic lies above what chance makes of it."""
    seen, statistic, cells = Counter(sample), 0.0, 0
    rest_expected, rest_seen = float(NUMBER), NUMBER
    for value in range(max(sample) + 1):
        expected = chance(value) * NUMBER
        if expected < 5:
            continue
        statistic += (seen[value] - expected) ** 2 / expected
        rest_expected, rest_seen, cells = rest_expected - expected, rest_seen - seen[value], cells + 1
    if rest_expected >= 5:
        statistic, cells = statistic + (rest_seen - rest_expected) ** 2 / rest_expected, cells + 1
    return (statistic - (cells - 1)) / math.sqrt(2 * (cells - 1))


@pytest.mark.parametrize(
    ("trials", "share"), [(5, 0.3), (100, 0.05), (40, 0.3), (200, 0.4), (1000, 0.1), (300, 0.9), (100_000, 0.0002)]
)
def test_a_binomial_has_the_binomial_distribution(trials: int, share: float) -> None:
    rng = Random(7)

    def chance(found: int) -> float:
        log_choose = math.lgamma(trials + 1) - math.lgamma(found + 1) - math.lgamma(trials - found + 1)
        return math.exp(log_choose + found * math.log(share) + (trials - found) * math.log1p(-share))

    assert excess([binomial(rng, trials, share) for _ in range(NUMBER)], lambda k: chance(k) if k <= trials else 0) < 4


@pytest.mark.parametrize("mean", [0.01, 0.5, 3, 9.9, 10, 12, 50, 200])
def test_a_poisson_has_the_poisson_distribution(mean: float) -> None:
    rng = Random(7)

    def chance(found: int) -> float:
        return math.exp(found * math.log(mean) - mean - math.lgamma(found + 1))

    assert excess([poisson(rng, mean) for _ in range(NUMBER)], chance) < 4


@pytest.mark.parametrize(("trials", "share", "phi"), [(1000, 0.01, 3.0), (50, 0.05, 4.0), (500, 0.2, 1.5)])
def test_clumped_errors_have_the_share_and_the_dispersion_asked_for(trials: int, share: float, phi: float) -> None:
    rng = Random(7)
    found = [clumped(rng, trials, share, phi) for _ in range(NUMBER)]
    mean = sum(found) / NUMBER
    variance = sum((one - mean) ** 2 for one in found) / NUMBER

    assert mean == pytest.approx(trials * share, rel=0.05)
    assert variance / (trials * share * (1 - share)) == pytest.approx(phi, rel=0.1)


@given(st.integers(0, 10**15), st.floats(0, 1), st.floats(1, 1e6), st.integers(0, 99))
def test_no_draw_is_impossible_whatever_is_asked(trials: int, share: float, phi: float, seed: int) -> None:
    rng = Random(seed)

    assert 0 <= binomial(rng, trials, share) <= trials
    assert 0 <= clumped(rng, trials, share, phi) <= trials
    assert poisson(rng, trials * 1e-9) >= 0


def test_nothing_comes_of_nothing_and_everything_of_certainty() -> None:
    rng = Random(1)

    assert (binomial(rng, 0, 0.5), binomial(rng, 50, 0.0), binomial(rng, 50, 1.0), poisson(rng, 0)) == (0, 0, 50, 0)


@pytest.mark.parametrize(("trials", "share"), [(-1, 0.5), (5, -0.1), (5, 1.1), (5, math.nan)])
def test_an_impossible_question_is_refused(trials: int, share: float) -> None:
    with pytest.raises(ValueError, match="no binomial"):
        binomial(Random(1), trials, share)


@pytest.mark.parametrize("mean", [-1.0, math.nan, math.inf])
def test_an_impossible_mean_is_refused(mean: float) -> None:
    with pytest.raises(ValueError, match="no Poisson"):
        poisson(Random(1), mean)
