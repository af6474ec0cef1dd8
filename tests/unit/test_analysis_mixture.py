"""The mathematics of the evidence: the bound on false alarms, exactly and simulated, and that it is not vacuous."""

from __future__ import annotations

import math
import random
from bisect import bisect_right
from collections.abc import Callable, Iterator
from itertools import accumulate

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from canary.analysis.absolute import BoundedShare
from canary.analysis.mixture import WORSE, Mixture, log_sum

ALPHA = 0.005


def binomial_pmf(n: int, p: float) -> list[float]:
    return [math.comb(n, k) * p**k * (1 - p) ** (n - k) for k in range(n + 1)]


def draws(rng: random.Random, n: int, p: float) -> Iterator[int]:
    """Binomial(n, p), for ever, by inversion."""
    cumulated = list(accumulate(binomial_pmf(n, p)))
    while True:
        yield bisect_right(cumulated, rng.random())


def first_alarm(process: BoundedShare, errors: Iterator[int], *, n: int, windows: int, per_step: int) -> int | None:
    for index in range(windows):
        process.observe(index // per_step, n, next(errors))
        if process.mixture.has_decided:
            return index
    return None


def one_step_expectation(process: Callable[[], BoundedShare], n: int, p: float) -> float:
    """E[E after one more window] over E before, exactly, by adding up every outcome."""
    total = 0.0
    for errors, chance in enumerate(binomial_pmf(n, p)):
        after = process()
        before = after.mixture.log_e
        after.observe(1, n, errors)
        total += chance * math.exp(after.mixture.log_e - before)
    return total


def test_the_stakes_sum_to_one_with_a_fifth_not_bet():
    assert sum(WORSE.shares) == pytest.approx(1, abs=1e-15)
    assert WORSE.shares[0] == 0.2
    assert len(WORSE.shares) == len(WORSE.multiples) + 1
    assert WORSE.shares[3] == pytest.approx(0.8 * 3 / 17)


@pytest.mark.parametrize(("n", "bound"), [(1, 0.01), (20, 0.01), (60, 0.001), (40, 0.2), (30, 0.9)])
def test_no_window_raises_the_evidence_on_average_while_the_bound_holds(n: int, bound: float):
    def fresh() -> BoundedShare:
        return BoundedShare(bound, ALPHA)

    def in_a_later_step() -> BoundedShare:
        process = BoundedShare(bound, ALPHA)
        process.observe(0, n, min(n, 1))
        return process

    for process in (fresh, in_a_later_step):
        assert one_step_expectation(process, n, bound) <= 1 + 1e-9
        assert one_step_expectation(process, n, bound / 2) <= 1 + 1e-9
        assert one_step_expectation(process, n, min(0.99, bound * 2)) > 1


def test_at_the_bound_the_bets_are_exactly_fair_so_no_power_is_given_away():
    """The cap of one window is what keeps the expectation from being 1: lift it by a tiny alpha, and it is."""
    assert one_step_expectation(lambda: BoundedShare(0.01, 1e-60), 20, 0.01) == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize("phi", [1.5, 4.0])
def test_dividing_by_the_dispersion_keeps_the_bound(phi: float):
    assert one_step_expectation(lambda: BoundedShare(0.05, ALPHA, phi), 40, 0.05) < 1


def test_false_alarms_over_a_whole_rollout_stay_within_alpha_though_every_window_is_looked_at():
    """Ville: P(alarm) <= 5 %. 600 rollouts of 200 windows exactly at the bound: 99.9 % quantile of Bin(600, 5 %) is 48.

    The bare binomial test looked at every window, at the same level, alarms several times as often.
    """
    rng = random.Random(20240607)
    errors = draws(rng, 20, 0.01)
    runs, windows = 600, 200

    alarms = sum(
        first_alarm(BoundedShare(0.01, 0.05), errors, n=20, windows=windows, per_step=40) is not None
        for _ in range(runs)
    )
    bare = sum(bare_binomial_alarms(errors, n=20, windows=windows, bound=0.01, alpha=0.05) for _ in range(runs))

    assert 1 <= alarms <= 48
    assert bare > 2 * 48


def bare_binomial_alarms(errors: Iterator[int], *, n: int, windows: int, bound: float, alpha: float) -> bool:
    """P(Bin(total, bound) >= seen) < alpha at any window: what one must not do."""
    total = seen = 0
    for _ in range(windows):
        total, seen = total + n, seen + next(errors)
        mean = total * bound
        below = sum(math.exp(k * math.log(mean) - mean - math.lgamma(k + 1)) for k in range(seen))
        if 1 - below < alpha:
            return True
    return False


@pytest.mark.parametrize(
    "broken",
    [
        pytest.param(lambda bad, _good, q, p: bad * math.log(q / p), id="good requests forgotten"),
        pytest.param(
            lambda bad, good, q, p: bad * math.log(q / p) + good * math.log((1 - q) / (1 - p)) / 2, id="half of them"
        ),
        pytest.param(
            lambda bad, good, q, p: 2 * (bad * math.log(q / p) + good * math.log((1 - q) / (1 - p))), id="doubled"
        ),
    ],
)
def test_a_wrong_increment_breaks_the_bound_that_the_right_one_keeps(broken: Callable[..., float]):
    rng = random.Random(7)
    errors = draws(rng, 20, 0.01)
    runs = 400

    alarms = 0
    for _ in range(runs):
        mixture = Mixture(WORSE, 0.05)
        for index in range(200):
            bad = next(errors)
            bets = [min(0.97, 0.01 * multiple) for multiple in WORSE.multiples]
            mixture.update(index // 40, [broken(bad, 20 - bad, bet, 0.01) for bet in bets])
            if mixture.has_decided:
                alarms += 1
                break

    assert alarms > 36  # 99.9 % quantile of Bin(400, 5 %)


def test_dealing_afresh_at_a_new_step_neither_makes_nor_loses_evidence():
    mixture = Mixture(WORSE, ALPHA)
    mixture.update(1, [0.3 * place for place in range(10)])
    before = mixture.log_e

    mixture.update(2, [0.0] * 10)

    assert mixture.log_e == pytest.approx(before, abs=1e-12)


def test_after_a_long_healthy_time_a_canary_that_turns_bad_is_caught_sooner_in_a_new_step():
    def windows_to_alarm(step_of_the_bad: int) -> int:
        process = BoundedShare(0.01, ALPHA)
        for _ in range(200):
            process.observe(1, 50, 0)
        for index in range(1, 1000):
            process.observe(step_of_the_bad, 50, 3)
            if process.mixture.has_decided:
                return index
        raise AssertionError

    assert windows_to_alarm(2) < windows_to_alarm(1) / 3


def test_one_window_alone_never_decides():
    process = BoundedShare(0.01, ALPHA)

    process.observe(1, 10**9, 10**9)
    assert not process.mixture.has_decided

    process.observe(1, 10**9, 10**9)
    assert process.mixture.has_decided


@pytest.mark.parametrize("bad", [0, 10**15])
def test_the_hugest_counts_for_thousands_of_windows_stay_finite(bad: int):
    process = BoundedShare(0.01, ALPHA)
    worth = [bad * b + (10**15 - bad) * g for b, g in process._worth]

    for index in range(2000):
        process.mixture.update(index // 100, [500 * value for value in worth])

    assert math.isfinite(process.mixture.log_e)
    assert math.isfinite(process.mixture.e_value)
    assert process.mixture.has_decided == (bad > 0)
    if bad == 0:  # "no bet" never loses: after the healthiest of rollouts there is still a stake to win with
        assert process.mixture.e_value > 0
        for _ in range(5):
            process.observe(99, 100, 100)
        assert process.mixture.log_e > 0


counts = st.integers(0, 400).flatmap(lambda total: st.tuples(st.just(total), st.integers(0, total)))


@settings(max_examples=60, deadline=None)
@given(st.lists(counts, min_size=1, max_size=20), st.data(), st.floats(0.0005, 0.9))
def test_one_more_error_never_lowers_the_evidence(windows: list[tuple[int, int]], data: st.DataObject, bound: float):
    place = data.draw(st.integers(0, len(windows) - 1))
    fewer, more = BoundedShare(bound, ALPHA), BoundedShare(bound, ALPHA)

    for index, (total, bad) in enumerate(windows):
        fewer.observe(index // 5, total, bad)
        more.observe(index // 5, total, min(total, bad + 1) if index == place else bad)

    assert more.mixture.log_e >= fewer.mixture.log_e - 1e-9


@settings(max_examples=60, deadline=None)
@given(st.lists(counts, min_size=1, max_size=20))
def test_splitting_windows_never_lowers_what_uncapped_windows_said(windows: list[tuple[int, int]]):
    """Halves add up to the whole, except that a cap per window now allows each half its own."""
    whole, halves = BoundedShare(0.01, ALPHA), BoundedShare(0.01, ALPHA)

    for index, (total, bad) in enumerate(windows):
        whole.observe(index // 5, total, bad)
        halves.observe(index // 5, total // 2, bad // 2)
        halves.observe(index // 5, total - total // 2, bad - bad // 2)

    assert halves.mixture.log_e >= whole.mixture.log_e - 1e-9


def test_false_alarms_stay_within_alpha_when_the_same_requests_come_in_smaller_windows():
    errors = draws(random.Random(11), 5, 0.01)

    alarms = sum(
        first_alarm(BoundedShare(0.01, 0.05), errors, n=5, windows=400, per_step=80) is not None for _ in range(300)
    )

    assert 1 <= alarms <= 28  # 99.9 % quantile of Bin(300, 5 %)


@pytest.mark.parametrize(("bound", "phi"), [(0, 1), (0.97, 1), (math.nan, 1), (0.01, 0.5), (0.01, math.inf)])
def test_a_bound_that_nothing_can_be_weighed_against_is_refused(bound: float, phi: float):
    with pytest.raises(ValueError, match="must be"):
        BoundedShare(bound, ALPHA, phi)


@given(st.lists(st.floats(-1e300, 1e300), min_size=1, max_size=12))
def test_the_logarithm_of_a_sum_lies_between_its_largest_part_and_that_many_of_it(logs: list[float]):
    assert max(logs) - 1e-12 <= log_sum(logs) <= max(logs) + math.log(len(logs)) + 1e-9


@pytest.mark.parametrize("healthy_s", [60, 600, 3600])
@pytest.mark.parametrize(("requests", "bad"), [(5000, 1000), (250, 25)])
def test_a_release_that_turns_bad_after_long_health_is_convicted_in_seconds(healthy_s: int, requests: int, bad: int):
    process, at = BoundedShare(0.05, ALPHA), 0.0
    while at < healthy_s:
        process.observe(1, requests, requests // 1000, at)
        at += 5

    while not process.mixture.has_decided and at < healthy_s + 600:
        process.observe(1, requests, bad, at)
        at += 5

    assert at - healthy_s <= 30


def test_stakes_dealt_afresh_within_a_step_neither_make_nor_lose_evidence():
    mixture = Mixture(WORSE, ALPHA)
    mixture.update(1, [0.3 * place for place in range(10)], 0.0)
    before = mixture.log_e

    mixture.update(1, [0.0] * 10, 59.9)
    assert mixture._dealt_at == 0.0
    mixture.update(1, [0.0] * 10, 60.0)

    assert mixture._dealt_at == 60.0
    assert mixture.log_e == pytest.approx(before, abs=1e-12)


def test_the_bound_holds_over_a_step_of_many_minutes():
    rng = random.Random(5)
    errors = draws(rng, 20, 0.01)

    def is_alarmed() -> bool:
        process = BoundedShare(0.01, 0.05)
        for index in range(600):
            process.observe(1, 20, next(errors), 5.0 * index)
            if process.mixture.has_decided:
                return True
        return False

    assert sum(is_alarmed() for _ in range(400)) <= 0.05 * 400
