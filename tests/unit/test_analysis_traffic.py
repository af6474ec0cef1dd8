"""What is drawn must look like what was measured, and a slower version like the measured one on a slower day."""

from __future__ import annotations

import math
import statistics
from itertools import pairwise
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from canary.analysis.traffic import Behaviour, quantile_ms, slowed, traffic_of
from canary.model.policy import ISTIO_BUCKETS_MS
from canary.model.verdict import ArmCounts

LOGNORMAL = statistics.NormalDist(math.log(50), 0.8)


def share_over(milliseconds: float) -> float:
    return 1 - LOGNORMAL.cdf(math.log(milliseconds))


MEASURED = {bound: share_over(bound) for bound in ISTIO_BUCKETS_MS}


def test_a_version_half_as_slow_again_has_its_tail_where_the_measured_one_would_have_it() -> None:
    slower = slowed(MEASURED, 1.5)

    for bound in (25.0, 100.0, 250.0, 500.0):
        assert slower[bound] == pytest.approx(share_over(bound / 1.5), rel=0.02)
    p99, p99_slow = quantile_ms(MEASURED, 0.01), quantile_ms(slower, 0.01)
    assert p99 == pytest.approx(math.exp(LOGNORMAL.inv_cdf(0.99)), rel=0.02)
    assert p99_slow == pytest.approx(1.5 * (p99 or 0), rel=0.02)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20), st.floats(1, 100))
def test_a_slower_version_is_nowhere_faster_and_its_shares_stay_in_order(shares: list[float], factor: float) -> None:
    measured = dict(zip(ISTIO_BUCKETS_MS, sorted(shares, reverse=True), strict=False))

    slower = slowed(measured, factor)

    assert all(slower[bound] >= share - 1e-5 for bound, share in measured.items())
    moved = [slower[bound] for bound in sorted(slower)]
    assert all(before >= after - 1e-9 for before, after in pairwise(moved))


def test_nothing_moves_at_a_factor_of_one() -> None:
    assert slowed(MEASURED, 1.0) == pytest.approx(MEASURED)


@given(
    st.lists(st.floats(0.001, 1), min_size=1, max_size=20, unique=True),
    st.integers(0, 20_000),
    st.tuples(st.floats(0, 1), st.floats(0, 1), st.floats(1, 50)),
    st.integers(0, 99),
)
def test_drawn_counts_could_always_have_been_counted(
    shares: list[float], requests: int, figures: tuple[float, float, float], seed: int
) -> None:
    errors, timed, phi = figures
    slower = dict(zip(ISTIO_BUCKETS_MS, sorted(shares, reverse=True), strict=False))
    behaviour = Behaviour(errors, timed * (1 - errors), slower, phi)

    for one in (behaviour, behaviour.failing(min(1.0, errors * 2)), behaviour.slowed(1.5)):
        drawn = one.draw(Random(seed), requests, slower)
        assert drawn.requests == requests
        assert 0 <= drawn.errors <= requests
        assert 0 <= drawn.timed <= requests - drawn.errors
        counts = [drawn.slower[bound] for bound in sorted(slower)]
        assert counts == sorted(counts, reverse=True)
        assert all(count <= drawn.timed for count in counts)


def test_what_is_drawn_has_the_measured_shares() -> None:
    behaviour = Behaviour(0.02, 0.98, MEASURED)
    drawn = behaviour.draw(Random(3), 200_000, (100.0, 250.0))

    assert drawn.error_share == pytest.approx(0.02, rel=0.05)
    assert drawn.timed == drawn.requests - drawn.errors
    assert drawn.slower[100.0] / drawn.timed == pytest.approx(MEASURED[100.0], rel=0.05)
    assert drawn.slower[250.0] / drawn.timed == pytest.approx(MEASURED[250.0], rel=0.05)


def test_traffic_is_the_services_and_behaviour_is_stables() -> None:
    tiles = [ArmCounts(100, 1, 99, {250.0: 9}), ArmCounts(), ArmCounts(300, 3, 297, {250.0: 27})]

    traffic = traffic_of(tiles, 30.0, others=80)

    assert traffic.requests_per_s == pytest.approx(16)
    assert traffic.stable.error_share == pytest.approx(0.01)
    assert traffic.stable.timed_share == pytest.approx(0.99)
    assert traffic.stable.slower[250.0] == pytest.approx(36 / 396)


def test_a_stable_without_a_request_tells_nothing() -> None:
    with pytest.raises(ValueError, match="no requests"):
        traffic_of([ArmCounts(), ArmCounts()], 30.0, others=80)


def test_a_bound_that_the_histogram_lacks_is_interpolated() -> None:
    known = Behaviour(0.0, 1.0, {100.0: 0.2, 400.0: 0.1}).at([100.0, 200.0, 400.0])

    assert known.slower == pytest.approx({100.0: 0.2, 200.0: 0.1442, 400.0: 0.1}, abs=1e-4)
    assert Behaviour(0.0).at([100.0]).slower == {}
