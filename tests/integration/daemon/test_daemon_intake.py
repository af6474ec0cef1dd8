"""Who starts a rollout, which one it is, and who is left alone."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from canary.cluster.kinds import DEPLOYMENT, VIRTUALSERVICE
from canary.errors import Conflict
from canary.model.rollout import Phase

pytestmark = pytest.mark.slow

ATTEMPT = "payment-v2-v2a-1"


def test_an_annotated_deployment_is_released_in_one_object_named_after_its_revision(
    released: Any, controller: Any
) -> None:
    released.release("v2", release_id="build/77")

    done = released.reaches(ATTEMPT, Phase.SUCCEEDED)

    assert [one.name for one in released.rollouts()] == [ATTEMPT]
    assert (done.spec.trigger.by, done.spec.trigger.id, done.spec.service) == ("annotation", "build/77", "payment")
    assert released.weights() == {"v1": 0, "v2": 100}


def test_whoever_carries_the_traffic_is_adopted_and_nothing_is_touched(
    shop: Any, controller: Any, wait: Callable[..., Any]
) -> None:
    shop.mesh()
    mesh = shop.written()
    shop.release("v1")

    message = shop.event("payment-v1", "Adopted")

    deployment = shop.get(DEPLOYMENT, "payment-v1")
    controller.ticks(5)
    assert "nothing was changed" in message
    assert shop.rollouts() == []
    assert shop.written() == mesh
    assert shop.get(DEPLOYMENT, "payment-v1") == deployment
    assert controller.writes == []


def test_what_was_annotated_before_the_controller_started_is_found_at_once(released: Any, controller: Any) -> None:
    controller.stop()
    released.release("v2")

    controller.again()

    released.reaches(ATTEMPT, Phase.SUCCEEDED, seconds=15)


def test_annotation_command_and_kubectl_race_into_the_same_attempt(released: Any, controller: Any) -> None:
    released.release("v2", ready=False)
    refused = []
    together = threading.Barrier(3)

    def create(name: str) -> None:
        together.wait()
        try:
            released.start(name, "payment-v2")
        except Conflict:
            refused.append(name)

    racers = [threading.Thread(target=create, args=(name,)) for name in (ATTEMPT, ATTEMPT, "z-by-hand")]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join()

    second = released.reaches("z-by-hand", Phase.SUPERSEDED)
    assert ATTEMPT in second.status.message
    released.reaches(ATTEMPT, Phase.CHECKING)
    assert ATTEMPT in refused
    released.make_ready("payment-v2-v2a-0")
    released.reaches(ATTEMPT, Phase.SUCCEEDED)
    assert [one.name for one in released.rollouts()] == [ATTEMPT, "z-by-hand"]


def test_an_older_revision_does_not_start_by_itself_and_is_told_how(shop: Any, controller: Any) -> None:
    shop.service()
    shop.rule({"name": "v2", "labels": {"version": "v2"}})
    shop.virtual_service(subset="v2")
    shop.deploy("v1")
    shop.deploy("v2")

    shop.patch(DEPLOYMENT, "payment-v1", {"metadata": {"annotations": {"canary.delivery/policy": "quick"}}})

    assert "`canary start payment-v1` starts it" in shop.event("payment-v1", "OlderRevision")
    assert shop.rollouts() == []
    shop.start("back", "payment-v1")
    shop.reaches("back", Phase.SUCCEEDED)
    assert shop.weights() == {"v2": 0, "v1": 100}


def test_a_version_that_is_seen_before_the_stable_one_waits_for_it(
    shop: Any, counts: Any, run_daemon: Callable[..., Any]
) -> None:
    controller = run_daemon(intake_grace_s=5.0)
    shop.mesh()
    shop.release("v2")
    controller.ticks(1)

    shop.release("v1")

    assert "revision v2a is not newer than payment-v1" in shop.event("payment-v2", "OlderRevision")
    assert shop.rollouts() == []


def test_a_new_template_on_the_deployment_that_carries_the_traffic_is_kubernetes_own_business(
    shop: Any, controller: Any
) -> None:
    shop.mesh()
    shop.release("v1")
    shop.event("payment-v1", "Adopted")
    mesh = shop.written()

    shop.update_in_place("v1", "v1b")

    assert "rolling update" in shop.event("payment-v1", "UpdatedInPlace")
    assert shop.rollouts() == []
    assert shop.written() == mesh


@pytest.mark.parametrize("by", ["annotation", "kubectl create"])
def test_the_original_file_applied_again_after_a_promotion_is_noticed_until_it_is_mended(
    released: Any, controller: Any, wait: Callable[..., Any], by: str
) -> None:
    original = released.get(VIRTUALSERVICE)["spec"]
    if by == "annotation":
        released.release("v2")
    else:
        released.deploy("v2")
        released.start(ATTEMPT, "payment-v2")
    released.reaches(ATTEMPT, Phase.SUCCEEDED)
    promoted = released.get(VIRTUALSERVICE)["spec"]

    released.patch(VIRTUALSERVICE, "payment", {"spec": {"http": original["http"]}})

    message = released.event("payment-v2", "PromotionUndone")
    assert "payment-v2 was promoted" in message
    assert "payment-v1 again" in message
    assert [one.name for one in released.rollouts()] == [ATTEMPT]
    assert released.weights() == {"v1": 100}
    undone = released.stalled(ATTEMPT, "PromotionUndone")
    assert undone.status.phase is Phase.SUCCEEDED
    released.patch(VIRTUALSERVICE, "payment", {"spec": {"http": promoted["http"]}})
    wait(lambda: not released.is_stalled(ATTEMPT), what="for the condition to be taken back")


@pytest.mark.parametrize("order", [("mesh", "v1", "v2"), ("v1", "v2", "mesh"), ("v1", "mesh", "v2")])
def test_objects_may_arrive_in_any_order_and_leave_no_junk(
    shop: Any, counts: Any, run_daemon: Callable[..., Any], order: tuple[str, ...]
) -> None:
    run_daemon(intake_grace_s=5.0)
    for what in order:
        if what == "mesh":
            shop.mesh()
        else:
            shop.release(what)

    shop.reaches(ATTEMPT, Phase.SUCCEEDED)
    assert [one.name for one in shop.rollouts()] == [ATTEMPT]


def test_history_is_kept_to_its_limit_but_for_the_newest_attempt_of_each_target(
    released: Any, controller: Any, wait: Callable[..., Any]
) -> None:
    released.deploy("v3")
    released.start("first", "payment-v3", abort={"reason": "test", "actor": "me"})
    released.reaches("first", Phase.ABORTED)
    released.deploy("v2")
    for number in range(4):
        released.start(f"try-{number}", "payment-v2", abort={"reason": "test", "actor": "me"})
        wait(lambda name=f"try-{number}": released.ended(name))

    wait(lambda: len(released.rollouts()) <= 4, what="for the oldest attempt to go")
    controller.ticks(3)
    assert [one.name for one in released.rollouts()] == ["first", "try-1", "try-2", "try-3"]  # two, and both newest


def test_another_namespace_is_never_touched(
    released: Any, counts: Any, new_shop: Callable[[], Any], run_daemon: Callable[..., Any]
) -> None:
    controller = run_daemon(namespace=None)
    neighbour = new_shop()
    neighbour.mesh()
    neighbour.deploy("v1")
    neighbour.deploy("v2")
    mesh = neighbour.written()
    released.release("v2")

    released.reaches(ATTEMPT, Phase.SUCCEEDED)

    controller.ticks(2)
    assert neighbour.rollouts() == []
    assert neighbour.written() == mesh
    assert neighbour.events("payment-v2") == []


def test_a_controller_of_one_namespace_sees_no_other(
    released: Any, controller: Any, new_shop: Callable[[], Any]
) -> None:
    neighbour = new_shop()
    neighbour.mesh()
    neighbour.deploy("v1")
    neighbour.release("v2")
    neighbour.start("by-hand", "payment-v2")
    mesh = neighbour.written()
    released.release("v2")

    released.reaches(ATTEMPT, Phase.SUCCEEDED)

    (untouched,) = neighbour.rollouts()
    assert untouched.status.phase is Phase.PENDING
    assert untouched.status.conditions == ()
    assert neighbour.written() == mesh


def test_a_newer_target_takes_over_and_begins_only_after_the_older_one_has_gone_back(
    released: Any, controller: Any
) -> None:
    released.release("v2", policy="slow")
    released.reaches(ATTEMPT, Phase.PROGRESSING)

    released.release("v3")

    done = released.reaches("payment-v3-v3a-1", Phase.SUCCEEDED)
    older = released.rollout(ATTEMPT)
    assert older.status.phase is Phase.SUPERSEDED
    assert "payment-v3-v3a-1" in older.status.message
    assert done.status.history[0].at >= older.status.history[-1].at
    assert released.weights() == {"v1": 0, "v3": 100}
    subsets = [one["name"] for one in released.rule_now()["spec"]["subsets"]]
    assert subsets == ["v1", "v3"]
