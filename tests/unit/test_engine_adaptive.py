"""Stories of steps that end as soon as the evidence is there: `hold: {min, max}`."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from canary.model.rollout import PausedFor, Phase, PromoteWish
from canary.model.verdict import Outcome, Reason

Make = Callable[..., Any]
HOLD = {"min": "20s", "max": "5m"}


def undecided(release: Any, reason: Reason = Reason.INCONCLUSIVE) -> None:
    release.say(Outcome.HOLD, reason, "not sure yet.")


def healthy(release: Any) -> None:
    release.say(Outcome.PASS, Reason.HEALTHY, "no worse than its limits.")


def test_a_step_is_never_left_before_its_least_time_and_then_as_soon_as_it_passes(world: Make) -> None:
    release = world(hold=HOLD).run_to_weight(10)
    assert release.run(19).route.weight == 10
    assert release.run(1).route.weight == 25

    undecided(release)
    assert release.run(24).route.weight == 25
    healthy(release)
    release.settle()

    assert release.route.weight == 50
    sentence = "left after 24s of 20s to 5m: the evidence is there; no worse than its limits."
    assert release.status.history[-1].sentence == sentence
    assert [event.sentence for event in release.events if event.reason == "StepPassed"][-1].endswith(sentence)


def test_a_fixed_step_says_nothing_of_its_time(world: Make) -> None:
    release = world().run_to_weight(25)

    assert release.status.history[-1].sentence == "no worse than its limits."


def test_the_longest_time_is_no_end_without_a_verdict_and_max_wait_counts_from_it(world: Make) -> None:
    release = world(hold={"min": "5s", "max": "1m"}, analysis={"maxWait": "30s"}).run_to_weight(10)

    undecided(release)
    assert release.run(89).phase is Phase.PROGRESSING
    release.run(1)

    assert release.status.paused_for is PausedFor.INCONCLUSIVE
    assert "no verdict after 1m30s" in release.status.message


@pytest.mark.parametrize(("choice", "end"), [("rollback", Phase.ROLLED_BACK), ("promote", Phase.SUCCEEDED)])
def test_the_policys_choice_for_want_of_a_verdict_waits_for_the_longest_time_too(
    world: Make, choice: str, end: Phase
) -> None:
    policy = {"hold": {"min": "5s", "max": "40s"}, "analysis": {"maxWait": "20s", "onInconclusive": choice}}
    release = world(**policy).run_to_weight(10)

    undecided(release)

    assert release.run(59).route.weight == 10
    release.run_to(end)


def test_a_restart_in_the_middle_of_a_step_keeps_its_time(world: Make) -> None:
    release = world(hold=HOLD).run_to_weight(10).run(5)

    release.now += timedelta(seconds=14)  # nobody looks
    release.settle()
    assert release.route.weight == 10
    release.now += timedelta(seconds=1)
    release.settle()

    assert release.route.weight == 25
    assert release.status.history[-1].sentence.startswith("left after 20s of 20s to 5m")


def test_an_outage_is_no_part_of_an_adaptive_steps_time(world: Make) -> None:
    release = world(hold=HOLD).run_to_weight(10).run(10)

    release.source_problem = "Prometheus does not answer"
    release.run(600)
    release.source_problem = ""

    assert release.run(8).route.weight == 10
    assert release.run(3).route.weight == 25


def test_a_pause_of_the_policy_comes_with_the_evidence_and_not_with_the_longest_time(world: Make) -> None:
    release = world(hold=HOLD, pauseAt=[25]).run_to(Phase.PAUSED, within=60)

    release.wish(promote=PromoteWish(step=2))
    release.run_to_weight(50)


def test_header_stage_and_bake_have_their_own_fixed_time(world: Make, header_match: dict[str, Any]) -> None:
    release = world(hold=HOLD, match=header_match).run_to_weight(10)

    assert (release.now - release.status.weight_changes[0].reached).total_seconds() == pytest.approx(15, abs=1)
    release.run_to(Phase.PROMOTING).run(10)
    undecided(release)
    assert release.run(39).phase is Phase.PROMOTING
    release.run_to(Phase.PAUSED, within=3)


@pytest.mark.parametrize(
    "reason", [Reason.NO_DATA, Reason.NO_TRAFFIC, Reason.NO_CANARY_TRAFFIC, Reason.WARMING_UP], ids=str
)
def test_where_nothing_was_measured_no_policy_promotes(world: Make, reason: Reason) -> None:
    release = world(analysis={"onInconclusive": "promote"}).run_to_weight(10)

    undecided(release, reason)
    release.run(200)

    assert release.phase is (Phase.ROLLED_BACK if reason is Reason.NO_CANARY_TRAFFIC else Phase.PAUSED)


@pytest.mark.parametrize(
    ("choice", "end"), [("pause", Phase.PAUSED), ("rollback", Phase.ROLLED_BACK), ("promote", Phase.SUCCEEDED)]
)
def test_a_noisy_neighbourhood_is_an_undecided_hold(world: Make, choice: str, end: Phase) -> None:
    release = world(analysis={"onInconclusive": choice}).run_to_weight(10)

    undecided(release, Reason.NOISY)
    assert release.run(35).route.weight == 10

    release.run_to(end)


@pytest.mark.parametrize(
    "reason", [Reason.UNATTRIBUTED, Reason.HARM_BUDGET, Reason.METRIC, Reason.LATENCY, Reason.FAST_ABORT], ids=str
)
def test_a_fail_goes_back_whatever_its_reason(world: Make, reason: Reason) -> None:
    release = world().run_to_weight(25)

    release.say(Outcome.FAIL, reason, "over its limit.")

    assert release.run_to(Phase.ROLLED_BACK, within=10).status.cause.sentence == "ROLLBACK at 25 %: over its limit."
