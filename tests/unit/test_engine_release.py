"""Stories of releases that go forward: the stages walked, the pauses, a person's wishes, the clock of a step."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from canary.engine.actions import FreezePolicy, SetFinalizer, Shift, WriteStatus
from canary.model.rollout import PausedFor, Phase, PromoteWish, Wish
from canary.model.verdict import Outcome, Reason

Make = Callable[..., Any]
STEPS = [(10, False), (25, False), (50, False), (100, False)]


def test_a_good_release_walks_every_weight_bakes_and_succeeds(world: Make) -> None:
    release = world().run_to(Phase.SUCCEEDED)

    assert release.walked == STEPS
    assert release.phases == [
        Phase.PENDING, Phase.CHECKING, Phase.PROGRESSING, Phase.PROMOTING, Phase.SUCCEEDED,
    ]  # fmt: skip
    assert not release.finalizer
    held = (release.now - release.status.weight_changes[0].asked).total_seconds()
    assert 60 <= held <= 66, "four holds of 10 s and a bake of 20 s"


def test_a_bake_at_the_weight_that_is_there_is_no_change_of_weight(world: Make) -> None:
    release = world().run_to(Phase.PROMOTING).run(5)

    assert [change.step for change in release.status.weight_changes] == [1, 2, 3, 4]
    assert release.clock_runs


@pytest.mark.parametrize("where", ["in a step", "in a pause", "blind"])
def test_requests_that_do_not_follow_the_weight_are_said_once(world: Make, where: str) -> None:
    release = world(pauseAt=[25], hold="10m").run_to_weight(10)
    seen = release.observe
    release.observe = lambda: replace(seen(), share_problem="the requests do not follow the weight of 10 %")
    release.settle()
    if where == "in a pause":
        release.wish(paused=Wish())
    if where == "blind":
        release.source_problem = "Prometheus does not answer"

    release.run(10)  # settles at each look: nothing is said for ever

    told = [event.sentence for event in release.events if event.reason == "ShareDiffers"]
    assert told == ["the requests do not follow the weight of 10 %"]


def test_the_header_stage_comes_before_any_weight_and_its_route_goes_with_the_first_weight(
    world: Make, header_match: dict[str, Any]
) -> None:
    release = world(match=header_match).run_to(Phase.SUCCEEDED)

    assert release.walked == [(0, True), *STEPS]


def test_keep_leaves_the_header_route_until_everybody_is_on_the_canary(
    world: Make, header_match: dict[str, Any]
) -> None:
    release = world(match=header_match | {"keep": True}).run_to(Phase.SUCCEEDED)

    assert release.walked == [(0, True), (10, True), (25, True), (50, True), (100, True), (100, False)]


def test_a_header_only_canary_waits_for_a_person_and_then_goes_to_100(
    world: Make, header_match: dict[str, Any]
) -> None:
    release = world(match=header_match, weights=[]).run_to(Phase.PAUSED)
    assert release.run(600).phase is Phase.PAUSED
    assert release.status.paused_for is PausedFor.HEADER_ONLY
    assert "canary promote" in release.status.message

    release.wish(promote=PromoteWish(step=0))

    assert release.run_to(Phase.SUCCEEDED).walked == [(0, True), (100, False)]


def test_what_is_needed_to_go_back_exists_before_anything_runs_by_it(world: Make) -> None:
    release = world()
    release.look()

    kinds = [type(action) for action in release.done]
    assert kinds == [FreezePolicy, SetFinalizer, WriteStatus]
    assert release.done[1] == SetFinalizer(True)


def test_every_weight_is_in_status_before_it_is_on_the_route(world: Make) -> None:
    release = world().run_to(Phase.SUCCEEDED)

    for index, action in enumerate(release.done):
        if isinstance(action, Shift):
            told = [entry for entry in release.done[:index] if isinstance(entry, WriteStatus)][-1]
            assert told.status.weight.desired == action.weight


def test_the_first_weight_waits_until_the_mesh_knows_the_subset(world: Make) -> None:
    release = world()
    release.settle()

    assert release.has_subset
    assert release.walked == []
    assert release.run_to(Phase.PROGRESSING, within=3).walked == [(10, False)]


def test_each_step_may_have_a_hold_of_its_own(world: Make) -> None:
    release = world(hold=["5s", "20s", "5s", "5s"]).run_to(Phase.SUCCEEDED)

    baked = next(entry.at for entry in release.status.history if entry.phase is Phase.PROMOTING)
    begun = [*(change.reached for change in release.status.weight_changes), baked]
    assert [round((b - a).total_seconds()) for a, b in itertools.pairwise(begun)] == [5, 20, 5, 5]


def test_a_step_without_a_verdict_does_not_pass_however_long_it_lasts(world: Make) -> None:
    release = world()
    release.verdict = None

    assert release.run(300).walked == [(10, False)]


def test_pause_at_waits_for_promote_and_the_wish_does_not_pass_the_next_pause(world: Make) -> None:
    release = world(pauseAt=[25, 50]).run_to(Phase.PAUSED)
    assert release.status.paused_for is PausedFor.PAUSE_AT
    assert release.run(600).route.weight == 25

    release.wish(promote=PromoteWish(step=2, actor="ann"))
    release.run_to_weight(50)
    release.run_to(Phase.PAUSED)

    assert release.run(600).route.weight == 50
    release.wish(promote=PromoteWish(step=3))
    assert release.run_to(Phase.SUCCEEDED).walked == STEPS


def test_a_promote_wish_made_early_passes_its_own_pause_only(world: Make) -> None:
    release = world(pauseAt=[10, 25])
    release.wish(promote=PromoteWish(step=1))

    release.run_to(Phase.PAUSED)

    assert release.route.weight == 25


def test_pause_at_100_waits_before_the_bake(world: Make) -> None:
    release = world(pauseAt=[100]).run_to(Phase.PAUSED)
    assert release.route.weight == 100

    release.wish(promote=PromoteWish(step=4))

    release.run_to(Phase.PROMOTING)
    release.run_to(Phase.SUCCEEDED)


def test_promote_full_goes_to_100_at_once_and_still_bakes(world: Make) -> None:
    release = world().run_to_weight(10)

    release.wish(promote=PromoteWish(full=True, actor="ann", reason="fix for the outage"))
    release.settle()
    assert release.route.weight == 100
    assert release.phase is Phase.PROMOTING

    assert release.run(15).phase is Phase.PROMOTING
    assert release.run_to(Phase.SUCCEEDED, within=10).walked == [(10, False), (100, False)]
    assert any("ann" in entry.sentence and "fix for the outage" in entry.sentence for entry in release.status.history)


def test_promote_full_works_from_a_pause_and_from_the_header_stage(world: Make, header_match: dict[str, Any]) -> None:
    release = world(match=header_match, pauseAt=[10]).run_to(Phase.PAUSED)
    release.wish(promote=PromoteWish(full=True))
    assert release.run_to(Phase.SUCCEEDED).walked == [(0, True), (10, False), (100, False)]

    other = world(match=header_match, weights=[]).run_to(Phase.PROGRESSING)
    other.wish(promote=PromoteWish(full=True))
    assert other.run_to(Phase.SUCCEEDED).walked == [(0, True), (100, False)]


def test_paused_time_does_not_count(world: Make) -> None:
    release = world().run_to_weight(10).run(6)

    release.wish(paused=Wish(actor="ann", reason="lunch"))
    release.settle()
    assert release.phase is Phase.PAUSED
    assert "ann" in release.status.message
    assert release.run(300).route.weight == 10

    release.wish(paused=None)
    release.settle()
    assert release.phase is Phase.PROGRESSING
    assert release.run(3).route.weight == 10, "4 s of the step are left"
    assert release.run(2).route.weight == 25


def test_a_pause_in_the_bake_goes_on_baking_after_it(world: Make) -> None:
    release = world().run_to(Phase.PROMOTING).run(12)

    release.wish(paused=Wish())
    assert release.run(600).phase is Phase.PAUSED
    release.wish(paused=None)

    release.settle()
    assert release.phase is Phase.PROMOTING
    assert release.run(6).phase is Phase.PROMOTING
    release.run_to(Phase.SUCCEEDED, within=5)


def test_the_time_already_spent_counts_after_a_restart(world: Make) -> None:
    release = world().run_to_weight(10).run(5)

    release.now += timedelta(seconds=4)  # nobody looks
    release.settle()
    assert release.route.weight == 10
    release.now += timedelta(seconds=1)
    release.settle()

    assert release.route.weight == 25


def test_inconclusive_in_time_waits_for_a_person_by_default(world: Make) -> None:
    release = world().run_to_weight(10)
    release.say(Outcome.HOLD, Reason.INCONCLUSIVE, "too few requests to tell.")

    assert release.run(38).phase is Phase.PROGRESSING
    release.run_to(Phase.PAUSED, within=5)
    assert release.status.paused_for is PausedFor.INCONCLUSIVE
    assert release.stalled == "Inconclusive"
    assert "too few requests to tell" in release.status.message

    release.wish(promote=PromoteWish(step=1))
    release.say(Outcome.PASS, Reason.HEALTHY)
    assert release.run_to(Phase.SUCCEEDED).walked == STEPS


def test_on_inconclusive_rollback_goes_back_after_max_wait(world: Make) -> None:
    release = world(analysis={"onInconclusive": "rollback"}).run_to_weight(10)
    release.say(Outcome.HOLD, Reason.INCONCLUSIVE)

    assert release.run(38).route.weight == 10
    assert release.run_to(Phase.ROLLED_BACK, within=10).route.weight == 0


def test_on_inconclusive_promote_goes_on_without_a_verdict_but_never_without_data(world: Make) -> None:
    undecided = world(analysis={"onInconclusive": "promote"}).run_to_weight(10)
    undecided.say(Outcome.HOLD, Reason.INCONCLUSIVE)
    assert undecided.run(45).route.weight == 25

    for reason in (Reason.NO_DATA, Reason.NO_TRAFFIC):
        blind = world(analysis={"onInconclusive": "promote"}).run_to_weight(10)
        blind.say(Outcome.HOLD, reason)
        assert blind.run(600).phase is Phase.PAUSED, "no data is never a pass"
        assert blind.route.weight == 10


def test_a_new_subset_and_a_rollback_wait_for_the_mesh_and_not_for_the_next_tick(world: Make) -> None:
    release = world()
    release.settle()
    assert release.phase is Phase.CHECKING
    release.now += timedelta(seconds=0.25)
    assert release.look().look_again_s == 0.75

    release.run_to_weight(10)
    release.say(Outcome.FAIL, Reason.ERROR_RATE)
    release.settle()
    assert release.phase is Phase.ROLLING_BACK
    release.now += timedelta(seconds=0.5)
    assert release.look().look_again_s == 1.5


def test_the_look_comes_back_when_the_hold_is_over_not_a_tick_later(world: Make) -> None:
    release = world().run_to_weight(10).run(3)

    assert release.look().look_again_s == 7.0
