"""Kubernetes' timestamps: RFC 3339 in UTC, whole seconds (Time) or microseconds (MicroTime).

Only for what is written into or read from objects: nothing here may be used to measure how long something took.
"""

from __future__ import annotations

from datetime import UTC, datetime


def utc_now() -> datetime:
    return datetime.now(UTC)


def format_time(moment: datetime) -> str:
    """`2026-01-31T08:00:00Z`, as metav1.Time has it."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def format_micro_time(moment: datetime) -> str:
    """`2026-01-31T08:00:00.000000Z`, as metav1.MicroTime has it (Leases)."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def parse_time(text: object) -> datetime | None:
    """Either form; None for anything that is no timestamp with a zone: somebody else may have written it."""
    if not isinstance(text, str):
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment if moment.tzinfo is not None else None
