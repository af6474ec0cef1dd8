"""Which tile is evidence of which step: never one in which the weight moved, and the same after a restart."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from canary.daemon.windows import PROPAGATION_S, change_at, first_tile_end, look_back_s, margin_s, window
from canary.model.policy import Policy
from canary.model.rollout import RolloutStatus, StepStatus, WeightChange
from canary.model.verdict import ArmCounts

BEGIN = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
POLICY = Policy.model_validate(
    {
        "name": "quick",
        "strategy": {"weights": [10, 50, 100], "hold": "1m"},
        "analysis": {"warmup": "30s", "errorRate": {"max": "1%"}},
    }
)


def at(seconds: float) -> datetime:
    return BEGIN + timedelta(seconds=seconds)


def unix(seconds: float) -> float:
    return BEGIN.timestamp() + seconds


def change(step: int, weight: int, asked: float, reached: float | None) -> WeightChange:
    return WeightChange(step=step, weight=weight, asked=at(asked), reached=None if reached is None else at(reached))


CHANGES = (change(1, 10, 0, 0.2), change(2, 50, 60, 60.3), change(3, 100, 120, 121))


def step_of(start: float, end: float, changes: tuple[WeightChange, ...] = CHANGES) -> int | None:
    found = change_at(changes, unix(start), unix(end))
    return found.step if found else None


@pytest.mark.parametrize(
    ("start", "end", "step"),
    [
        (0, 5, None),  # the weight was written in it
        (5, 10, None),  # its first scrape may have begun before the proxies knew
        (6.2, 11.2, 1),
        (55, 60, 1),
        (56, 61, None),  # the next weight was asked for in it
        (61, 66, None),
        (66.3, 71.3, 2),
        (130, 135, 3),
        (-10, -5, None),
    ],
)
def test_a_tile_belongs_to_the_step_whose_weight_was_there_all_the_time(
    start: float, end: float, step: int | None
) -> None:
    assert step_of(start, end) == step


def test_a_weight_that_was_asked_for_and_never_reached_gives_no_evidence() -> None:
    changes = (CHANGES[0], change(2, 50, 60, None))

    assert step_of(30, 35, changes) == 1
    assert step_of(70, 75, changes) is None


@given(
    st.lists(st.tuples(st.floats(0, 100), st.floats(0, 20)), min_size=1, max_size=8),
    st.floats(0.2, 30),
    st.floats(-50, 1000),
)
def test_no_tile_in_which_a_weight_was_on_its_way_is_ever_used(
    pauses: list[tuple[float, float]], tile_s: float, start: float
) -> None:
    changes, now = [], 0.0
    for step, (pause, takes) in enumerate(pauses, start=1):
        changes.append(change(step, min(100, step * 10), now + pause, now + pause + takes))
        now += pause + takes
    end = start + tile_s

    found = change_at(changes, unix(start), unix(end))

    for one in changes:
        assert one.reached is not None
        asked, known = one.asked.timestamp(), one.reached.timestamp() + PROPAGATION_S
        if found is not None:
            assert not (unix(start) < known and asked < unix(end)), f"{one} was on its way in {start}..{end}"
    if found is not None:
        assert found.reached is not None
        assert found.reached.timestamp() <= unix(start)


@given(st.floats(0, 10_000), st.sampled_from([0.2, 0.5, 1.0, 5.0, 15.0]))
def test_the_first_tile_asked_for_is_on_the_grid_and_is_the_first_that_can_be_evidence(
    reached: float, tile_s: float
) -> None:
    status = RolloutStatus(weight_changes=(change(1, 10, reached - 0.1, reached),))

    end = first_tile_end(status, tile_s)

    assert end is not None
    assert round(end * 1000) % round(tile_s * 1000) == 0
    assert change_at(status.weight_changes, end - tile_s, end) is not None
    assert end - 2 * tile_s < unix(reached) + margin_s(tile_s) + 0.001


def test_before_the_first_traffic_there_is_nothing_to_ask_for() -> None:
    assert first_tile_end(RolloutStatus(), 5.0) is None
    assert first_tile_end(RolloutStatus(weight_changes=(change(1, 10, 0, None),)), 5.0) is None


def test_the_warm_up_counts_from_the_first_traffic_and_the_bake_goes_on_with_the_last_step() -> None:
    status = RolloutStatus(weight_changes=(*CHANGES, change(4, 100, 180, 180)))
    counts = ArmCounts(10, 0)

    def at_tile(start: float) -> tuple[int, bool]:
        found = window(POLICY, status, (unix(start), unix(start + 5)), counts, counts)
        assert found is not None
        return found.step, found.warm

    assert at_tile(10) == (1, False)
    assert at_tile(30.2) == (1, True)
    assert at_tile(70) == (2, True)
    assert at_tile(200) == (3, True)


@pytest.mark.parametrize(
    ("alive_s", "looks_back_s"), [(0.5, 2.5), (2.5, 2.5), (2.6, 5.0), (5.0, 5.0), (5.1, 10.0), (600.0, 10.0)]
)
def test_a_young_canary_and_stable_are_seen_over_the_same_time(alive_s: float, looks_back_s: float) -> None:
    status = RolloutStatus(
        step=StepStatus(index=1, of=5),
        weight_changes=(change(0, 0, 0, 1), change(1, 10, 60, 60), change(2, 25, 70, 71)),
    )

    assert look_back_s(POLICY, status, 1.0, unix(60 + alive_s)) == looks_back_s


def test_a_look_back_is_never_too_short_to_have_been_scraped() -> None:
    status = RolloutStatus(step=StepStatus(index=1, of=5), weight_changes=(change(1, 10, 60, 60),))

    assert look_back_s(POLICY, status, 5.0, unix(61)) == 10.0
    assert look_back_s(POLICY, RolloutStatus(), 1.0, unix(61)) == 10.0
