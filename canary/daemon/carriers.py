"""Who carries the traffic of a service, and what happens to that Deployment outside of any rollout.

Events and one condition: nothing here starts a rollout or touches a route.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import structlog

from canary.daemon.act import Actor
from canary.daemon.caches import Caches, Entry, Object, named
from canary.daemon.keys import Key, is_opted_in
from canary.engine.actions import Announce
from canary.engine.intake import Carrier
from canary.errors import FindingError
from canary.mesh.router import MeshView, Router
from canary.model.annotations import OptIn
from canary.model.rollout import Condition, Phase
from canary.model.text import plain

NOTHING: Object = {"metadata": {}}
UNDONE = "PromotionUndone"

log = structlog.get_logger(__name__)


@dataclass
class Carriers:
    caches: Caches
    router: Router
    actor: Actor
    _carried: dict[str, dict[str, str]] = field(default_factory=dict)
    """The revision that carries traffic, by namespace and Deployment."""
    _told: dict[str, dict[str, set[tuple[str, str]]]] = field(default_factory=dict)
    """(reason, sentence) of what was said, by namespace and Deployment."""

    def find(
        self, key: Key, view: MeshView, entries: list[Entry], asks: OptIn
    ) -> tuple[Carrier | None, FindingError | None]:
        """Who carries the traffic: what a running rollout pinned, else what the route says; or why nobody can tell."""
        pinned = [
            entry.rollout.status.stable
            for entry in entries
            if entry.rollout.status.stable and not entry.rollout.status.phase.is_terminal
        ]
        if pinned and pinned[0]:
            name = pinned[0].deployment
        else:
            try:
                name = self.router.stable_deployment(view, key.service, asks.virtual_service, asks.route)
            except FindingError as error:
                return None, error
        deployment = named(view.deployments, name)
        if deployment is None:
            return None, None
        revision = self.caches.revision(key.namespace, deployment) or ""
        return Carrier(name, revision, self.caches.revision_made(key.namespace, deployment)), None

    def note(self, key: Key, view: MeshView, carrier: Carrier | None, entries: list[Entry], now: datetime) -> None:
        """Say what happened to the Deployment that carries the traffic, where it is not a rollout's doing.

        Raises what writing a condition raises.
        """
        if carrier is None or not carrier.revision:
            return
        name, carried = carrier.deployment, self._carried.setdefault(key.namespace, {})
        _let_go_of_gone(carried, view)
        before, carried[name] = carried.get(name), carrier.revision
        if before is not None and before != carrier.revision:
            sentence = (
                f"{name} carries all the traffic of {key.service} and got a new template in place: that is "
                "Kubernetes' own rolling update, without a canary; release side by side, as a second Deployment"
            )
            self.announce_once(view, name, Announce("Warning", "UpdatedInPlace", sentence))
        promoted = [entry for entry in entries if entry.rollout.status.phase is Phase.SUCCEEDED]
        if promoted and self._is_undone(view, promoted[-1], carrier, now):
            return
        if is_opted_in(named(view.deployments, name) or NOTHING):
            sentence = f"{name} carries the traffic of {key.service}: it is stable, nothing was changed"
            self.announce_once(view, name, Announce("Normal", "Adopted", sentence))

    def announce_once(self, view: MeshView, deployment: str, announce: Announce) -> None:
        """An Event about a Deployment, once per process."""
        told = self._told.setdefault(view.namespace, {})
        _let_go_of_gone(told, view)
        marks, mark = told.setdefault(deployment, set()), (announce.reason, announce.sentence)
        if mark not in marks:
            marks.add(mark)
            self._announce(view, deployment, announce)

    def _announce(self, view: MeshView, deployment: str, announce: Announce) -> None:
        about = named(view.deployments, deployment)
        if about is not None:
            log.info("note", deployment=f"{view.namespace}/{deployment}", reason=announce.sentence)
            self.actor.announce(about, announce)

    def _is_undone(self, view: MeshView, newest: Entry, carrier: Carrier, now: datetime) -> bool:
        """Whether the newest promotion's traffic is back on the version it replaced, said and unsaid in its status."""
        rollout = newest.rollout
        stable, target = rollout.status.stable, rollout.spec.target
        is_undone = stable is not None and stable.deployment == carrier.deployment
        was_undone = any(one.reason == UNDONE and one.status == "True" for one in rollout.status.conditions)
        if is_undone == was_undone:
            return is_undone
        sentence = (
            f"{target} was promoted by {rollout.name}, but the route sends all traffic to {carrier.deployment} again: "
            "was the original VirtualService applied once more?"
        )
        stalled = Condition(
            type="Stalled",
            status="True" if is_undone else "False",
            reason=UNDONE if is_undone else "Moving",
            message=plain(sentence, 2048) if is_undone else "",
            last_transition_time=now,
            observed_generation=rollout.generation,
        )
        others = tuple(one for one in rollout.status.conditions if one.type != stalled.type)
        self.actor.write_status(newest, rollout.status.model_copy(update={"conditions": (*others, stalled)}))
        if is_undone:
            self._announce(view, target, Announce("Warning", UNDONE, sentence))
        return is_undone


def _let_go_of_gone(by_deployment: dict[str, Any], view: MeshView) -> None:
    """Versions come and go for as long as the process runs: whoever is there no longer is not remembered."""
    if len(by_deployment) > len(view.deployments):
        there = {deployment["metadata"]["name"] for deployment in view.deployments}
        for name in by_deployment.keys() - there:
            del by_deployment[name]
