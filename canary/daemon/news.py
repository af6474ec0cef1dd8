"""Which changes of an object are worth a look. Replica counts move all day, and nothing here is decided by them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from canary.cluster import workloads
from canary.cluster.kinds import CANARYROLLOUT, DEPLOYMENT, NAMESPACE, POD, REPLICASET, Kind
from canary.model.annotations import FLOOR

_IDENTITY = ("labels", "annotations", "ownerReferences", "deletionTimestamp")


def is_news(kind: Kind, old: Mapping[str, Any] | None, new: Mapping[str, Any] | None) -> bool:
    """Whether a change from `old` (None: it is new) to `new` (None: it is gone) may change a decision."""
    return old is None or new is None or _seen(kind, old) != _seen(kind, new)


def _seen(kind: Kind, item: Mapping[str, Any]) -> Any:
    """What decisions are made on."""
    meta, status = item["metadata"], item.get("status", {})
    identity = [meta.get(part) for part in _IDENTITY]
    if kind is DEPLOYMENT:
        is_seen_by_its_controller = status.get("observedGeneration", 0) >= meta.get("generation", 0)
        return identity, item.get("spec"), is_seen_by_its_controller
    if kind is REPLICASET:
        return identity
    if kind is NAMESPACE:
        return (meta.get("labels") or {}).get(FLOOR)
    if kind is POD:
        return identity, workloads.is_ready(dict(item))
    if kind is CANARYROLLOUT:
        return _without(meta, "resourceVersion"), item.get("spec"), _without(status, "verdict")  # the figures are ours
    return item


def _without(part: Mapping[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in part.items() if key != name}
