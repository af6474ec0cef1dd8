"""Counts on their way into the judge: refused when impossible, and summed over the last minute.

Nothing here estimates a rate from rates: only whole requests are added and subtracted, so sums are exact.
"""

from __future__ import annotations

import math
from collections import deque

from canary.model.verdict import ArmCounts, Ejections, Window

LARGEST_COUNT = 2**53
"""Beyond it Prometheus' own floats no longer count by one."""

MINUTE_S = 60.0


def check_arm(arm: ArmCounts, name: str) -> None:
    """Raise ValueError, naming the figure, unless `arm` could have been counted."""
    _check_count(arm.requests, name, "requests")
    _check_count(arm.errors, name, "errors")
    _check_count(arm.timed, name, "timed")
    if arm.errors > arm.requests:
        raise ValueError(f"{name} has {arm.errors} errors in {arm.requests} requests")
    for bound, count in arm.slower.items():
        if isinstance(bound, bool) or not (isinstance(bound, int | float) and 0 < bound < math.inf):
            raise ValueError(f"{name} counts requests slower than {bound!r}, which is no bucket bound in milliseconds")
        _check_count(count, name, "slow requests")
        if count > arm.timed:
            raise ValueError(f"{name} has {count} requests slower than {bound:g} ms among {arm.timed} timed ones")


def _check_count(count: int, name: str, figure: str) -> None:
    if isinstance(count, bool) or not isinstance(count, int):
        raise ValueError(f"{name} {figure} must be a whole number, not {count!r}")  # noqa: TRY004 - one error for all
    if not 0 <= count <= LARGEST_COUNT:
        raise ValueError(f"{name} {figure} must be between 0 and 2^53, not {count}")


def check_ejections(ejections: Ejections) -> None:
    """Raise ValueError, naming the figure, unless hosts could have been ejected so."""
    _check_count(ejections.canary, "canary", "ejected hosts")
    _check_count(ejections.canary_members, "canary", "hosts")
    _check_count(ejections.stable, "stable", "ejected hosts")
    _check_count(ejections.stable_members, "stable", "hosts")


def check_window(window: Window) -> None:
    """Raise ValueError, saying what is wrong, unless `window` could have happened."""
    if not (_is_time(window.start) and _is_time(window.end) and window.start < window.end):
        raise ValueError(f"a window must end after it starts, not run from {window.start} to {window.end}")
    step, weight = window.step, window.weight
    are_whole = isinstance(step, int) and isinstance(weight, int) and not isinstance(step, bool)
    if not are_whole or isinstance(weight, bool) or step < 0 or not 0 <= weight <= 100:
        raise ValueError(f"no such step or weight: step {step}, weight {weight} %")
    check_arm(window.canary, "canary")
    check_arm(window.stable, "stable")
    check_arm(window.unattributed, "unattributed")
    if window.ejections is not None:
        check_ejections(window.ejections)
    for metric, value in window.metrics.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value):
            raise ValueError(f"metric {metric} must be a number, not {value!r}")


def _is_time(seconds: float) -> bool:
    return isinstance(seconds, int | float) and math.isfinite(seconds)


class LastMinute:
    """Exact sums over the windows that ended in the minute up to the newest one (that one at least).

    Holds one entry per window of that minute, whatever the length of the rollout.
    """

    __slots__ = ("_entries", "_sums")

    def __init__(self, figures: int) -> None:
        self._entries: deque[tuple[float, float, tuple[int, ...]]] = deque()
        self._sums = [0] * figures

    def add(self, window: Window, *counts: int) -> None:
        """Add the figures of one window, later than all before."""
        self._entries.append((window.start, window.end, counts))
        for place, count in enumerate(counts):
            self._sums[place] += count
        while self._entries[0][1] <= window.end - MINUTE_S:
            for place, count in enumerate(self._entries.popleft()[2]):
                self._sums[place] -= count

    @property
    def sums(self) -> tuple[int, ...]:
        return tuple(self._sums)

    @property
    def span_s(self) -> float:
        """Seconds from the start of the oldest window to the end of the newest, 0 before the first."""
        return self._entries[-1][1] - self._entries[0][0] if self._entries else 0.0
