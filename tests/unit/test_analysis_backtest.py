"""Recorded counts through a policy: the verdicts are those of the judge itself, and healthy history stays promoted."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from canary.analysis.backtest import judged, walked
from canary.analysis.draws import binomial, poisson
from canary.analysis.judge import Judge
from canary.analysis.splits import Hour, Past, false_alarms, needed_s, split
from canary.analysis.traffic import Behaviour
from canary.analysis.walk import Ending, Timing
from canary.model.policy import Policy
from canary.model.verdict import ArmCounts, Baseline, Outcome, Reason, Window

TILE = 15.0
TIMING = Timing(TILE, settle_s=2.0, propagation_s=1.0, lag_s=TILE, interval_s=TILE)
SLOWER = {50.0: 0.4, 100.0: 0.1, 250.0: 0.01, 500.0: 0.001, 1000.0: 0.0}
HEALTHY = Behaviour(0.001, 0.999, SLOWER)
HOUR = 1_700_000_000 // 3600 * 3600
BASELINE = Baseline(latency_phi={100.0: 1.0, 250.0: 1.0}, history_s=600)


def policy(**analysis: Any) -> Policy:
    judged_by = {"warmup": "30s", "maxWait": "5m", "errorRate": {"max": "1%"}, "p99": {"max": "500ms"}, **analysis}
    return Policy.model_validate(
        {"name": "story", "strategy": {"weights": [10, 50, 100], "hold": "2m"}, "analysis": judged_by}
    )


def windows(canary: Behaviour, *, number: int = 24, rate: float = 60.0, seed: int = 1) -> list[Window]:
    """Eight tiles in each of three steps."""
    rng, found = Random(seed), []
    for place in range(number):
        step = 1 + place // 8
        weight = (10, 50, 100)[step - 1]
        total = poisson(rng, rate * TILE)
        to_canary = binomial(rng, total, weight / 100)
        arms = canary.draw(rng, to_canary, SLOWER), HEALTHY.draw(rng, total - to_canary, SLOWER)
        found.append(Window(HOUR + place * TILE, HOUR + (place + 1) * TILE, step, weight, *arms))
    return found


def test_a_history_with_five_percent_errors_is_rolled_back_with_the_judges_own_sentence() -> None:
    recorded = windows(HEALTHY.failing(0.05))

    found = judged(Judge(policy(), BASELINE), recorded, TIMING)

    assert found.failed is not None
    judge, verdict = Judge(policy(), BASELINE), None
    for window in recorded:
        verdict = judge.observe(window, window.end + 2)
        if verdict.outcome is Outcome.FAIL:
            break
    assert found.failed.verdict == verdict
    assert found.failed.at == window.end + 2
    assert "worse than stable with evidence" in found.failed.verdict.sentence
    assert found.windows < 12


def test_each_change_of_the_verdict_is_told_once() -> None:
    found = judged(Judge(policy(), BASELINE), windows(HEALTHY), TIMING)

    said = [(told.step, told.verdict.outcome, told.verdict.reason) for told in found.changes]
    assert found.failed is None
    assert all(before != after for before, after in pairwise(said))
    assert [step.step for step in found.steps] == [1, 2, 3]
    assert all(step.verdict.outcome is Outcome.PASS for step in found.steps)


def test_a_total_failure_is_told_by_the_fast_abort_before_its_tile_has_settled() -> None:
    recorded = windows(HEALTHY.failing(1.0))

    found = judged(Judge(policy(), BASELINE), recorded, TIMING, tiles=recorded)

    assert found.failed is not None
    assert found.failed.verdict.reason is Reason.FAST_ABORT
    assert found.failed.at < recorded[0].end + TIMING.settle_s


def test_windows_without_a_bound_that_the_policy_needs_are_refused_with_the_bound() -> None:
    recorded = [replace(window, canary=replace(window.canary, slower={250.0: 0})) for window in windows(HEALTHY)]

    with pytest.raises(ValueError, match="slower than 500 ms"):
        judged(Judge(policy(), BASELINE), recorded, TIMING)


def tiles_of(canary: Behaviour, *, number: int, share: float, rate: float = 60.0) -> dict[float, tuple[Any, Any]]:
    rng, found = Random(5), {}
    for place in range(1, number + 1):
        total = poisson(rng, rate * TILE)
        to_canary = binomial(rng, total, share)
        counts = canary.draw(rng, to_canary, SLOWER), HEALTHY.draw(rng, total - to_canary, SLOWER)
        found[HOUR + place * TILE] = counts
    return found


def test_two_deployments_side_by_side_are_walked_through_the_steps_that_the_policy_would_have_made() -> None:
    tiles = tiles_of(HEALTHY, number=60, share=0.2)

    found = walked(policy(), Judge(policy(), BASELINE), tiles, TIMING, HOUR)

    assert found.failed is None
    assert found.stopped is None
    assert [step.step for step in found.steps] == [1, 2, 3]
    assert all(15 <= told.weight <= 25 for told in found.changes)  # what the requests really had


def test_a_bad_deployment_beside_a_good_one_would_have_been_rolled_back_in_the_first_step() -> None:
    tiles = tiles_of(HEALTHY.failing(0.05), number=60, share=0.2)

    found = walked(policy(), Judge(policy(), BASELINE), tiles, TIMING, HOUR)

    assert found.failed is not None
    assert found.failed.step == 1


def test_too_little_traffic_would_have_stopped_it_or_gone_on_as_the_policy_says() -> None:
    tiles = tiles_of(HEALTHY, number=200, share=0.2, rate=0.5)

    asks = walked(policy(), Judge(policy(), BASELINE), tiles, TIMING, HOUR)
    goes_on = policy(onInconclusive="promote")
    promoted = walked(goes_on, Judge(goes_on, BASELINE), tiles, TIMING, HOUR)

    assert asks.stopped is not None
    assert asks.stopped.ending is Ending.UNDECIDED
    assert promoted.stopped is None
    assert len(promoted.steps) > len(asks.steps)


def history(behaviour: Behaviour, hours: int, *, rate: float = 30.0) -> dict[float, ArmCounts]:
    rng = Random(9)
    number = int((600 + hours * 3600 + 1200) / TILE)
    ends = (HOUR - 600 + (place + 1) * TILE for place in range(number))
    return {end: behaviour.draw(rng, poisson(rng, rate * TILE), SLOWER) for end in ends}


def test_healthy_history_is_not_rolled_back() -> None:
    past = Past(policy(), history(HEALTHY, 6), TIMING)

    hours = [hour for number in range(6) if (hour := past.hour(HOUR + 3600 * number, splits=3, seed=1))]

    assert len(hours) == 6
    assert not any(hour.unwell or hour.rolled_back or hour.undecided or hour.cut for hour in hours)
    found = false_alarms(hours)
    assert (found.hours, found.rollouts, found.rolled_back) == (6, 18, 0)
    assert found.interval == (0.0, pytest.approx(1 - 0.025 ** (1 / 6)))


def test_an_hour_in_which_the_service_itself_broke_its_limit_is_told_apart() -> None:
    tiles = history(HEALTHY, 2)
    sick = HEALTHY.failing(0.05)
    tiles |= {end: sick.draw(Random(end), 450, SLOWER) for end in tiles if HOUR + 3600 < end <= HOUR + 7200}
    past = Past(policy(), tiles, TIMING)

    well, ill = (past.hour(HOUR + 3600 * number, splits=2, seed=1) for number in range(2))

    assert well is not None
    assert ill is not None
    assert well.unwell == ""
    assert "of its requests failed" in ill.unwell
    assert "over errorRate.max 1 %" in ill.unwell
    assert false_alarms([well, ill]).hours == 1


def test_a_slow_hour_of_the_service_is_told_apart_too() -> None:
    slow = Behaviour(0.001, 0.999, {**SLOWER, 250.0: 0.06, 500.0: 0.05})
    past = Past(policy(), history(slow, 1), TIMING)

    hour = past.hour(HOUR, splits=1, seed=1)

    assert hour is not None
    assert "slower than p99.max 500ms" in hour.unwell


def test_an_hour_without_requests_is_no_hour() -> None:
    assert Past(policy(), {}, TIMING).hour(HOUR, splits=3, seed=1) is None


def test_an_hour_whose_figures_end_is_cut_and_not_judged_by_half() -> None:
    of = policy()
    tiles = {end: counts for end, counts in history(HEALTHY, 1).items() if end <= HOUR + 120}

    hour = Past(of, tiles, TIMING).hour(HOUR, splits=1, seed=1)

    assert hour is not None
    assert (hour.cut, hour.rolled_back) == (1, 0)
    assert needed_s(of, TIMING) > 3600 + 360


@given(
    st.integers(0, 5000),
    st.floats(0, 1),
    st.lists(st.floats(0, 1), min_size=0, max_size=5),
    st.floats(0, 1),
    st.integers(0, 99),
)
@settings(max_examples=200)
def test_the_two_halves_of_a_tile_add_up_to_it(
    requests: int, errors: float, shares: list[float], share: float, seed: int
) -> None:
    slower = dict(zip((50.0, 100.0, 250.0, 500.0, 1000.0), sorted(shares, reverse=True), strict=False))
    tile = Behaviour(errors, 1 - errors, slower).draw(Random(seed), requests, slower)

    canary, stable = split(Random(seed), tile, share, sorted(slower))

    assert canary + stable == tile
    for arm in (canary, stable):
        assert 0 <= arm.errors <= arm.requests
        assert all(0 <= count <= arm.timed for count in arm.slower.values())


def test_the_halves_of_one_version_have_the_weights_share_of_everything() -> None:
    tile = ArmCounts(100_000, 5_000, 95_000, {100.0: 40_000, 250.0: 10_000})

    canary, _ = split(Random(3), tile, 0.1, [100.0, 250.0])

    assert canary.requests == pytest.approx(10_000, rel=0.05)
    assert canary.errors == pytest.approx(500, rel=0.15)
    assert canary.slower[250.0] == pytest.approx(1_000, rel=0.12)


def test_the_interval_counts_hours_and_not_rollouts() -> None:
    """Three rollouts in one hour see the same requests: three wrong ones are one piece of evidence."""
    fine = [Hour(HOUR + 3600 * number, 1000, 1, 3, 0, 0, 0) for number in range(99)]
    wrong = Hour(HOUR - 3600, 1000, 1, 3, 3, 0, 0, sentence="a verdict")

    found = false_alarms([*fine, wrong])

    assert found.share == pytest.approx(0.01)
    assert found.interval == (
        pytest.approx(0.00025, rel=0.02),
        pytest.approx(0.0545, rel=0.01),
    )  # Clopper-Pearson 1/100


def test_without_a_healthy_hour_nothing_is_claimed() -> None:
    assert false_alarms([]).interval == (0.0, 1.0)
