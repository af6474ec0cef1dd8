"""Durations as kubectl prints ages: at most two units, the finer one dropped as it stops to matter."""

from __future__ import annotations

from datetime import timedelta

_MINUTE, _HOUR, _DAY = 60, 3600, 86400
_YEAR = 365 * _DAY


def short(duration: timedelta) -> str:
    """5 minutes and 32 seconds -> "5m32s"; the rule of k8s.io/apimachinery's duration.HumanDuration. Never negative."""
    seconds = max(0, int(duration.total_seconds()))
    if seconds < 2 * _MINUTE:
        return f"{seconds}s"
    if seconds < 10 * _MINUTE:
        return _two(seconds, _MINUTE, "m", 1, "s")
    if seconds < 3 * _HOUR:
        return f"{seconds // _MINUTE}m"
    if seconds < 8 * _HOUR:
        return _two(seconds, _HOUR, "h", _MINUTE, "m")
    if seconds < 2 * _DAY:
        return f"{seconds // _HOUR}h"
    if seconds < 8 * _DAY:
        return _two(seconds, _DAY, "d", _HOUR, "h")
    if seconds < 2 * _YEAR:
        return f"{seconds // _DAY}d"
    if seconds < 8 * _YEAR:
        return _two(seconds, _YEAR, "y", _DAY, "d")
    return f"{seconds // _YEAR}y"


def exact(duration: timedelta) -> str:
    """Whole seconds with every unit that is not zero: a count-down must not jump. 90 s -> "1m30s". Never negative."""
    seconds = max(0, round(duration.total_seconds()))
    hours, rest = divmod(seconds, _HOUR)
    minutes, seconds = divmod(rest, _MINUTE)
    text = "".join(f"{count}{unit}" for count, unit in ((hours, "h"), (minutes, "m"), (seconds, "s")) if count)
    return text or "0s"


def _two(seconds: int, size: int, unit: str, finer: int, finer_unit: str) -> str:
    count, rest = divmod(seconds, size)
    return f"{count}{unit}{rest // finer}{finer_unit}" if rest // finer else f"{count}{unit}"
