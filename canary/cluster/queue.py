"""The keyed work queue: what is to be looked at, each key once, never by two workers at the same time.

The semantics are those of client-go's workqueue: a key added while it waits is one key; a key added while a worker
has it is handed out again after `done`; a failed key comes back after a back-off of its own. It holds keys only, never
work: whoever takes a key looks at the world as it is then.

Keys may belong to groups (namespaces). Groups take turns, so that whoever has a thousand keys waits for his own
thousand and not everybody else with him; and no group has more workers at a time than its share. In its group's turns
a key that something happened to comes before those that are looked at because it is time.
"""

from __future__ import annotations

import heapq
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from canary.cluster.backoff import Backoff

K = TypeVar("K", bound=Hashable)
NEWS, DUE = 0, 1


class KeyedQueue(Generic[K]):
    """A thread-safe queue of keys. Every key from `get` must be given back by `done`.

    `group` tells a key's group; without it all are of one. `share` is how many keys of a group may be handed out at a
    time, None for any number. `clock` is monotonic seconds; with a clock of its own a test calls `get(0)`.
    """

    def __init__(
        self,
        *,
        group: Callable[[K], Hashable] = lambda _key: None,
        share: int | None = None,
        backoff: Backoff | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._group = group
        self._share = share
        self._backoff = backoff or Backoff(base_seconds=0.25, cap_seconds=60.0, floor_share=0.5)
        self._clock = clock
        lock = threading.RLock()
        self._changed, self._idle = threading.Condition(lock), threading.Condition(lock)
        # by group, in the order of their turns: what is news, and what is due; no group is without any
        self._ready: dict[Hashable, tuple[deque[K], deque[K]]] = {}
        self._news: set[K] = set()  # of those to be handed out
        self._busy: Counter[Hashable] = Counter()  # workers by group
        self._dirty: dict[K, float] = {}  # to be handed out, and since when
        self._in_progress: dict[K, float] = {}  # handed out, and since when
        self._due: dict[K, float] = {}  # the delayed adds; the heap may hold outdated entries of a key
        self._heap: list[tuple[float, int, K]] = []
        self._heap_order = 0  # keys need not be comparable
        self._failures: dict[K, int] = {}
        self._resting: dict[K, float] = {}  # until when only news brings it back
        self._closed = False

    def add(self, key: K) -> None:
        """Hand out the key, once, however often it is added before that. Ignored after close().

        It is news: it comes before those of its group that are only due.
        """
        with self._changed:
            self._add(key, is_news=True)

    def add_after(self, key: K, seconds: float) -> None:
        """Add the key after a time; of several times the earliest counts."""
        with self._changed:
            if self._closed:
                return
            if seconds <= 0:
                self._add(key, is_news=True)
                return
            due = self._clock() + seconds
            if due >= self._due.get(key, float("inf")):
                return
            self._due[key] = due
            self._heap_order += 1
            heapq.heappush(self._heap, (due, self._heap_order, key))
            self._changed.notify()

    def add_unless_resting(self, key: K) -> None:
        """Add the key, for want of anything new: behind what is news, and not while it rests after a failure."""
        with self._changed:
            if self._resting.get(key, float("-inf")) <= self._clock():
                self._add(key)

    def add_rate_limited(self, key: K, *, at_least: float | None = None, rests: bool = False) -> float:
        """Add the key after its own back-off, which grows with each call until forget(); returns the seconds.

        `at_least` is how long a server asks to be left alone. Then, and where it `rests`, nothing but news brings it
        back earlier.
        """
        with self._changed:
            failures = self._failures[key] = self._failures.get(key, 0) + 1
            delay = self._backoff.delay(failures, at_least)
            if rests or at_least is not None:
                self._resting[key] = self._clock() + delay
        self.add_after(key, delay)
        return delay

    def forget(self, key: K) -> None:
        """The key went well: its back-off begins from the start next time."""
        with self._changed:
            self._failures.pop(key, None)
            self._resting.pop(key, None)

    def get(self, timeout_seconds: float | None = None) -> K | None:
        """The next key, None when the time is over or the queue is closed and empty. None waits for ever."""
        deadline = None if timeout_seconds is None else self._clock() + timeout_seconds
        with self._changed:
            while True:
                now = self._clock()
                self._take_due(now)
                key = self._next()
                if key is not None:
                    del self._dirty[key]
                    self._in_progress[key] = now
                    if self._ready or self._heap:
                        self._changed.notify()  # somebody else takes the next one, and watches what is due
                    return key
                if (self._closed and not self._ready) or (deadline is not None and now >= deadline):
                    return None
                waits = [moment - now for moment in (deadline, self._next_due()) if moment is not None]
                self._changed.wait(min(waits) if waits else None)

    def done(self, key: K) -> None:
        """The worker is through with the key; if it was added meanwhile it is handed out again."""
        with self._changed:
            del self._in_progress[key]
            self._busy[self._group(key)] -= 1
            if not self._busy[self._group(key)]:
                del self._busy[self._group(key)]
            if key in self._dirty:
                self._queue(key, is_news=key in self._news)
            if self._ready:
                self._changed.notify()  # this one, or one that its group's share held back
            if not self._dirty and not self._in_progress:
                self._idle.notify_all()

    def close(self, *, discard: bool = False) -> None:
        """Take no more keys and drop the delayed ones; what is ready is still handed out unless `discard`."""
        with self._changed:
            self._closed = True
            self._due.clear()
            self._heap.clear()
            if discard:
                self._ready.clear()
                self._dirty.clear()
                self._news.clear()
            self._changed.notify_all()
            self._idle.notify_all()

    def wait_idle(self, timeout_seconds: float) -> bool:
        """Wait until nothing is ready and no worker has a key; False when the time is over."""
        with self._changed:
            return self._idle.wait_for(lambda: not self._dirty and not self._in_progress, timeout_seconds)

    @property
    def is_closed(self) -> bool:
        with self._changed:
            return self._closed

    @property
    def depth(self) -> int:
        """Keys to be handed out, delayed ones aside."""
        with self._changed:
            return len(self._dirty)

    @property
    def delayed(self) -> int:
        """Keys that wait for their time."""
        with self._changed:
            return len(self._due)

    @property
    def in_progress(self) -> int:
        """Keys that workers have."""
        with self._changed:
            return len(self._in_progress)

    @property
    def oldest_seconds(self) -> float:
        """How long the key that waits longest has waited; 0 when none does."""
        with self._changed:
            return self._clock() - min(self._dirty.values()) if self._dirty else 0.0

    @property
    def longest_running_seconds(self) -> float:
        """How long a worker has had the key it has had longest: a worker that hangs shows here."""
        with self._changed:
            return self._clock() - min(self._in_progress.values()) if self._in_progress else 0.0

    def _add(self, key: K, *, is_news: bool = False) -> None:
        if self._closed or (key in self._dirty and (not is_news or key in self._news)):
            return
        if is_news:
            self._news.add(key)
        is_waiting = key in self._dirty
        self._dirty.setdefault(key, self._clock())
        if key in self._in_progress:
            return  # `done` hands it out again
        if is_waiting:
            self._ready[self._group(key)][DUE].remove(key)
        self._queue(key, is_news=is_news)
        self._changed.notify()

    def _queue(self, key: K, *, is_news: bool) -> None:
        self._ready.setdefault(self._group(key), (deque(), deque()))[NEWS if is_news else DUE].append(key)

    def _next(self) -> K | None:
        """The first key of the first group that has not got its share; the group goes to the end of the turns."""
        for group, lines in self._ready.items():
            if self._share is None or self._busy[group] < self._share:
                key = (lines[NEWS] or lines[DUE]).popleft()
                self._news.discard(key)
                del self._ready[group]
                if any(lines):
                    self._ready[group] = lines
                self._busy[group] += 1
                return key
        return None

    def _take_due(self, now: float) -> None:
        while self._heap and self._heap[0][0] <= now:
            due, _, key = heapq.heappop(self._heap)
            if self._due.get(key) == due:
                del self._due[key]
                self._add(key)

    def _next_due(self) -> float | None:
        return self._heap[0][0] if self._heap else None
