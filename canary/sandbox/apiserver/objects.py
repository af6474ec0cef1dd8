"""What happens to an object when it is written: the one way into the store.

Every create, update, patch, apply and status write ends in `_save`, which prunes, fills in defaults, validates, keeps
what the writer may not change, counts the generation and records the field's manager. Deleting is deletion.py.
"""

from __future__ import annotations

import datetime
import logging
import random
import re
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from canary.sandbox.apiserver import answers, builtin, managed, schema
from canary.sandbox.apiserver.answers import ApiError, Cause, Json
from canary.sandbox.apiserver.apply import apply
from canary.sandbox.apiserver.deletion import Deletion
from canary.sandbox.apiserver.managed import Manager, Owned
from canary.sandbox.apiserver.patch import copied
from canary.sandbox.apiserver.resources import Registry, Resource, Version, from_definition
from canary.sandbox.apiserver.store import Store

_log = logging.getLogger(__name__)
_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_RANDOM_LETTERS = "bcdfghjklmnpqrstvwxz2456789"
_CRD = ("apiextensions.k8s.io", "customresourcedefinitions")


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


@dataclass
class Request:
    """The options of one write. `warnings` collects what is sent back as Warning headers."""

    manager: str
    field_validation: str = "Warn"
    dry_run: bool = False
    force: bool = False
    warnings: list[str] = field(default_factory=list)


def timestamp() -> str:
    """Now, as Kubernetes writes it: RFC 3339 in whole seconds, UTC."""
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class Objects:
    """Reads and writes of objects, by `Target`. Every method raises `ApiError`."""

    def __init__(self, registry: Registry, store: Store) -> None:
        self.registry, self.store = registry, store
        self.deletion = Deletion(registry, store)

    def get(self, target: Target) -> Json:
        found = self.store.get(target.resource.key, (target.namespace, target.name))
        if found is None:
            raise answers.not_found(target.resource.group, target.resource.plural, target.name)
        return found

    def create(self, target: Target, body: Json, request: Request) -> Json:
        """Store a new object; `target.name` is ignored. 409 when the name is taken, 404 without its namespace."""
        resource = target.resource
        self._check_identity(target, body)
        new = {**body, "metadata": {**(body.get("metadata") or {})}}
        metadata = new["metadata"]
        prefix = metadata.get("generateName")
        if not metadata.get("name") and prefix:
            metadata["name"] = prefix + "".join(random.choices(_RANDOM_LETTERS, k=5))
        self._check_new(target, metadata)
        if self.store.get(resource.key, (target.namespace, metadata["name"])) is not None:
            raise answers.already_exists(resource.group, resource.plural, metadata["name"])
        for name in ("resourceVersion", "selfLink", "managedFields", "deletionTimestamp", "deletionGracePeriodSeconds"):
            metadata.pop(name, None)
        metadata |= {"uid": str(uuid.uuid4()), "creationTimestamp": timestamp()}
        if target.namespace:
            metadata["namespace"] = target.namespace
        if target.version.has_status:
            new.pop("status", None)
        bare = {"metadata": {key: metadata[key] for key in ("uid", "name", "creationTimestamp")}}
        return self._save(target, None, new, request, lambda done, now: self._updated(target, bare, done, request, now))

    def update(self, target: Target, body: Json, request: Request) -> Json:
        """Replace an object, or the part of it that `target.subresource` names."""
        live = self.get(target)
        self._check_identity(target, body)
        if not (body.get("metadata") or {}).get("resourceVersion") and target.resource.custom:
            cause = Cause(
                "FieldValueInvalid", "Invalid value: 0: must be specified for an update", "metadata.resourceVersion"
            )
            raise answers.invalid(target.resource.group, target.resource.kind, target.name, [cause])
        return self._change(target, live, body, request)

    def patch(self, target: Target, change: Callable[[Json], Any], request: Request) -> Json:
        """Replace an object by what `change` makes of it (it sees the requested version and returns a new object)."""
        live = self.get(target)
        new = change({**live, "apiVersion": target.api_version})
        if not isinstance(new, dict) or not isinstance(new.get("metadata"), dict):
            raise answers.bad_request("a patch must leave an object with metadata")
        self._check_identity(target, new)
        return self._change(target, live, new, request)

    def apply(self, target: Target, config: Json, request: Request) -> tuple[Json, bool]:
        """Server-side apply; returns the object and whether it was created."""
        self._check_identity(target, config)
        config = _without_nulls({**config, "metadata": {**(config.get("metadata") or {}), "name": target.name}})
        if config["metadata"].pop("managedFields", None):
            raise answers.bad_request("metadata.managedFields must be nil")
        if target.subresource == "status":
            config.pop("spec", None)
        elif target.version.has_status:
            config.pop("status", None)
        if target.namespace:
            config["metadata"]["namespace"] = target.namespace
        live = self.store.get(target.resource.key, (target.namespace, target.name))
        if live is None:
            if config["metadata"].get("uid") or target.subresource:
                raise answers.not_found(target.resource.group, target.resource.plural, target.name)
            self._check_new(target, config["metadata"])
        self._check_version(target, live, config["metadata"])
        base = live or {
            "metadata": {"name": target.name, "uid": str(uuid.uuid4()), "creationTimestamp": timestamp()},
        }
        known = managed.read(base)
        who = Manager(request.manager, "Apply", target.api_version, target.subresource)
        lists = target.resource.lists(target.version)
        config["metadata"].pop("resourceVersion", None)
        merged, managers = apply(base, config, known, who, lists, force=request.force, now=timestamp())
        return self._save(target, live, merged, request, lambda _done, _now: managers), live is None

    def _change(self, target: Target, live: Json, new: Json, request: Request) -> Json:
        self._check_version(target, live, new["metadata"])
        return self._save(target, live, new, request, lambda done, now: self._updated(target, live, done, request, now))

    def _updated(self, target: Target, live: Json, done: Json, request: Request, now: str) -> dict[Manager, Owned]:
        who = Manager(request.manager, "Update", target.api_version, target.subresource)
        lists = target.resource.lists(target.version)
        return managed.after_update(managed.read(live), live, done, lists, who=who, now=now)

    def _save(
        self,
        target: Target,
        live: Json | None,
        new: Json,
        request: Request,
        managers: Callable[[Json, str], dict[Manager, Owned]],
    ) -> Json:
        """Store `new` as the next state of `live`; `managers` says who owns what in the finished object."""
        resource, version = target.resource, target.version
        if live:
            new = _with_kept_parts(target, live, new)
        new = copied({**new, "apiVersion": resource.storage_api_version, "kind": resource.kind})
        self._conform(target, live, new, request)
        now = timestamp()
        new["metadata"]["managedFields"] = managed.entries(
            managed.keep_existing(managers(new, now), managed.leaves(new, resource.lists(version)))
        )
        if live and _same(live, new):
            return live
        if resource.has_generation:
            generation = live["metadata"].get("generation", 1) if live else 1
            new["metadata"]["generation"] = generation + (
                live is not None and _spec_changed(resource, version, live, new)
            )
        if request.dry_run:
            return new
        return self._store(resource, new, live)

    def _store(self, resource: Resource, new: Json, live: Json | None) -> Json:
        metadata = new["metadata"]
        name = (metadata.get("namespace", ""), metadata["name"])
        stored = self.store.put(resource.key, name, new)
        if resource.key == _CRD:
            self.registry.add(from_definition(stored))
        if metadata.get("deletionTimestamp") and not metadata.get("finalizers"):
            return self.deletion.finalized(resource, stored)
        if live is None and metadata.get("ownerReferences"):
            self.deletion.collect_if_orphaned(resource, stored)
        return stored

    def _conform(self, target: Target, live: Json | None, new: Json, request: Request) -> None:
        """Prune, fill in, validate, in place. Raises 400 for unknown fields under Strict, 422 for what is wrong."""
        resource = target.resource
        kind_schema = target.version.schema
        if resource.custom and kind_schema:
            unknown = [f'unknown field "{name}"' for name in schema.prune(kind_schema, new)]
            if unknown and request.field_validation == "Strict":
                what = f"{resource.kind} in version {target.version.name!r} cannot be handled as a {resource.kind}"
                raise answers.bad_request(f"{what}: strict decoding error: {', '.join(unknown)}".replace("'", '"'))
            if request.field_validation != "Ignore":
                request.warnings += unknown
            schema.apply_defaults(kind_schema, new)
        causes: list[Cause] = []
        if not resource.custom:
            builtin.fill_in(resource, new, live)
        if kind_schema:
            causes += schema.validate(kind_schema, new)
        if not resource.custom and not causes:
            causes += builtin.check(resource, new, live)
        causes += _wrong_metadata(new["metadata"])
        if causes:
            raise answers.invalid(resource.group, resource.kind, new["metadata"]["name"], causes)

    def _check_identity(self, target: Target, body: Json) -> None:
        """400 when the body is about another kind, version, namespace or name than the URL."""
        metadata = body.get("metadata") or {}
        if not isinstance(metadata, dict):
            raise answers.bad_request("metadata must be an object")
        if body.get("kind", target.resource.kind) != target.resource.kind:
            raise answers.bad_request(
                f"{body['kind']} in version {body.get('apiVersion')!r} cannot be handled as a {target.resource.kind}"
            )
        if body.get("apiVersion", target.api_version) != target.api_version:
            raise answers.bad_request(
                f"the API version in the data ({body['apiVersion']}) does not match the expected API version"
                f" ({target.api_version})"
            )
        if metadata.get("namespace", target.namespace) not in (target.namespace, ""):
            raise answers.bad_request(
                "the namespace of the provided object does not match the namespace sent on the request"
            )
        if target.name and metadata.get("name", target.name) != target.name:
            raise answers.bad_request(
                f"the name of the object ({metadata['name']}) does not match the name on the URL ({target.name})"
            )

    def _check_new(self, target: Target, metadata: Json) -> None:
        resource, name = target.resource, metadata.get("name") or ""
        if not name or not isinstance(name, str):
            cause = Cause("FieldValueRequired", "Required value: name or generateName is required", "metadata.name")
            raise answers.invalid(resource.group, resource.kind, "", [cause])
        if not _NAME.fullmatch(name) or len(name) > 253:
            message = (
                f'Invalid value: "{name}": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric '
                "characters, '-' or '.', and must start and end with an alphanumeric character"
            )
            raise answers.invalid(
                resource.group, resource.kind, name, [Cause("FieldValueInvalid", message, "metadata.name")]
            )
        if resource.namespaced:
            namespace = self.store.get(("", "namespaces"), ("", target.namespace))
            if namespace is None:
                raise answers.not_found("", "namespaces", target.namespace)
            if namespace["metadata"].get("deletionTimestamp"):
                why = f"unable to create new content in namespace {target.namespace} because it is being terminated"
                told = f"namespace {target.namespace} is being terminated"
                cause = Cause("NamespaceTerminating", told, "metadata.namespace")
                raise answers.forbidden(resource.group, resource.plural, name, why, [cause])

    def _check_version(self, target: Target, live: Json | None, metadata: Json) -> None:
        """409 when the writer saw another version, or another object of the same name."""
        resource, have = target.resource, (live or {}).get("metadata") or {}
        if metadata.get("resourceVersion") and metadata["resourceVersion"] != have.get("resourceVersion"):
            raise answers.conflict(resource.group, resource.plural, target.name)
        if live and metadata.get("uid") and metadata["uid"] != have["uid"]:
            why = f"Precondition failed: UID in precondition: {metadata['uid']}, UID in object meta: {have['uid']}"
            raise answers.conflict(resource.group, resource.plural, target.name, why)


def _with_kept_parts(target: Target, live: Json, new: Json) -> Json:
    """`new` with what this endpoint may not change taken from `live`."""
    if target.subresource == "status":
        status = {"status": new["status"]} if "status" in new else {}
        return {**{key: value for key, value in live.items() if key != "status"}, **status}
    old, metadata = live["metadata"], dict(new["metadata"])
    for name in (
        *("name", "namespace", "uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds"),
        *("generation", "generateName", "resourceVersion", "selfLink", "managedFields"),
    ):
        metadata.pop(name, None)
        if name in old:
            metadata[name] = old[name]
    kept = {**new, "metadata": metadata}
    if target.version.has_status:
        kept.pop("status", None)
        if "status" in live:
            kept["status"] = live["status"]
    return kept


def _same(live: Json, new: Json) -> bool:
    """Whether a write changes nothing: then it makes no new version and no event (as upstream)."""
    return _comparable(live) == _comparable(new)


def _comparable(obj: Json) -> Json:
    return {**obj, "metadata": {key: value for key, value in obj["metadata"].items() if key != "resourceVersion"}}


def _spec_changed(resource: Resource, version: Version, live: Json, new: Json) -> bool:
    """Custom resources: anything but metadata (and status, when it is a subresource). Built-in kinds: the spec."""
    ignored = {"metadata", "apiVersion", "kind", *(("status",) if version.has_status or not resource.custom else ())}
    return {k: v for k, v in live.items() if k not in ignored} != {k: v for k, v in new.items() if k not in ignored}


def _wrong_metadata(metadata: Json) -> list[Cause]:
    causes = []
    for name in ("labels", "annotations"):
        value = metadata.get(name)
        if value is None:
            metadata.pop(name, None)
        elif not isinstance(value, dict) or not all(isinstance(item, str) for item in value.values()):
            message = f"Invalid value: metadata.{name} must be a map of strings"
            causes.append(Cause("FieldValueTypeInvalid", message, f"metadata.{name}"))
    for name in ("finalizers", "ownerReferences"):
        if not metadata.get(name):
            metadata.pop(name, None)
    for index, owner in enumerate(metadata.get("ownerReferences") or ()):
        missing = [key for key in ("apiVersion", "kind", "name", "uid") if not owner.get(key)]
        where = f"metadata.ownerReferences[{index}]"
        causes += [Cause("FieldValueInvalid", "Invalid value: must not be empty", f"{where}.{key}") for key in missing]
    return causes


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_nulls(item) for name, item in value.items() if item is not None}
    return [_without_nulls(item) for item in value] if isinstance(value, list) else value


__all__ = ["ApiError", "Objects", "Request", "Target", "timestamp"]
