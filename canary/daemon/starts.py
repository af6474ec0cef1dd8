"""New attempts: for annotated Deployments (Events for those that get none), and for revisions that were rolled back
and are due again. The rules are those of `engine.intake` and `engine.retry`."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog

from canary.cluster.kinds import CANARYROLLOUT, DEPLOYMENT
from canary.daemon.act import Actor
from canary.daemon.attempts import Attempts
from canary.daemon.caches import Caches, Entry, Object, named
from canary.daemon.carriers import Carriers
from canary.daemon.keys import Key
from canary.engine.actions import Announce
from canary.engine.intake import Candidate, Carrier, attempt_document, intake
from canary.engine.retry import Service, retries
from canary.errors import Conflict, FindingError, Forbidden, Invalid, NotFound
from canary.mesh.router import MeshView, Router
from canary.model.annotations import OptIn, opt_in
from canary.model.rollout import Phase, TriggerBy

log = structlog.get_logger(__name__)


@dataclass
class Starts:
    caches: Caches
    router: Router
    actor: Actor
    carriers: Carriers
    attempts: Attempts
    grace: timedelta

    def look(self, key: Key, entries: list[Entry], now: datetime) -> float | None:
        """Start what is due for one service; seconds until it is worth looking again, None for never by itself."""
        view = self.caches.view(key.namespace)
        mine = self.attempts.deployments(key)
        candidates = [found for deployment in mine if (found := self._candidate(key, deployment)) is not None]
        asks = candidates[0].asks if candidates else _asked(entries)
        if asks is None:
            return None
        carrier, problem = self.carriers.find(key, view, entries, asks)
        self.carriers.note(key, view, carrier, entries, now)
        wanted = intake(candidates, carrier, [entry.rollout for entry in entries])
        for name, announce in wanted.notes:
            self.carriers.announce_once(view, name, announce)
        if wanted.start is None or wanted.start.revision == "":
            return self._retry(view, entries, carrier, candidates, now)
        waits = (wanted.start.made + self.grace - now).total_seconds()
        is_unclear = problem is not None or carrier is None or carrier.made is None
        if is_unclear and waits > 0:
            return waits  # its Service, its route or stable's ReplicaSet may be on their way
        self._create(attempt_document(key.namespace, wanted.start), "annotation")
        return None

    def _retry(
        self,
        view: MeshView,
        entries: list[Entry],
        carrier: Carrier | None,
        candidates: list[Candidate],
        now: datetime,
    ) -> float | None:
        """Try again what was rolled back and is due; seconds until it is, None for nothing to wait for."""
        planned = {entry.rollout.name: entry for entry in entries if entry.rollout.status.retry}
        if not planned:
            return None
        targets = {entry.rollout.spec.target for entry in planned.values()}
        revisions = {
            name: self.caches.revision(view.namespace, deployment) or ""
            for name in targets
            if (deployment := named(view.deployments, name)) is not None
        }
        found = retries([entry.rollout for entry in entries], Service(carrier, candidates, revisions), now)
        for name, retry in found.settled:
            entry = planned[name]
            self.actor.write_status(entry, entry.rollout.status.model_copy(update={"retry": retry}))
        if found.attempt is not None and (made := self._create(found.attempt, "retry")) is not None:
            announce = Announce("Normal", "Retrying", found.sentence)
            self.actor.announce(made, announce)
            self.carriers.announce_once(view, found.attempt["spec"]["target"], announce)
        return found.wait.total_seconds() if found.wait is not None else None

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
            self.carriers.announce_once(
                self.caches.view(key.namespace), name, Announce("Warning", error.reason, str(error))
            )
            return None
        revision = self.caches.revision(key.namespace, deployment)
        made = self.caches.revision_made(key.namespace, deployment)
        if asks is None or revision is None or made is None:
            return None  # its ReplicaSet is being made: that is another event
        return Candidate(name, revision, made, asks, asks.service or _resolved(key))

    def _create(self, document: Object, by: str) -> Object | None:
        """The new attempt, None when it is there already: annotation, command and kubectl race into the same one."""
        name, namespace = document["metadata"]["name"], document["metadata"]["namespace"]
        try:
            answer = self.actor.gateway.create(CANARYROLLOUT, namespace, document)
        except Conflict as error:
            # a quota that is counted anew answers 409, too: only what can be read is there
            try:
                there = self.actor.gateway.get(CANARYROLLOUT, namespace, name)
            except NotFound:
                raise error from None
            self.caches.remember(CANARYROLLOUT, there)
            return None
        except (Forbidden, Invalid) as error:
            target = document["spec"]["target"]  # there is no rollout that could say it
            announce = Announce("Warning", error.reason, f"no rollout can be made for {target}: {error}")
            self.carriers.announce_once(self.caches.view(namespace), target, announce)
            raise
        self.caches.remember(CANARYROLLOUT, answer)
        log.info("rollout created", rollout=f"{namespace}/{name}", by=by)
        return answer


def _asked(entries: list[Entry]) -> OptIn | None:
    """What the newest attempt asked for, where no Deployment of the service opted in."""
    if not entries:
        return None
    spec = entries[-1].rollout.spec
    return OptIn(spec.policy_name, spec.service or "", spec.virtual_service or "", spec.route or "")


def _resolved(key: Key) -> str:
    """The Service a key is about, "" when that is not known."""
    return "" if key.service.startswith("~") else key.service
