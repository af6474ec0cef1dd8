"""What the API server's audit log says about who wrote what, and who held which slot when it took effect.

Order is that of the answers' resourceVersions: the lines of the log come in another for a third of all writes.
"""

from __future__ import annotations

from collections.abc import Container, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from canary.cluster.leases import slot_in
from canary.cluster.slots import slot_of

POD_NAME = "authentication.kubernetes.io/pod-name"
FENCED = frozenset({"virtualservices", "destinationrules", "canaryrollouts", "configmaps"})


@dataclass(frozen=True, slots=True)
class Written:
    """One write of a replica that was answered."""

    pod: str
    verb: str
    resource: str
    namespace: str
    name: str
    status: int
    version: int
    """The answer's resourceVersion, 0 where it has none."""
    message: str
    holder: str
    """On a Lease: whose name is on it after the write."""

    @property
    def took_effect(self) -> bool:
        return 200 <= self.status < 300


def writes(log: Path, pods: Container[str]) -> list[Written]:
    """Every answered write of these pods, and of everybody's to a Lease, by resourceVersion."""
    found = [one for line in log.read_bytes().splitlines() if (one := _written(orjson.loads(line))) is not None]
    return sorted((one for one in found if one.pod in pods or one.resource == "leases"), key=lambda one: one.version)


def _written(event: dict[str, Any]) -> Written | None:
    pod = (event["user"].get("extra") or {}).get(POD_NAME)
    if not pod or event["stage"] != "ResponseComplete" or "dryRun=All" in event["requestURI"]:
        return None
    target, answer = event["objectRef"], event.get("responseObject") or {}
    metadata = answer.get("metadata") or {}
    spec = answer.get("spec")
    return Written(
        pod=pod[0],
        verb=event["verb"],
        resource=target["resource"],
        namespace=target.get("namespace", ""),
        name=target.get("name") or metadata.get("name") or "",
        status=event["responseStatus"]["code"],
        version=int(metadata.get("resourceVersion") or 0),
        message=str(event["responseStatus"].get("message", "")),
        holder=str(spec.get("holderIdentity") or "") if isinstance(spec, dict) else "",
    )


def of_deposed(found: Iterable[Written], home: str) -> list[tuple[Written, str]]:
    """Writes that took effect although somebody else held the slot, each with who did. In order of resourceVersion."""
    holders: dict[int, str] = {}
    wrong = []
    for one in found:
        if not one.took_effect or not one.version:
            continue
        slot = slot_in(one.name) if one.resource == "leases" and one.namespace == home else None
        if slot is not None:
            holders[slot] = one.holder
        elif one.resource in FENCED and one.namespace != home:
            holder = holders.get(slot_of(one.namespace), "")
            if holder != one.pod:
                wrong.append((one, holder))
    return wrong


def refused_by_fence(found: Iterable[Written]) -> list[Written]:
    return [one for one in found if one.status == 403 and "canary-fence" in one.message]
