"""Durations of Kubernetes objects in the one form that Envoy's JSON takes: seconds with an "s"."""

from __future__ import annotations

from canary.model.units import parse_duration


def envoy_duration(text: str) -> str:
    """`1m30s` -> `90s`, `250ms` -> `0.25s`. Raises ValueError when it is no duration."""
    return f"{parse_duration(text).total_seconds():.6f}".rstrip("0").rstrip(".") + "s"
