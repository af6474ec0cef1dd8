"""Stories of `keepStable`: the canary is judged against stable to the end, and gets the rest in one write."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from canary.engine.actions import CleanUp, Shift
from canary.engine.observed import Finding
from canary.model.rollout import Cause, Phase, PromoteWish, Wish
from canary.model.verdict import Outcome, Reason

Make = Callable[..., Any]
KEPT = {"keepStable": "5%"}


def baking(world: Make, **policy: Any) -> Any:
    return world(analysis=KEPT, **policy).run_to(Phase.PROMOTING)


def test_the_last_step_and_the_bake_leave_stable_its_share_and_one_write_ends_it(world: Make) -> None:
    release = world(analysis=KEPT).run_to(Phase.PROMOTING)
    assert release.route.weight == 95
    assert release.run(19).route.weight == 95, "the bake lasts 20 s"

    release.run_to(Phase.SUCCEEDED, within=5)

    assert [weight for weight, _ in release.walked] == [10, 25, 50, 95, 100]
    assert release.status.weight.configured == 100


def test_what_was_added_for_stable_goes_only_after_its_traffic_has(world: Make) -> None:
    release = world(analysis=KEPT)
    release.stable_is_ours = True

    release.run_to(Phase.SUCCEEDED)

    last = max(index for index, action in enumerate(release.done) if isinstance(action, Shift))
    cleaned = [index for index, action in enumerate(release.done) if isinstance(action, CleanUp)]
    assert cleaned
    assert min(cleaned) > last
    assert release.route.without_stable
    changes = release.status.weight_changes
    assert (release.now - changes[-1].reached).total_seconds() >= 2, "callers' proxies still send to it"


def test_it_is_judged_against_stable_until_it_has_everything(world: Make) -> None:
    release = baking(world).run(15)

    release.say(Outcome.FAIL, Reason.ERROR_RATE, "worse than stable.")
    release.run_to(Phase.ROLLED_BACK)

    assert [weight for weight, _ in release.walked] == [10, 25, 50, 95, 0]
    assert release.status.cause.sentence.startswith("ROLLBACK at 95 %")


def test_a_bake_without_a_verdict_does_not_take_stable_its_share(world: Make) -> None:
    release = baking(world)

    release.say(Outcome.HOLD, Reason.INCONCLUSIVE, "not sure yet.")
    release.run_to(Phase.PAUSED)
    assert release.run(600).route.weight == 95

    release.wish(promote=PromoteWish(step=5, actor="ann"))
    release.run_to(Phase.SUCCEEDED, within=5)

    assert release.route.weight == 100
    assert "promoted by ann" in release.status.message


def test_a_policy_that_promotes_without_a_verdict_does_not_wait_twice(world: Make) -> None:
    release = world(analysis=KEPT | {"onInconclusive": "promote"}).run_to(Phase.PROMOTING)

    release.say(Outcome.HOLD, Reason.INCONCLUSIVE, "not sure yet.")

    release.run_to(Phase.SUCCEEDED, within=55)  # a bake of 20 s and maxWait 30 s
    assert release.route.weight == 100


def test_a_bad_verdict_between_the_last_write_and_the_clean_up_still_goes_back(world: Make) -> None:
    release = baking(world)
    release.stable_is_ours = True
    release.run_to(lambda it: it.route.weight == 100)

    release.say(Outcome.FAIL, Reason.ERROR_RATE, "everything fails.")
    release.run_to(Phase.ROLLED_BACK)

    assert release.route.weight == 0


def test_nothing_is_judged_any_more_when_the_bake_is_over(world: Make) -> None:
    """The tile in which the weight changed is no evidence, so that the newest evidence is old for a moment."""
    release = baking(world)
    release.stable_is_ours = True
    release.run_to(lambda it: it.route.weight == 100)

    release.say(Outcome.HOLD, Reason.STALE, "the newest data is old.")
    release.run_to(Phase.SUCCEEDED, within=3)

    assert "Holding" not in [event.reason for event in release.events]


def test_a_pause_that_comes_between_the_last_write_and_the_clean_up_is_waited_for(world: Make) -> None:
    release = baking(world)
    release.stable_is_ours = True
    release.run_to(lambda it: it.route.weight == 100)

    release.wish(paused=Wish(reason="lunch"))
    assert release.run(600).phase is Phase.PAUSED

    release.wish(paused=None)
    release.run_to(Phase.SUCCEEDED, within=5)


def test_a_bake_that_a_person_began_at_100_still_needs_its_verdict(world: Make) -> None:
    release = world(analysis=KEPT).run_to_weight(25)
    release.wish(promote=PromoteWish(full=True))
    release.run(5)

    release.say(Outcome.HOLD, Reason.INCONCLUSIVE, "not sure yet.")

    assert release.run(40).phase is Phase.PROMOTING
    release.say(Outcome.PASS, Reason.HEALTHY)
    release.run_to(Phase.SUCCEEDED, within=2)


def test_somebody_gives_the_canary_the_rest_in_the_bake_and_that_is_drift(world: Make) -> None:
    release = baking(world)

    release.move_route(100)
    release.run(1)
    assert release.stalled == "Drift"
    assert "it should be 95 %" in release.status.message

    assert release.run(31).route.weight == 95
    release.run_to(Phase.SUCCEEDED)


def test_stable_taken_off_the_route_by_somebody_is_not_a_promotion(world: Make) -> None:
    release = baking(world)

    release.route = replace(release.route, weight=100, without_stable=True)
    release.settle()
    assert release.phase is Phase.PROMOTING

    release.lose_route()
    release.route_problem = Finding("SubsetGone", "spec.http[0].route has no destination payment with subset v1")
    release.run(30)
    assert release.stalled == "SubsetGone"
    assert release.run_to(Phase.ROLLING_BACK, within=60).status.cause.reason is Cause.ROUTE_LOST


@pytest.mark.parametrize("when", ["in a step", "in the bake"])
def test_promote_full_is_all_of_it_even_so(world: Make, when: str) -> None:
    release = world(analysis=KEPT).run_to_weight(25) if when == "in a step" else baking(world).run(10)

    release.wish(promote=PromoteWish(full=True, actor="ann"))
    release.run(2)

    assert release.route.weight == 100
    assert release.phase is Phase.PROMOTING, "it still bakes"
    release.run_to(Phase.SUCCEEDED, within=22 if when == "in a step" else 12)


def test_promote_full_ends_a_bake_whose_stable_is_gone(world: Make) -> None:
    release = baking(world)
    release.stable_revision = ""
    release.run(60)
    assert release.route.weight == 95

    release.wish(promote=PromoteWish(full=True, actor="ann"))

    release.run_to(Phase.SUCCEEDED, within=5)
    assert release.route.weight == 100


def test_a_pause_at_the_last_step_says_what_the_canary_has(world: Make) -> None:
    release = world(analysis=KEPT, pauseAt=[100]).run_to(Phase.PAUSED)

    assert "paused at 95 %" in release.status.message
    release.wish(promote=PromoteWish(step=4))
    release.run_to(Phase.SUCCEEDED)


def test_a_pause_while_the_rest_is_handed_over_is_kept(world: Make) -> None:
    release = baking(world)
    release.wish(paused=Wish(reason="lunch"))
    release.run(60)
    assert (release.phase, release.route.weight) == (Phase.PAUSED, 95)

    release.wish(paused=None)
    release.run_to(Phase.SUCCEEDED)


def test_a_header_only_canary_is_compared_to_the_end_too(world: Make, header_match: dict[str, Any]) -> None:
    release = world(match=header_match, weights=[], analysis=KEPT).run_to(Phase.PAUSED)

    release.wish(promote=PromoteWish(step=0))
    release.run_to(Phase.SUCCEEDED)

    assert release.walked == [(0, True), (95, False), (100, False)]
