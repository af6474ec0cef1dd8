"""The fields canary reads of each kind, cut out of the full objects that a list or a watch sends.

2,000 full Deployments make 105 MB of resident memory, projected 57 MB (cluster.md). A projection keeps the shape of
the object (`d["spec"]["replicas"]`), so that code reads the same from a full one. Pure and total: a field that is not
there is left out, and nothing is defaulted.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

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

Object = dict[str, Any]

REVISION_ANNOTATION = "deployment.kubernetes.io/revision"
OUR_ANNOTATIONS = "canary.delivery/"

_METADATA = (
    "name",
    "namespace",
    "uid",
    "resourceVersion",
    "generation",
    "labels",
    "creationTimestamp",
    "deletionTimestamp",
    "finalizers",
)
_DEPLOYMENT_STATUS = (
    "observedGeneration",
    "replicas",
    "updatedReplicas",
    "readyReplicas",
    "availableReplicas",
    "conditions",
)


def project_deployment(raw: Mapping[str, Any]) -> Object:
    """spec: replicas, paused, selector, template.metadata.labels; status: counts, observedGeneration, conditions."""
    spec = _part(raw, "spec")
    kept = _only(spec, "replicas", "paused", "selector")
    kept["template"] = {"metadata": _only(_part(_part(spec, "template"), "metadata"), "labels")}
    return _object(raw, DEPLOYMENT, spec=kept, status=_only(_part(raw, "status"), *_DEPLOYMENT_STATUS))


def project_replicaset(raw: Mapping[str, Any]) -> Object:
    """spec: replicas; status: replicas, readyReplicas; the pod-template-hash is among the labels."""
    return _object(
        raw,
        REPLICASET,
        spec=_only(_part(raw, "spec"), "replicas"),
        status=_only(_part(raw, "status"), "replicas", "readyReplicas"),
    )


def project_service(raw: Mapping[str, Any]) -> Object:
    """spec: type, selector, ports, externalName."""
    return _object(raw, SERVICE, spec=_only(_part(raw, "spec"), "type", "selector", "ports", "externalName"))


def project_pod(raw: Mapping[str, Any]) -> Object:
    """spec: nodeName; status: phase, podIP and the Ready condition."""
    status = _part(raw, "status")
    kept = _only(status, "phase", "podIP")
    kept["conditions"] = [
        _only(condition, "type", "status", "reason", "lastTransitionTime")
        for condition in status.get("conditions") or ()
        if condition.get("type") == "Ready"
    ]
    return _object(raw, POD, spec=_only(_part(raw, "spec"), "nodeName"), status=kept)


def project_namespace(raw: Mapping[str, Any]) -> Object:
    """metadata only, of which the labels are read."""
    return _object(raw, NAMESPACE)


def project_whole(raw: Mapping[str, Any]) -> Object:
    """Everything but metadata.managedFields: routes and rollouts are read, compared and patched as they stand."""
    whole = {**raw, "metadata": {key: value for key, value in _part(raw, "metadata").items() if key != "managedFields"}}
    interned: Object = _interned(whole)
    return interned


PROJECTIONS: Mapping[Kind, Callable[[Mapping[str, Any]], Object]] = MappingProxyType(
    {
        DEPLOYMENT: project_deployment,
        REPLICASET: project_replicaset,
        SERVICE: project_service,
        POD: project_pod,
        VIRTUALSERVICE: project_whole,
        DESTINATIONRULE: project_whole,
        CANARYROLLOUT: project_whole,
        NAMESPACE: project_namespace,
    }
)
"""One projection for each kind that a reflector keeps."""


def _object(raw: Mapping[str, Any], kind: Kind, **parts: Object) -> Object:
    whole = {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": _metadata(_part(raw, "metadata")), **parts}
    interned: Object = _interned(whole)
    return interned


def _metadata(raw: Mapping[str, Any]) -> Object:
    kept = _only(raw, *_METADATA)
    annotations = {
        key: value
        for key, value in (raw.get("annotations") or {}).items()
        if key.startswith(OUR_ANNOTATIONS) or key == REVISION_ANNOTATION
    }
    if annotations:
        kept["annotations"] = annotations
    owners = [owner for owner in raw.get("ownerReferences") or () if owner.get("controller")]
    if owners:
        kept["ownerReferences"] = owners
    return kept


def _part(raw: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    part = raw.get(key)
    return part if isinstance(part, dict) else {}


def _only(raw: Mapping[str, Any], *keys: str) -> Object:
    return {key: raw[key] for key in keys if key in raw}


def _interned(value: Any) -> Any:
    """The same value with equal strings kept once: label keys and values repeat in every object of a version."""
    if isinstance(value, str):
        return sys.intern(value)
    if isinstance(value, dict):
        return {sys.intern(key): _interned(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_interned(item) for item in value]
    return value
