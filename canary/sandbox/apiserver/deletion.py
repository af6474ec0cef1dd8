"""How objects go: finalizers, preconditions, dependents of owners, contents of namespaces and of definitions.

There is no kubelet here, so pods go at once; whoever runs a pod's process sees the DELETED event.
"""

from __future__ import annotations

import datetime

from canary.sandbox.apiserver import answers
from canary.sandbox.apiserver.answers import Json
from canary.sandbox.apiserver.resources import Registry, Resource
from canary.sandbox.apiserver.store import KindKey, Name, Store

_NAMESPACES = ("", "namespaces")
_CRD = ("apiextensions.k8s.io", "customresourcedefinitions")
_PERMANENT = ("default", "kube-system")
_FOREGROUND = "foregroundDeletion"
_PRECONDITIONS = {"uid": ("UID", "deleted and then recreated"), "resourceVersion": ("ResourceVersion", "modified")}


class Deletion:
    """Deletes and garbage collection. Raises `ApiError` only from `delete`."""

    def __init__(self, registry: Registry, store: Store) -> None:
        self._registry, self._store = registry, store

    def delete(self, resource: Resource, live: Json, options: Json) -> Json:
        """Delete by DeleteOptions; returns the object's last state, or its next one while finalizers hold it."""
        metadata = live["metadata"]
        if resource.key == _NAMESPACES and metadata["name"] in _PERMANENT:
            raise answers.forbidden("", "namespaces", metadata["name"], "this namespace may not be deleted")
        for name, wanted in (options.get("preconditions") or {}).items():
            if wanted != metadata[name]:
                title, told = _PRECONDITIONS[name]
                why = (
                    f"the {title} in the precondition ({wanted}) does not match the {title} in record "
                    f"({metadata[name]}). The object might have been {told}"
                )
                raise answers.conflict(resource.group, resource.kind, metadata["name"], why)
        if options.get("dryRun"):
            return live
        policy = options.get("propagationPolicy") or ("Orphan" if options.get("orphanDependents") else "Background")
        if policy == "Orphan":
            for kind, name in self._store.dependents(metadata["uid"]):
                self._disown(kind, name, metadata["uid"])
        wait_for_dependents = policy == "Foreground" and any(self._store.dependents(metadata["uid"]))
        return self._delete(resource, live, foreground=wait_for_dependents)

    def _delete(self, resource: Resource, live: Json, *, foreground: bool = False) -> Json:
        metadata = live["metadata"]
        finalizers = list(metadata.get("finalizers") or ())
        if foreground and _FOREGROUND not in finalizers:
            finalizers.append(_FOREGROUND)
        if not finalizers and resource.key not in (_NAMESPACES, _CRD):
            return self._remove(resource, live)
        if not metadata.get("deletionTimestamp") or finalizers != list(metadata.get("finalizers") or ()):
            now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
            marked = {"deletionTimestamp": now, "deletionGracePeriodSeconds": 0, **metadata}
            if finalizers:
                marked["finalizers"] = finalizers
            if "generation" in metadata:
                marked["generation"] = metadata["generation"] + 1
            live = {**live, "metadata": marked}
            if resource.key == _NAMESPACES:
                live["status"] = {**(live.get("status") or {}), "phase": "Terminating"}
            live = self._put(resource.key, live)
        if foreground:
            self._collect_dependents(live["metadata"]["uid"])
            return self._current(resource.key, live)
        return live if finalizers else self.finalized(resource, live)

    def finalized(self, resource: Resource, live: Json) -> Json:
        """An object being deleted has no finalizers left: remove it once what it contains is gone."""
        if resource.key == _NAMESPACES:
            self._delete_all(self._store.objects_in(live["metadata"]["name"]))
            return self._current(_NAMESPACES, live)
        if resource.key == _CRD:
            kind = (live["spec"]["group"], live["spec"]["names"]["plural"])
            self._delete_all([(kind, obj) for obj in list(self._store.collection(kind).objects.values())])
            return self._current(_CRD, live)
        return self._remove(resource, live)

    def collect_if_orphaned(self, resource: Resource, obj: Json) -> None:
        """What is created for owners that are all gone is garbage at once."""
        if all(self._store.place(owner["uid"]) is None for owner in obj["metadata"].get("ownerReferences") or ()):
            self._delete(resource, obj)

    def _delete_all(self, objects: list[tuple[KindKey, Json]]) -> None:
        for kind, obj in objects:
            resource, live = self._registry.find(*kind), self._store.get(kind, _name(obj))
            if resource and live:
                self._delete(resource, live)
        self._release_containers()

    def _remove(self, resource: Resource, live: Json) -> Json:
        last = self._store.remove(resource.key, _name(live))
        self._collect_dependents(live["metadata"]["uid"])
        for reference in live["metadata"].get("ownerReferences") or ():
            self._release_owner(reference["uid"])
        self._release_containers()
        return last

    def _collect_dependents(self, uid: str) -> None:
        """Delete what only gone (or going in the foreground) owners own; take the owner off the others."""
        for kind, name in self._store.dependents(uid):
            obj, resource = self._store.get(kind, name), self._registry.find(*kind)
            if not obj or not resource:
                continue
            owners = {reference["uid"] for reference in obj["metadata"]["ownerReferences"]} - {uid}
            if any(self._store.place(owner) for owner in owners):
                self._disown(kind, name, uid)
            else:
                self._delete(resource, obj)

    def _disown(self, kind: KindKey, name: Name, uid: str) -> None:
        obj = self._store.get(kind, name)
        if obj:
            kept = [reference for reference in obj["metadata"]["ownerReferences"] if reference["uid"] != uid]
            metadata = {key: value for key, value in obj["metadata"].items() if key != "ownerReferences"}
            self._put(kind, {**obj, "metadata": {**metadata, **({"ownerReferences": kept} if kept else {})}})

    def _release_owner(self, uid: str) -> None:
        """The last dependent of an owner deleted in the foreground is gone: drop its finalizer."""
        place = self._store.place(uid)
        owner = self._store.get(*place) if place else None
        resource = self._registry.find(*place[0]) if place else None
        if not owner or not resource or any(self._store.dependents(uid)):
            return
        finalizers = owner["metadata"].get("finalizers") or []
        if _FOREGROUND in finalizers:
            kept = [finalizer for finalizer in finalizers if finalizer != _FOREGROUND]
            owner = self._put(resource.key, {**owner, "metadata": {**owner["metadata"], "finalizers": kept}})
            if not kept:
                self._remove(resource, owner)

    def _release_containers(self) -> None:
        """Remove namespaces and definitions that are being deleted and have become empty."""
        for kind in (_NAMESPACES, _CRD):
            for obj in list(self._store.collection(kind).objects.values()):
                metadata = obj["metadata"]
                if not metadata.get("deletionTimestamp") or metadata.get("finalizers"):
                    continue
                if kind == _NAMESPACES:
                    if not self._store.objects_in(metadata["name"]):
                        self._store.remove(kind, _name(obj))
                    continue
                declared = (obj["spec"]["group"], obj["spec"]["names"]["plural"])
                if not self._store.collection(declared).objects:
                    self._store.remove(kind, _name(obj))
                    self._registry.discard(*declared)
                    self._store.drop_kind(declared)

    def _put(self, kind: KindKey, obj: Json) -> Json:
        return self._store.put(kind, _name(obj), obj)

    def _current(self, kind: KindKey, obj: Json) -> Json:
        return self._store.get(kind, _name(obj)) or obj


def _name(obj: Json) -> Name:
    return obj["metadata"].get("namespace", ""), obj["metadata"]["name"]
