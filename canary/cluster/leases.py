"""What replicas' Leases look like: `canary-member-<identity>`, a sign of life; `canary-slot-0..15`, who drives what.

Shapes and names only: nothing is read, written or decided here.
"""

from __future__ import annotations

import re
import secrets
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from canary.cluster.kinds import LEASE, POD
from canary.cluster.slots import SILENCE_S, SLOTS
from canary.cluster.timestamps import format_micro_time, parse_time

MEMBER_PREFIX = "canary-member-"
SLOT_PREFIX = "canary-slot-"
ROLE = "canary.delivery/lease"
"""Label of both kinds, `member` or `slot`: who looks for a living controller lists by it, the fence selects by it."""
MEMBERS = f"{ROLE}=member"
"""The label selector of every replica's sign of life."""

STATE = "canary.delivery/state"
PROCESS = "canary.delivery/process"
"""Annotation: one process's own mark, so that two of the same name do not take each other's Lease for their own."""

ALIVE_SLACK = timedelta(seconds=10)
"""What the clocks of a laptop and a cluster may differ by before `controller_is_alive` is wrong."""

LONGEST_IDENTITY = 200


class State(StrEnum):
    """What a replica says of itself on its member Lease."""

    JOINING = "joining"
    """It does not know the cluster yet and takes no slot."""
    SERVING = "serving"
    DRAINING = "draining"


@dataclass(frozen=True, slots=True)
class Seen:
    """The part of a Lease that is looked at."""

    version: str
    holder: str
    state: str = ""
    renewed: datetime | None = None
    transitions: int = 0
    is_owned: bool = False
    """It has an owner, with which the garbage collector takes it away."""

    def is_newer_than(self, other: Seen) -> bool:
        """resourceVersions compare as integers (Kubernetes 1.35 made it a promise; etcd-backed servers always did)."""
        return int(self.version) > int(other.version)


def member_name(identity: str) -> str:
    return f"{MEMBER_PREFIX}{identity}"


def slot_name(slot: int) -> str:
    return f"{SLOT_PREFIX}{slot}"


def slot_in(name: str) -> int | None:
    """The slot whose Lease has this name."""
    number = name.removeprefix(SLOT_PREFIX)
    return int(number) if name != number and number in {str(slot) for slot in range(SLOTS)} else None


def member_in(name: str) -> str | None:
    """The identity whose member Lease has this name."""
    identity = name.removeprefix(MEMBER_PREFIX)
    return identity if identity not in (name, "") else None


def seen(lease: Mapping[str, Any]) -> Seen:
    """The projection of any Lease; whatever a field holds that it should not counts as nothing."""
    meta, spec = lease["metadata"], lease.get("spec") or {}
    transitions = spec.get("leaseTransitions")
    return Seen(
        version=str(meta["resourceVersion"]),
        holder=str(spec.get("holderIdentity") or ""),
        state=str((meta.get("annotations") or {}).get(STATE) or ""),
        renewed=parse_time(spec.get("renewTime")),
        transitions=transitions if isinstance(transitions, int) else 0,
        is_owned=bool(meta.get("ownerReferences")),
    )


def seen_of_ours(lease: dict[str, Any]) -> Seen | None:
    """The projection of a replica's Lease, None for the Leases of others in the same namespace."""
    name = lease["metadata"]["name"]
    return seen(lease) if slot_in(name) is not None or member_in(name) is not None else None


def controller_is_alive(lease: Mapping[str, Any], now: datetime) -> bool:
    """Whether this member Lease says that its controller runs: held, and renewed within its duration and some slack.

    For people and for shares. Who may write is never decided by comparing clocks.
    """
    spec = lease.get("spec") or {}
    renewed = parse_time(spec.get("renewTime"))
    if not spec.get("holderIdentity") or renewed is None:
        return False
    duration = timedelta(seconds=spec.get("leaseDurationSeconds") or SILENCE_S)
    return now <= renewed + duration + ALIVE_SLACK


def member_document(
    namespace: str, identity: str, version: str, *, process: str, state: State, now: datetime, owner: Mapping[str, str]
) -> dict[str, Any]:
    """A member Lease; `version` "" for a new one, `owner` empty outside of a pod."""
    metadata: dict[str, Any] = {
        "name": member_name(identity),
        "namespace": namespace,
        "labels": {"app.kubernetes.io/name": "canary", ROLE: "member"},
        "annotations": {STATE: state.value, PROCESS: process},
    }
    if owner:
        metadata["ownerReferences"] = [dict(owner)]
    spec = {
        "holderIdentity": identity,
        "leaseDurationSeconds": int(SILENCE_S),
        "renewTime": format_micro_time(now),
    }
    return _lease(metadata, version, spec)


def slot_document(namespace: str, slot: int, before: Seen | None, holder: str, now: datetime) -> dict[str, Any]:
    """A slot's Lease in the name of `holder` ("" gives it back), pinned to how it was `before` (None: a new one)."""
    metadata = {
        "name": slot_name(slot),
        "namespace": namespace,
        "labels": {"app.kubernetes.io/name": "canary", ROLE: "slot"},
    }
    was, transitions = (before.holder, before.transitions) if before else ("", -1)
    spec: dict[str, Any] = {
        "holderIdentity": holder,
        "leaseTransitions": max(0, transitions + (1 if holder and holder != was else 0)),
    }
    if holder:
        spec["acquireTime"] = format_micro_time(now)
    return _lease(metadata, before.version if before else "", spec)


def identity_of_process(environment: Mapping[str, str]) -> str:
    """The pod's name where it is told (POD_NAME): the fence compares it with the name in the pod's token. Else host
    name and a random part: one process at a time has it."""
    pod = environment.get("POD_NAME", "")
    if pod:
        return pod
    host = re.sub(r"[^a-z0-9-]+", "-", socket.gethostname().lower()).strip("-") or "host"
    return f"{host[:LONGEST_IDENTITY]}-{secrets.token_hex(4)}"


def owner_of_member(environment: Mapping[str, str], namespace: str) -> dict[str, str]:
    """The pod as the owner of its member Lease, so that it goes with the pod and nobody needs the right to delete it;
    empty where POD_NAME, POD_UID and POD_NAMESPACE do not all tell of a pod in this namespace."""
    name, uid = environment.get("POD_NAME", ""), environment.get("POD_UID", "")
    if not name or not uid or environment.get("POD_NAMESPACE", "") != namespace:
        return {}
    return {"apiVersion": POD.api_version, "kind": POD.kind, "name": name, "uid": uid}


def _lease(metadata: dict[str, Any], version: str, spec: dict[str, Any]) -> dict[str, Any]:
    if version:
        metadata["resourceVersion"] = version
    return {"apiVersion": LEASE.api_version, "kind": LEASE.kind, "metadata": metadata, "spec": spec}
