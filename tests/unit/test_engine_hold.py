"""Stories of rollouts that hold: what others did to the route, what cannot be seen, what is gone. Each says why."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from canary.engine.actions import Shift, WriteStatus
from canary.engine.observed import Finding, Pods
from canary.model.rollout import Cause, Phase, PromoteWish, Wish
from canary.model.verdict import Outcome, Reason

Make = Callable[..., Any]


def shifts(release: Any) -> int:
    return sum(isinstance(action, Shift) for action in release.done)


def silent(release: Any, source: bool) -> None:
    """Prometheus is killed: the source says so, or only the verdict does."""
    if source:
        release.source_problem = "Prometheus http://127.0.0.1:9090 does not answer"
    else:
        release.say(Outcome.HOLD, Reason.UNAVAILABLE, "Prometheus does not answer.")


@pytest.mark.parametrize("source", [True, False])
@pytest.mark.parametrize("choice", ["pause", "rollback", "promote"])
def test_prometheus_outage_holds_the_step_and_never_rolls_back(world: Make, choice: str, source: bool) -> None:
    release = world(analysis={"onInconclusive": choice}).run_to_weight(10).run(6)
    healthy = release.verdict

    silent(release, source)
    release.run(600)
    assert (release.phase, release.route.weight) == (Phase.PROGRESSING, 10)
    assert release.stalled == "TelemetryUnavailable"
    assert "does not answer" in release.status.message

    release.source_problem, release.verdict = "", healthy
    assert release.run(3).route.weight == 10, "4 s of the step are left: the outage did not count"
    assert release.run(2).route.weight == 25
    assert release.stalled == ""
    release.run_to(Phase.SUCCEEDED)


def test_an_outage_in_the_bake_stops_its_clock_too(world: Make) -> None:
    release = world().run_to(Phase.PROMOTING).run(15)

    silent(release, source=True)
    release.run(600)
    release.source_problem = ""

    assert release.run(3).phase is Phase.PROMOTING
    release.run_to(Phase.SUCCEEDED, within=5)


def test_an_outage_does_not_use_up_the_time_to_a_verdict(world: Make) -> None:
    release = world(analysis={"onInconclusive": "rollback"}).run_to_weight(10)
    release.say(Outcome.HOLD, Reason.INCONCLUSIVE)
    release.run(30)

    for _ in range(5):
        silent(release, source=True)
        release.run(120)
        release.source_problem = ""
        release.run(1)

    assert release.phase is Phase.PROGRESSING
    release.run_to(Phase.ROLLED_BACK, within=12)


def test_stale_data_holds_like_no_prometheus(world: Make) -> None:
    release = world().run_to_weight(10)
    release.say(Outcome.HOLD, Reason.STALE, "the newest data is old.")

    assert release.run(600).route.weight == 10
    assert not release.clock_runs


def test_an_outage_while_checking_waits_and_starts_by_itself(world: Make) -> None:
    release = world()
    silent(release, source=True)
    release.run(600)
    assert release.phase is Phase.CHECKING
    assert release.stalled == "TelemetryUnavailable"
    assert not release.has_subset

    release.source_problem = ""

    release.run_to(Phase.SUCCEEDED)


def test_after_an_outage_the_pods_have_their_whole_deadline_again(world: Make) -> None:
    release = world()
    release.pods = Pods(0, 2)
    silent(release, source=True)
    release.run(600)

    release.source_problem = ""
    assert release.run(55).phase is Phase.CHECKING
    release.run_to(Phase.FAILED, within=10)


def test_a_controller_that_was_away_in_checking_still_makes_the_subsets(world: Make) -> None:
    release = world()
    release.pods = Pods(0, 2)
    release.settle()

    release.now += timedelta(hours=1)
    release.pods = Pods(2, 2)

    release.run_to(Phase.SUCCEEDED)


def test_a_finding_stalls_in_pending_and_the_rollout_starts_by_itself_when_its_cause_is_gone(world: Make) -> None:
    release = world()
    release.finding = Finding("UnknownPolicy", 'there is no policy "standrad" (found: standard, strict)')
    release.run(86)
    assert release.phase is Phase.PENDING
    assert release.stalled == "UnknownPolicy"
    assert release.status.message == release.finding.sentence
    assert [event.reason for event in release.events] == ["UnknownPolicy"], "said once, not at every look"
    assert sum(isinstance(action, WriteStatus) for action in release.done) == 1

    release.finding = None

    release.run_to(Phase.SUCCEEDED)
    assert release.stalled == ""


def test_a_source_without_istio_metrics_stalls_before_any_traffic_and_starts_by_itself(world: Make) -> None:
    release = world()
    release.settle()
    release = world()
    release.pods = Pods(0, 2)
    release.settle()
    release.finding = Finding("MetricsMissing", "Prometheus has no istio_requests_total")
    release.pods = Pods(2, 2)

    assert release.run(600).phase is Phase.CHECKING
    assert release.stalled == "MetricsMissing"
    assert release.walked == []

    release.finding = None
    release.run_to(Phase.SUCCEEDED)


def test_a_stable_that_is_gone_while_checking_keeps_the_first_weight_away(world: Make) -> None:
    release = world()
    release.pods = Pods(0, 2)
    release.settle()
    release.pods, release.stable_revision = Pods(2, 2), ""

    assert release.run(600).walked == []
    assert release.stalled == "StableGone"
    assert "payment-v1" in release.status.message

    release.stable_revision = "v1hash"
    release.run_to(Phase.SUCCEEDED)


@pytest.mark.parametrize("outcome", [Outcome.PASS, Outcome.FAIL, Outcome.HOLD])
def test_a_stable_that_is_gone_holds_whatever_the_numbers_say(world: Make, outcome: Outcome) -> None:
    release = world(analysis={"onInconclusive": "rollback"}).run_to_weight(25).run(5)

    release.stable_revision = ""
    reason = {Outcome.PASS: Reason.HEALTHY, Outcome.FAIL: Reason.ERROR_RATE, Outcome.HOLD: Reason.INCONCLUSIVE}
    release.say(outcome, reason[outcome])
    release.run(600)

    assert (release.phase, release.route.weight) == (Phase.PROGRESSING, 25)
    assert release.stalled == "StableGone"
    assert "canary promote --full" in release.status.message

    release.stable_revision = "v1hash"
    release.say(Outcome.PASS, Reason.HEALTHY)
    release.run_to(Phase.SUCCEEDED)


def test_a_newer_revision_does_not_send_traffic_back_to_a_stable_that_is_gone(world: Make) -> None:
    release = world().run_to_weight(25)
    release.stable_revision, release.superseded_by = "", "CanaryRollout payment-v3-abc-1"

    assert release.run(60).route.weight == 25
    release.stable_revision = "v1hash"
    release.run_to(Phase.SUPERSEDED)


def test_promote_full_finishes_when_stable_is_gone(world: Make) -> None:
    release = world().run_to_weight(25)
    release.stable_revision = ""
    release.run(5)

    release.wish(promote=PromoteWish(full=True, actor="ann"))

    release.run_to(Phase.SUCCEEDED, within=5)
    assert release.route.weight == 100


def test_moved_weights_hold_then_are_set_again_and_the_time_between_does_not_count(world: Make) -> None:
    release = world().run_to_weight(25).run(4)
    release.manager = "kubectl at 12:01"

    release.move_route(0)
    release.settle()
    assert release.stalled == "Drift"
    assert "kubectl at 12:01" in release.status.message
    assert release.run(28).route.weight == 0

    assert release.run(2).route.weight == 25
    assert release.stalled == ""
    assert release.run(5).route.weight == 25
    assert release.run(2).route.weight == 50


def test_weights_that_come_back_by_themselves_go_on_at_once(world: Make) -> None:
    release = world().run_to_weight(25)
    done = shifts(release)

    release.move_route(30)
    release.run(5)
    release.move_route(25)
    release.run(1)

    assert release.status.drift is None
    assert shifts(release) == done, "nothing was ours to write"
    assert release.clock_runs


def test_a_second_controller_is_not_fought_in_a_loop(world: Make) -> None:
    release = world(hold="10m").run_to_weight(10)
    before = shifts(release)

    for _ in range(1800):  # it sets its own weight back one second after ours
        release.move_route(0)
        release.run(1)

    assert 3 <= shifts(release) - before <= 7, "30 s, 1, 2, 4, 8, 10 minutes apart"
    assert release.phase is Phase.PROGRESSING


def test_a_drift_of_days_does_not_break_the_arithmetic_of_its_back_off(world: Make) -> None:
    release = world().run_to_weight(10)
    release.move_route(0)
    release.settle()

    for _ in range(100):
        release.now += timedelta(hours=2)
        release.look()
        release.move_route(0)

    assert release.phase is Phase.PROGRESSING
    pause = release.status.drift.next_try - release.now
    assert pause == timedelta(minutes=10)


def test_drift_by_policy_aborts_with_the_route_first(world: Make) -> None:
    release = world(top={"onDrift": "abort"}).run_to_weight(25)

    release.move_route(60)
    release.look()

    assert release.route.weight == 0
    release.run_to(Phase.ABORTED)
    assert release.status.cause.reason is Cause.DRIFT


def test_a_header_route_that_somebody_removed_is_drift(world: Make, header_match: dict[str, Any]) -> None:
    release = world(match=header_match).run_to(lambda it: it.route.header and it.clock_runs)

    release.move_route(0, header=False)
    release.run(1)

    assert release.stalled == "Drift"
    assert "header route missing" in release.status.message


def test_drift_while_paused_is_repaired_and_the_pause_says_again_what_it_waits_for(world: Make) -> None:
    release = world(pauseAt=[25]).run_to(Phase.PAUSED)
    waits_for = release.status.message

    release.move_route(60)
    release.run(1)
    assert "somebody else" in release.status.message
    release.run(31)

    assert release.route.weight == 25
    assert release.phase is Phase.PAUSED
    assert release.status.message == waits_for


def test_a_paused_rollout_still_rolls_back(world: Make) -> None:
    release = world().run_to_weight(25)
    release.wish(paused=Wish(reason="lunch"))
    release.run(60)

    release.say(Outcome.FAIL, Reason.LATENCY, "too slow.")

    assert release.run_to(Phase.ROLLED_BACK, within=10).route.weight == 0


def test_a_route_that_is_made_anew_within_a_minute_ends_nothing(world: Make) -> None:
    release = world().run_to_weight(25).run(4)

    lost = release.lose_route()
    release.run(50)
    assert release.phase is Phase.PROGRESSING
    assert release.stalled == "RouteGone"
    release.restore_route(lost)

    assert release.run(5).route.weight == 25
    assert release.run(2).route.weight == 50


def test_a_route_that_stays_away_for_more_than_a_minute_fails_the_rollout(world: Make) -> None:
    release = world().run_to_weight(25)
    release.lose_route()

    assert release.run(58).phase is Phase.PROGRESSING
    release.run_to(Phase.FAILED, within=5)

    assert release.status.cause.reason is Cause.ROUTE_LOST


def test_a_route_replaced_during_a_long_drift_has_its_own_minute(world: Make) -> None:
    release = world(hold="10m").run_to_weight(10)
    release.move_route(60)
    release.run(20)
    release.settle()
    drifting = release.status.drift.since
    release.now += timedelta(minutes=5)

    lost = release.lose_route()
    release.run(10)
    assert release.phase is Phase.PROGRESSING, f"drifting since {drifting}, but the route is away for 10 s only"
    release.restore_route(lost)

    release.run(45)
    assert (release.phase, release.route.weight) == (Phase.PROGRESSING, 10)


def test_a_route_lost_before_the_weight_was_on_it_is_noticed_too(world: Make) -> None:
    release = world().run_to_weight(10)
    release.run(9)
    release.now += timedelta(seconds=1)
    release.dies_before = len(release.done) + 1  # after the intent, before the write
    with pytest.raises(release.Killed):
        release.look()
    lost = release.lose_route()
    release.run(30)
    assert release.phase is Phase.PROGRESSING

    release.restore_route(lost)
    assert release.run(35).route.weight == 25

    release.lose_route()
    release.run_to(Phase.FAILED, within=70)


@pytest.mark.parametrize("wish", [PromoteWish(step=2), PromoteWish(full=True)])
def test_a_promotion_waits_for_a_route_that_can_be_written(world: Make, wish: PromoteWish) -> None:
    release = world(pauseAt=[25]).run_to(Phase.PAUSED)
    lost = release.lose_route()
    release.wish(promote=wish)
    assert release.run(30).status.weight.desired == 25

    release.restore_route(lost)

    release.run_to(Phase.SUCCEEDED)


def test_a_rollout_in_checking_waits_for_its_route_and_says_so(world: Make) -> None:
    release = world()
    release.pods = Pods(0, 2)
    release.settle()
    release.pods = Pods(2, 2)
    lost = release.lose_route()

    assert release.run(600).phase is Phase.CHECKING
    assert release.stalled == "RouteGone"

    release.restore_route(lost)
    release.run_to(Phase.SUCCEEDED)


def test_a_route_nobody_can_make_sense_of_keeps_a_rollback_trying(world: Make) -> None:
    release = world().run_to_weight(25)
    lost = release.lose_route()
    release.route_problem = Finding("AmbiguousRoute", "spec.http now has 2 routes named primary; leave only one")
    release.say(Outcome.FAIL, Reason.ERROR_RATE)

    assert release.run(600).phase is Phase.ROLLING_BACK
    assert release.stalled == "AmbiguousRoute"

    release.restore_route(lost)
    assert release.run_to(Phase.ROLLED_BACK).route.weight == 0


def test_a_status_that_contradicts_the_policy_goes_back(world: Make) -> None:
    for broken in (
        {"step": None},
        {"route": None},
        {"stable": None},
        {"step": {"index": 30, "of": 4}},
        {"weight": {"desired": 77}},
    ):
        release = world().run_to_weight(25)
        document = release.status.document()
        for name, value in broken.items():
            document = {key: entry for key, entry in document.items() if key != name} | ({name: value} if value else {})
        release.status = type(release.status).model_validate(document)

        release.run_to(Phase.FAILED, within=10)

        assert release.route.weight == 0
        assert release.status.cause.reason is Cause.BROKEN


def test_going_back_without_knowing_why_still_ends(world: Make) -> None:
    release = world().run_to_weight(25)
    release.status = release.status.model_copy(
        update={
            "phase": Phase.ROLLING_BACK,
            "cause": None,
            "weight": release.status.weight.model_copy(update={"desired": 0}),
        }
    )

    assert release.run_to(Phase.FAILED, within=10).route.weight == 0


def test_a_canary_whose_subset_is_taken_out_loses_its_traffic_at_once(world: Make) -> None:
    release = world().run_to_weight(25)
    release.lost_subsets, release.manager = frozenset({"v2"}), "kustomize-controller at 2026-03-02T12:00:10Z"

    release.look()

    assert release.route.weight == 0, "the route before anything else: its callers get 503"
    release.run_to(Phase.FAILED, within=10)
    assert release.status.cause.reason is Cause.SUBSET_LOST
    assert "subset v2 is gone from the DestinationRule (kustomize-controller at" in release.status.cause.sentence


@pytest.mark.parametrize("lost", [{"v1"}, {"v1", "v2"}])
def test_stables_subset_is_put_back_and_the_release_goes_on(world: Make, lost: set[str]) -> None:
    release = world().run_to_weight(25)
    release.lost_subsets, release.manager = frozenset(lost), "somebody"

    decision = release.look()

    assert "stable's subset v1 is gone (somebody changed it last; unverified)" in decision.sentence
    assert (release.lost_subsets, release.route.weight) == (frozenset(), 25)
    assert not release.clock_runs
    release.run(2)
    assert release.clock_runs
    release.run_to(Phase.SUCCEEDED)


def test_a_rollback_onto_a_missing_subset_sets_the_route_and_puts_the_subset_back(world: Make) -> None:
    release = world().run_to_weight(25)
    release.lost_subsets = frozenset({"v1"})
    release.say(Outcome.FAIL, Reason.ERROR_RATE, "5 % of requests fail.")

    release.settle()

    assert (release.route.weight, release.lost_subsets) == (0, frozenset())
    release.run_to(Phase.ROLLED_BACK, within=10)
