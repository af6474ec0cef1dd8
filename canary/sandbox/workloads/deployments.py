"""Deployment -> ReplicaSets: the current template's grows, the old ones shrink, within the rolling bounds.

The sandbox's stand-in for Kubernetes' own Deployment and ReplicaSet controllers, for an API server that comes without
them. Level-triggered: each reconcile looks at what is there and does the next thing that is missing; killed at any
point it goes on from there. It must never run beside the real controllers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from canary.cluster.gateway import Gateway
from canary.cluster.kinds import DEPLOYMENT, POD, REPLICASET
from canary.cluster.reflector import Change, Reflector
from canary.cluster.timestamps import utc_now
from canary.errors import NotFound
from canary.sandbox.workloads import revisions
from canary.sandbox.workloads.conditions import deadline_in, deployment_status
from canary.sandbox.workloads.loop import Key, Loop
from canary.sandbox.workloads.ownership import Object, controller_of, is_being_deleted, owned_by
from canary.sandbox.workloads.replicasets import ReplicaSets
from canary.sandbox.workloads.rolling import Bounds, Scale, plan, plan_paused

Copy = Reflector[dict[str, Any]]

_UNSYNCED_S = 0.1


def _whole(obj: dict[str, Any]) -> dict[str, Any]:
    return obj


class DeploymentController:
    """Runs on its own threads between start() and stop(); `namespace` None means all."""

    def __init__(self, gateway: Gateway, namespace: str | None = None) -> None:
        self._gateway = gateway
        self._loop = Loop(self._reconcile)
        self._deployments: Copy = Reflector(
            gateway, DEPLOYMENT, namespace, project=_whole, on_change=lambda c: self._changed(DEPLOYMENT.kind, c)
        )
        self._replicasets: Copy = Reflector(
            gateway, REPLICASET, namespace, project=_whole, on_change=self._replicaset_changed
        )
        self._pods: Copy = Reflector(gateway, POD, namespace, project=_whole, on_change=self._pod_changed)
        self._copies = (self._deployments, self._replicasets, self._pods)
        self._sets = ReplicaSets(gateway, self._replicasets, self._pods)

    def start(self, timeout_seconds: float = 30.0) -> bool:
        """Begin; False when the API server did not answer within the time (it goes on trying)."""
        for copy in self._copies:
            copy.start()
        synced = all(copy.wait_synced(timeout_seconds) for copy in self._copies)
        self._loop.start()
        return synced

    def stop(self) -> None:
        self._loop.stop()
        for copy in self._copies:
            copy.stop()

    def _changed(self, kind: str, change: Change[dict[str, Any]]) -> None:
        self._loop.queue.add((kind, *change.key))

    def _replicaset_changed(self, change: Change[dict[str, Any]]) -> None:
        self._changed(REPLICASET.kind, change)
        self._owner_changed(DEPLOYMENT.kind, change, controller_of(_either(change), DEPLOYMENT))

    def _pod_changed(self, change: Change[dict[str, Any]]) -> None:
        self._owner_changed(REPLICASET.kind, change, controller_of(_either(change), REPLICASET))

    def _owner_changed(self, kind: str, change: Change[dict[str, Any]], owner: tuple[str, str] | None) -> None:
        if owner is not None:
            self._loop.queue.add((kind, change.key[0], owner[0]))

    def _reconcile(self, key: Key) -> float | None:
        kind, namespace, name = key
        if not all(copy.has_synced for copy in self._copies):
            return _UNSYNCED_S  # half a copy would make a second ReplicaSet of what is already there
        if kind == REPLICASET.kind:
            return self._sets.reconcile(namespace, name)
        return self._reconcile_deployment(namespace, name)

    def _reconcile_deployment(self, namespace: str, name: str) -> float | None:
        deployment = self._deployments.get(namespace, name)
        if deployment is None or is_being_deleted(deployment):
            return None
        owned = owned_by(deployment, DEPLOYMENT, self._replicasets.items(namespace))
        current = revisions.current(deployment, owned)
        is_paused, is_new = deployment["spec"].get("paused", False), False
        if current is None and not is_paused:
            current, is_new = self._create_current(deployment, owned), True
        old = [rs for rs in owned if current is None or rs["metadata"]["name"] != current["metadata"]["name"]]
        if current is not None and not is_paused:
            current = self._renumber(deployment, current, old)
        scaled = self._scaled(deployment, current, old)
        if not is_paused:
            self._forget_expired(deployment, old)
        if current is None:
            return self._report(deployment, None, scaled, is_new=False)
        return self._report(deployment, scaled[0], scaled[1:], is_new=is_new)

    def _create_current(self, deployment: Object, owned: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """The ReplicaSet of the template. Conflict when one of that name is there: our copy has not seen it yet."""
        replicas = deployment["spec"].get("replicas", 1)
        bounds = Bounds.of(deployment["spec"].get("strategy"), replicas)
        scales = [_scale_of(rs) for rs in owned]
        first = plan(replicas, bounds, Scale("", 0, 0, 0), scales).get("", 0)
        body = revisions.replicaset_for(deployment, revisions.next_revision(owned), first)
        return self._gateway.create(REPLICASET, deployment["metadata"]["namespace"], body)

    def _renumber(self, deployment: Object, current: dict[str, Any], old: Sequence[Object]) -> dict[str, Any]:
        """The current ReplicaSet is the newest revision, also when its template came back; the Deployment says so."""
        namespace, name = deployment["metadata"]["namespace"], deployment["metadata"]["name"]
        revision = max(revisions.revision_of(current), revisions.next_revision(old))
        annotations = revisions.annotations_for(deployment, revision)
        least = deployment["spec"].get("minReadySeconds", 0)
        known = (current["metadata"].get("annotations") or {}).items()
        if not annotations.items() <= known or current["spec"].get("minReadySeconds", 0) != least:
            pinned = {"annotations": annotations, "resourceVersion": current["metadata"]["resourceVersion"]}
            body = {"metadata": pinned, "spec": {"minReadySeconds": least}}
            current = self._gateway.patch(REPLICASET, namespace, current["metadata"]["name"], body, patch_type="merge")
        if revisions.revision_of(deployment) != revision:
            number = {"metadata": {"annotations": {revisions.REVISION: str(revision)}}}
            self._gateway.patch(DEPLOYMENT, namespace, name, number, patch_type="merge")
        return current

    def _scaled(
        self, deployment: Object, current: dict[str, Any] | None, old: Sequence[dict[str, Any]]
    ) -> list[dict[str, Any]]:
        """All ReplicaSets, the current one first, then the newest first, with the replicas they shall have now."""
        spec = deployment["spec"]
        replicas = spec.get("replicas", 1)
        everyone = [*([current] if current else []), *reversed(old)]
        if spec.get("paused") or current is None:
            changes = plan_paused(replicas, [_scale_of(rs) for rs in everyone])
        else:
            bounds = Bounds.of(spec.get("strategy"), replicas)
            changes = plan(replicas, bounds, _scale_of(current), [_scale_of(rs) for rs in old])
        return [self._resize(rs, changes.get(rs["metadata"]["name"])) for rs in everyone]

    def _resize(self, replicaset: dict[str, Any], replicas: int | None) -> dict[str, Any]:
        if replicas is None:
            return replicaset
        metadata = replicaset["metadata"]
        # pinned to what it was decided on: an old copy must not take back a newer number
        body = {"metadata": {"resourceVersion": metadata["resourceVersion"]}, "spec": {"replicas": replicas}}
        return self._gateway.patch(REPLICASET, metadata["namespace"], metadata["name"], body, patch_type="merge")

    def _forget_expired(self, deployment: Object, old: Sequence[dict[str, Any]]) -> None:
        for rs in revisions.expired(deployment, old):
            metadata = rs["metadata"]
            try:
                self._gateway.delete(REPLICASET, metadata["namespace"], metadata["name"], uid=metadata["uid"])
            except NotFound:
                continue

    def _report(
        self, deployment: Object, current: Object | None, old: Sequence[Object], *, is_new: bool
    ) -> float | None:
        metadata, now = deployment["metadata"], utc_now()
        status = deployment_status(deployment, current, old, now, is_new=is_new)
        if not status.items() <= (deployment.get("status") or {}).items():
            self._gateway.patch(
                DEPLOYMENT,
                metadata["namespace"],
                metadata["name"],
                {"status": status},
                patch_type="merge",
                subresource="status",
            )
        left = deadline_in(deployment, status, now)
        return None if left is None else left + 1.0


def _either(change: Change[dict[str, Any]]) -> dict[str, Any]:
    found = change.new or change.old
    assert found is not None  # a change has one side at least
    return found


def _scale_of(replicaset: Object) -> Scale:
    status = replicaset.get("status") or {}
    return Scale(
        replicaset["metadata"]["name"],
        replicaset["spec"].get("replicas", 1),
        status.get("replicas", 0),
        status.get("availableReplicas", 0),
    )
