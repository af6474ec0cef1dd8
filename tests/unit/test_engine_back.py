"""Stories of rollouts that end early: the route first, then the status; who goes back for what, and where it ends."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from canary.engine.actions import Announce, CleanUp, SetFinalizer, Shift, WriteStatus
from canary.engine.observed import Pods
from canary.model.rollout import Cause, Phase, PromoteWish, Wish
from canary.model.verdict import Outcome, Reason

Make = Callable[..., Any]


def to_header(release: Any) -> Any:
    return release.run_to(lambda world: world.route.header and world.clock_runs)


def to_weight(release: Any) -> Any:
    return release.run_to_weight(25)


def to_pause(release: Any) -> Any:
    return release.run_to(Phase.PAUSED)


def to_bake(release: Any) -> Any:
    return release.run_to(Phase.PROMOTING).run(5)


STAGES = pytest.mark.parametrize("reach", [to_header, to_weight, to_pause, to_bake])


@pytest.fixture
def staged(world: Make, header_match: dict[str, Any]) -> Make:
    """A release that passes through every stage; `reach` brings it there."""

    def make(reach: Callable[[Any], Any], **policy: Any) -> Any:
        pause = {"pauseAt": [50]} if reach is to_pause else {}
        return reach(world(match=header_match, **pause, **policy))

    return make


def returns_the_route_first(release: Any, so_far: int) -> bool:
    """Of what was done since: all traffic came back before the first status was written."""
    new = release.done[so_far:]
    shift = next(index for index, action in enumerate(new) if isinstance(action, Shift))
    write = next(index for index, action in enumerate(new) if isinstance(action, WriteStatus))
    return shift < write and (new[shift].weight, new[shift].header) == (0, False)


@STAGES
def test_a_failing_verdict_rolls_back_from_every_stage_with_the_route_first(staged: Make, reach: Any) -> None:
    release = staged(reach)
    so_far = len(release.done)

    release.say(Outcome.FAIL, Reason.ERROR_RATE, "5 % of requests fail.")
    release.look()

    assert returns_the_route_first(release, so_far)
    assert (release.route.weight, release.route.header) == (0, False)
    release.run_to(Phase.ROLLED_BACK, within=10)
    assert "5 % of requests fail." in release.status.message
    assert release.status.cause.reason is Cause.VERDICT
    assert not release.has_subset
    assert not release.finalizer


@STAGES
def test_an_abort_wish_ends_aborted_from_every_stage_with_the_route_first(staged: Make, reach: Any) -> None:
    release = staged(reach)
    so_far = len(release.done)

    release.wish(abort=Wish(actor="ann", reason="wrong build"))
    release.look()

    assert returns_the_route_first(release, so_far)
    release.run_to(Phase.ABORTED, within=10)
    assert "ann: wrong build" in release.status.message


@STAGES
def test_a_rollout_deleted_on_the_way_goes_back_before_its_object_is_let_go(staged: Make, reach: Any) -> None:
    release = staged(reach)
    assert release.finalizer
    so_far = len(release.done)

    release.deleting = True
    release.look()
    assert returns_the_route_first(release, so_far)
    assert release.finalizer

    release.run_to(Phase.ABORTED, within=10)
    kinds = [action for action in release.done[so_far:] if isinstance(action, Shift | CleanUp | SetFinalizer)]
    assert [type(action) for action in kinds[:3]] == [Shift, CleanUp, SetFinalizer]
    assert not release.finalizer


@STAGES
@pytest.mark.parametrize(
    ("change", "end", "cause"),
    [
        ({"superseded_by": "CanaryRollout payment-v3-abc-1"}, Phase.SUPERSEDED, Cause.SUPERSEDED),
        ({"target_revision": "v2again"}, Phase.SUPERSEDED, Cause.SUPERSEDED),
        ({"target_revision": ""}, Phase.FAILED, Cause.TARGET_GONE),
        ({"stable_revision": "v1again"}, Phase.FAILED, Cause.STABLE_CHANGED),
        ({"frozen": None}, Phase.FAILED, Cause.BROKEN),
    ],
)
def test_what_changes_under_our_feet_sends_the_traffic_back(
    staged: Make, reach: Any, change: dict[str, Any], end: Phase, cause: Cause
) -> None:
    release = staged(reach)
    so_far = len(release.done)

    for name, value in change.items():
        setattr(release, name, value)
    release.look()

    assert returns_the_route_first(release, so_far)
    release.run_to(end, within=10)
    assert release.status.cause.reason is cause
    assert (release.route.weight, release.route.header) == (0, False)


def test_the_subset_stays_until_what_is_on_its_way_has_drained(world: Make) -> None:
    release = world().run_to_weight(25)
    release.say(Outcome.FAIL, Reason.ERROR_RATE)

    release.settle()
    assert release.route.weight == 0
    assert release.run(1).has_subset
    assert release.run(2).phase is Phase.ROLLED_BACK


def test_a_rollback_is_repeated_until_the_route_says_so(world: Make) -> None:
    release = world().run_to_weight(25)
    release.say(Outcome.FAIL, Reason.ERROR_RATE)
    release.settle()

    release.move_route(25)
    release.settle()

    assert release.route.weight == 0
    release.run_to(Phase.ROLLED_BACK, within=10)


def test_a_rollback_is_not_over_while_nobody_can_read_the_route(world: Make) -> None:
    release = world().run_to_weight(25)
    lost = release.lose_route()
    release.say(Outcome.FAIL, Reason.ERROR_RATE)
    assert release.run(30).phase is Phase.ROLLING_BACK

    release.restore_route(lost)  # `kubectl replace --force` put the old file back, canary weight and all

    release.run_to(Phase.ROLLED_BACK, within=10)
    assert release.route.weight == 0


def test_a_rollback_whose_route_stays_away_ends_and_says_how(world: Make) -> None:
    release = world().run_to_weight(25)
    release.lose_route()
    release.say(Outcome.FAIL, Reason.ERROR_RATE)

    assert release.run(30).stalled == "RouteGone"
    release.run_to(Phase.ROLLED_BACK, within=60)


def test_a_deleted_rollout_whose_route_is_gone_is_let_go_at_once(world: Make) -> None:
    release = world().run_to_weight(25)
    release.lose_route()
    release.deleting = True

    assert release.run(3).phase is Phase.ABORTED
    assert not release.finalizer


def test_a_rollback_that_does_not_get_through_says_so_and_never_gives_up(world: Make) -> None:
    release = world().run_to_weight(25)
    release.say(Outcome.FAIL, Reason.ERROR_RATE)
    release.look()
    release.move_route(25)

    stuck = release.observe()  # the write is refused from here on: nothing is carried out
    for minutes in (2, 60, 60 * 24):
        release.now += timedelta(minutes=minutes)
        decision = release_decides(release, stuck)
        assert Shift(0, False, decision.actions[0].mark) == decision.actions[0]
        written = [action.status for action in decision.actions if isinstance(action, WriteStatus)]
        assert next(c for c in written[0].conditions if c.type == "Stalled").status == "True"


def release_decides(release: Any, observed: Any) -> Any:
    from canary.engine.step import step

    return step(replace(observed, rollout=release.rollout()), release.now)


def test_the_rollback_mark_on_the_route_is_obeyed_even_when_the_reason_has_gone(world: Make) -> None:
    release = world().run_to_weight(25)
    release.say(Outcome.FAIL, Reason.ERROR_RATE, "5 % of requests fail.")
    release.dies_before = len(release.done) + 1  # the route is back, the status does not know
    with pytest.raises(release.Killed):
        release.look()
    assert release.route.weight == 0
    assert release.phase is Phase.PROGRESSING

    release.say(Outcome.PASS, Reason.HEALTHY)  # the restarted judge has not read it all yet
    release.run_to(Phase.ROLLED_BACK, within=10)

    assert release.status.cause.reason is Cause.VERDICT
    assert "5 % of requests fail." in release.status.message


def test_somebody_elses_mark_is_not_ours(world: Make) -> None:
    release = world().run_to_weight(25)
    mark = '{"rollout":"payment-v2-v2hash-0","cause":"Verdict","sentence":"an earlier attempt"}'
    release.route = replace(release.route, mark=mark)

    assert release.run(3).phase is Phase.PROGRESSING


def test_no_canary_traffic_is_a_routing_fault_and_goes_back_after_max_wait(world: Make) -> None:
    for choice in ("pause", "promote", "rollback"):
        release = world(analysis={"onInconclusive": choice}).run_to_weight(10)
        release.say(Outcome.HOLD, Reason.NO_CANARY_TRAFFIC)

        assert release.run(38).phase is Phase.PROGRESSING
        release.run_to(Phase.ROLLED_BACK, within=10)
        assert Phase.PAUSED not in release.phases, "a fault is not a question to a person"


def test_pods_that_do_not_become_ready_in_time_fail_the_rollout_without_any_traffic(world: Make) -> None:
    release = world()
    release.pods = Pods(1, 2)

    assert release.run(58).phase is Phase.CHECKING
    assert "1 of 2" in release.status.message
    release.run_to(Phase.FAILED, within=10)

    assert release.walked == []
    assert "progressDeadline" in release.status.message


def test_no_pods_wanted_is_not_ready(world: Make) -> None:
    release = world()
    release.pods = Pods(0, 0)

    assert release.run(30).phase is Phase.CHECKING


def test_an_abort_before_anything_was_pinned_ends_at_once(world: Make) -> None:
    release = world()
    release.wish(abort=Wish())
    release.settle()

    assert release.phase is Phase.ABORTED
    assert release.walked == []


def test_a_deleted_rollout_that_never_began_is_let_go(world: Make) -> None:
    release = world()
    release.deleting = True
    release.settle()

    assert release.phase is Phase.ABORTED
    assert release.done[-2] == SetFinalizer(False)


def test_an_ended_rollout_that_is_deleted_only_loses_its_finalizer(world: Make) -> None:
    release = world().run_to(Phase.SUCCEEDED)
    release.deleting, release.finalizer, before = True, True, release.status

    decision = release.look()

    assert decision.actions == (SetFinalizer(False),)
    assert release.status == before


def test_an_ended_rollout_does_nothing_whatever_is_wished(world: Make) -> None:
    release = world().run_to(Phase.SUCCEEDED)
    release.wish(abort=Wish(), promote=PromoteWish(full=True), paused=Wish())
    so_far = len(release.done)

    assert release.run(60).done[so_far:] == []


def test_abort_wins_over_promote_and_over_a_pause(world: Make) -> None:
    release = world().run_to_weight(10)

    release.wish(abort=Wish(), promote=PromoteWish(full=True), paused=Wish())

    release.run_to(Phase.ABORTED, within=10)


def test_every_end_tells_the_owner_once(world: Make) -> None:
    release = world().run_to_weight(10)
    release.say(Outcome.FAIL, Reason.ERROR_RATE, "5 % of requests fail.")
    release.run_to(Phase.ROLLED_BACK).run(30)

    told = [event for event in release.events if event.reason in ("RollingBack", "RolledBack")]
    assert [event.reason for event in told] == ["RollingBack", "RolledBack"]
    assert all(isinstance(event, Announce) and event.type == "Warning" for event in told)
