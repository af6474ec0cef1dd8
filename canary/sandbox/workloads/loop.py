"""The loop that the sandbox's controllers share: one worker takes keys from one queue and reconciles each.

One worker is enough for a laptop, and makes it certain that two reconciles never create the same Pod. It must never
stop for an error: the key comes back after its back-off.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from canary.cluster.backoff import Backoff
from canary.cluster.queue import KeyedQueue
from canary.errors import ClusterError, Conflict

log = logging.getLogger(__name__)

Key = tuple[str, str, str]
"""(kind, namespace, name)."""


class Loop:
    """Calls `reconcile(key)` for each key of `queue`, and again after a while where it raised.

    `reconcile` returns the seconds after which to look again even if nothing changes, or None.
    """

    def __init__(self, reconcile: Callable[[Key], float | None]) -> None:
        self.queue: KeyedQueue[Key] = KeyedQueue(backoff=Backoff(base_seconds=0.05, cap_seconds=5.0, floor_share=0.5))
        self._reconcile = reconcile
        self._thread = threading.Thread(target=self._run, name="workloads", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self, timeout_seconds: float = 5.0) -> None:
        self.queue.close(discard=True)
        self._thread.join(timeout_seconds)

    def _run(self) -> None:
        while (key := self.queue.get()) is not None:
            try:
                self._once(key)
            finally:
                self.queue.done(key)

    def _once(self, key: Key) -> None:
        try:
            again = self._reconcile(key)
        except Conflict as error:  # our copy was old: the event that corrects it is on its way
            log.debug("%s: %s", "/".join(key), error)
            self.queue.add_rate_limited(key)
        except ClusterError as error:
            log.warning("%s: %s", "/".join(key), error)
            self.queue.add_rate_limited(key)
        except Exception:  # somebody's odd object must not stop all others
            log.exception("%s cannot be reconciled", "/".join(key))
            self.queue.add_rate_limited(key)
        else:
            self.queue.forget(key)
            if again is not None:
                self.queue.add_after(key, again)
