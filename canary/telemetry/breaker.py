"""The circuit breaker around the metrics source.

While the source does not answer, callers must learn so at once instead of each waiting for its own timeout. It never
hides a failure and never repeats a call.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum

from canary.errors import TelemetryUnavailable


class BreakerState(StrEnum):
    CLOSED = "closed"
    OPEN = "open"
    PROBING = "probing"


class Breaker:
    """Opens after `failures` consecutive TelemetryUnavailable; from then on one call at a time is let through.

    The pause between probes starts at `pause_s` seconds, doubles with each failed probe and stays at most
    `longest_pause_s`. Any answer, also one that cannot be understood, closes it. Thread-safe; `clock` is monotonic
    seconds.
    """

    def __init__(
        self,
        failures: int = 3,
        pause_s: float = 1.0,
        longest_pause_s: float = 10.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._threshold, self._first_pause_s, self._longest_pause_s = failures, pause_s, longest_pause_s
        self._clock = clock
        self._lock = threading.Lock()
        self._failures = 0
        self._pause_s = 0.0
        self._next_probe = 0.0
        self._probing = False
        self._last_error = ""

    @property
    def state(self) -> BreakerState:
        with self._lock:
            if self._probing:
                return BreakerState.PROBING
            return BreakerState.OPEN if self._is_tripped else BreakerState.CLOSED

    @property
    def _is_tripped(self) -> bool:
        return self._failures >= self._threshold

    @contextmanager
    def call(self) -> Iterator[None]:
        """Around one call. While none is let through: TelemetryUnavailable with the last failure's sentence."""
        is_probe = self._admit()
        try:
            yield
        except TelemetryUnavailable as error:
            self._failed(str(error), is_probe)
            raise
        except BaseException:
            self._answered(is_probe)
            raise
        self._answered(is_probe)

    def _admit(self) -> bool:
        with self._lock:
            if not self._is_tripped:
                return False
            wait_s = self._next_probe - self._clock()
            if self._probing or wait_s > 0:
                when = "being tried again now" if self._probing else f"next try in {wait_s:.1f} s"
                raise TelemetryUnavailable(f"{self._last_error} ({self._failures} failures in a row, {when})")
            self._probing = True
            return True

    def _failed(self, sentence: str, is_probe: bool) -> None:
        with self._lock:
            self._failures += 1
            self._last_error = sentence
            if is_probe:
                self._probing = False
            if self._is_tripped and (is_probe or self._pause_s == 0):
                self._pause_s = min(self._longest_pause_s, self._pause_s * 2 or self._first_pause_s)
                self._next_probe = self._clock() + self._pause_s

    def _answered(self, is_probe: bool) -> None:
        with self._lock:
            if is_probe or not self._is_tripped:
                self._failures, self._pause_s = 0, 0.0
            if is_probe:
                self._probing = False
