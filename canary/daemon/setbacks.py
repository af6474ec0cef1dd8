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

FORGOTTEN_AFTER_S = 600.0
"""From the last failure on: whoever is still there is tried again long before, and nobody tells of who is gone."""

REJECTED, FAILING = "WriteRejected", "WriteFailing"


class Setbacks:
    """By rollout uid. Safe for several threads."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._known: dict[str, tuple[float, float, Finding]] = {}
        """When it failed first and last (monotonic seconds), and what to say."""

    def failed(self, uid: str, error: ClusterError) -> Finding | None:
        """Something that was asked for it was not done; what to say now, None while it is too early.

        The first failure's sentence stands: each new one would be one more write.
        """
        reason = REJECTED if isinstance(error, Invalid) else FAILING
        with self._lock:
            now = self._clock()
            since, _, finding = self._known.get(uid, (now, now, Finding(reason, str(error))))
            self._known = {one: told for one, told in self._known.items() if now - told[1] < FORGOTTEN_AFTER_S}
            self._known[uid] = since, now, finding
        return self.of(uid)

    def went_through(self, uid: str) -> None:
        """Everything that was asked for this rollout was done."""
        if uid in self._known:
            with self._lock:
                self._known.pop(uid, None)

    def of(self, uid: str) -> Finding | None:
        """What keeps failing, None for nothing."""
        known = self._known.get(uid)  # no lock: one look-up, and every look of every worker comes past
        return known[2] if known is not None and self._clock() - known[0] >= SAID_AFTER_S else None
