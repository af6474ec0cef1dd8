"""Whole releases under exactly the shipped roles: enough for every story, and nothing in them that no story uses."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest

from canary.cluster.kinds import (
    CANARYROLLOUT,
    CONFIGMAP,
    DEPLOYMENT,
    DESTINATIONRULE,
    VIRTUALSERVICE,
    Kind,
)
from canary.model.rollout import Phase, Rollout
from tests.counts import Counts
from tests.faults.asked import Asked
from tests.faults.proxy import Answer, Forward
from tests.real.rights.controller import Controller
from tests.real.rights.roles import Installation, grants
from tests.shop import Shop, until

pytestmark = pytest.mark.slow

ATTEMPT = "payment-v2-v2a-1"
Story = Callable[[Shop, Controller], Any]


def promoted(shop: Shop, _: Controller) -> Rollout:
    """Header stage, weights, clean-up, evidence."""
    shop.release("v2", "headed")
    ended = shop.reaches(ATTEMPT, Phase.SUCCEEDED)
    assert shop.weights() == {"v1": 0, "v2": 100}
    assert [entry["name"] for entry in shop.get(VIRTUALSERVICE)["spec"]["http"]] == ["primary"]
    until(lambda: any("canary-evidence" in name for name in names(shop, CONFIGMAP)), what="for the evidence")
    return ended


def rolled_back(shop: Shop, _: Controller) -> Rollout:
    shop.release("bad")
    ended = shop.reaches("payment-bad-bada-1", Phase.ROLLED_BACK)
    assert shop.weights() == {"v1": 100}
    return ended


def with_a_rule_of_ours(shop: Shop, _: Controller) -> Rollout:
    """The service has no DestinationRule: one is made. Its owner then writes one himself, and ours goes."""
    shop.gateway.delete(DESTINATIONRULE, shop.namespace, "payment")
    shop.release("v2", "slow")
    until(lambda: shop.weights() == {"v1": 50, "v2": 50}, what="for the first weight")
    made = shop.get(DESTINATIONRULE)
    assert made["metadata"]["labels"] == {"app.kubernetes.io/managed-by": "canary"}
    own = {"host": "payment", "subsets": [{"name": "v1", "labels": {"version": "v1"}}]}
    shop.create(DESTINATIONRULE, {"metadata": {"name": "payment-own"}, "spec": own})
    left = [subset for subset in made["spec"]["subsets"] if subset["name"] == "v2"]
    shop.patch(DESTINATIONRULE, "payment", {"spec": {"subsets": left}})
    for _again in range(2):  # the same Event twice is one that is counted
        shop.patch(CANARYROLLOUT, ATTEMPT, {"spec": {"paused": {"reason": "lunch", "actor": "me"}}})
        shop.reaches(ATTEMPT, Phase.PAUSED)
        shop.patch(CANARYROLLOUT, ATTEMPT, {"spec": {"paused": None}})
        shop.reaches(ATTEMPT, Phase.PROGRESSING)
    shop.patch_abort(ATTEMPT)
    ended = shop.reaches(ATTEMPT, Phase.ABORTED)
    until(lambda: names(shop, DESTINATIONRULE) == ["payment-own"], what="for our rule to go")
    return ended


def deleted(shop: Shop, _: Controller) -> None:
    """The object is deleted with the traffic divided: that is given back first."""
    shop.release("v2", "slow")
    until(lambda: shop.weights() == {"v1": 50, "v2": 50}, what="for the first weight")
    uid = shop.rollout(ATTEMPT).uid
    shop.gateway.delete(CANARYROLLOUT, shop.namespace, ATTEMPT)
    until(lambda: uid not in [one.uid for one in shop.rollouts()], what="for the object to go")
    assert shop.weights() == {"v1": 100}


def withdrawn(shop: Shop, _: Controller) -> Rollout:
    """A mistake in an annotation is mended: the attempt that waited gives its name to a new one."""
    shop.release("v2", "standerd")
    shop.stalled(ATTEMPT, "UnknownPolicy")
    mended = shop.patch(DEPLOYMENT, "payment-v2", {"metadata": {"annotations": {"canary.delivery/policy": "quick"}}})
    seen = {"observedGeneration": mended["metadata"]["generation"]}  # a Deployment's counts its annotations
    shop.patch(DEPLOYMENT, "payment-v2", {"status": seen}, "status")
    return shop.reaches(ATTEMPT, Phase.SUCCEEDED)


def beside_others(shop: Shop, controller: Controller) -> Rollout:
    """Somebody else writes route, rule and rollout in the moment between a look and a write."""
    kinds = (VIRTUALSERVICE, DESTINATIONRULE, CANARYROLLOUT)
    left = {kind.plural: kind for kind in kinds}

    async def edit(asked: Asked, forward: Forward) -> Answer:
        kind = left.pop(asked.resource, None) if asked.verb == "patch" and asked.namespace == shop.namespace else None
        if kind is not None:
            body = {"metadata": {"annotations": {"team/edit": "now"}}}
            await asyncio.to_thread(shop.patch, kind, asked.name, body)
        return await forward()

    with hooked(controller, edit):
        shop.release("v2")
        ended = shop.reaches(ATTEMPT, Phase.SUCCEEDED)
    assert not left
    for kind in kinds:
        found = shop.get(kind, ATTEMPT if kind is CANARYROLLOUT else "payment")
        assert found["metadata"]["annotations"]["team/edit"] == "now"
    return ended


STORIES: dict[str, Story] = {
    story.__name__: story for story in (promoted, rolled_back, with_a_rule_of_ours, deleted, withdrawn, beside_others)
}


def names(shop: Shop, kind: Kind) -> list[str]:
    return [one["metadata"]["name"] for one in shop.gateway.list(kind, shop.namespace)[0]]


@contextmanager
def hooked(controller: Controller, hook: Any) -> Iterator[None]:
    assert controller.proxy is not None
    controller.proxy.hooks.append(hook)
    yield
    controller.proxy.hooks.remove(hook)


@pytest.fixture(scope="module")
def told(
    counts: Counts,
    install: Callable[..., Installation],
    control: Callable[..., Controller],
    new_shop: Callable[[], Shop],
) -> Iterator[tuple[Controller, dict[str, BaseException | None]]]:
    """Every story, all at the same time, each in a namespace that let the controller in; who failed, and by what."""
    installation = install()
    controller = control(installation)
    counts.broken["payment-bad"] = (1.0, 0.0)

    def tell(story: Story) -> BaseException | None:
        try:
            shop = new_shop()
            installation.let_in(shop.namespace)
            story(shop, controller)
        except BaseException as error:  # noqa: BLE001  told by the test of this story
            return error
        return None

    controller.ready()
    with ThreadPoolExecutor(len(STORIES)) as pool:
        yield controller, dict(zip(STORIES, pool.map(tell, STORIES.values()), strict=True))
    counts.broken.clear()


@pytest.mark.parametrize("story", STORIES)
def test_a_release_needs_no_more_than_the_shipped_roles(
    story: str, told: tuple[Controller, dict[str, BaseException | None]]
) -> None:
    controller, failures = told
    if (failure := failures[story]) is not None:
        raise failure
    assert controller.page("/readyz") == (200, "ok\n")
    assert "canary_rights_missing{" not in controller.page("/metrics")[1]


def test_nothing_is_granted_that_no_story_uses(told: tuple[Controller, dict[str, BaseException | None]]) -> None:
    controller, failures = told
    assert not any(failures.values())
    controller.end()  # its last writes as well
    reviews = {use for use in controller.used if use[1].startswith("selfsubject")}
    assert sorted(controller.used - reviews) == sorted(grant.as_used for grant in grants())
    controller.start()
