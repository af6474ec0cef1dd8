"""Who has to wait when one namespace has too many unfinished attempts."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from canary.engine.crowd import crowded_out
from canary.model.phase import Phase
from canary.model.rollout import Rollout, RolloutSpec, RolloutStatus

START = datetime(2026, 1, 1, tzinfo=UTC)


def attempt(number: int, phase: Phase = Phase.PENDING, *, deleting: bool = False) -> Rollout:
    return Rollout(
        namespace="a", name=f"r-{number}", uid=f"u-{number}", resource_version="1", generation=1,
        created=START + timedelta(seconds=number), deleting=deleting, finalizers=(),
        spec=RolloutSpec(target="t", policy_name="p"), status=RolloutStatus(phase=phase),
    )  # fmt: skip


def test_nobody_waits_while_there_is_room() -> None:
    assert crowded_out([attempt(number) for number in range(3)], most=3) == frozenset()


def test_the_youngest_that_have_not_begun_wait() -> None:
    rollouts = [attempt(3), attempt(1), attempt(2), attempt(0)]

    assert crowded_out(rollouts, most=2) == {"u-2", "u-3"}


def test_what_has_begun_never_waits_and_takes_the_room() -> None:
    begun = [attempt(number, Phase.PROGRESSING) for number in (7, 8, 9)]

    assert crowded_out([attempt(0), *begun], most=2) == {"u-0"}


def test_what_has_ended_takes_no_room() -> None:
    ended = [attempt(number, Phase.SUCCEEDED) for number in range(100)]

    assert crowded_out([*ended, attempt(100)], most=1) == frozenset()


def test_what_is_being_deleted_is_let_go_of_before_it_makes_room() -> None:
    assert crowded_out([attempt(0), attempt(1, deleting=True)], most=1) == {"u-0"}
    assert crowded_out([attempt(0)], most=1) == frozenset()
