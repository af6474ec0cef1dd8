"""Who belongs to whom among Deployments, ReplicaSets, Pods and Services.

Pure look-ups on projected objects (projections.py) of one namespace; the caller passes what its reflectors hold of
that namespace. Nothing is fetched here.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from canary.cluster.projections import REVISION_ANNOTATION, Object
from canary.cluster.timestamps import parse_time

TEMPLATE_HASH = "pod-template-hash"
"""The label by which a Deployment's controller tells its ReplicaSets and their Pods apart."""


def replicasets_of(deployment: Object, replicasets: Iterable[Object]) -> list[Object]:
    """The ReplicaSets this Deployment controls, by owner uid: a label can be anybody's."""
    return [replicaset for replicaset in replicasets if owner_uid(replicaset) == deployment["metadata"]["uid"]]


def newest_replicaset(deployment: Object, replicasets: Iterable[Object]) -> Object | None:
    """The ReplicaSet of the Deployment's newest template: the highest deployment.kubernetes.io/revision.

    `kubectl rollout undo` gives an old ReplicaSet the highest number again, so age does not count. None when the
    Deployment has none yet.
    """
    return max(replicasets_of(deployment, replicasets), key=_revision_number, default=None)


def current_revision(deployment: Object, replicasets: Iterable[Object]) -> str | None:
    """The pod-template-hash of the Deployment's current template (decisions.md 3).

    None while that is not known: its controller has not seen the newest generation yet, or has made no ReplicaSet.
    Read in that moment, the newest ReplicaSet would still be that of the template before.
    """
    generation = deployment["metadata"].get("generation", 0)
    if deployment.get("status", {}).get("observedGeneration", 0) < generation:
        return None
    newest = newest_replicaset(deployment, replicasets)
    if newest is None:
        return None
    told = deployment["metadata"].get("annotations", {}).get(REVISION_ANNOTATION)
    if told is not None and told.isdigit() and int(told) > _revision_number(newest):
        return None  # the Deployment's event came before that of its new ReplicaSet: two watches, no common order
    revision: str | None = newest["metadata"].get("labels", {}).get(TEMPLATE_HASH)
    return revision


def owner_uid(obj: Object) -> Any:
    """The uid of the controller that an object belongs to, None for nobody's."""
    owners = obj["metadata"].get("ownerReferences") or ()
    return next((owner.get("uid") for owner in owners if owner.get("controller")), None)


def by_owner(objects: Iterable[Object]) -> dict[Any, list[Object]]:
    """Objects by the uid of the controller that they belong to."""
    found: dict[Any, list[Object]] = defaultdict(list)
    for obj in objects:
        found[owner_uid(obj)].append(obj)
    return dict(found)


def pods_of(replicaset: Object, pods: Iterable[Object]) -> list[Object]:
    """The Pods this ReplicaSet controls, those being deleted among them."""
    return [pod for pod in pods if owner_uid(pod) == replicaset["metadata"]["uid"]]


def is_ready(pod: Object) -> bool:
    """Ready, and not on its way out."""
    return _ready_since(pod) is not None


def ready_since(pods: Iterable[Object], needed: int) -> datetime | None:
    """Since when at least `needed` of these pods are ready at the same time; None while fewer are.

    `needed` below one is read as one: no pods at all are not ready pods.
    """
    moments = sorted(moment for pod in pods if (moment := _ready_since(pod)) is not None)
    return moments[max(needed, 1) - 1] if len(moments) >= max(needed, 1) else None


def _ready_since(pod: Object) -> datetime | None:
    if pod["metadata"].get("deletionTimestamp"):
        return None
    for condition in pod.get("status", {}).get("conditions", ()):
        if condition.get("type") == "Ready" and condition.get("status") == "True":
            return parse_time(condition.get("lastTransitionTime"))
    return None


def _revision_number(replicaset: Object) -> int:
    text = replicaset["metadata"].get("annotations", {}).get(REVISION_ANNOTATION, "")
    return int(text) if text.isdigit() else 0
