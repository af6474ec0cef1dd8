"""New attempts for annotated Deployments, and Events for those that get none. The rules are `engine.intake`'s."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import structlog

from canary.cluster.kinds import CANARYROLLOUT, DEPLOYMENT
from canary.daemon.act import Actor
from canary.daemon.caches import Caches, Entry, Object, named
from canary.daemon.keys import Key, is_opted_in, key_of_deployment
from canary.engine.actions import Announce
from canary.engine.intake import Candidate, Carrier, attempt_document, intake
from canary.errors import Conflict, FindingError, NotFound
from canary.mesh.router import MeshView, Router
from canary.model.annotations import OptIn, opt_in
from canary.model.rollout import Phase, TriggerBy

NOTHING: Object = {"metadata": {}}

log = structlog.get_logger(__name__)


@dataclass
class Starts:
    caches: Caches
    router: Router
    actor: Actor
    grace: timedelta
    _carried: dict[tuple[str, str], str] = field(default_factory=dict)
    _told: set[tuple[str, ...]] = field(default_factory=set)

    def look(self, key: Key, entries: list[Entry], now: datetime) -> float | None:
        """Start what is due for one service; seconds until it is worth looking again, None for never by itself."""
        view = self.caches.view(key.namespace)
        mine = [
            dict(deployment)
            for deployment in view.deployments
            if is_opted_in(deployment) and key_of_deployment(self.router, view, dict(deployment)) == key
        ]
        candidates = [found for deployment in mine if (found := self._candidate(key, deployment)) is not None]
        if not candidates:
            return None
        carrier, problem = self._carrier(key, view, entries, candidates[0].asks)
        self._note_carrier(key, view, carrier, entries)
        wanted = intake(candidates, carrier, [entry.rollout for entry in entries])
        for name, announce in wanted.notes:
            self._announce_once(view, name, announce)
        if wanted.start is None or wanted.start.revision == "":
            return None
        waits = (wanted.start.made + self.grace - now).total_seconds()
        is_unclear = problem is not None or carrier is None or carrier.made is None
        if is_unclear and waits > 0:
            return waits  # its Service, its route or stable's ReplicaSet may be on their way
        self._create(key.namespace, wanted.start)
        return None

    def withdraw(self, key: Key, entries: list[Entry]) -> list[Entry]:
        """Take back attempts that nobody has looked into yet and that their Deployment no longer asks for.

        What an attempt asks is immutable, so a mistake in an annotation is mended by a new attempt with the old one's
        name. Only attempts made by annotation, and only while they are Pending: they have touched nothing. Returns the
        others.
        """
        return [entry for entry in entries if not self._is_withdrawn(key, entry)]

    def _is_withdrawn(self, key: Key, entry: Entry) -> bool:
        rollout, spec = entry.rollout, entry.rollout.spec
        is_ours = spec.trigger.by is TriggerBy.ANNOTATION and rollout.status.phase is Phase.PENDING
        deployment = self.caches.object(DEPLOYMENT, key.namespace, spec.target) if is_ours else None
        if deployment is None or rollout.deleting:
            return False
        try:
            asks = opt_in(deployment["metadata"].get("annotations"))
        except FindingError:
            return False  # an Event says so; until it is mended nothing else is asked for
        service = asks.service if asks and asks.service else _resolved(key)
        wanted = asks and (asks.policy, asks.virtual_service, asks.route, asks.release_id)
        asked = (spec.policy_name, spec.virtual_service or "", spec.route or "", spec.trigger.id)
        if wanted == asked and (spec.service is None or spec.service == service):
            return False
        meta = entry.raw["metadata"]
        with contextlib.suppress(NotFound, Conflict):  # gone, or no longer as it was: the next look sees it
            self.actor.gateway.delete(
                CANARYROLLOUT, rollout.namespace, rollout.name, uid=rollout.uid,
                resource_version=meta["resourceVersion"],
            )  # fmt: skip
            log.info("rollout withdrawn", rollout=rollout.full_name, reason="its Deployment's annotations changed")
        return True

    def _candidate(self, key: Key, deployment: Object) -> Candidate | None:
        name = deployment["metadata"]["name"]
        try:
            asks = opt_in(deployment["metadata"].get("annotations"))
        except FindingError as error:
            self._announce_once(self.caches.view(key.namespace), name, Announce("Warning", error.reason, str(error)))
            return None
        revision = self.caches.revision(key.namespace, deployment)
        made = self.caches.revision_made(key.namespace, deployment)
        if asks is None or revision is None or made is None:
            return None  # its ReplicaSet is being made: that is another event
        return Candidate(name, revision, made, asks, asks.service or _resolved(key))

    def _carrier(
        self, key: Key, view: MeshView, entries: list[Entry], asks: OptIn
    ) -> tuple[Carrier | None, FindingError | None]:
        """Who carries the traffic: what a running rollout pinned, else what the route says."""
        pinned = [
            entry.rollout.status.stable
            for entry in entries
            if entry.rollout.status.stable and not entry.rollout.status.phase.is_terminal
        ]
        problem = None
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
        return Carrier(name, revision, self.caches.revision_made(key.namespace, deployment)), problem

    def _note_carrier(self, key: Key, view: MeshView, carrier: Carrier | None, entries: list[Entry]) -> None:
        """Say what happens to the Deployment that carries the traffic, where it is not a rollout's doing."""
        if carrier is None or not carrier.revision:
            return
        place = (key.namespace, carrier.deployment)
        before, self._carried[place] = self._carried.get(place), carrier.revision
        if before is not None and before != carrier.revision:
            sentence = (
                f"{carrier.deployment} carries all the traffic of {key.service} and got a new template in place: that "
                "is Kubernetes' own rolling update, without a canary; release side by side, as a second Deployment"
            )
            self._announce_once(view, carrier.deployment, Announce("Warning", "UpdatedInPlace", sentence))
        promoted = [entry.rollout for entry in entries if entry.rollout.status.phase is Phase.SUCCEEDED]
        newest = promoted[-1] if promoted else None
        if newest and newest.status.stable and newest.status.stable.deployment == carrier.deployment:
            sentence = (
                f"{newest.spec.target} was promoted by {newest.name}, but the route sends all traffic to "
                f"{carrier.deployment} again: was the original VirtualService applied once more?"
            )
            self._announce_once(view, newest.spec.target, Announce("Warning", "PromotionUndone", sentence))
        elif is_opted_in(named(view.deployments, carrier.deployment) or NOTHING):
            sentence = f"{carrier.deployment} carries the traffic of {key.service}: it is stable, nothing was changed"
            self._announce_once(view, carrier.deployment, Announce("Normal", "Adopted", sentence))

    def _announce_once(self, view: MeshView, deployment: str, announce: Announce) -> None:
        mark = (view.namespace, deployment, announce.reason, announce.sentence)
        if mark in self._told:
            return
        self._told.add(mark)
        about = named(view.deployments, deployment)
        if about is not None:
            log.info("note", deployment=f"{view.namespace}/{deployment}", reason=announce.sentence)
            self.actor.announce(about, announce)

    def _create(self, namespace: str, candidate: Candidate) -> None:
        document = attempt_document(namespace, candidate)
        try:
            answer = self.actor.gateway.create(CANARYROLLOUT, namespace, document)
        except Conflict:
            return  # already there: annotation, command and kubectl race into the same attempt
        self.caches.remember(CANARYROLLOUT, answer)
        log.info("rollout created", rollout=f"{namespace}/{document['metadata']['name']}", by="annotation")


def _resolved(key: Key) -> str:
    """The Service a key is about, "" when that is not known."""
    return "" if key.service.startswith("~") else key.service
