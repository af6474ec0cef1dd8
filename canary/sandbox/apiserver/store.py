"""Objects in memory, one revision counter, and per kind a bounded history that watches resume from.

Everything runs on one event loop and no method awaits, so read-check-write is atomic. Stored objects are never
changed in place: callers hand over new ones.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

import orjson

from canary.sandbox.apiserver.answers import Json, object_too_large

KindKey = tuple[str, str]
"""(group, plural)."""
Name = tuple[str, str]
"""(namespace, name); the namespace of cluster-scoped objects is ""."""

MAX_OBJECT_BYTES = 1_572_864
"""etcd's default limit on one request (1.5 MiB)."""
_QUEUE_LIMIT = 10_000


class Change(NamedTuple):
    """One event of a kind. `type` is ADDED, MODIFIED or DELETED; `previous` is None for ADDED."""

    revision: int
    type: str
    obj: Json
    previous: Json | None


class Subscription:
    """Changes as they happen. `closed` is set when the subscriber fell too far behind or the kind went away."""

    def __init__(self) -> None:
        self.changes: asyncio.Queue[Change | None] = asyncio.Queue(_QUEUE_LIMIT + 1)
        self.closed = False

    def put(self, change: Change) -> None:
        if self.changes.qsize() >= _QUEUE_LIMIT:
            self.close()
        elif not self.closed:
            self.changes.put_nowait(change)

    def close(self) -> None:
        """End the subscription: a None follows what is already in it."""
        if not self.closed:
            self.closed = True
            self.changes.put_nowait(None)


class Collection:
    """All objects of one kind and its recent changes."""

    def __init__(self, history: int) -> None:
        self.objects: dict[Name, Json] = {}
        self.history: deque[Change] = deque(maxlen=history)
        self.forgotten = 0
        """Revision of the newest change that is no longer in the history: a watch cannot resume from before it."""
        self.subscriptions: set[Subscription] = set()

    def record(self, change: Change) -> None:
        if len(self.history) == self.history.maxlen:
            self.forgotten = self.history[0].revision
        self.history.append(change)
        for subscription in self.subscriptions:
            subscription.put(change)

    def since(self, revision: int) -> list[Change]:
        return [change for change in self.history if change.revision > revision]


class Store:
    """Every collection, and where an object is by its uid."""

    def __init__(self, history: int) -> None:
        self._history = history
        self._collections: dict[KindKey, Collection] = {}
        self._places: dict[str, tuple[KindKey, Name]] = {}
        self._dependents: dict[str, set[str]] = {}
        # Not from 1: a client that kept a revision of an earlier server must get an error, not another history.
        self.revision = random.randrange(1_000, 1_000_000)
        self._first = self.revision

    def collection(self, kind: KindKey) -> Collection:
        if kind not in self._collections:
            self._collections[kind] = Collection(self._history)
            self._collections[kind].forgotten = self._first
        return self._collections[kind]

    def get(self, kind: KindKey, name: Name) -> Json | None:
        return self.collection(kind).objects.get(name)

    def objects_in(self, namespace: str) -> list[tuple[KindKey, Json]]:
        return [
            (kind, obj)
            for kind, collection in self._collections.items()
            for (where, _), obj in list(collection.objects.items())
            if where == namespace
        ]

    def put(self, kind: KindKey, name: Name, obj: Json) -> Json:
        """Store a new or changed object; returns it with its resourceVersion. Raises a 500 when it is too large."""
        revision = self.revision + 1
        obj = {**obj, "metadata": {**obj["metadata"], "resourceVersion": str(revision)}}
        if len(orjson.dumps(obj)) > MAX_OBJECT_BYTES:
            raise object_too_large()
        self.revision = revision
        collection = self.collection(kind)
        previous = collection.objects.get(name)
        if previous:
            self._forget(previous)
        collection.objects[name] = obj
        uid = obj["metadata"]["uid"]
        self._places[uid] = kind, name
        for owner in _owners(obj):
            self._dependents.setdefault(owner, set()).add(uid)
        collection.record(Change(revision, "MODIFIED" if previous else "ADDED", obj, previous))
        return obj

    def remove(self, kind: KindKey, name: Name) -> Json:
        """Take an object out; its last state carries the revision of its removal."""
        self.revision += 1
        collection = self.collection(kind)
        previous = collection.objects.pop(name)
        self._forget(previous)
        obj = {**previous, "metadata": {**previous["metadata"], "resourceVersion": str(self.revision)}}
        collection.record(Change(self.revision, "DELETED", obj, previous))
        return obj

    def drop_kind(self, kind: KindKey) -> None:
        """Forget an (empty) kind and end its watches, which cannot be resumed if the kind comes back."""
        collection = self._collections.pop(kind, None)
        for subscription in collection.subscriptions if collection else ():
            subscription.close()
        self.collection(kind).forgotten = self.revision

    def _forget(self, obj: Json) -> None:
        uid = obj["metadata"]["uid"]
        self._places.pop(uid, None)
        for owner in _owners(obj):
            self._dependents[owner].discard(uid)
            if not self._dependents[owner]:
                del self._dependents[owner]

    def place(self, uid: str) -> tuple[KindKey, Name] | None:
        """Where the object with that uid is, None when there is none."""
        return self._places.get(uid)

    def dependents(self, uid: str) -> Iterator[tuple[KindKey, Name]]:
        """Where the objects are that name `uid` as an owner."""
        for dependent in list(self._dependents.get(uid, ())):
            place = self._places.get(dependent)
            if place:
                yield place


def _owners(obj: Json) -> set[str]:
    return {reference["uid"] for reference in obj["metadata"].get("ownerReferences") or ()}
