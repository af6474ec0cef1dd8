"""A local, always current copy of one kind: list once, then watch for ever.

What is kept is a projection, only the fields canary reads (projections.py). Handlers hear each change on the
reflector's own thread and must only note it (`queue.add(key)`): a slow handler makes the whole copy late. The copy
says what the API server said; it never writes, and it never decides anything.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

from canary.cluster.backoff import Backoff
from canary.cluster.gateway import Gateway
from canary.cluster.kinds import Kind
from canary.cluster.watch import Watch
from canary.errors import ClusterError, Expired, Forbidden, Unavailable

T = TypeVar("T")
Key = tuple[str, str]
"""(namespace, name); the namespace of a cluster-wide kind is empty."""

WATCH_SECONDS = (240.0, 300.0)
"""A watch ends by itself after a time drawn from here, so that many do not reconnect at the same moment."""

SHORT_WATCH_SECONDS = 1.0
"""A watch that ends sooner counts as a failure, or a broken proxy makes a busy loop."""

STUCK_SECONDS = WATCH_SECONDS[1] + 60.0
"""Longest time without any sign of life of a healthy reflector: a quiet watch, and then its reconnection."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Change(Generic[T]):
    """One difference of the copy: `old` is None for added, `new` for deleted."""

    type: Literal["added", "modified", "deleted"]
    key: Key
    old: T | None
    new: T | None


class Reflector(Generic[T]):
    """Keeps `project(object)` of every object of a kind in a namespace, or in all of them for None.

    Reads are safe from any thread and give what was there at that moment; a projection is shared and must not be
    changed. A cut watch goes on from the last resourceVersion heard of (bookmarks count); 410 lists again and hands
    out only the differences. `failures` counts what went wrong since the start, `last_error` says what, last.
    """

    def __init__(
        self,
        gateway: Gateway,
        kind: Kind,
        namespace: str | None = None,
        *,
        project: Callable[[dict[str, Any]], T | None],
        on_change: Callable[[Change[T]], None] | None = None,
        label_selector: str | None = None,
        backoff: Backoff | None = None,
        rng: random.Random | None = None,
        clock: Callable[[], float] = time.monotonic,
        turn: AbstractContextManager[object] | None = None,
    ) -> None:
        """`turn` is held for each page of a list: what several reflectors have in common keeps one page in memory at a
        time, and not one of each kind, which would be most of what a start takes."""
        self.kind = kind
        self._turn = turn if turn is not None else nullcontext()
        self.namespace = namespace
        self.failures = 0
        self.last_error = ""
        self.refusal = ""
        """Why the API server lets us list or watch no more, "" while it does."""
        self.last_event_at: float | None = None
        self._gateway = gateway
        self._project = project
        self._handlers: list[Callable[[Change[T]], None]] = [on_change] if on_change else []
        self._selector = label_selector
        self._rng = rng or random.Random()
        self._backoff = backoff or Backoff(base_seconds=0.2, cap_seconds=10.0, rng=self._rng)
        self._clock = clock
        self._lock = threading.Lock()
        self._objects: dict[str, dict[str, T]] = {}
        self._changes: Counter[str] = Counter()
        self._version = ""
        self._watch: Watch | None = None
        self._synced = threading.Event()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._heartbeat = clock()
        self._current_until = clock()
        self._in_a_row = 0

    @property
    def has_synced(self) -> bool:
        """True once the first list is in the copy and its handlers have run."""
        return self._synced.is_set()

    @property
    def heartbeat(self) -> float:
        """When the loop last did anything, on this reflector's clock."""
        return self._heartbeat

    @property
    def is_stuck(self) -> bool:
        """True when it was started and its thread died or gave no sign of life for STUCK_SECONDS."""
        if self._thread is None or self._stopping.is_set():
            return False
        return not self._thread.is_alive() or self._clock() - self._heartbeat > STUCK_SECONDS

    @property
    def heard_of(self) -> int:
        """The resourceVersion up to which the copy has every change; 0 while that is not known."""
        version = self._version
        return int(version) if version.isdigit() else 0

    @property
    def staleness_seconds(self) -> float:
        """How long the copy has been without a connection that would tell of changes; 0 while a watch is open."""
        with self._lock:
            if self._watch is not None:
                return 0.0
            return self._clock() - self._current_until

    def subscribe(self, handler: Callable[[Change[T]], None]) -> None:
        """Add a handler; only before start(), so that it misses nothing."""
        if self._thread is not None:
            raise RuntimeError(f"the reflector of {self.kind.resource} already runs: subscribe before start()")
        self._handlers.append(handler)

    def get(self, namespace: str, name: str) -> T | None:
        """The projected object, None when there is none."""
        with self._lock:
            return self._objects.get(namespace, {}).get(name)

    def items(self, namespace: str | None = None) -> list[T]:
        """The projected objects of one namespace, or of all of them for None."""
        with self._lock:
            if namespace is not None:
                return list(self._objects.get(namespace, {}).values())
            return [obj for objects in self._objects.values() for obj in objects.values()]

    def version(self, namespace: str) -> int:
        """A number that is another one after each change in a namespace."""
        with self._lock:
            return self._changes[namespace]

    def start(self) -> None:
        """List and watch on a thread of its own until stop()."""
        if self._thread is not None:
            raise RuntimeError(f"the reflector of {self.kind.resource} was started before")
        self._heartbeat = self._current_until = self._clock()
        self._thread = threading.Thread(target=self._run, name=f"reflect-{self.kind.plural}", daemon=True)
        self._thread.start()

    def wait_synced(self, timeout_seconds: float) -> bool:
        """Wait for the first list; False when the time is over."""
        return self._synced.wait(timeout_seconds)

    def stop(self, timeout_seconds: float = 5.0) -> bool:
        """End the watch and the thread; True when it ended within the time."""
        self._stopping.set()
        with self._lock:
            watch = self._watch
        if watch is not None:
            watch.close()
        if self._thread is None:
            return True
        self._thread.join(timeout_seconds)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._heartbeat = self._clock()
            try:
                if not self._version:
                    self._list()
                if not self._stopping.is_set():
                    self._follow()
            except Expired as error:
                # listed again at once the first time; a server that goes on saying 410 is waited for
                self._version = ""
                self._failed(error, patient=self._in_a_row > 0)
            except ClusterError as error:
                self.refusal = str(error) if isinstance(error, Forbidden) else ""
                self._failed(error)
            except Exception as error:
                log.exception("reflector of %s failed, lists again", self.kind.resource)
                self._version = ""
                self._failed(error)

    def _failed(self, error: Exception, *, patient: bool = True) -> None:
        self.failures += 1
        self.last_error = str(error)
        if self._stopping.is_set():
            return
        log.info("reflector of %s: %s", self.kind.resource, error)
        self._in_a_row += 1
        if patient:
            self._stopping.wait(self._backoff.delay(self._in_a_row, getattr(error, "retry_after", None)))

    def _list(self) -> None:
        fresh: dict[Key, T] = {}
        version = ""
        pages = self._gateway.pages(self.kind, self.namespace, label_selector=self._selector)
        while True:
            with self._turn:
                self._heartbeat = self._clock()
                found, version = next(pages, (None, version))
                if found is None:
                    break
                for raw in found:
                    key = _key(raw)
                    projected = self._projected(key, raw)
                    if projected is not None:
                        fresh[key] = projected
                del found
            if self._stopping.is_set():
                return
        with self._lock:
            known = {(space, name) for space, objects in self._objects.items() for name in objects}
        for key in known - fresh.keys():
            self._store(key, None)
        for key, projected in fresh.items():
            self._store(key, projected)
        self._version = version
        self._current_until = self._clock()
        self._synced.set()

    def _follow(self) -> None:
        """Watch until the server's time is over; raises what ended it otherwise."""
        started = self._clock()
        with self._gateway.watch(
            self.kind,
            self.namespace,
            resource_version=self._version,
            timeout_seconds=self._rng.uniform(*WATCH_SECONDS),
            label_selector=self._selector,
        ) as watch:
            self.refusal = ""
            with self._lock:
                self._watch = watch
            if self._stopping.is_set():
                return  # stop() came before there was a watch it could close
            try:
                for type_, raw in watch:
                    self._heartbeat = self.last_event_at = self._clock()
                    self._apply(type_, raw)
                    self._in_a_row = 0
            finally:
                with self._lock:
                    self._watch = None
                self._current_until = self._clock()
        if self._clock() - started >= SHORT_WATCH_SECONDS:
            self._in_a_row = 0
        elif not self._stopping.is_set():
            raise Unavailable(f"cannot watch {self.kind.resource}: the stream ended as soon as it began")

    def _apply(self, type_: str, raw: dict[str, Any]) -> None:
        if type_ != "BOOKMARK":
            key = _key(raw)
            self._store(key, None if type_ == "DELETED" else self._projected(key, raw))
        self._version = str(raw["metadata"]["resourceVersion"])

    def _projected(self, key: Key, raw: dict[str, Any]) -> T | None:
        """The projection; for an object of a shape that nobody foresaw the one known before, and a line in the log."""
        try:
            return self._project(raw)
        except Exception:
            # one strange object must not blind us to all others, nor look like a deletion
            self.failures += 1
            self.last_error = f"{self.kind.resource} {'/'.join(key)} cannot be read"
            log.exception("%s", self.last_error)
            return self.get(*key)

    def _store(self, key: Key, new: T | None) -> None:
        namespace, name = key
        with self._lock:
            objects = self._objects.setdefault(namespace, {})
            old = objects.get(name)
            if new is None:
                objects.pop(name, None)
                if not objects:
                    del self._objects[namespace]
            else:
                objects[name] = new
            if new != old:
                self._changes[namespace] += 1
        if new == old:
            return
        change: Change[T] = Change("added" if old is None else "deleted" if new is None else "modified", key, old, new)
        for handler in self._handlers:
            try:
                handler(change)
            except Exception:
                self.failures += 1
                self.last_error = f"a handler failed on {self.kind.resource} {'/'.join(key)}"
                log.exception("%s", self.last_error)


def _key(raw: dict[str, Any]) -> Key:
    metadata = raw["metadata"]
    return metadata.get("namespace") or "", metadata["name"]
