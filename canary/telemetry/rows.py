"""The rows of an answer, checked. Pure.

Every reader of this package starts here: a row of another shape, a number that is not a count or a label that is
missing raises TelemetryAnswer, and nothing is ever dropped or repaired.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from canary.errors import TelemetryAnswer

Labels = Mapping[str, str]
Points = Sequence[tuple[float, Any]]
"""(Unix seconds, value as Prometheus wrote it)."""


def series_of(rows: Iterable[Any]) -> Iterator[tuple[Labels, Points]]:
    """Labels and samples of each row of an instant or a range answer."""
    for row in rows:
        try:
            labels, points = row["metric"], row["values"] if "values" in row else [row["value"]]
            pairs = [(float(time_s), value) for time_s, value in points]
        except (TypeError, KeyError, ValueError, IndexError) as error:
            raise _misshapen(row) from error
        if not isinstance(labels, dict):
            raise _misshapen(row)
        yield labels, pairs


def label(labels: Labels, name: str) -> str:
    """Raises TelemetryAnswer when the row has no label of that name."""
    try:
        return labels[name]
    except KeyError as error:
        raise TelemetryAnswer(f"Prometheus answered a row without the label {name!r}: {str(labels)[:200]}") from error


def number(value: Any, of: object) -> float:
    """A finite number from 0 on; Prometheus writes numbers as strings. `of` is what was asked about, for the error."""
    try:
        read = float(value) if isinstance(value, str) else math.nan
    except ValueError:
        read = math.nan
    if not math.isfinite(read) or read < 0:
        raise TelemetryAnswer(f"Prometheus answered {str(value)[:40]!r} where a count of {of} was asked")
    return read


def whole(value: Any, of: object, unit: str = "requests") -> int:
    """Raises TelemetryAnswer for what is not a count, beyond a sum's rounding: then it is no sum of raw counters."""
    read = number(value, of)
    nearest = round(read)
    if abs(read - nearest) > 1e-6 * max(1.0, read):
        raise TelemetryAnswer(
            f"Prometheus answered {read:g} {unit} of {of}: not a whole number, so not a raw counter or gauge"
        )
    return nearest


def _misshapen(row: Any) -> TelemetryAnswer:
    return TelemetryAnswer(f"Prometheus answered a row of another shape: {repr(row)[:200]}")
