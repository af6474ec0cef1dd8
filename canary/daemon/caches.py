"""What is known of the cluster, from memory: one reflector per kind, and our own writes before they come back.

A steady tick reads nothing from the API server. The objects handed out are shared and must not be changed.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import structlog
from pydantic import ValidationError

from canary.cluster import workloads
from canary.cluster.gateway import Gateway
from canary.cluster.kinds import (
    CANARYROLLOUT,
    DEPLOYMENT,
    DESTINATIONRULE,
    NAMESPACE,
    POD,
    REPLICASET,
    SERVICE,
    VIRTUALSERVICE,
    Kind,
)
from canary.cluster.projections import PROJECTIONS
from canary.cluster.reflector import Change, Reflector
from canary.cluster.timestamps import parse_time
from canary.daemon.overlay import Overlay
from canary.engine.observed import Pods
from canary.mesh.router import MeshView
from canary.model.rollout import Rollout

Object = dict[str, Any]
KINDS = (DEPLOYMENT, REPLICASET, SERVICE, POD, VIRTUALSERVICE, DESTINATIONRULE, CANARYROLLOUT, NAMESPACE)
log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Entry:
    """A CanaryRollout: as it stands in the cluster, and as we read it."""

    raw: Object
    rollout: Rollout


class Caches:
    """Reflectors of one namespace, or of all of them for None. Safe for several threads.

    Namespaces themselves are kept only for all of them: they belong to the cluster, and a Role cannot let anybody list
    or watch one.
    """

    def __init__(
        self,
        gateway: Gateway,
        namespace: str | None,
        on_change: Callable[[Kind, Change[Object]], None],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._overlay = Overlay(clock, self._has_come_past)
        self._parsed: dict[tuple[str, str], tuple[Object, Entry | None]] = {}
        self._sorted: dict[tuple[Kind, str], tuple[tuple[Any, ...], Mapping[Any, list[Object]]]] = {}
        turn = threading.Lock()
        self.reflectors: dict[Kind, Reflector[Object]] = {
            kind: Reflector(
                gateway,
                kind,
                namespace,
                project=PROJECTIONS[kind],
                on_change=lambda change, kind=kind: self._heard(kind, change, on_change),  # type: ignore[misc]
                turn=turn,
            )
            for kind in KINDS
            if kind.namespaced or namespace is None
        }

    def _has_come_past(self, kind: Kind, written: Object) -> bool:
        return self.reflectors[kind].heard_of >= _version(written)

    def _heard(self, kind: Kind, change: Change[Object], on_change: Callable[[Kind, Change[Object]], None]) -> None:
        written = self._overlay.of(kind, change.key[0]).get(change.key[1])
        gone = change.old if change.type == "deleted" else None
        if written and gone and written["metadata"].get("uid") == gone["metadata"].get("uid"):
            self._overlay.drop(kind, written)  # deleted after our write, however new that is
        on_change(kind, change)

    def start(self) -> None:
        for reflector in self.reflectors.values():
            reflector.start()

    def stop(self) -> None:
        for reflector in self.reflectors.values():
            reflector.stop()

    @property
    def unsynced(self) -> tuple[str, ...]:
        """What has not been listed yet, with why where a reason is known."""
        return tuple(
            f"{kind.resource}" + (f" ({reflector.last_error})" if reflector.last_error else "")
            for kind, reflector in self.reflectors.items()
            if not reflector.has_synced
        )

    @property
    def refused(self) -> tuple[str, ...]:
        """What was listed once and may not be watched any more, with the API server's words."""
        known = ((kind, reflector) for kind, reflector in self.reflectors.items() if reflector.has_synced)
        return tuple(f"{kind.resource} ({reflector.refusal})" for kind, reflector in known if reflector.refusal)

    def remember(self, kind: Kind, document: Mapping[str, Any]) -> None:
        """Keep the answer to a write or a live read until the watch has it too."""
        self._overlay.put(kind, PROJECTIONS[kind](document))

    def objects(self, kind: Kind, namespace: str | None) -> list[Object]:
        """Every object of a kind in a namespace (None: everywhere)."""
        # ours first: what the watch brings in between makes it outdated, never missing
        spaces = self._overlay.namespaces(kind) if namespace is None else [namespace]
        ours = [written for space in spaces for written in self._overlay.of(kind, space).values()]
        items = self.reflectors[kind].items(namespace)
        if not ours:
            return items
        found = {(item["metadata"]["namespace"], item["metadata"]["name"]): item for item in items}
        for written in ours:
            key = (written["metadata"]["namespace"], written["metadata"]["name"])
            found[key] = self._newer(kind, found.get(key), written)
        return list(found.values())

    def object(self, kind: Kind, namespace: str, name: str) -> Object | None:
        """One object, without looking through the others."""
        written = self._overlay.of(kind, namespace).get(name)
        seen = self.reflectors[kind].get(namespace, name)
        return self._newer(kind, seen, written) if written is not None else seen

    def version(self, kind: Kind, namespace: str) -> tuple[Any, ...]:
        """Something that is another after each change of what `objects` gives for a namespace."""
        ours = self._overlay.of(kind, namespace).items()
        versions = tuple((name, written["metadata"]["resourceVersion"]) for name, written in ours)
        return self.reflectors[kind].version(namespace), versions

    def _newer(self, kind: Kind, seen: Object | None, written: Object) -> Object:
        if seen is None or _version(seen) < _version(written):
            return written
        self._overlay.drop(kind, written)
        return seen

    def view(self, namespace: str) -> MeshView:
        """What the router may look at: this namespace and nothing else."""
        return MeshView(
            namespace=namespace,
            virtual_services=self.objects(VIRTUALSERVICE, namespace),
            destination_rules=self.objects(DESTINATIONRULE, namespace),
            services=self.objects(SERVICE, namespace),
            deployments=self.objects(DEPLOYMENT, namespace),
        )

    def rollouts(self, namespace: str | None) -> list[Entry]:
        """Every CanaryRollout that can be read; one that cannot is logged and left alone."""
        raws = self.objects(CANARYROLLOUT, namespace)
        entries = [entry for raw in raws if (entry := self._entry(raw)) is not None]
        if namespace is None:
            there = {(raw["metadata"]["namespace"], raw["metadata"]["name"]) for raw in raws}
            for gone in set(self._parsed) - there:
                self._parsed.pop(gone, None)
        return entries

    def _entry(self, raw: Object) -> Entry | None:
        """Parsed once per version of the object: a thousand rollouts are looked through at every tick."""
        meta = raw["metadata"]
        key = (meta["namespace"], meta["name"])
        before, known = self._parsed.get(key, (None, None))
        if before is raw:
            return known
        entry: Entry | None = None
        try:
            entry = Entry(raw, known.rollout if known and _is_same(known.raw, raw) else Rollout.parse(raw))
        except (ValidationError, KeyError) as error:
            log.warning("cannot read a CanaryRollout", rollout="/".join(key), error=str(error))
        self._parsed[key] = (raw, entry)
        return entry

    def label(self, namespace: str, key: str) -> str | None:
        """A label of a Namespace; None where there is none, and where Namespaces are not kept."""
        reflector = self.reflectors.get(NAMESPACE)
        found = reflector.get("", namespace) if reflector else None
        labels = found["metadata"].get("labels") if found else None
        return labels.get(key) if labels else None

    def revision(self, namespace: str, deployment: Object) -> str | None:
        """The pod-template-hash of a Deployment's newest template, None while its controller has not made it yet."""
        return workloads.current_revision(deployment, self._owned_by(deployment, REPLICASET, namespace))

    def revision_made(self, namespace: str, deployment: Object) -> datetime | None:
        """When the ReplicaSet of the newest revision was made."""
        newest = workloads.newest_replicaset(deployment, self._owned_by(deployment, REPLICASET, namespace))
        return parse_time(newest["metadata"].get("creationTimestamp")) if newest else None

    def pods(self, namespace: str, deployment: Object, revision: str) -> Pods:
        """Ready pods of one revision, of as many as the Deployment wants."""
        wanted = deployment.get("spec", {}).get("replicas", 1)
        owners = self._owned_by(deployment, REPLICASET, namespace)
        mine = [owner for owner in owners if owner["metadata"]["labels"].get(workloads.TEMPLATE_HASH) == revision]
        pods = (pod for owner in mine for pod in self._owned_by(owner, POD, namespace))
        return Pods(sum(workloads.is_ready(pod) for pod in pods), wanted)

    def _owned_by(self, owner: Object, kind: Kind, namespace: str) -> Sequence[Object]:
        """What a controller's object owns, sorted out once per change: everybody in a namespace asks at every tick."""
        version = self.version(kind, namespace)
        known = self._sorted.get((kind, namespace))
        if known is None or known[0] != version:
            known = version, workloads.by_owner(self.objects(kind, namespace))
            if known[1]:
                self._sorted[kind, namespace] = known
            else:
                self._sorted.pop((kind, namespace), None)
        return known[1].get(owner["metadata"]["uid"], ())


def _version(item: Object) -> int:
    """resourceVersions compare as integers (Kubernetes 1.35 made it a promise; every etcd-backed server does it)."""
    text = item["metadata"]["resourceVersion"]
    return int(text) if text.isdigit() else 0


def _is_same(one: Object, other: Object) -> bool:
    """Our own write comes twice, as its answer and by the watch."""
    return all(one["metadata"].get(part) == other["metadata"].get(part) for part in ("uid", "resourceVersion"))


def named(items: Iterable[Mapping[str, Any]], name: str) -> Object | None:
    """The object of that name."""
    return next((dict(item) for item in items if item["metadata"]["name"] == name), None)
