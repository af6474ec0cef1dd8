"""The writes of each slot that have been sent and not answered: while there is one, the slot is not given back.

A write that nobody answered may still arrive. It is waited for as long as peers wait for a silent replica, so giving a
slot back is never quicker than dying with it.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from canary.cluster.slots import SILENCE_S
from canary.errors import Ambiguous


class Writes:
    """Counts by slot. Safe for several threads. `clock` is seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._changed = threading.Condition()
        self._under_way: Counter[int] = Counter()
        self._unanswered: dict[int, float] = {}

    @contextmanager
    def under_way(self, slot: int) -> Iterator[None]:
        """Around one write, its permission included: who closes a slot and then sees none under way has seen all."""
        with self._changed:
            self._under_way[slot] += 1
        try:
            yield
        except Ambiguous:
            with self._changed:
                self._unanswered[slot] = self._clock()
            raise
        finally:
            with self._changed:
                self._under_way[slot] -= 1
                self._changed.notify_all()

    def are_answered(self, slot: int) -> bool:
        """Whether nothing of a slot is under way, nor was left without an answer lately."""
        with self._changed:
            left = self._clock() - self._unanswered.get(slot, float("-inf"))
            return not self._under_way[slot] and left >= SILENCE_S

    def wait_for_one(self, timeout_seconds: float) -> bool:
        """Return once a write under way is answered; False at once where there is none, or when the time is over."""
        with self._changed:
            before = self._under_way.total()
            return before > 0 and self._changed.wait_for(lambda: self._under_way.total() < before, timeout_seconds)
