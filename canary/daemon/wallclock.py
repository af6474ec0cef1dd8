"""The time of day as the controller goes by it: a system clock that jumps takes no step's time with it.

Steps are timed and tiles are cut by the wall clock. An hour's jump would end every step's hold at once, or keep ticks
and looks for disasters from coming for an hour; and it is often taken back soon (a bad time server, a machine that was
restored). So a jump is believed only when it has lasted. Slow corrections are followed. It never sets anything.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime

import structlog

from canary.cluster.lease import boottime

JUMP_S = 1.0
"""A time server slews smaller differences by less than a millisecond per second."""

BELIEVED_AFTER_S = 60.0

AGREES_S = 2.5
"""Two clocks that are compared over a network, one of them to the second, agree when they differ by no more."""

log = structlog.get_logger(__name__)


class WallClock:
    """Unix time. Safe for several threads. `steady` is a clock that nobody sets and that goes on in suspend."""

    def __init__(self, wall: Callable[[], float] = time.time, steady: Callable[[], float] = boottime) -> None:
        self._wall, self._steady = wall, steady
        self._lock = threading.Lock()
        self._ahead = self._seen = wall() - steady()
        self._doubted_since: float | None = None
        self.jumps = 0
        """How often the system's clock jumped, back to the right time included."""

    def time(self) -> float:
        """Unix seconds."""
        with self._lock:
            steady = self._steady()
            ahead = self._wall() - steady
            if abs(ahead - self._seen) > JUMP_S:
                self.jumps += 1
                log.warning("the system's clock jumped", by_s=round(ahead - self._seen, 3),
                            from_ours_s=round(ahead - self._ahead, 3), believed_after_s=BELIEVED_AFTER_S)  # fmt: skip
                self._doubted_since = steady
            self._seen = ahead
            is_doubted = abs(ahead - self._ahead) > JUMP_S and self._doubted_since is not None
            if not is_doubted or steady - (self._doubted_since or 0.0) >= BELIEVED_AFTER_S:
                self._ahead, self._doubted_since = ahead, None
            return steady + self._ahead

    def heard(self, other: float) -> None:
        """What another clock shows (Unix seconds, to a second): a jump that brings ours to it is believed at once."""
        with self._lock:
            steady = self._steady()
            ahead = self._wall() - steady
            is_right, is_ours_right = (abs(steady + each - other) <= AGREES_S for each in (ahead, self._ahead))
            if is_right and not is_ours_right:
                log.warning("the system's clock is believed: it agrees with Prometheus'")
                self._seen = self._ahead = ahead
                self._doubted_since = None

    def now(self) -> datetime:
        """Aware, UTC."""
        return datetime.fromtimestamp(self.time(), UTC)
