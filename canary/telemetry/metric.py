"""The answer to somebody's own PromQL: at most one number per tile end. Pure.

What the number counts is not known here, so nothing is checked but that there is one.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from canary.errors import TelemetryAnswer
from canary.telemetry.rows import series_of
from canary.telemetry.tiles import Grid


def read_metric(rows: Iterable[Any], grid: Grid) -> Mapping[float, float]:
    """Values by tile end, infinite ones included; ends without a value, or with NaN (0/0), are absent.

    Raises TelemetryAnswer for two series at one end: which of them was meant?
    """
    values: dict[float, tuple[float, Mapping[str, str]]] = {}
    for labels, points in series_of(rows):
        for time_s, text in points:
            end, value = grid.end(grid.index(time_s)), _value(text)
            if end in values:
                raise TelemetryAnswer(
                    f"a metric must be one number, but the query answers several series, {_shown(values[end][1])} and "
                    f"{_shown(labels)} among them: aggregate them to one, as with sum(...) or max(...)"
                )
            values[end] = value, labels
    return {end: value for end, (value, _) in sorted(values.items()) if not math.isnan(value)}


def _value(text: Any) -> float:
    try:
        if isinstance(text, str):
            return float(text)
    except ValueError:
        pass
    raise TelemetryAnswer(f"a metric must be one number, but Prometheus answered {str(text)[:40]!r}")


def _shown(labels: Mapping[str, str]) -> str:
    return "{" + ", ".join(f"{name}={value!r}" for name, value in sorted(labels.items()))[:100] + "}"
