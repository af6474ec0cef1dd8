"""What happens to an object when it is written: the one way into the store.

Every create, update, patch, apply and status write ends in `_save`, which prunes, fills in defaults, validates, keeps
what the writer may not change, counts the generation and records the field's manager. Deleting is deletion.py.
"""

from __future__ import annotations

import datetime
import random
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from canary.sandbox.apiserver import answers, defaults, managed, rules, schema
from canary.sandbox.apiserver.answers import Cause, Json
from canary.sandbox.apiserver.apply import apply
from canary.sandbox.apiserver.deletion import Deletion
from canary.sandbox.apiserver.managed import Manager, Managers, Owned
from canary.sandbox.apiserver.patch import copied
from canary.sandbox.apiserver.resources import Registry, Resource, from_definition
from canary.sandbox.apiserver.rules import Target
from canary.sandbox.apiserver.store import Store

_RANDOM_LETTERS = "bcdfghjklmnpqrstvwxz2456789"
_CRD = ("apiextensions.k8s.io", "customresourcedefinitions")
_Ownership = Callable[[Json, str], dict[Manager, Owned]]
"""From the finished object and the time to who owns what in it."""


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
        rules.check_identity(target, body)
        new = {**body, "metadata": {**(body.get("metadata") or {})}}
        metadata = new["metadata"]
        if not metadata.get("name") and isinstance(metadata.get("generateName"), str):
            metadata["name"] = metadata["generateName"] + "".join(random.choices(_RANDOM_LETTERS, k=5))
        rules.check_new(self.store, target, metadata)
        if self.store.get(resource.key, (target.namespace, metadata["name"])) is not None:
            raise answers.already_exists(resource.group, resource.plural, metadata["name"])
        if metadata.get("resourceVersion"):
            raise answers.version_on_create()
        for name in ("resourceVersion", "selfLink", "managedFields", "deletionTimestamp", "deletionGracePeriodSeconds"):
            metadata.pop(name, None)
        bare = _bare(target, metadata["name"])
        new["metadata"] |= bare["metadata"]
        if target.version.has_status:
            new.pop("status", None)
        return self._save(target, None, new, request, _taken_by(target, bare, {}, request))

    def update(self, target: Target, body: Json, request: Request) -> Json:
        """Replace an object, or the part of it that `target.subresource` names."""
        live, resource = self.get(target), target.resource
        rules.check_identity(target, body)
        if not (body.get("metadata") or {}).get("resourceVersion") and resource.custom:
            message = "Invalid value: 0: must be specified for an update"
            cause = Cause("FieldValueInvalid", message, "metadata.resourceVersion")
            raise answers.invalid(resource.group, resource.kind, target.name, [cause])
        return self._change(target, live, body, request)

    def patch(self, target: Target, change: Callable[[Json], Any], request: Request) -> Json:
        """Replace an object by what `change` makes of it (it sees the requested version and returns a new object)."""
        live = self.get(target)
        new = change({**live, "apiVersion": target.api_version})
        if not isinstance(new, dict) or not isinstance(new.get("metadata"), dict):
            raise answers.bad_request("a patch must leave an object with metadata")
        rules.check_identity(target, new)
        return self._change(target, live, new, request)

    def apply(self, target: Target, config: Json, request: Request) -> tuple[Json, bool]:
        """Server-side apply; returns the object and whether it was created."""
        rules.check_identity(target, config)
        config = rules.without_nulls({**config, "metadata": {**(config.get("metadata") or {})}})
        metadata = config["metadata"]
        if metadata.pop("managedFields", None):
            raise answers.bad_request("metadata.managedFields must be nil")
        if target.subresource == "status":
            config.pop("spec", None)
        elif target.version.has_status:
            config.pop("status", None)
        live = self.store.get(target.resource.key, (target.namespace, target.name))
        if live is None:
            if metadata.get("uid") or target.subresource:
                raise answers.not_found(target.resource.group, target.resource.plural, target.name)
            rules.check_new(self.store, target, {"name": target.name})
        rules.check_version(target, live, metadata)
        for name in ("resourceVersion", "uid"):
            metadata.pop(name, None)
        base = live or _bare(target, target.name)
        who = Manager(request.manager, "Apply", target.api_version, target.subresource)
        lists = target.resource.lists(target.version)
        merged, managers = apply(base, config, managed.read(base), who, lists, force=request.force, now=timestamp())
        return self._save(target, live, merged, request, lambda _done, _now: managers), live is None

    def _change(self, target: Target, live: Json, new: Json, request: Request) -> Json:
        metadata = new.get("metadata") or {}
        rules.check_version(target, live, metadata)
        known = managed.read(live) if target.subresource else managed.read_written(live, metadata)
        return self._save(target, live, {**new, "metadata": metadata}, request, _taken_by(target, live, known, request))

    def _save(self, target: Target, live: Json | None, new: Json, request: Request, ownership: _Ownership) -> Json:
        """Store `new` as the next state of `live`; nothing happens when it says nothing new."""
        resource = target.resource
        if live:
            new = rules.with_kept_parts(target, live, new)
        if not resource.custom:
            new = rules.without_nulls(new)  # Go's types cannot hold them
        new = copied({**new, "apiVersion": resource.storage_api_version, "kind": resource.kind})
        self._conform(target, live, new, request)
        managers = managed.keep_existing(ownership(new, timestamp()), new, resource.lists(target.version))
        new["metadata"]["managedFields"] = managed.entries(managers)
        if live and rules.same(live, new):
            return live
        if resource.has_generation:
            generation = live["metadata"].get("generation", 1) if live else 1
            changed = live is not None and rules.spec_changed(target, live, new)
            new["metadata"]["generation"] = generation + changed
        return new if request.dry_run else self._store(resource, new, live)

    def _store(self, resource: Resource, new: Json, live: Json | None) -> Json:
        metadata = new["metadata"]
        stored = self.store.put(resource.key, (metadata.get("namespace", ""), metadata["name"]), new)
        if resource.key == _CRD:
            self.registry.add(from_definition(stored))
        if metadata.get("deletionTimestamp") and not metadata.get("finalizers"):
            return self.deletion.finalized(resource, stored)
        if live is None and metadata.get("ownerReferences"):
            self.deletion.collect_if_orphaned(resource, stored)
        return stored

    def _conform(self, target: Target, live: Json | None, new: Json, request: Request) -> None:
        """Prune, fill in, validate, in place. Raises 400 for unknown fields under Strict, 422 for what is wrong."""
        resource, kind_schema = target.resource, target.version.schema
        if resource.custom and kind_schema:
            unknown = [f'unknown field "{name}"' for name in schema.prune(kind_schema, new)]
            if unknown and request.field_validation == "Strict":
                what = f'{resource.kind} in version "{target.version.name}" cannot be handled as a {resource.kind}'
                raise answers.bad_request(f"{what}: strict decoding error: {', '.join(unknown)}")
            if request.field_validation != "Ignore":
                request.warnings += unknown
            schema.apply_defaults(kind_schema, new)
        causes = rules.tidy_metadata(new["metadata"])
        if kind_schema:
            causes += schema.validate(kind_schema, new)
        if not resource.custom and not causes:
            defaults.fill_in(resource, new, live)
            causes += defaults.check(resource, new, live)
        if causes:
            raise answers.invalid(resource.group, resource.kind, new["metadata"]["name"], causes)


def _bare(target: Target, name: str) -> Json:
    """What any new object of that name starts from."""
    metadata = {"name": name, "uid": str(uuid.uuid4()), "creationTimestamp": timestamp()}
    return {"metadata": {**metadata, **({"namespace": target.namespace} if target.namespace else {})}}


def _taken_by(target: Target, before: Json, known: Managers, request: Request) -> _Ownership:
    """The ownership after any write but apply: the writer takes what it changed."""
    who = Manager(request.manager, "Update", target.api_version, target.subresource)
    lists = target.resource.lists(target.version)
    return lambda done, now: managed.after_update(known, before, done, lists, who=who, now=now)
