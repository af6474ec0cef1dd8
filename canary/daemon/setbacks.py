"""Requests for a rollout that keep failing: what is said on it when that has gone on for a while.

A moment's trouble is nobody's business but the log's. Nothing is decided here, and nothing is tried again.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from canary.engine.observed import Finding
from canary.errors import ClusterError, Invalid

SAID_AFTER_S = 10.0
"""From the first failure to the word about it; a deployment's restart of its webhook takes less."""

REJECTED, FAILING = "WriteRejected", "WriteFailing"


class Setbacks:
    """By rollout uid. Safe for several threads."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._since: dict[str, tuple[float, Finding]] = {}

    def failed(self, uid: str, error: ClusterError) -> Finding | None:
        """Something that was asked for it was not done; what to say now, None while it is too early.

        The first failure's sentence stands: each new one would be one more write.
        """
        reason = REJECTED if isinstance(error, Invalid) else FAILING
        with self._lock:
            self._since.setdefault(uid, (self._clock(), Finding(reason, str(error))))
        return self.of(uid)

    def went_through(self, uid: str) -> None:
        """Everything that was asked for this rollout was done."""
        with self._lock:
            self._since.pop(uid, None)

    def of(self, uid: str) -> Finding | None:
        """What keeps failing, None for nothing."""
        with self._lock:
            since, finding = self._since.get(uid, (self._clock(), None))
            return finding if self._clock() - since >= SAID_AFTER_S else None
