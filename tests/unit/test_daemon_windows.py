"""Which tile is evidence of which step: never one in which the weight moved, and the same after a restart."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from canary.daemon.windows import (
    PROPAGATION_S,
    change_at,
    depends_on_its_scrapes,
    first_tile_end,
    last_tile_before,
    look_back_s,
    window,
)
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
    start = end - tile_s
    assert change_at(status.weight_changes, start, end, counted_from=start) is not None
    assert start - tile_s < unix(reached) + PROPAGATION_S + 0.001


@pytest.mark.parametrize(
    ("start", "end", "counted_from", "step"),
    [
        (5, 10, 1.1, None),  # a scrape at 1.1 s may have been before the last proxy knew
        (5, 10, 1.2, 1),
        (5, 10, 5.0, 1),
        (5, 10, None, None),
        (55, 60, -300.0, None),  # a target that was away since before the weight: its first counts are of both
        (6.2, 11.2, None, 1),
        (56, 61, 58.0, None),  # its end is what it always was
    ],
)
def test_when_its_scrapes_are_known_a_tile_may_begin_right_after_the_weight(
    start: float, end: float, counted_from: float | None, step: int | None
) -> None:
    since = None if counted_from is None else unix(counted_from)

    found = change_at(CHANGES, unix(start), unix(end), since)

    assert (found.step if found else None) == step


def test_only_of_the_tiles_just_after_a_weight_are_the_scrapes_asked_for() -> None:
    asked = [start for start in range(0, 130, 5) if depends_on_its_scrapes(CHANGES, unix(start), unix(start + 5))]

    assert asked == [5, 65, 125]  # 5: 0.2 s and propagation are over, a scrape interval is not; likewise the others


def test_stables_past_ends_with_the_last_whole_tile_before_the_canary_was_let_in() -> None:
    status = RolloutStatus(weight_changes=(change(1, 10, 7.5, 60), CHANGES[1]))

    assert last_tile_before(status, 5.0) == unix(5)
    assert last_tile_before(status, 2.5) == unix(7.5)
    assert last_tile_before(RolloutStatus(), 5.0) is None


def test_before_the_first_traffic_there_is_nothing_to_ask_for() -> None:
    assert first_tile_end(RolloutStatus(), 5.0) is None
    assert first_tile_end(RolloutStatus(weight_changes=(change(1, 10, 0, None),)), 5.0) is None


def test_a_first_weight_that_was_overtaken_before_it_was_noted_as_reached_keeps_nobody_from_judging_the_next() -> None:
    status = RolloutStatus(weight_changes=(change(1, 10, 0, None), change(3, 100, 0.3, 0.5)))

    end = first_tile_end(status, 5.0)

    assert end == unix(10)
    assert change_at(status.weight_changes, end - 5, end, counted_from=end - 5) is status.weight_changes[1]


def test_the_warm_up_counts_from_the_first_traffic_and_the_bake_goes_on_with_the_last_step() -> None:
    status = RolloutStatus(weight_changes=(*CHANGES, change(4, 100, 180, 180)))
    counts = ArmCounts(10, 0)

    def at_tile(start: float) -> tuple[int, bool]:
        found = window(POLICY, status, (unix(start), unix(start + 5)), (counts, counts))
        assert found is not None
        return found.step, found.warm

    assert at_tile(10) == (1, False)
    assert at_tile(30.2) == (1, True)
    assert at_tile(70) == (2, True)
    assert at_tile(200) == (3, True)


@pytest.mark.parametrize(
    ("alive_s", "looks_back_s"), [(0.5, 2.5), (2.5, 2.5), (2.6, 5.0), (5.0, 5.0), (5.1, 10.0), (600.0, 10.0)]
)
@pytest.mark.parametrize("earlier", [(), (change(1, 10, 10, 11),)])
def test_a_young_weight_of_the_canary_and_stable_are_seen_over_the_same_time(
    alive_s: float, looks_back_s: float, earlier: tuple[WeightChange, ...]
) -> None:
    status = RolloutStatus(
        step=StepStatus(index=2, of=5),
        weight_changes=(change(0, 0, 0, 1), *earlier, change(2, 25, 60, 60), change(3, 50, 700, None)),
    )

    assert look_back_s(POLICY, status, 1.0, unix(60 + alive_s)) == looks_back_s


def test_a_look_back_is_never_too_short_to_have_been_scraped() -> None:
    status = RolloutStatus(step=StepStatus(index=1, of=5), weight_changes=(change(1, 10, 60, 60),))

    assert look_back_s(POLICY, status, 5.0, unix(61)) == 10.0
    assert look_back_s(POLICY, RolloutStatus(), 1.0, unix(61)) == 10.0
