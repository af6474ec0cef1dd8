"""What a write may say about an object's identity and metadata, and what it cannot change."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from canary.sandbox.apiserver import answers
from canary.sandbox.apiserver.answers import Cause, Json
from canary.sandbox.apiserver.resources import Resource, Version
from canary.sandbox.apiserver.store import Store

_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_SYSTEM_METADATA = (
    *("name", "namespace", "uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds"),
    *("generation", "generateName", "resourceVersion", "selfLink", "managedFields"),
)


@dataclass(frozen=True)
class Target:
    """What a request is about. `namespace` is "" for cluster-scoped kinds and all namespaces; `name` "" for lists."""

    resource: Resource
    version: Version
    namespace: str = ""
    name: str = ""
    subresource: str = ""

    @property
    def api_version(self) -> str:
        return self.resource.api_version(self.version.name)


def check_identity(target: Target, body: Json) -> None:
    """400 when the body is about another kind, version, namespace or name than the URL."""
    metadata, kind = body.get("metadata") or {}, target.resource.kind
    if not isinstance(metadata, dict):
        raise answers.bad_request("metadata must be an object")
    api_version = body.get("apiVersion", target.api_version)
    if body.get("kind", kind) != kind:
        raise answers.bad_request(f'{body["kind"]} in version "{api_version}" cannot be handled as a {kind}')
    if api_version != target.api_version:
        told = f"the API version in the data ({api_version}) does not match the expected API version"
        raise answers.bad_request(f"{told} ({target.api_version})")
    if metadata.get("namespace", target.namespace) not in (target.namespace, ""):
        raise answers.bad_request(
            "the namespace of the provided object does not match the namespace sent on the request"
        )
    name = metadata.get("name", target.name)
    if target.name and name != target.name:
        raise answers.bad_request(f"the name of the object ({name}) does not match the name on the URL ({target.name})")


def check_new(store: Store, target: Target, metadata: Json) -> None:
    """422 for a bad name; 404 without the namespace, 403 when that is being deleted."""
    resource, name = target.resource, metadata.get("name") or ""
    if not name or not isinstance(name, str):
        cause = Cause("FieldValueRequired", "Required value: name or generateName is required", "metadata.name")
        raise answers.invalid(resource.group, resource.kind, "", [cause])
    if not _NAME.fullmatch(name) or len(name) > 253:
        message = (
            f'Invalid value: "{name}": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric '
            "characters, '-' or '.', and must start and end with an alphanumeric character"
        )
        cause = Cause("FieldValueInvalid", message, "metadata.name")
        raise answers.invalid(resource.group, resource.kind, name, [cause])
    if not resource.namespaced:
        return
    namespace = store.get(("", "namespaces"), ("", target.namespace))
    if namespace is None:
        raise answers.not_found("", "namespaces", target.namespace)
    if namespace["metadata"].get("deletionTimestamp"):
        why = f"unable to create new content in namespace {target.namespace} because it is being terminated"
        told = f"namespace {target.namespace} is being terminated"
        cause = Cause("NamespaceTerminating", told, "metadata.namespace")
        raise answers.forbidden(resource.group, resource.plural, name, why, [cause])


def check_version(target: Target, live: Json | None, metadata: Json) -> None:
    """409 when the writer saw another version, or another object of the same name."""
    resource, have = target.resource, (live or {}).get("metadata") or {}
    if metadata.get("resourceVersion") and metadata["resourceVersion"] != have.get("resourceVersion"):
        raise answers.conflict(resource.group, resource.plural, target.name)
    if live and metadata.get("uid") and metadata["uid"] != have["uid"]:
        why = f"Precondition failed: UID in precondition: {metadata['uid']}, UID in object meta: {have['uid']}"
        raise answers.conflict(resource.group, resource.plural, target.name, why)


def with_kept_parts(target: Target, live: Json, new: Json) -> Json:
    """`new` with what this endpoint may not change taken from `live`."""
    if target.subresource == "status":
        status = {"status": new["status"]} if "status" in new else {}
        return {**{key: value for key, value in live.items() if key != "status"}, **status}
    asked = {key: value for key, value in new["metadata"].items() if key not in _SYSTEM_METADATA}
    system = {key: value for key, value in live["metadata"].items() if key in _SYSTEM_METADATA}
    kept = {**new, "metadata": {**asked, **system}}
    if target.version.has_status:
        kept.pop("status", None)
        if "status" in live:
            kept["status"] = live["status"]
    return kept


def same(live: Json, new: Json) -> bool:
    """Whether a write changes nothing: then it makes no new version and no event (as upstream)."""
    return _comparable(live) == _comparable(new)


def _comparable(obj: Json) -> Json:
    return {**obj, "metadata": {key: value for key, value in obj["metadata"].items() if key != "resourceVersion"}}


def spec_changed(target: Target, live: Json, new: Json) -> bool:
    """Custom resources: anything but metadata (and status, when it is a subresource). Built-in kinds: no status;
    a Deployment's annotations count too."""
    ignored = {"metadata", "apiVersion", "kind"}
    if target.version.has_status or not target.resource.custom:
        ignored.add("status")
    if target.resource.kind == "Deployment" and live["metadata"].get("annotations") != new["metadata"].get(
        "annotations"
    ):
        return True
    return {k: v for k, v in live.items() if k not in ignored} != {k: v for k, v in new.items() if k not in ignored}


def tidy_metadata(metadata: Json) -> list[Cause]:
    """Drop empty parts of the metadata in place; returns what is wrong with the rest."""
    causes: list[Cause] = []
    for name in ("labels", "annotations"):
        value = metadata.get(name)
        if value is None:
            metadata.pop(name, None)
        elif not isinstance(value, dict) or not all(isinstance(item, str) for item in value.values()):
            message = f"Invalid value: metadata.{name} must be a map of strings"
            causes.append(Cause("FieldValueTypeInvalid", message, f"metadata.{name}"))
    for name in ("finalizers", "ownerReferences"):
        value = metadata.get(name) or []
        if not value:
            metadata.pop(name, None)
        kind = str if name == "finalizers" else dict
        if not isinstance(value, list) or not all(isinstance(item, kind) for item in value):
            message = f"Invalid value: metadata.{name} must be a list"
            causes.append(Cause("FieldValueTypeInvalid", message, f"metadata.{name}"))
        elif kind is dict:
            causes += [cause for index, owner in enumerate(value) for cause in _wrong_owner(owner, index)]
    return causes


def _wrong_owner(owner: Json, index: int) -> list[Cause]:
    where = f"metadata.ownerReferences[{index}]"
    missing = [key for key in ("apiVersion", "kind", "name", "uid") if not owner.get(key)]
    return [Cause("FieldValueInvalid", "Invalid value: must not be empty", f"{where}.{key}") for key in missing]


def without_nulls(value: Any) -> Any:
    """JSON without the fields that are null."""
    if isinstance(value, dict):
        return {name: without_nulls(item) for name, item in value.items() if item is not None}
    return [without_nulls(item) for item in value] if isinstance(value, list) else value
