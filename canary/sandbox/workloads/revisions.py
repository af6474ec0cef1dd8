"""Which ReplicaSet is which revision of a Deployment: hashes, names, history. No I/O.

As in Kubernetes' Deployment controller (pkg/controller/deployment/util): a revision is a pod template, so a template
that comes back finds its old ReplicaSet and only gets a new revision number.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import orjson

from canary.cluster.kinds import DEPLOYMENT, REPLICASET
from canary.sandbox.workloads.ownership import Object, is_being_deleted, is_settled, owner_reference

HASH_LABEL = "pod-template-hash"
REVISION = "deployment.kubernetes.io/revision"
_SAFE = "bcdfghjklmnpqrstvwxz2456789"  # no vowels, nothing that reads like another: k8s.io/apimachinery/pkg/util/rand
_HASH_LENGTH = 10
_HISTORY_LIMIT = 10
_NOT_COPIED = {"kubectl.kubernetes.io/last-applied-configuration", REVISION}


def _without_hash(template: Object) -> dict[str, Any]:
    metadata = dict(template.get("metadata") or {})
    labels = {k: v for k, v in (metadata.pop("labels", None) or {}).items() if k != HASH_LABEL}
    metadata.pop("creationTimestamp", None)
    return {"spec": template.get("spec"), "metadata": metadata, "labels": labels}


def template_hash(template: Object) -> str:
    """Ten letters and digits that stand for a pod template, whatever the order of its keys."""
    digest = hashlib.sha256(orjson.dumps(_without_hash(template), option=orjson.OPT_SORT_KEYS)).digest()
    return "".join(_SAFE[byte % len(_SAFE)] for byte in digest[:_HASH_LENGTH])


def revision_of(obj: Object) -> int:
    """The revision number annotated on a ReplicaSet or a Deployment; 0 without one."""
    text = (obj["metadata"].get("annotations") or {}).get(REVISION, "")
    return int(text) if text.isdigit() else 0


def current(deployment: Object, replicasets: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """The ReplicaSet whose template is the Deployment's; of several, the first (oldest)."""
    wanted = _without_hash(deployment["spec"]["template"])
    return next((rs for rs in replicasets if _without_hash(rs["spec"]["template"]) == wanted), None)


def next_revision(old: Sequence[Object]) -> int:
    """The number the current ReplicaSet must have, or exceed, to be the newest."""
    return max((revision_of(rs) for rs in old), default=0) + 1


def annotations_for(deployment: Object, revision: int) -> dict[str, str]:
    """What a ReplicaSet carries over from its Deployment (kubernetes.io/change-cause, ...) and its revision."""
    copied = {k: v for k, v in (deployment["metadata"].get("annotations") or {}).items() if k not in _NOT_COPIED}
    return copied | {REVISION: str(revision)}


def replicaset_for(deployment: Object, revision: int, replicas: int) -> dict[str, Any]:
    """A new ReplicaSet for the Deployment's template."""
    spec, metadata = deployment["spec"], deployment["metadata"]
    digest = template_hash(spec["template"])
    template_metadata = spec["template"].get("metadata") or {}
    labels = {**(template_metadata.get("labels") or {}), HASH_LABEL: digest}
    selector = dict(spec["selector"])
    selector["matchLabels"] = {**(selector.get("matchLabels") or {}), HASH_LABEL: digest}
    body: dict[str, Any] = {
        "replicas": replicas,
        "selector": selector,
        "template": {**spec["template"], "metadata": {**template_metadata, "labels": labels}},
    }
    if spec.get("minReadySeconds"):
        body["minReadySeconds"] = spec["minReadySeconds"]
    return {
        "apiVersion": REPLICASET.api_version,
        "kind": REPLICASET.kind,
        "metadata": {
            "name": f"{metadata['name']}-{digest}",
            "namespace": metadata["namespace"],
            "labels": labels,
            "annotations": annotations_for(deployment, revision),
            "ownerReferences": [owner_reference(DEPLOYMENT, deployment)],
        },
        "spec": body,
    }


def expired(deployment: Object, old: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Old, empty ReplicaSets beyond revisionHistoryLimit (default 10), lowest revision first."""
    limit = deployment["spec"].get("revisionHistoryLimit", _HISTORY_LIMIT)
    empty = [
        rs
        for rs in old
        if not rs["spec"].get("replicas", 1)
        and not rs.get("status", {}).get("replicas")
        and is_settled(rs)
        and not is_being_deleted(rs)
    ]
    return sorted(empty, key=revision_of)[: max(0, len(old) - limit)]
