"""The rollouts that are interrupted: what users ask for, what they do on the way, and how it must end.

Holds are as short as can be. What a user does waits for what the controller wrote, never for a time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from canary.cluster.kinds import CANARYROLLOUT
from tests.faults.callers import Behaviour, Callers
from tests.faults.crash.told import weights_of
from tests.faults.crash.witness import Witness
from tests.shop import Shop

GONE = "gone"
PER_SECOND = 1000.0

_ANALYSIS = """\
analysis: {warmup: 0s, minRequests: 5, maxWait: 5m, errorRate: {max: 5%}, p99: {max: 500ms}}
outlierDetection: {consecutive5xxErrors: 5, interval: 2s, baseEjectionTime: 1s}
"""


def _policy(name: str, strategy: str) -> str:
    common = "hold: 200ms, bake: 200ms, progressDeadline: 5m"
    return f"name: {name}\nstrategy: {{{strategy}, {common}}}\n{_ANALYSIS}"


POLICIES: Mapping[str, str] = {
    name: _policy(name, strategy)
    for name, strategy in {
        "two-steps": "weights: [50, 100]",
        "three-steps": "weights: [20, 50, 100]",
        "pause-at-50": "weights: [20, 50, 100], pauseAt: [50]",
        "try-again": "weights: [50, 100], retry: backoff",
        "header": "match: {headers: {x-debug: {exact: 'yes'}}, hold: 200ms, keep: true}, weights: [50, 100]",
    }.items()
}


@dataclass(frozen=True)
class Scene:
    """What a story acts on."""

    shop: Shop
    callers: Callers

    def release(self, version: str, policy: str | None) -> None:
        """A version with a ready pod; without a policy nobody opted in for it."""
        self.callers.serve(self.shop.namespace, version, Behaviour())
        if policy is None:
            self.shop.deploy(version)
        else:
            self.shop.release(version, policy)

    def breaks(self, version: str) -> None:
        """From now on half of its requests fail."""
        self.callers.serve(self.shop.namespace, version, Behaviour(errors=0.5))

    def mends(self, version: str) -> None:
        """From now on none of its requests fails."""
        self.callers.serve(self.shop.namespace, version, Behaviour())


@dataclass(frozen=True)
class Turn:
    """Something a user does once, when it is time."""

    when: Callable[[Witness], bool]
    do: Callable[[Scene], None]
    at_once: bool = False
    """Before the controller hears the answer to the write that makes it time: nothing is judged in between."""


@dataclass(frozen=True)
class Story:
    name: str
    begin: Callable[[Scene], None]
    """What is there when the controller starts, besides v1 with all the traffic."""
    ends: Mapping[str, str]
    """The phase in which each rollout ends, or GONE."""
    turns: tuple[Turn, ...] = field(default=())

    def has_ended(self, witness: Witness) -> bool:
        return all(_stands(witness, name) == end for name, end in self.ends.items())


def _stands(witness: Witness, rollout: str) -> str:
    found = witness.latest("canaryrollouts", rollout)
    if found is None:
        return ""
    metadata = found["metadata"]
    if "deletionTimestamp" in metadata and not metadata.get("finalizers"):
        return GONE
    return str((found.get("status") or {}).get("phase", ""))


def _is(rollout: str, phase: str) -> Callable[[Witness], bool]:
    return lambda witness: _stands(witness, rollout) == phase


def _has(subset: str, weight: int) -> Callable[[Witness], bool]:
    def on_route(witness: Witness) -> bool:
        route: dict[str, Any] | None = witness.latest("virtualservices", "payment")
        return route is not None and weights_of(route).get(subset, 0) >= weight

    return on_route


V2, V2_AGAIN, V3, BY_HAND = "payment-v2-v2a-1", "payment-v2-v2a-2", "payment-v3-v3a-1", "by-hand"


def _start_by_hand(scene: Scene) -> None:
    scene.release("v2", None)
    scene.shop.start(BY_HAND, "payment-v2", "pause-at-50")


def _delete(scene: Scene) -> None:
    scene.shop.gateway.delete(CANARYROLLOUT, scene.shop.namespace, BY_HAND)


STORIES: Mapping[str, Story] = {
    story.name: story
    for story in (
        Story(
            "promoted",
            lambda scene: scene.release("v2", "two-steps"),
            {V2: "Succeeded"},
        ),
        Story(
            "rolled back",
            lambda scene: scene.release("v2", "three-steps"),
            {V2: "RolledBack"},
            (Turn(_has("v2", 50), lambda scene: scene.breaks("v2"), at_once=True),),
        ),
        Story(
            "aborted",
            lambda scene: scene.release("v2", "pause-at-50"),
            {V2: "Aborted"},
            (Turn(_is(V2, "Paused"), lambda scene: scene.shop.patch_abort(V2)),),
        ),
        Story(
            "header then weights",
            lambda scene: scene.release("v2", "header"),
            {V2: "Succeeded"},
        ),
        Story(
            "superseded",
            lambda scene: scene.release("v2", "pause-at-50"),
            {V2: "Superseded", V3: "Succeeded"},
            (Turn(_is(V2, "Paused"), lambda scene: scene.release("v3", "two-steps")),),
        ),
        Story(
            "tried again",
            lambda scene: scene.release("v2", "try-again"),
            {V2: "RolledBack", V2_AGAIN: "Succeeded"},
            (
                Turn(_has("v2", 50), lambda scene: scene.breaks("v2"), at_once=True),
                Turn(_is(V2, "RolledBack"), lambda scene: scene.mends("v2")),
            ),
        ),
        Story(
            "deleted",
            _start_by_hand,
            {BY_HAND: GONE},
            (Turn(_is(BY_HAND, "Paused"), _delete),),
        ),
    )
}
