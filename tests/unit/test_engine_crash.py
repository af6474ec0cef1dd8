"""The controller is killed between any two actions; whoever comes next has the status and the route, and nothing else.

Each story is told once undisturbed and once for every place where it can be cut; all tellings must agree.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import pytest

from canary.engine.actions import WriteStatus
from canary.model.rollout import Phase, PromoteWish, RolloutSpec, Wish
from canary.model.verdict import Outcome, Reason, Verdict

Make = Callable[..., Any]
TOLD_S = 200
TICK_S = 5


@dataclass(frozen=True)
class Story:
    """A policy, and what happens at which second of it."""

    policy: dict[str, Any]
    turns: dict[int, Callable[[Any], Any]]
    end: Phase
    walked: list[tuple[int, bool]]
    same_times: bool = True
    """False where what is cut off is tried again only after its back-off."""


def fails(release: Any) -> None:
    release.say(Outcome.FAIL, Reason.ERROR_RATE, "5 % of requests fail.")


def undecided(release: Any) -> None:
    release.say(Outcome.HOLD, Reason.INCONCLUSIVE, "not sure yet.")


def healthy(release: Any) -> None:
    release.say(Outcome.PASS, Reason.HEALTHY, "no worse than its limits.")


KEPT = {"keepStable": "5%"}
HEADER = {"match": {"headers": {"x-debug-user": {"exact": "true"}}, "hold": "15s"}}
STORIES = {
    "promoted": Story({}, {}, Phase.SUCCEEDED, [(10, False), (25, False), (50, False), (100, False)]),
    "rolled back": Story({}, {20: fails}, Phase.ROLLED_BACK, [(10, False), (25, False), (0, False)]),
    "rolled back in the bake": Story(
        {}, {50: fails}, Phase.ROLLED_BACK, [(10, False), (25, False), (50, False), (100, False), (0, False)]
    ),
    "aborted": Story(
        {}, {20: lambda it: it.wish(abort=Wish(actor="ann"))}, Phase.ABORTED, [(10, False), (25, False), (0, False)]
    ),
    "deleted": Story(
        {}, {20: lambda it: setattr(it, "deleting", True)}, Phase.ABORTED, [(10, False), (25, False), (0, False)]
    ),
    "header, then weights": Story(
        HEADER, {}, Phase.SUCCEEDED, [(0, True), (10, False), (25, False), (50, False), (100, False)]
    ),
    "superseded in the header stage": Story(
        HEADER,
        {10: lambda it: setattr(it, "superseded_by", "CanaryRollout payment-v3-abc-1")},
        Phase.SUPERSEDED,
        [(0, True), (0, False)],
    ),
    "full promotion": Story(
        {"pauseAt": [10]},
        {20: lambda it: it.wish(promote=PromoteWish(full=True))},
        Phase.SUCCEEDED,
        [(10, False), (100, False)],
    ),
    "paused and promoted": Story(
        {"pauseAt": [25]},
        {40: lambda it: it.wish(promote=PromoteWish(step=2))},
        Phase.SUCCEEDED,
        [(10, False), (25, False), (50, False), (100, False)],
    ),
    "paused and resumed": Story(
        {},
        {20: lambda it: it.wish(paused=Wish()), 40: lambda it: it.wish(paused=None)},
        Phase.SUCCEEDED,
        [(10, False), (25, False), (50, False), (100, False)],
    ),
    "promoted, and what an earlier release added for stable goes": Story(
        {"bake": "0s", "top": {"name": "with-leftovers"}},
        {},
        Phase.SUCCEEDED,
        [(10, False), (25, False), (50, False), (100, False)],
    ),
    "stable keeps a share to the end": Story(
        {"analysis": KEPT}, {}, Phase.SUCCEEDED, [(10, False), (25, False), (50, False), (95, False), (100, False)]
    ),
    "stable keeps a share, without a bake": Story(
        {"analysis": KEPT, "bake": "0s", "top": {"name": "with-leftovers"}},
        {},
        Phase.SUCCEEDED,
        [(10, False), (25, False), (50, False), (95, False), (100, False)],
    ),
    "stable keeps a share: rolled back in the bake": Story(
        {"analysis": KEPT},
        {50: fails},
        Phase.ROLLED_BACK,
        [(10, False), (25, False), (50, False), (95, False), (0, False)],
    ),
    "stable keeps a share: rolled back when it has just got all": Story(
        {"analysis": KEPT, "top": {"name": "with-leftovers"}},
        {70: lambda it: fails(it) if it.route.weight == 100 else None},
        Phase.ROLLED_BACK,
        [(10, False), (25, False), (50, False), (95, False), (100, False), (0, False)],
    ),
    "stable keeps a share, but a person wants it all": Story(
        {"analysis": KEPT},
        {20: lambda it: it.wish(promote=PromoteWish(full=True))},
        Phase.SUCCEEDED,
        [(10, False), (25, False), (100, False)],
    ),
    "stable keeps a share, and a person wants it all in the bake": Story(
        {"analysis": KEPT},
        {50: lambda it: it.wish(promote=PromoteWish(full=True))},
        Phase.SUCCEEDED,
        [(10, False), (25, False), (50, False), (95, False), (100, False)],
    ),
    "stable keeps a share, and a pause in the bake is promoted": Story(
        {"analysis": KEPT},
        {
            50: lambda it: it.wish(paused=Wish()),
            70: lambda it: it.wish(paused=None, promote=PromoteWish(step=5)),
        },
        Phase.SUCCEEDED,
        [(10, False), (25, False), (50, False), (95, False), (100, False)],
    ),
    "stable keeps a share, and others move it": Story(
        {"analysis": KEPT},
        {50: lambda it: it.move_route(100)},
        Phase.SUCCEEDED,
        [(10, False), (25, False), (50, False), (95, False), (100, False)],
        same_times=False,
    ),
    "header only, and stable keeps a share": Story(
        {**HEADER, "weights": [], "analysis": KEPT},
        {30: lambda it: it.wish(promote=PromoteWish(step=0))},
        Phase.SUCCEEDED,
        [(0, True), (95, False), (100, False)],
    ),
    "adaptive steps": Story(
        {"hold": {"min": "5s", "max": "20s"}, "analysis": {"maxWait": "1m"}},
        {10: undecided, 25: healthy},
        Phase.SUCCEEDED,
        [(10, False), (25, False), (50, False), (100, False)],
    ),
    "weights moved by others": Story(
        {},
        {20: lambda it: it.move_route(0)},
        Phase.SUCCEEDED,
        [(10, False), (25, False), (50, False), (100, False)],
        same_times=False,
    ),
}


def begun(world: Make, story: Story) -> Any:
    release = world(**story.policy)
    release.stable_is_ours = release.policy.name == "with-leftovers"
    return release


def tell(release: Any, story: Story) -> Any:
    release.settle()
    for second in range(TICK_S, TOLD_S, TICK_S):
        if second in story.turns:
            story.turns[second](release)
        release.now += timedelta(seconds=TICK_S)
        release.settle()
        if release.phase.is_terminal:
            break
    return release


def on_the_route(release: Any) -> list[tuple[int, int]]:
    """When each step's weight was on the route: (step, second), counted from the first."""
    reached = [change for change in release.status.weight_changes if change.reached]
    return [(change.step, round((change.reached - reached[0].reached).total_seconds())) for change in reached]


@pytest.mark.parametrize("name", STORIES)
def test_killed_between_any_two_actions_it_goes_on_as_if_nothing_had_happened(world: Make, name: str) -> None:
    story = STORIES[name]
    told = tell(begun(world, story), story)
    assert (told.phase, told.walked) == (story.end, story.walked)

    for cut in range(len(told.done)):
        again = begun(world, story)
        again.dies_before = cut
        tell(again, story)

        assert again.dies_before is None, f"nobody died before action {cut}"
        assert again.phase is story.end, f"cut before {told.done[cut]}"
        assert again.walked == story.walked, f"cut before {told.done[cut]}"
        assert not story.same_times or on_the_route(again) == on_the_route(told), f"cut before {told.done[cut]}"
        assert again.has_subset == told.has_subset
        assert again.finalizer == told.finalizer, f"cut before {told.done[cut]}"
        assert [entry.sentence for entry in again.status.history] == [entry.sentence for entry in told.status.history]
        assert again.status.cause == told.status.cause


@pytest.mark.parametrize("away", [3, 8])
def test_the_time_a_killed_controller_is_away_counts_for_the_step(world: Make, away: int) -> None:
    release = world().run_to_weight(10)
    begun = release.status.weight_changes[0].reached

    release.run(1)
    release.now += timedelta(seconds=away)
    release.run_to_weight(25)

    assert round((release.status.weight_changes[1].asked - begun).total_seconds()) == 10


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize(
    "name", ["promoted", "rolled back", "header, then weights", "stable keeps a share, without a bake"]
)
def test_killed_again_and_again_it_still_gets_there(world: Make, name: str, seed: int) -> None:
    story, chance, deaths = STORIES[name], random.Random(seed), []
    release = begun(world, story)
    undisturbed = release.look

    def look() -> Any:
        release.dies_before = len(release.done) + chance.randrange(6)
        try:
            return undisturbed()
        except release.Killed:
            deaths.append(len(release.done))
            raise
        finally:
            release.dies_before = None

    release.look = look
    tell(release, story)

    assert (release.phase, release.walked) == (story.end, story.walked)
    assert deaths


def test_intent_is_written_once_for_every_step(world: Make) -> None:
    release = tell(world(), STORIES["promoted"])

    steps = [
        (action.status.step.index, action.status.weight.desired)
        for action in release.done
        if isinstance(action, WriteStatus) and action.status.step
    ]
    assert steps == sorted(steps), "no step is repeated"


TURNS = {
    "aborted": {"spec": RolloutSpec(target="payment-v2", policy_name="quick", abort=Wish(reason="too late"))},
    "deleted": {"deleting": True},
    "superseded": {"superseded_by": "CanaryRollout payment-v3-v3hash-1"},
    "failing": {"verdict": Verdict(Outcome.FAIL, Reason.ERROR_RATE, "5 % of requests fail.")},
    "blind": {"source_problem": "Prometheus does not answer"},
    "stable is gone": {"stable_revision": ""},
}


@pytest.mark.parametrize("turn", TURNS.values(), ids=TURNS)
def test_killed_after_the_clean_up_of_a_promotion_it_is_promoted_whatever_has_happened_since(
    world: Make, turn: dict[str, Any]
) -> None:
    release = world().run_to(Phase.PROMOTING)
    release.route = replace(release.route, without_stable=True)
    walked = list(release.walked)

    for name, value in turn.items():
        setattr(release, name, value)
    release.settle()

    assert release.phase is Phase.SUCCEEDED
    assert release.walked == walked, "there is nothing to go back to"
    assert not release.finalizer
