"""The soak itself: its schedule follows from its seed, its report finds what must not be; and a short run of it."""

from __future__ import annotations

from itertools import pairwise

import pytest

from canary.model.rollout import Phase, Rollout
from tests.faults.soak.lives import Life
from tests.faults.soak.owners import Release, Truth, truth_of
from tests.faults.soak.report import SILENT_S, Report, judged
from tests.faults.soak.run import Plan, soak
from tests.faults.soak.schedule import LANES, digest, schedule

MANY = 600.0


def test_the_same_seed_is_the_same_schedule_and_another_is_another() -> None:
    assert schedule(7, MANY) == schedule(7, MANY)
    assert digest(schedule(7, MANY)) != digest(schedule(8, MANY))
    assert [truth_of(7, 1, number) for number in range(20)] == [truth_of(7, 1, number) for number in range(20)]


def test_a_longer_run_begins_as_a_shorter_one() -> None:
    """So that what failed after a minute can be made again in a minute and a half."""
    short = schedule(7, 90)

    assert set(short) <= set(schedule(7, MANY))


def test_ten_minutes_have_every_fault_and_each_lane_one_at_a_time() -> None:
    episodes = schedule(7, MANY)

    assert {(one.lane, one.fault) for one in episodes} == {
        (name, fault) for name, lane in LANES.items() for fault in lane.faults
    }
    assert max(one.ends_s for one in episodes) <= MANY
    for name in LANES:
        mine = [one for one in episodes if one.lane == name]
        assert all(before.ends_s < after.begins_s for before, after in pairwise(mine))
    overlapping = [
        (one, other)
        for one in episodes
        for other in episodes
        if one.lane < other.lane and one.begins_s < other.ends_s and other.begins_s < one.ends_s
    ]
    assert len(overlapping) > len(episodes) / 2


def ended(truth: Truth, phase: Phase, *, weight: int = 20, by_a_person: bool = False) -> Release:
    rollout = Rollout.parse(
        {
            "metadata": {"name": "r", "namespace": "s", "uid": "u", "creationTimestamp": "2026-01-01T00:00:00Z",
                         "resourceVersion": "1", "generation": 1},
            "spec": {"target": "payment-v2", "policyName": "soak"},
            "status": {"phase": phase.value, "message": "because"},
        }
    )  # fmt: skip
    return Release("s", "v2", truth, Life(rollout, 0.0, 0.0, highest_weight=weight), by_a_person)


@pytest.mark.parametrize(
    ("release", "row"),
    [
        (ended(Truth.FAILING, Phase.SUCCEEDED), "wrong promotions"),
        (ended(Truth.IDLE, Phase.SUCCEEDED), "wrong promotions"),
        (ended(Truth.SLOW, Phase.ROLLED_BACK, weight=60), "bad releases past their first step"),
        (ended(Truth.HEALTHY, Phase.ROLLED_BACK), "healthy releases sent back"),
        (ended(Truth.HEALTHY, Phase.FAILED), "healthy releases sent back"),
        (ended(Truth.DEAD, Phase.FAILED), "others ended for no fault of theirs"),
        (ended(Truth.IDLE, Phase.ROLLED_BACK), "others ended for no fault of theirs"),
    ],
)
def test_each_wrong_end_is_found_where_it_belongs(release: Release, row: str) -> None:
    found = judged([release], [], {})

    assert [name for name, what in found.items() if what] == [row]
    assert not Report(found).is_clean
    assert "because" in Report(found).text()


def test_right_ends_are_nobodys_fault() -> None:
    right = [
        ended(Truth.HEALTHY, Phase.SUCCEEDED, weight=100),
        ended(Truth.FAILING, Phase.ROLLED_BACK),
        ended(Truth.IDLE, Phase.ABORTED, by_a_person=True),
    ]

    assert Report(judged(right, [], {})).is_clean


def test_a_rollout_that_neither_moves_nor_says_why_is_stuck_and_one_that_says_why_is_not() -> None:
    silent, held = (ended(Truth.HEALTHY, Phase.PROGRESSING) for _ in range(2))
    assert silent.life is not None
    silent.life.passes(SILENT_S + 1)
    assert held.life is not None
    held.life.rollout = replace_phase(held.life.rollout, Phase.PAUSED)
    held.life.passes(SILENT_S + 1)

    found = judged([silent, held], ["soak-1: r is Progressing: x"], {"soak-2": "17 requests: subset v2 has no pod"})

    assert len(found["stuck rollouts"]) == 2
    assert found["services with lost requests"] == ["soak-2: 17 requests: subset v2 has no pod"]


def replace_phase(rollout: Rollout, phase: Phase) -> Rollout:
    return rollout.model_copy(update={"status": rollout.status.model_copy(update={"phase": phase})})


@pytest.mark.slow
def test_a_short_soak_ends_with_its_zeros() -> None:
    said: list[str] = []

    report = soak(Plan(seconds=14, seed=135, services=3, settle_s=120), said.append)

    assert report.is_clean, "\n".join([*said, report.text()])
    assert int(report.happened["releases"].split(":")[0]) >= 3
    assert int(report.happened["faults hit"].split(":")[0]) >= 5
