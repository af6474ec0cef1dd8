"""Canary against stable: the formula as the design has it, its bound added up exactly, and what must not matter."""

from __future__ import annotations

import math
import random
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from canary.analysis.mixture import BEYOND, WORSE, Grid, shown
from canary.analysis.relative import OneWindowRule, Pairing, RelativeShare
from canary.model.objectives import ERROR_TOLERANCES, LATENCY_TOLERANCES, Tolerance

CAP = 200.0

A_MULTIPLES = (1.25, 1.5, 1.9, 2.5, 3.5, 6, 12, 25, 60, 300)
A_STAKES = tuple(0.8 * part / 17 for part in (1, 2, 3, 3, 2, 1.5, 1.5, 1.5, 1, 0.5))
T_MULTIPLES = (1.2, 1.45, 1.8, 2.4, 4, 10, 40)
T_STAKES = tuple(0.8 * part / 13 for part in (1, 2, 3, 3, 2, 1, 1))

Counts = tuple[int, int, int, int]
"""n_c, s_c, n_b, s_b."""


def tolerance(rho: float, eps: float) -> Tolerance:
    return Tolerance.model_validate({"ratio": rho, "slack": f"{100 * eps:g}%"})


def process(
    rho: float = 1.0, eps: float = 0.0, phi: float = 1.0, cap: float = CAP, grid: Grid = WORSE
) -> RelativeShare:
    return RelativeShare(grid, tolerance(rho, eps), limit=CAP, cap=cap, phi=phi)


def feed(share: RelativeShare, counts: Counts, step: int = 1) -> None:
    n_c, s_c, n_b, s_b = counts
    share.observe(step, (n_c, s_c), (n_b, s_b))


# The formula of the design, written down once more, plainly


def increment(counts: Counts, g: float, rho: float, eps: float, phi: float) -> float:
    n_c, s_c, n_b, s_b = counts
    kappa = (rho * n_c + n_b) / (rho * g * n_c + n_b)
    x = g * kappa
    return (s_c * math.log(x) + s_b * math.log(kappa) - eps * n_c * (x - 1)) / phi


class Reference:
    """The process with weights as plain numbers: no logarithms, no shortcuts."""

    def __init__(self, multiples: Sequence[float], stakes: Sequence[float], rho: float, eps: float, phi: float) -> None:
        self.multiples, self.dealt = multiples, (0.2, *stakes)
        self.rho, self.eps, self.phi = rho, eps, phi
        self.weights = list(self.dealt)
        self.step: int | None = None
        self.e = self.star = self.largest = 1.0

    def observe(self, counts: Counts, step: int) -> None:
        if self.step is not None and step != self.step:
            whole = sum(self.weights)
            self.weights = [0.8 * w + 0.2 * v * whole for w, v in zip(self.weights, self.dealt, strict=True)]
        self.step = step
        for place, g in enumerate(self.multiples, start=1):
            self.weights[place] *= math.exp(min(increment(counts, g, self.rho, self.eps, self.phi), math.log(CAP)))
        before, self.e = self.e, sum(self.weights)
        self.largest = max(self.largest, self.e / before)
        self.star = self.e / max(1.0, self.largest / 6)


def arms(most: int = 300) -> st.SearchStrategy[tuple[int, int]]:
    return st.integers(1, most).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n)))


windows = st.lists(st.tuples(arms(), arms(), st.integers(0, 1)), min_size=1, max_size=15)
KINDS = {
    "A": (WORSE, A_MULTIPLES, A_STAKES, 1.0, 0.0),
    "T": (BEYOND, T_MULTIPLES, T_STAKES, 1.2, 0.0005),
    "latency": (WORSE, A_MULTIPLES, A_STAKES, 1.25, 0.002),
    "lenient": (BEYOND, T_MULTIPLES, T_STAKES, 1.5, 0.001),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("phi", [1.0, 2.5])
@settings(max_examples=40)
@given(windows)
def test_the_process_is_the_formula_of_the_design(kind: str, phi: float, observed: list[tuple[tuple[int, int], ...]]):
    grid, multiples, stakes, rho, eps = KINDS[kind]
    ours, star = process(rho, eps, phi, grid=grid), OneWindowRule()
    plain = Reference(multiples, stakes, rho, eps, phi)
    step = 1

    for canary, stable, next_step in observed:
        step += next_step
        ours.observe(step, canary, stable)
        star.update(ours.mixture.log_e)
        plain.observe((*canary, *stable), step)

    assert ours.mixture.log_e == pytest.approx(math.log(plain.e), rel=1e-9, abs=1e-9)
    assert star.log_e == pytest.approx(math.log(plain.star), rel=1e-9, abs=1e-9)


def test_the_tolerances_are_those_of_the_design():
    assert [(t.ratio, t.slack) for t in ERROR_TOLERANCES.values()] == [(1.2, 0.0005), (1.5, 0.001), (1.0, 0.0)]
    assert [(t.ratio, t.slack) for t in LATENCY_TOLERANCES.values()] == [(1.25, 0.002), (1.5, 0.005), (1.0, 0.0)]


# The bound: no window raises the evidence on average while the canary is within its boundary


def binomial_pmf(n: int, p: float) -> list[float]:
    return [math.comb(n, k) * p**k * (1 - p) ** (n - k) for k in range(n + 1)]


def expectation(share: Callable[[], RelativeShare], n_c: int, p_c: float, n_b: int, p_b: float) -> float:
    """E[E after one window], exactly: every outcome of both arms, times its chance."""
    total = 0.0
    for s_c, chance_c in enumerate(binomial_pmf(n_c, p_c)):
        for s_b, chance_b in enumerate(binomial_pmf(n_b, p_b)):
            after = share()
            before = after.mixture.log_e
            feed(after, (n_c, s_c, n_b, s_b))
            total += chance_c * chance_b * math.exp(after.mixture.log_e - before)
    return total


SIZES = [(1, 1), (1, 12), (12, 1), (5, 15), (9, 9)]


@pytest.mark.parametrize(("n_c", "n_b"), SIZES)
@pytest.mark.parametrize(
    ("rho", "eps", "grid"), [(1, 0, WORSE), (1.2, 0.0005, BEYOND), (1.5, 0.001, BEYOND), (1.25, 0.002, WORSE)]
)
def test_no_window_raises_the_evidence_on_average_within_the_boundary(
    n_c: int, n_b: int, rho: float, eps: float, grid: Grid
):
    def fresh() -> RelativeShare:
        return process(rho, eps, grid=grid)

    def in_a_later_step() -> RelativeShare:
        share = process(rho, eps, grid=grid)
        feed(share, (n_c, 1, n_b, 0), step=0)
        return share

    for p_b in (0.0, 0.001, 0.03, 0.3):
        at = min(1.0, rho * p_b + eps)
        for p_c in (at, at / 2, 0.0):
            assert expectation(fresh, n_c, p_c, n_b, p_b) <= 1 + 1e-12
            assert expectation(in_a_later_step, n_c, p_c, n_b, p_b) <= 1 + 1e-12


@pytest.mark.parametrize("g", [1.2, 2.4, 12, 300])
@pytest.mark.parametrize(("rho", "eps"), [(1.0, 0.0), (1.2, 0.0005), (2.0, 0.01), (3.0, 0.05)])
@pytest.mark.parametrize("p_b", [0.01, 0.2, 0.33])
def test_each_bet_alone_is_fair_or_worse_at_the_boundary(g: float, rho: float, eps: float, p_b: float):
    alone = Grid((g,), (1e-300, 1.0), (math.log(g),))

    value = expectation(lambda: process(rho, eps, grid=alone, cap=1e12), 4, min(1.0, rho * p_b + eps), 11, p_b)

    assert value <= 1 + 1e-12


@pytest.mark.parametrize(("rho", "eps", "grid"), [(1, 0, WORSE), (1.2, 0.0005, BEYOND), (1.25, 0.002, WORSE)])
def test_at_the_boundary_the_bets_are_nearly_fair_so_little_power_is_given_away(rho: float, eps: float, grid: Grid):
    p_b = 0.002

    value = expectation(lambda: process(rho, eps, grid=grid, cap=1e12), 3, rho * p_b + eps, 12, p_b)

    assert 0.9995 < value <= 1
    assert expectation(lambda: process(rho, eps, grid=grid), 3, 4 * (rho * p_b + eps), 12, p_b) > 1.01


@pytest.mark.parametrize("phi", [1.3, 4.0])
def test_dividing_by_the_dispersion_keeps_the_bound(phi: float):
    assert expectation(lambda: process(1.2, 0.01, phi=phi), 6, 0.13, 10, 0.1) < 1


def test_the_cap_can_only_lower_the_evidence():
    capped, free = process(), process(cap=1e12)

    for share in (capped, free):
        feed(share, (50, 50, 450, 0))

    assert shown(capped.mixture.log_e) == pytest.approx(0.2 + 0.8 * CAP)
    assert free.mixture.log_e > 2 * capped.mixture.log_e


# The bound over a whole rollout, simulated; and that a wrong formula breaks it

RUNS, WINDOWS, LIMIT = 300, 120, 20.0
TOO_MANY = 28
"""99.9 % quantile of Bin(300, 5 %)."""


def draws(rng: random.Random, n: int, p: float) -> Iterator[int]:
    cumulated = list(accumulate(binomial_pmf(n, p)))
    while True:
        yield min(n, bisect_right(cumulated, rng.random()))


def alarms(
    observe: Callable[[], Callable[[int, Counts], float]],
    seed: int,
    *,
    rho: float,
    eps: float = 0.0,
    split: bool = False,
) -> int:
    """Rollouts of `RUNS` in which E ever reaches `LIMIT`, the canary exactly at the boundary, stable's rate moving."""
    rng = random.Random(seed)
    rates = (0.01, 0.02, 0.05, 0.3)
    parts = ((5, 20), (5, 20)) if split else ((10, 40),)
    canary = {(n, p): draws(rng, n, rho * p + eps) for n, _ in parts for p in rates}
    stable = {(n, p): draws(rng, n, p) for _, n in parts for p in rates}
    found = 0
    for _ in range(RUNS):
        take = observe()
        for index in range(WINDOWS):
            p = rates[3] if index % 40 == 17 else rates[index // 10 % 3]
            values = [take(index // 30, (n_c, next(canary[n_c, p]), n_b, next(stable[n_b, p]))) for n_c, n_b in parts]
            if max(values) >= LIMIT:
                found += 1
                break
    return found


def right(rho: float, eps: float = 0.0) -> Callable[[], Callable[[int, Counts], float]]:
    def fresh() -> Callable[[int, Counts], float]:
        share = RelativeShare(WORSE, tolerance(rho, eps), limit=LIMIT, cap=LIMIT)

        def take(step: int, counts: Counts) -> float:
            feed(share, counts, step)
            return share.mixture.e_value

        return take

    return fresh


@pytest.mark.parametrize("split", [False, True])
@pytest.mark.parametrize(("rho", "eps"), [(1.0, 0.0), (1.5, 0.0), (1.2, 0.01)])
def test_false_alarms_stay_within_alpha_at_every_look_whatever_stable_does_and_however_windows_are_cut(
    rho: float, eps: float, split: bool
):
    found = alarms(right(rho, eps), seed=31, rho=rho, eps=eps, split=split)

    assert 1 <= found <= TOO_MANY


WRONG: dict[str, tuple[float, Callable[[Counts, float], float]]] = {
    "kappa without rho": (1.5, lambda c, g: increment(c, g, 1.0, 0.0, 1.0)),
    "stable's errors forgotten": (1.0, lambda c, g: c[1] * math.log(g * (c[0] + c[2]) / (g * c[0] + c[2]))),
    "multiplied by phi": (1.0, lambda c, g: 2.0 * increment(c, g, 1.0, 0.0, 1.0)),
    "g without kappa": (
        1.0, lambda c, g: c[1] * math.log(g) + c[3] * math.log((c[0] + c[2]) / (g * c[0] + c[2])),
    ),
}  # fmt: skip


@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_formula_breaks_the_bound_that_the_right_one_keeps(wrong: str):
    rho, formula = WRONG[wrong]

    def fresh() -> Callable[[int, Counts], float]:
        share = RelativeShare(WORSE, tolerance(1.0, 0.0), limit=LIMIT, cap=LIMIT)

        def take(step: int, counts: Counts) -> float:
            share.mixture.update(step, [formula(counts, g) for g in A_MULTIPLES])
            return share.mixture.e_value

        return take

    assert alarms(fresh, seed=32, rho=rho) > TOO_MANY


# What more or fewer errors do


@settings(max_examples=80)
@given(windows, st.data(), st.sampled_from([(1.0, 0.0), (1.2, 0.0005)]))
def test_one_more_canary_error_never_lowers_the_evidence_and_one_more_of_stable_never_raises_it(
    observed: list[tuple[tuple[int, int], tuple[int, int], int]], data: st.DataObject, at: tuple[float, float]
):
    place = data.draw(st.integers(0, len(observed) - 1))
    plain, worse, excused = process(*at), process(*at), process(*at)
    step = 1
    for index, ((n_c, s_c), (n_b, s_b), next_step) in enumerate(observed):
        step += next_step
        one = index == place
        feed(plain, (n_c, s_c, n_b, s_b), step)
        feed(worse, (n_c, min(n_c, s_c + one), n_b, s_b), step)
        feed(excused, (n_c, s_c, n_b, min(n_b, s_b + one)), step)

    assert worse.mixture.log_e >= plain.mixture.log_e - 1e-9
    assert excused.mixture.log_e <= plain.mixture.log_e + 1e-9


@settings(max_examples=60)
@given(arms(), arms(), st.integers(2, 1000), st.sampled_from(A_MULTIPLES))
def test_as_many_times_the_requests_of_both_arms_say_the_same_as_many_times_as_loudly(
    canary: tuple[int, int], stable: tuple[int, int], times: int, g: float
):
    def ln(factor: int) -> float:
        alone = Grid((g,), (0.2, 0.8), (math.log(g),))
        share = process(1.2, 0.0005, grid=alone, cap=math.inf)
        feed(share, (canary[0] * factor, canary[1] * factor, stable[0] * factor, stable[1] * factor))
        return share.mixture._log_stakes[1] - math.log(0.8)

    assert ln(times) == pytest.approx(times * ln(1), rel=1e-9, abs=1e-9)


def test_the_same_requests_in_another_order_within_their_window_are_the_same_evidence():
    rng = random.Random(33)
    requests = [[(rng.random() < 0.2, rng.random() < 0.05) for _ in range(200)] for _ in range(10)]
    states = []
    for _ in range(2):
        share = process()
        for window in requests:
            rng.shuffle(window)
            canary = [failed for is_canary, failed in window if is_canary]
            stable = [failed for is_canary, failed in window if not is_canary]
            feed(share, (len(canary), sum(canary), len(stable), sum(stable)))
        states.append(share.mixture._log_stakes)

    assert states[0] == states[1]


# No single window decides


def starred(observed: Sequence[Counts], step: Callable[[int], int] = lambda _: 1) -> tuple[float, float]:
    """E_A and E_A* after these windows."""
    share, star = process(), OneWindowRule()
    for index, counts in enumerate(observed):
        feed(share, counts, step(index))
        star.update(share.mixture.log_e)
    return share.mixture.e_value, shown(star.log_e)


def test_one_odd_window_counts_as_a_factor_of_six_at_most():
    healthy: list[Counts] = [(50, 0, 450, 1)] * 30
    before, _ = starred(healthy)
    e, star = starred([*healthy, (50, 20, 450, 0)])

    assert e > 30 * before
    assert star == pytest.approx(6 * before)
    assert starred([(100, 100, 900, 0)])[1] == pytest.approx(6)
    assert starred([(100, 100, 900, 0)] * 2)[1] > 200


def test_a_window_that_shrinks_the_evidence_is_not_divided_for():
    assert starred([(50, 0, 450, 9)] * 5)[0] == starred([(50, 0, 450, 9)] * 5)[1]
    grown = starred([(50, 1, 450, 5)] * 40)
    assert grown[0] == grown[1]  # many small windows: R stays below 6


def test_one_more_error_may_lower_what_one_window_leaves_because_that_window_was_odder_still():
    few: list[Counts] = [(20, 8, 180, 1), (20, 2, 180, 1), (20, 2, 180, 1)]
    more: list[Counts] = [(20, 14, 180, 1), *few[1:]]

    assert starred(more)[0] > starred(few)[0]
    assert starred(more)[1] < starred(few)[1]


# A new step


def test_dealing_afresh_at_a_new_step_neither_makes_nor_loses_evidence():
    share = process()
    for _ in range(20):
        feed(share, (50, 0, 450, 3))
    before = share.mixture.log_e

    feed(share, (50, 0, 450, 0), step=2)  # without an error "worse at all?" learns nothing

    assert share.mixture.log_e == pytest.approx(before, abs=1e-12)
    stakes = [math.exp(stake) for stake in share.mixture._log_stakes]
    assert sum(stakes) == pytest.approx(math.exp(before))
    assert stakes[-1] >= 0.2 * WORSE.shares[-1] * math.exp(before)  # the highest bet had lost all, and has some again


def test_a_canary_that_turns_bad_after_a_long_healthy_time_is_caught_sooner_in_a_new_step():
    def windows_to_alarm(step_of_the_bad: int) -> int:
        share = process()
        for _ in range(200):
            feed(share, (50, 0, 450, 3))
        for index in range(1, 1000):
            feed(share, (50, 3, 450, 3), step_of_the_bad)
            if share.mixture.has_decided:
                return index
        raise AssertionError

    assert windows_to_alarm(2) < windows_to_alarm(1)


# Windows in which one arm had no request


def test_windows_are_put_together_until_both_arms_have_requests():
    pairing = Pairing(figures=2)

    assert pairing.add(1, (10, 1), (0, 0)) is None
    assert pairing.add(1, (0, 0), (0, 0)) is None
    assert pairing.add(1, (5, 0), (0, 0)) is None
    assert pairing.add(1, (0, 0), (90, 2)) == ([15, 1], [90, 2])
    assert pairing.add(1, (7, 0), (8, 0)) == ([7, 0], [8, 0])


def test_what_waited_for_the_other_arm_does_not_go_over_into_another_step():
    pairing = Pairing(figures=2)
    pairing.add(1, (10, 9), (0, 0))

    assert pairing.add(2, (0, 0), (90, 0)) is None
    assert pairing.add(2, (3, 0), (0, 0)) == ([3, 0], [90, 0])


# Huge and odd


@pytest.mark.parametrize(
    "counts",
    [
        (2**53, 0, 2**53, 0),
        (2**53, 2**53, 2**53, 0),
        (2**53, 0, 2**53, 2**53),
        (1, 1, 2**53, 2**53),
        (2**53, 2**53, 1, 0),
        (1, 0, 1, 1),
    ],
)
def test_the_hugest_windows_stay_finite_for_as_long_as_they_come(counts: Counts):
    share, star = process(1.2, 0.0005), OneWindowRule()

    for index in range(300):
        feed(share, counts, index // 20)
        star.update(share.mixture.log_e)

    for value in (share.mixture.log_e, star.log_e, shown(star.log_e)):
        assert math.isfinite(value)
    assert shown(star.log_e) >= 0


@pytest.mark.parametrize("phi", [0.99, 0, -1, math.nan, math.inf])
def test_a_dispersion_that_would_raise_or_erase_the_evidence_is_refused(phi: float):
    with pytest.raises(ValueError, match="dispersion must be at least 1"):
        process(phi=phi)
