"""What stable's past tells: bursts only where there are some, bucket bounds that say something, and how long it was."""

from __future__ import annotations

import math
import random
from bisect import bisect_right
from fractions import Fraction
from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from canary.analysis.baseline import baseline_of, dispersion
from canary.analysis.interval import upper_bound
from canary.model.policy import Policy
from canary.model.verdict import ArmCounts, Baseline

TILE_S = 5.0
TILES = 120
"""Ten minutes."""


def policy(p99: str | None = None) -> Policy:
    analysis = {"p99": {"max": p99}} if p99 else {}
    return Policy.model_validate({"name": "story", "strategy": {"weights": [100]}, "analysis": analysis})


class Poisson:
    """Draws with this mean."""

    def __init__(self, mean: float) -> None:
        chances = (math.exp(k * math.log(mean) - mean - math.lgamma(k + 1)) for k in range(int(3 * mean + 40)))
        self.cumulated = list(accumulate(chances))

    def draw(self, rng: random.Random) -> int:
        return bisect_right(self.cumulated, rng.random())


# Bursts


@pytest.mark.parametrize("mean", [0.05, 0.5, 5.0, 40.0])
def test_independent_errors_are_taken_for_what_they_are(mean: float):
    """At most 3 % of histories of independent errors look bursty, whatever the rate."""
    rng = random.Random(71)
    requests = round(max(50, 30 * mean))

    errors = Poisson(mean)

    found = [dispersion([(requests, errors.draw(rng)) for _ in range(TILES)], TILE_S) for _ in range(300)]

    assert sum(phi > 1 for phi in found) <= 15  # 300 x 3 % is 9, and chance
    assert all(phi >= 1 for phi in found)


def test_errors_that_come_in_bursts_of_five_have_about_five_times_the_variance():
    rng, bursts = random.Random(72), Poisson(2.0)

    found = [dispersion([(1000, 5 * bursts.draw(rng)) for _ in range(TILES)], TILE_S) for _ in range(100)]

    assert all(phi > 2 for phi in found)
    assert sum(found) / 100 == pytest.approx(5.5, abs=1)  # the larger of the two lengths of window: a little more


def test_bursts_longer_than_a_tile_are_seen_in_windows_of_thirty_seconds():
    """Half a minute in five with more errors: within a tile they look nearly independent."""
    rng, calm, busy = random.Random(73), Poisson(0.5), Poisson(2.0)
    shorter = longer = 0.0
    for _ in range(50):
        counts = [(100, (busy if index // 6 % 10 == 0 else calm).draw(rng)) for index in range(TILES)]
        shorter += dispersion(counts, 100.0)  # as if a tile were so long that nothing is merged
        longer += dispersion(counts, TILE_S)

    assert longer > 1.3 * shorter


def test_the_dispersion_is_pearsons():
    counts = [(100, bad) for bad in (0, 0, 12, 0, 0, 0, 0, 0, 12, 0)]

    # p = 24/1000: the expected count is 2.4 in each; thirty seconds are one window of six and one of four tiles
    pearson = (8 * 2.4**2 + 2 * 9.6**2) / 2.4 / 10
    assert dispersion(counts, TILE_S) == pytest.approx(pearson)
    assert pearson > 1 + 2.5 * math.sqrt((2 + 1 / 2.4) / 9)


def test_tiles_of_unequal_traffic_are_compared_with_what_their_own_requests_explain():
    counts = [(1000 if index % 10 == 0 else 10, 10 if index % 10 == 0 else 0) for index in range(TILES)]

    assert dispersion(counts, TILE_S) == 1


@pytest.mark.parametrize("counts", [[], [(0, 0)] * 50, [(100, 0)] * 50, [(100, 7)], [(100, 7), (0, 0)], [(5, 5)] * 50])
def test_nothing_is_learnt_from_no_errors_no_requests_or_one_window(counts: list[tuple[int, int]]):
    assert dispersion(counts, TILE_S) == 1


@pytest.mark.parametrize("tile_s", [0.5, 2.0, 7.0, 29.0, 31.0, 60.0, 600.0])
def test_any_tile_length_has_its_windows(tile_s: float):
    rng = random.Random(74)

    assert dispersion([(100, 20 * (rng.random() < 0.05)) for _ in range(200)], tile_s) > 3


# The judge uses them


def tile(requests: int = 300, errors: int = 0, slower: dict[float, int] | None = None) -> ArmCounts:
    return ArmCounts(requests, errors, requests - errors, slower or {})


def test_errors_latency_and_the_absolute_limit_each_have_their_own_dispersion():
    bursty = {100.0: 60, 250.0: 6, 500.0: 0}
    calm = {100.0: 0, 250.0: 6, 500.0: 0}
    tiles = [tile(slower=bursty if index % 4 == 0 else calm, errors=1) for index in range(TILES)]

    known = baseline_of(tiles, TILE_S, policy("250ms"))

    assert known.errors_phi == 1
    assert known.latency_phi[100.0] > 3
    assert known.latency_phi[250.0] == 1
    assert known.p99_phi == 1
    assert baseline_of(tiles, TILE_S, policy("100ms")).p99_phi == known.latency_phi[100.0]


@pytest.mark.parametrize(
    ("slower", "chosen"),
    [
        pytest.param(
            {25.0: 900, 50.0: 300, 100.0: 21, 250.0: 2, 500.0: 1}, [50, 100, 250, 500], id="and the next one up"
        ),
        pytest.param({50.0: 301, 100.0: 1}, [], id="no tail in the range"),
        pytest.param({50.0: 301, 100.0: 2}, [100], id="no next one"),
        pytest.param({50.0: 0, 100.0: 0}, [], id="all fast"),
        pytest.param({50.0: 1000, 100.0: 1000}, [], id="all slow"),
        pytest.param({}, [], id="no histogram"),
    ],
)
def test_latency_is_compared_where_stables_tail_is_neither_empty_nor_the_rule(
    slower: dict[float, int], chosen: list[float]
):
    assert list(baseline_of([tile(1000, slower=slower)], TILE_S, policy()).latency_phi) == chosen


@pytest.mark.parametrize(
    ("tiles", "history_s"),
    [([], 0), ([tile()] * 120, 600), ([tile()] * 6, 30), ([tile(), tile(0), tile()], 10), ([tile(0)] * 50, 0)],
)
def test_how_long_stable_was_seen_at_work_is_known(tiles: list[ArmCounts], history_s: float):
    assert baseline_of(tiles, TILE_S, policy()).history_s == history_s


def test_no_past_is_no_knowledge():
    assert baseline_of([], TILE_S, policy("500ms")) == Baseline()


# What cannot reach a version


def test_more_than_before_may_reach_no_version_by_a_fifth_and_a_little():
    known = baseline_of([tile()] * 10, TILE_S, policy(), unattributed=(2, 3000))

    assert known.unattributed_bound == pytest.approx(1.2 * upper_bound(3000, 2, 0.01) + 0.0005)
    assert baseline_of([tile()], TILE_S, policy()).unattributed_bound is None
    assert baseline_of([tile()], TILE_S, policy(), unattributed=(50, 50)).unattributed_bound == 1
    assert baseline_of([tile()], TILE_S, policy(), unattributed=(0, 100_000)).unattributed_bound == pytest.approx(
        0.00055526, abs=1e-7
    )


# Clopper and Pearson


def chance_of_at_most(bad: int, total: int, share: Fraction) -> Fraction:
    return sum((math.comb(total, k) * share**k * (1 - share) ** (total - k) for k in range(bad + 1)), Fraction(0))


@pytest.mark.parametrize(("total", "bad"), [(1, 0), (2, 1), (5, 0), (10, 3), (10, 9), (40, 1), (60, 25)])
@pytest.mark.parametrize("alpha", [0.01, 0.2])
def test_the_upper_bound_is_the_share_at_which_so_few_have_the_chance_alpha_exactly(total: int, bad: int, alpha: float):
    found = Fraction(upper_bound(total, bad, alpha))
    width = Fraction(1, 10**9)

    assert chance_of_at_most(bad, total, found - width) > Fraction(alpha)
    assert chance_of_at_most(bad, total, found + width) < Fraction(alpha)


def test_without_a_bad_one_it_has_a_closed_form_and_without_a_request_it_is_one():
    assert upper_bound(1000, 0, 0.01) == pytest.approx(1 - 0.01 ** (1 / 1000), rel=1e-9)
    assert upper_bound(0, 0, 0.01) == 1
    assert upper_bound(7, 7, 0.01) == 1


@given(st.integers(0, 2**53), st.integers(0, 2**53))
def test_it_is_above_the_share_and_within_one_for_any_counts_and_takes_no_time(good: int, bad: int):
    total = good + bad

    found = upper_bound(total, bad, 0.01)

    assert (bad / total if total else 0) <= found <= 1


@pytest.mark.parametrize(("total", "bad"), [(10**7, 100_000), (10**9, 5), (10**9, 99_999)])
def test_where_it_stops_adding_up_it_only_becomes_a_little_more_careful(total: int, bad: int):
    exact, careful = upper_bound(total, bad, 0.01), upper_bound(total + total // 10**6, bad + bad // 10**4 + 1, 0.01)

    assert exact < careful
    assert careful < exact * (1.003 if bad > 1000 else 1.4)
