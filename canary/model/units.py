"""Units as people write them: "500ms", "2m", "1h30m", "1%". Pure parsing and printing, exact both ways."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

from pydantic import BeforeValidator, PlainSerializer, WithJsonSchema

_UNIT_SECONDS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_DURATION = re.compile(r"(?:[0-9]+(?:\.[0-9]+)?(?:ms|h|m|s))+")
_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|h|m|s)")
_PERCENT = re.compile(r"([0-9]+(?:\.[0-9]+)?)%")

DURATION_PATTERN = r"^([0-9]+(\.[0-9]+)?(ms|h|m|s))+$"
PERCENT_PATTERN = r"^[0-9]+(\.[0-9]+)?%$"
LONGEST = timedelta(days=365)


def parse_duration(text: Any) -> timedelta:
    """Read "90s", "1h30m", "500ms" -> timedelta. Raises ValueError saying what would be right.

    The grammar is Go's time.ParseDuration without signs, µs and ns: what Istio and Envoy fields are written in.
    """
    if isinstance(text, timedelta):
        return text
    if not isinstance(text, str) or not _DURATION.fullmatch(text):
        raise ValueError(f'must be a duration like "500ms", "30s", "2m" or "1h30m", not {text!r}')
    seconds = sum(float(number) * _UNIT_SECONDS[unit] for number, unit in _PART.findall(text))
    if seconds > LONGEST.total_seconds():
        raise ValueError(f"must be at most 365 days, not {text!r}")
    return timedelta(seconds=round(seconds, 6))


def format_duration(duration: timedelta) -> str:
    """The shortest text that `parse_duration` reads back exactly: 90 s -> "1m30s", 500 µs -> "0.5ms"."""
    microseconds = duration // timedelta(microseconds=1)
    parts = []
    for unit, size in (("h", 3_600_000_000), ("m", 60_000_000), ("s", 1_000_000)):
        count, microseconds = divmod(microseconds, size)
        if count:
            parts.append(f"{count}{unit}")
    if microseconds:
        parts.append(f"{microseconds / 1000:g}ms")
    return "".join(parts) or "0s"


def parse_percent(text: Any) -> float:
    """Read "1%" as 0.01. Raises ValueError saying what would be right."""
    if isinstance(text, float):
        return text  # our own value on its way back in: never a user's, YAML numbers are refused below
    match = _PERCENT.fullmatch(text) if isinstance(text, str) else None
    if match is None or float(match[1]) > 100:
        raise ValueError(f'must be a percentage like "1%" or "0.5%" between 0% and 100%, not {text!r}')
    return float(match[1]) / 100


def format_percent(share: float, digits: int = 4) -> str:
    """0.005 -> "0.5%". At most `digits` significant digits, no trailing zeros."""
    return f"{share * 100:.{digits}g}%"


def parse_time(text: Any) -> datetime:
    """RFC 3339 as Kubernetes writes it -> aware datetime in UTC."""
    if isinstance(text, datetime):
        return text.astimezone(UTC)
    return datetime.fromisoformat(text.replace("Z", "+00:00")).astimezone(UTC)


def format_time(time: datetime) -> str:
    """RFC 3339 in UTC with microseconds, as Kubernetes' MicroTime: the step clock needs better than whole seconds."""
    return time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _refuse_bare_numbers(text: Any) -> float:
    if isinstance(text, int | float):
        raise ValueError(f'must carry its unit, as in "1%", not {text:g}')  # noqa: TRY004 - pydantic wants ValueError
    return parse_percent(text)


Duration = Annotated[
    timedelta,
    BeforeValidator(parse_duration),
    PlainSerializer(format_duration),
    WithJsonSchema({"type": "string", "maxLength": 32, "pattern": DURATION_PATTERN}),
]
Percent = Annotated[
    float,
    BeforeValidator(_refuse_bare_numbers),
    PlainSerializer(lambda share: format_percent(share, digits=12)),
    WithJsonSchema({"type": "string", "maxLength": 16, "pattern": PERCENT_PATTERN}),
]
Time = Annotated[
    datetime,
    BeforeValidator(parse_time),
    PlainSerializer(format_time),
    WithJsonSchema({"type": "string", "format": "date-time", "maxLength": 40}),
]
