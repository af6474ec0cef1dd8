"""ReplicaSet -> Pods: as many as its spec says, and a status that says how many there are.

It must never create a Pod from its memory alone: before it creates or deletes, it lists the Pods from the API server,
so that a late watch event cannot make duplicates.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from canary.cluster.gateway import Gateway
from canary.cluster.kinds import POD, REPLICASET
from canary.cluster.reflector import Reflector
from canary.cluster.timestamps import parse_time, utc_now
from canary.errors import NotFound
from canary.sandbox.workloads.nodes import node_of
from canary.sandbox.workloads.ownership import Object, is_being_deleted, owned_by, owner_reference

_SAFE = "bcdfghjklmnpqrstvwxz2456789"
_SUFFIX_LENGTH = 5


def is_active(pod: Object) -> bool:
    """Whether a Pod counts: not ended, not being deleted."""
    return not is_being_deleted(pod) and (pod.get("status") or {}).get("phase") not in ("Succeeded", "Failed")


def ready_since(pod: Object) -> datetime | None:
    """When the Pod became ready; None while it is not."""
    for condition in (pod.get("status") or {}).get("conditions") or ():
        if condition["type"] == "Ready" and condition["status"] == "True":
            return parse_time(condition.get("lastTransitionTime"))
    return None


def available_in(pod: Object, min_ready_seconds: float, now: datetime) -> float | None:
    """Seconds until the Pod counts as available, 0 or less when it does; None while it is not ready."""
    since = ready_since(pod)
    if since is None:
        return None
    return min_ready_seconds - (now - since).total_seconds() if min_ready_seconds else 0.0


def deletion_order(pods: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Which Pods to do without first: those that are not ready, then the youngest."""
    youngest_first = sorted(pods, key=lambda p: p["metadata"].get("creationTimestamp", ""), reverse=True)
    return sorted(youngest_first, key=lambda p: ready_since(p) is not None)


def pod_for(replicaset: Object) -> dict[str, Any]:
    """A new Pod of the ReplicaSet, under a name nobody has yet and on its node: there is no scheduler."""
    template, metadata = replicaset["spec"]["template"], replicaset["metadata"]
    suffix = "".join(random.choices(_SAFE, k=_SUFFIX_LENGTH))
    template_metadata = template.get("metadata") or {}
    return {
        "apiVersion": POD.api_version,
        "kind": POD.kind,
        "metadata": {
            "name": f"{metadata['name']}-{suffix}",
            "namespace": metadata["namespace"],
            "labels": dict(template_metadata.get("labels") or {}),
            "annotations": dict(template_metadata.get("annotations") or {}),
            "ownerReferences": [owner_reference(REPLICASET, replicaset)],
        },
        "spec": {**template["spec"], "nodeName": node_of(template["spec"])},
    }


def replicaset_status(replicaset: Object, pods: Sequence[Object], now: datetime) -> dict[str, Any]:
    """Counts over the active Pods."""
    least = replicaset["spec"].get("minReadySeconds", 0)
    waits = [available_in(pod, least, now) for pod in pods]
    return {
        "observedGeneration": replicaset["metadata"].get("generation", 0),
        "replicas": len(pods),
        "fullyLabeledReplicas": len(pods),
        "readyReplicas": sum(wait is not None for wait in waits),
        "availableReplicas": sum(wait is not None and wait <= 0 for wait in waits),
    }


class ReplicaSets:
    """Reconciles one ReplicaSet at a time from the reflectors' copies."""

    def __init__(
        self, gateway: Gateway, replicasets: Reflector[dict[str, Any]], pods: Reflector[dict[str, Any]]
    ) -> None:
        self._gateway, self._replicasets, self._pods = gateway, replicasets, pods

    def reconcile(self, namespace: str, name: str) -> float | None:
        """Create or delete Pods, then say how many there are. Returns when to look again, in seconds."""
        replicaset = self._replicasets.get(namespace, name)
        if replicaset is None or is_being_deleted(replicaset):
            return None
        pods = self._active(replicaset, self._pods.items(namespace))
        if len(pods) != replicaset["spec"].get("replicas", 1):
            pods = self._scale(replicaset)
        now = utc_now()
        status = replicaset_status(replicaset, pods, now)
        if not status.items() <= (replicaset.get("status") or {}).items():
            self._gateway.patch(
                REPLICASET, namespace, name, {"status": status}, patch_type="merge", subresource="status"
            )
        least = replicaset["spec"].get("minReadySeconds", 0)
        waits = [wait for pod in pods if (wait := available_in(pod, least, now)) is not None and wait > 0]
        return min(waits, default=None)

    @staticmethod
    def _active(replicaset: Object, pods: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        return [pod for pod in owned_by(replicaset, REPLICASET, pods) if is_active(pod)]

    def _scale(self, replicaset: Object) -> list[dict[str, Any]]:
        """Bring the number of Pods to the one asked for; the Pods there are then."""
        namespace, name = replicaset["metadata"]["namespace"], replicaset["metadata"]["name"]
        live = self._gateway.get(REPLICASET, namespace, name)  # its number and its uid may have changed as well
        if live["metadata"]["uid"] != replicaset["metadata"]["uid"] or is_being_deleted(live):
            return []
        wanted = live["spec"].get("replicas", 1)
        pods = self._active(live, self._gateway.list(POD, namespace)[0])
        for pod in deletion_order(pods)[: max(0, len(pods) - wanted)]:
            self._delete(pod)
            pods.remove(pod)
        pods += [self._gateway.create(POD, namespace, pod_for(live)) for _ in range(wanted - len(pods))]
        return pods

    def _delete(self, pod: Object) -> None:
        metadata = pod["metadata"]
        try:
            self._gateway.delete(POD, metadata["namespace"], metadata["name"], uid=metadata["uid"])
        except NotFound:  # somebody was faster
            return
