"""The scale subresource: an autoscaling/v1 Scale made from an object, and a changed Scale put back into it."""

from __future__ import annotations

from typing import Any

from canary.sandbox.apiserver import jsonpath
from canary.sandbox.apiserver.answers import Cause, Json, bad_request, conflict, invalid
from canary.sandbox.apiserver.patch import merge_patch
from canary.sandbox.apiserver.resources import Resource, Scale


def read(scale: Scale, obj: Json) -> Json:
    """The Scale of an object."""
    kept = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")
    metadata = {key: value for key, value in obj["metadata"].items() if key in kept}
    selector = _first(scale.selector, obj) if scale.selector else ""
    if isinstance(selector, dict):
        labels = selector.get("matchLabels") or {}
        selector = ",".join(f"{key}={value}" for key, value in sorted(labels.items()))
    return {
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": metadata,
        "spec": {"replicas": _first(scale.spec_replicas, obj) or 0},
        "status": {"replicas": _first(scale.status_replicas, obj) or 0, **({"selector": selector} if selector else {})},
    }


def written(resource: Resource, scale: Scale, live: Json, wanted: Any) -> Json:
    """The object with the replicas of a changed Scale. Raises 400, 409 (another version) or 422 (not a count)."""
    if not isinstance(wanted, dict) or wanted.get("kind", "Scale") != "Scale":
        raise bad_request("the body must be a Scale of autoscaling/v1")
    name = live["metadata"]["name"]
    metadata = wanted.get("metadata") or {}
    if not isinstance(metadata, dict):
        raise bad_request("metadata must be an object")
    version = metadata.get("resourceVersion")
    if version and version != live["metadata"]["resourceVersion"]:
        raise conflict(resource.group, resource.plural, name)
    spec = wanted.get("spec") or {}
    replicas = spec.get("replicas", 0) if isinstance(spec, dict) else None
    if isinstance(replicas, bool) or not isinstance(replicas, int) or replicas < 0:
        message = f"Invalid value: {replicas}: must be greater than or equal to 0"
        raise invalid("autoscaling", "Scale", name, [Cause("FieldValueInvalid", message, "spec.replicas")])
    change: Any = replicas
    for field in reversed(scale.spec_replicas.strip(".").split(".")):
        change = {field: change}
    merged: Json = merge_patch(live, change)
    return merged


def _first(path: str, obj: Json) -> Any:
    found = jsonpath.find(path, obj)
    return found[0] if found else None
