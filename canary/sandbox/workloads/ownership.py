"""Who made what: owner references, as Kubernetes' own controllers write and read them. No I/O."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from canary.cluster.kinds import Kind

Object = Mapping[str, Any]


def owner_reference(kind: Kind, owner: Object) -> dict[str, Any]:
    """The reference by which a child names its one controller."""
    return {
        "apiVersion": kind.api_version,
        "kind": kind.kind,
        "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }


def controller_of(obj: Object, kind: Kind) -> tuple[str, str] | None:
    """(name, uid) of the controller of this kind that owns the object, None when there is none."""
    for reference in obj["metadata"].get("ownerReferences") or ():
        if reference.get("controller") and reference.get("kind") == kind.kind:
            return reference["name"], reference["uid"]
    return None


def owned_by(owner: Object, kind: Kind, objects: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Those of `objects` (of the owner's namespace) that this very owner controls, oldest first."""
    uid = owner["metadata"]["uid"]
    children = [o for o in objects if (ref := controller_of(o, kind)) is not None and ref[1] == uid]
    return sorted(children, key=lambda o: (o["metadata"].get("creationTimestamp", ""), o["metadata"]["name"]))


def is_being_deleted(obj: Object) -> bool:
    return bool(obj["metadata"].get("deletionTimestamp"))


def is_settled(obj: Object) -> bool:
    """Whether the object's controller has seen its latest spec."""
    return bool(obj.get("status", {}).get("observedGeneration", 0) >= obj["metadata"].get("generation", 0))
