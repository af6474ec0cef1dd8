"""The evidence that a pass needs: how many requests it takes, how rarely it is wrong, and that it can be lost again."""

from __future__ import annotations

import math
import random
from bisect import bisect_right
from collections.abc import Iterator
from itertools import accumulate
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from canary.analysis import Judge
from canary.analysis.health import Health
from canary.model.policy import Policy
from canary.model.verdict import ArmCounts, Baseline, Outcome, Reason, Verdict, Window

MULTIPLES = (0, 0.1, 0.25, 0.5, 0.75)
Counts = tuple[int, int, int, int]
"""n_c, s_c, n_b, s_b."""


def window(counts: Counts, *, step: int = 1, weight: int = 10, at: float = 0.0) -> Window:
    n_c, s_c, n_b, s_b = counts
    return Window(at, at + 5, step, weight, ArmCounts(n_c, s_c), ArmCounts(n_b, s_b))


def after(*observed: Counts, phi: float = 1.0) -> Health:
    health = Health(phi)
    for counts in observed:
        health.observe(window(counts))
    return health


def increment(counts: Counts, g: float, phi: float = 1.0) -> float:
    """The design's formula, plainly: rho' = 2, eps' = 1 %, and 0 ln 0 = 0."""
    n_c, s_c, n_b, s_b = counts
    kappa = (2 * n_c + n_b) / (2 * g * n_c + n_b)
    x = g * kappa
    if x == 0 and s_c:
        return -math.inf
    return ((s_c * math.log(x) if s_c else 0) + s_b * math.log(kappa) + 0.01 * n_c * (1 - x)) / phi


arms = st.integers(1, 300).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n)))


@settings(max_examples=60)
@given(st.lists(st.tuples(arms, arms), min_size=1, max_size=12), st.sampled_from([1.0, 2.5]))
def test_the_process_is_the_formula_of_the_design(observed: list[tuple[tuple[int, int], tuple[int, int]]], phi: float):
    windows = [(*canary, *stable) for canary, stable in observed]

    plain = sum(math.exp(sum(increment(counts, g, phi) for counts in windows)) / 5 for g in MULTIPLES)

    assert after(*windows, phi=phi).e_value == pytest.approx(plain, rel=1e-9, abs=1e-300)


# How many requests it takes


def requests_needed(per_window: int, others: int) -> int:
    """Canary requests until a release without an error passes, at so many per window beside so many of stable."""
    health, seen = Health(), 0
    while not health.has_passed and seen < 2000:
        health.observe(window((per_window, 0, others, 0)))
        seen += per_window
    return seen


@pytest.mark.parametrize(("per_window", "others", "needed"), [(1, 9, 385), (1, 1, 418)])
def test_without_an_error_it_takes_385_canary_requests_at_10_percent_and_418_at_50(
    per_window: int, others: int, needed: int
):
    assert requests_needed(per_window, others) == needed


@pytest.mark.parametrize(("per_window", "others", "needed"), [(5, 45, 385), (50, 50, 450)])
def test_windows_of_more_requests_only_round_that_up(per_window: int, others: int, needed: int):
    assert requests_needed(per_window, others) == needed


def draws(rng: random.Random, n: int, p: float) -> Iterator[int]:
    cumulated = list(accumulate(math.comb(n, k) * p**k * (1 - p) ** (n - k) for k in range(n + 1)))
    while True:
        yield min(n, bisect_right(cumulated, rng.random()))


@pytest.mark.parametrize(("share", "within"), [(0.001, 800), (0.01, 1100)])
def test_nine_of_ten_healthy_releases_have_passed_within_the_requests_of_the_design(share: float, within: int):
    rng = random.Random(51)
    canary, stable = draws(rng, 10, share), draws(rng, 90, share)
    passed = 0
    for _ in range(200):
        health = Health()
        for _ in range(within // 10):
            health.observe(window((10, next(canary), 90, next(stable))))
            if health.has_passed:
                passed += 1
                break

    assert passed >= 180


# How rarely it is wrong


def binomial_pmf(n: int, p: float) -> list[float]:
    return [math.comb(n, k) * p**k * (1 - p) ** (n - k) for k in range(n + 1)]


def expectation(n_c: int, p_c: float, n_b: int, p_b: float, phi: float = 1.0) -> float:
    """E[E after one window], exactly: every outcome of both arms, times its chance."""
    return sum(
        chance_c * chance_b * after((n_c, s_c, n_b, s_b), phi=phi).e_value
        for s_c, chance_c in enumerate(binomial_pmf(n_c, p_c))
        for s_b, chance_b in enumerate(binomial_pmf(n_b, p_b))
    )


@pytest.mark.parametrize(("n_c", "n_b"), [(1, 1), (1, 12), (12, 1), (6, 14), (9, 9)])
@pytest.mark.parametrize("p_b", [0.0, 0.001, 0.03, 0.3])
def test_no_window_raises_it_on_average_while_the_canary_is_twice_as_bad_and_a_percent_or_worse(
    n_c: int, n_b: int, p_b: float
):
    at = 2 * p_b + 0.01
    for p_c in (at, 1.5 * at, 1.0):
        assert expectation(n_c, p_c, n_b, p_b) <= 1 + 1e-12
    assert expectation(n_c, at, n_b, p_b, phi=3.0) <= 1 + 1e-12


def test_at_the_boundary_it_is_nearly_fair_and_below_it_grows():
    assert 0.999 < expectation(3, 2 * 0.001 + 0.01, 12, 0.001) <= 1
    assert expectation(3, 0.001, 12, 0.001) > 1.01


@pytest.mark.parametrize("p_b", [0.0, 0.02])
def test_a_release_at_the_boundary_passes_in_fewer_than_a_twentieth_of_the_rollouts(p_b: float):
    rng = random.Random(52)
    canary, stable = draws(rng, 10, 2 * p_b + 0.01), draws(rng, 40, p_b)
    passed = 0
    for _ in range(300):
        health = Health()
        for _ in range(150):
            health.observe(window((10, next(canary), 40, next(stable))))
            if health.has_passed:
                passed += 1
                break

    assert 1 <= passed <= 28  # 99.9 % quantile of Bin(300, 5 %)


def test_errors_take_it_away_again_and_a_single_one_ends_the_bet_on_none_at_all():
    health = after(*[(50, 0, 450, 1)] * 10)
    assert health.has_passed

    one = after(*[(50, 0, 450, 1)] * 10, (50, 1, 450, 1))
    many = after(*[(50, 0, 450, 1)] * 10, *[(50, 3, 450, 1)] * 4)

    assert 0 < one.e_value < health.e_value
    assert one._logs[0] == -math.inf
    assert not many.has_passed


def test_bursts_in_stables_past_ask_for_as_many_times_the_requests():
    calm, bursty = ((after(*[(100, 0, 900, 0)] * n, phi=phi)) for n, phi in ((4, 1.0), (12, 3.0)))

    assert calm.e_value == pytest.approx(bursty.e_value)


def test_it_is_not_asked_where_nothing_is_compared_and_windows_wait_for_the_other_arm():
    health = Health()
    health.observe(window((1000, 0, 9000, 0), step=0, weight=0))
    health.observe(window((1000, 0, 9000, 0), step=3, weight=100))
    assert health.e_value == 1
    assert health.doubt() is None

    health.observe(window((30, 0, 0, 0)))
    assert health.e_value == 1
    health.observe(window((0, 0, 270, 0)))
    assert health.e_value == after((30, 0, 270, 0)).e_value


@pytest.mark.parametrize(
    "counts",
    [(2**53, 0, 2**53, 0), (2**53, 2**53, 2**53, 0), (2**53, 0, 1, 1), (1, 1, 2**53, 2**53), (2**53, 1, 2**53, 2**53)],
)
def test_the_hugest_windows_stay_finite(counts: Counts):
    health = after(*[counts] * 50)

    assert math.isfinite(health.e_value)
    doubt = health.doubt()
    assert doubt is None or "nan" not in doubt.text


# What people read


def policy(**analysis: Any) -> Policy:
    weights = {"weights": [10, 50, 100], "hold": "30s"}
    judged = {"warmup": "0s", "minRequests": 1, "p99": {"vsStable": "off"}, **analysis}
    return Policy.model_validate({"name": "story", "strategy": weights, "analysis": judged})


def told(*observed: Counts, weight: int = 10) -> Verdict:
    judge = Judge(policy(), Baseline(history_s=600.0))
    for index, counts in enumerate(observed):
        one = window(counts, weight=weight, at=5.0 * index)
        verdict = judge.observe(one, one.end + 2)
    return verdict


def test_too_little_evidence_holds_and_says_about_how_many_requests_are_missing():
    verdict = told(*[(10, 0, 90, 0)] * 20)

    assert (verdict.outcome, verdict.reason) == (Outcome.HOLD, Reason.INCONCLUSIVE)
    assert verdict.sentence == (
        "not proven yet: 0 errors (0 %) in 200 canary requests against stable 0 of 1,800 (0 %); evidence of health "
        "4.3:1 of the 20:1 that a step needs, about 155 more canary requests like these."
    )
    assert told(*[(10, 0, 90, 0)] * 38).outcome is Outcome.HOLD
    assert told(*[(10, 0, 90, 0)] * 39).outcome is Outcome.PASS


def test_a_release_with_too_many_errors_to_be_proven_healthy_is_told_that_more_of_the_same_will_not_do():
    verdict = told((100, 2, 900, 3))

    assert verdict.outcome is Outcome.HOLD
    assert verdict.sentence.endswith("that a step needs, its errors are not clearly below twice stable's + 1 %.")


def test_evidence_just_short_of_the_limit_never_reads_as_if_it_were_there():
    verdict = told(*[(1, 0, 9, 0)] * 384)

    assert 19.5 < verdict.evidence[-1].e_value < 20
    assert "evidence of health 19:1 of the 20:1 that a step needs, about 1 more" in verdict.sentence


def test_a_pass_tells_its_evidence_of_health():
    verdict = told(*[(100, 0, 900, 1)] * 6)

    assert verdict.outcome is Outcome.PASS
    assert verdict.sentence == (
        "0 errors (0 %) in 600 canary requests; stable 6 of 5,400 (0.11 %); evidence of health 420:1 (needs 20:1)."
    )
