"""The threads that drain the work queue, and what becomes of a look that fails: backed off, counted, said."""

from __future__ import annotations

import threading
from collections.abc import Callable

import structlog

from canary.cluster.queue import KeyedQueue
from canary.daemon.keys import Key
from canary.daemon.metrics import Metrics
from canary.daemon.reconcile import Reconciler
from canary.errors import CanaryError, ClusterError, Invalid, NotOurs

log = structlog.get_logger("canary.daemon")


class Workers:
    """`count` threads; each looks at one key at a time until the queue is closed and empty.

    `may_look(namespace)` says whether looking makes sense now: a key that comes too early, or is another replica's, is
    dropped; everything of a namespace is queued again when its slot becomes ours.
    """

    def __init__(
        self,
        count: int,
        work: KeyedQueue[Key],
        reconciler: Reconciler,
        metrics: Metrics,
        may_look: Callable[[str], bool],
    ) -> None:
        self._work = work
        self._reconciler = reconciler
        self._metrics = metrics
        self._may_look = may_look
        self.threads = [
            threading.Thread(target=self._loop, name=f"worker-{number}", daemon=True) for number in range(count)
        ]

    def start(self) -> None:
        for thread in self.threads:
            thread.start()

    def _loop(self) -> None:
        while True:
            key = self._work.get()
            if key is None:
                return  # closed, and empty
            try:
                self._look_at(key)
            finally:
                self._work.done(key)

    def _look_at(self, key: Key) -> None:
        if not self._may_look(key.namespace):
            return
        try:
            if not key.service:
                for found in self._reconciler.attempts.keys(key.namespace):
                    self._work.add(found)
                return
            with self._metrics.reconcile_seconds.time():
                again = self._reconciler.reconcile(key)
        except NotOurs as error:
            log.info("left to its owner", key="/".join(key), why=str(error))
            self._work.add_rate_limited(key)  # perhaps a renewal was late and the slot is still ours
            return
        except CanaryError as error:
            # the same request would be refused again: ticks do not repeat it, what somebody changes does
            asked = error.retry_after if isinstance(error, ClusterError) else None
            self._failed(key, error.reason, str(error), at_least=asked, rests=isinstance(error, Invalid))
            return
        except Exception:
            # one service we stumble over must not end the worker: it is logged whole, counted and tried again
            log.exception("unexpected error", key="/".join(key))
            self._failed(key, "Unexpected", "see the traceback above")
            return
        self._work.forget(key)
        if again is not None:
            self._work.add_after(key, again)

    def _failed(
        self, key: Key, reason: str, sentence: str, *, at_least: float | None = None, rests: bool = False
    ) -> None:
        self._metrics.reconcile_errors.labels(reason=reason).inc()
        delay = self._work.add_rate_limited(key, at_least=at_least, rests=rests)
        log.warning("look failed", key="/".join(key), reason=reason, error=sentence, again_in_s=round(delay, 2))
