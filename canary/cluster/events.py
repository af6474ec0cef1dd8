"""Kubernetes Events about rollouts and what they touch, as `kubectl describe` shows them.

Best effort by design: recorded from the worker's thread, sent by another, counted and dropped when there are too many
or the API server does not take them. An Event must never delay or fail what it tells about.
"""

from __future__ import annotations

import hashlib
import logging
import queue
import threading
import time
import unicodedata
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, TypedDict

from canary.cluster.gateway import Gateway
from canary.cluster.kinds import EVENT
from canary.cluster.timestamps import format_time, utc_now
from canary.errors import CanaryError, NotFound

EventType = Literal["Normal", "Warning"]

MESSAGE_LIMIT = 1024
"""The API server's own limit for an Event's message."""

WAITING_LIMIT = 1000
REMEMBERED = 4096
"""Recent Events and objects whose counts are kept."""

SAME_SECONDS = 600.0
"""An Event with the same object, reason and message within this time raises the count of the first."""

BURST = 25
REFILL_SECONDS = 60.0
"""An object may have BURST Events at once and one more per REFILL_SECONDS; client-go has 25 and 300."""

log = logging.getLogger(__name__)


class ObjectReference(TypedDict):
    """The object an Event is about."""

    apiVersion: str
    kind: str
    namespace: str
    name: str
    uid: str


def reference_to(obj: Mapping[str, Any]) -> ObjectReference:
    """The reference of an object as read or projected."""
    metadata = obj["metadata"]
    return ObjectReference(
        apiVersion=obj["apiVersion"],
        kind=obj["kind"],
        namespace=metadata.get("namespace", ""),
        name=metadata["name"],
        uid=metadata.get("uid", ""),
    )


@dataclass(frozen=True, slots=True)
class _Note:
    about: ObjectReference
    type: EventType
    reason: str
    message: str
    at: datetime


@dataclass(slots=True)
class _Sent:
    name: str
    count: int
    at: float


@dataclass(slots=True)
class _Bucket:
    tokens: float
    at: float


class EventRecorder:
    """Sends Events as `component`. `sent`, `dropped` and `failed` count since the start."""

    def __init__(
        self,
        gateway: Gateway,
        component: str = "canary",
        *,
        instance: str = "",
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self.sent = 0
        self.dropped = 0
        self.failed = 0
        self._gateway = gateway
        self._component = component
        self._instance = instance or component
        self._clock = clock
        self._now = now
        self._waiting: queue.Queue[_Note | None] = queue.Queue(WAITING_LIMIT)
        self._recent: OrderedDict[tuple[str, ...], _Sent] = OrderedDict()
        self._buckets: OrderedDict[tuple[str, ...], _Bucket] = OrderedDict()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Send on a thread of its own until stop()."""
        self._thread = threading.Thread(target=self._run, name="events", daemon=True)
        self._thread.start()

    def record(self, about: ObjectReference, type_: EventType, reason: str, message: str) -> None:
        """Note an Event. Returns at once; `reason` is one CamelCase word, `message` a sentence, cut at 1,024."""
        note = _Note(about, type_, _printable(reason, 128), _printable(message, MESSAGE_LIMIT), self._now())
        try:
            self._waiting.put_nowait(note)
        except queue.Full:
            self.dropped += 1

    def flush(self, timeout_seconds: float) -> bool:
        """Wait until what was recorded has been sent or given up; False when the time is over."""
        with self._waiting.all_tasks_done:
            return self._waiting.all_tasks_done.wait_for(lambda: not self._waiting.unfinished_tasks, timeout_seconds)

    def stop(self, timeout_seconds: float = 2.0) -> None:
        """Send what waits, for at most this long, then end."""
        if self._thread is None:
            return
        self.flush(timeout_seconds)
        try:
            while True:  # what is left now is dropped, so that the thread ends with the request under way
                self._waiting.get_nowait()
                self._waiting.task_done()
                self.dropped += 1
        except queue.Empty:
            self._waiting.put(None)
        self._thread.join(self._gateway.write_timeout_seconds + 1.0)

    def _run(self) -> None:
        while (note := self._waiting.get()) is not None:
            try:
                self._send(note)
            except CanaryError as error:
                self.failed += 1
                log.debug("event %s lost: %s", note.reason, error)
            finally:
                self._waiting.task_done()
        self._waiting.task_done()

    def _send(self, note: _Note) -> None:
        namespace = note.about["namespace"] or "default"
        target = (note.about["kind"], namespace, note.about["name"], note.about["uid"])
        if not self._may_send(target):
            self.dropped += 1
            return
        key = (*target, note.type, note.reason, note.message)
        known = self._recent.pop(key, None)
        if known is None or self._clock() - known.at >= SAME_SECONDS or not self._counted(namespace, known, note):
            known = _Sent(self._created(namespace, key, note), 1, self._clock())
        known.at = self._clock()
        self._recent[key] = known
        if len(self._recent) > REMEMBERED:
            self._recent.popitem(last=False)
        self.sent += 1

    def _counted(self, namespace: str, known: _Sent, note: _Note) -> bool:
        """Raise the count of an Event that is still there; False when it has expired in the cluster."""
        body = {"count": known.count + 1, "lastTimestamp": format_time(note.at)}
        try:
            self._gateway.patch(EVENT, namespace, known.name, body, patch_type="merge")
        except NotFound:
            return False
        known.count += 1
        return True

    def _created(self, namespace: str, key: tuple[str, ...], note: _Note) -> str:
        at = format_time(note.at)
        salt = hashlib.blake2b("\0".join((*key, note.at.isoformat())).encode(), digest_size=8).hexdigest()
        name = f"{note.about['name'][:200].rstrip('-.')}.{salt}"
        self._gateway.create(
            EVENT,
            namespace,
            {
                "apiVersion": EVENT.api_version,
                "kind": EVENT.kind,
                "metadata": {"name": name, "namespace": namespace},
                "involvedObject": {field: value for field, value in note.about.items() if value},
                "type": note.type,
                "reason": note.reason,
                "message": note.message,
                "source": {"component": self._component},
                "reportingComponent": self._component,
                "reportingInstance": self._instance,
                "firstTimestamp": at,
                "lastTimestamp": at,
                "count": 1,
            },
        )
        return name

    def _may_send(self, target: tuple[str, ...]) -> bool:
        now = self._clock()
        bucket = self._buckets.pop(target, None) or _Bucket(BURST, now)
        bucket.tokens = min(float(BURST), bucket.tokens + (now - bucket.at) / REFILL_SECONDS)
        bucket.at = now
        self._buckets[target] = bucket
        if len(self._buckets) > REMEMBERED:
            self._buckets.popitem(last=False)
        if bucket.tokens < 1:
            return False
        bucket.tokens -= 1
        return True


def _printable(text: str, limit: int) -> str:
    """One line without control, format or surrogate characters: it ends in terminals, pages and logs."""
    spaced = (" " if char.isspace() else char for char in text)
    kept = "".join(char for char in spaced if unicodedata.category(char) not in ("Cc", "Cf", "Cs"))
    return kept if len(kept) <= limit else kept[: limit - 1] + "…"
