"""Carries out what the engine asked for, in order. The only place where a decision becomes a write."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import structlog

from canary.cluster.events import EventRecorder, reference_to
from canary.cluster.gateway import Gateway
from canary.cluster.kinds import CANARYROLLOUT, DEPLOYMENT, DESTINATIONRULE, VIRTUALSERVICE
from canary.cluster.status import StatusWriter
from canary.daemon.caches import Caches, Entry
from canary.daemon.observe import kept_subsets
from canary.daemon.policies import FrozenPolicies
from canary.engine.actions import Action, Announce, CleanUp, FreezePolicy, Prepare, SetFinalizer, Shift, WriteStatus
from canary.engine.observed import Observed
from canary.errors import Ambiguous, Conflict, NotFound, PreconditionLost
from canary.mesh.router import Router, Write
from canary.model.rollout import FINALIZER, RolloutStatus
from canary.model.route import Route

log = structlog.get_logger(__name__)

_MESH_KINDS = {"VirtualService": VIRTUALSERVICE, "DestinationRule": DESTINATIONRULE}


class DecideAgain(Exception):
    """A write met a newer object than it was decided on; that object is in the caches now."""


@dataclass(frozen=True, slots=True)
class Actor:
    gateway: Gateway
    caches: Caches
    router: Router
    frozen: FrozenPolicies
    status: StatusWriter
    events: EventRecorder

    def carry_out(self, entry: Entry, observed: Observed, actions: tuple[Action, ...]) -> None:
        """Do all of it. Raises DecideAgain after a lost precondition, else what the gateway or the router raises.

        Whatever was done before the failure stands: the next look sees it and goes on from there.
        """
        raw = entry.raw
        for action in actions:
            raw = self._one(raw, entry, observed, action)

    def _one(self, raw: dict[str, Any], entry: Entry, observed: Observed, action: Action) -> dict[str, Any]:
        match action:
            case WriteStatus(status):
                return self._on_rollout(raw, lambda: self.status.write(raw, status.document()))
            case SetFinalizer(present):
                return self._finalizer(raw, present=present)
            case FreezePolicy():
                assert observed.resolved is not None  # pinning is the only reason to freeze
                self.frozen.freeze(observed.resolved.policy)
            case Shift(weight, header, mark):
                route = self._route(entry)
                match_ = observed.policy.strategy.match if header and observed.policy else None
                write = self.router.shift(self.caches.view(route.namespace), route, weight, match_, mark)
                if write is not None:
                    self.write(write)
            case Prepare():
                route = self._route(entry)
                assert observed.policy is not None  # only pinned rollouts are prepared
                for write in self.router.prepare(self.caches.view(route.namespace), route, observed.policy):
                    self.write(write)
            case CleanUp(promoted):
                route = self._route(entry)
                keep = kept_subsets(route, promoted=promoted)
                for write in self.router.clean_up(self.caches.view(route.namespace), route, keep=keep):
                    self.write(write)
            case Announce():
                self.announce(raw, action)
                target = self.caches.object(DEPLOYMENT, entry.rollout.namespace, entry.rollout.spec.target)
                if target is not None:
                    self.announce(target, action)
        return raw

    def write_status(self, entry: Entry, status: RolloutStatus) -> None:
        """Write a status outside of a decision. Raises DecideAgain after a lost precondition."""
        self._on_rollout(entry.raw, lambda: self.status.write(entry.raw, status.document()))

    def announce(self, about: dict[str, Any], announce: Announce) -> None:
        """An Event; never a reason to fail."""
        self.events.record(reference_to(about), announce.type, announce.reason, announce.sentence)

    def write(self, write: Write) -> None:
        """One write to the mesh, pinned to what it was decided on. Raises DecideAgain when that is no longer so."""
        kind = _MESH_KINDS[write.kind]
        try:
            match write.verb:
                case "create":
                    answer = self.gateway.create(kind, write.namespace, write.body)
                case "patch":
                    answer = self.gateway.patch(kind, write.namespace, write.name, write.body, patch_type="json")
                case "delete":
                    pins = write.pins or None
                    self.gateway.delete(kind, write.namespace, write.name, resource_version=pins)
                    return
        except (Conflict, PreconditionLost, Ambiguous) as error:
            # an unanswered write may have happened: look at what there is now, and decide on that
            self.refresh(kind, write.namespace, write.name)
            raise DecideAgain(str(error)) from error
        self.caches.remember(kind, answer)
        log.info("mesh write", kind=write.kind, object=f"{write.namespace}/{write.name}", why=write.why)

    def refresh(self, kind: Any, namespace: str, name: str) -> None:
        """Read an object past the caches, and put it there."""
        try:
            self.caches.remember(kind, self.gateway.get(kind, namespace, name))
        except NotFound:
            return  # deleted: the watch will say so

    def _route(self, entry: Entry) -> Route:
        route = entry.rollout.status.pinned_route(entry.rollout.namespace)
        assert route is not None  # the engine moves pinned rollouts only
        return route

    def _finalizer(self, raw: dict[str, Any], *, present: bool) -> dict[str, Any]:
        meta = raw["metadata"]
        now = list(meta.get("finalizers", ()))
        if (FINALIZER in now) == present:
            return raw
        finalizers = [*now, FINALIZER] if present else [name for name in now if name != FINALIZER]
        body = {"metadata": {"resourceVersion": meta["resourceVersion"], "finalizers": finalizers}}
        return self._on_rollout(
            raw,
            lambda: self.gateway.patch(CANARYROLLOUT, meta["namespace"], meta["name"], body, patch_type="merge"),
        )

    def _on_rollout(self, raw: dict[str, Any], write: Any) -> dict[str, Any]:
        meta = raw["metadata"]
        try:
            answer: dict[str, Any] = write()
        except (Conflict, Ambiguous) as error:
            self.refresh(CANARYROLLOUT, meta["namespace"], meta["name"])
            raise DecideAgain(str(error)) from error
        self.caches.remember(CANARYROLLOUT, answer)
        return answer
