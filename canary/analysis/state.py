"""The state of a judge, written down as plain JSON and read back exactly, bit for bit.

For a record that has outgrown its place: windows that are dropped leave the state behind that they led to. Only what
the windows changed is written; all that comes from the policy and the baseline is in the fresh judge of whoever reads.
So nothing is ever made or set that is not named here: a record may come from anybody's ConfigMap.
"""

from __future__ import annotations

import copy
import math
from collections import deque
from collections.abc import Mapping
from functools import cache
from typing import Annotated, Any

from pydantic import AfterValidator, Field, TypeAdapter, ValidationError

from canary.analysis.absolute import AbsoluteLimit, BoundedShare
from canary.analysis.counts import LastMinute
from canary.analysis.errors import ErrorsVsStable
from canary.analysis.frozen import FrozenBound
from canary.analysis.health import Health
from canary.analysis.judge import Judge
from canary.analysis.latency import LatencyVsStable
from canary.analysis.mixture import Mixture
from canary.analysis.own_metrics import OwnMetric
from canary.analysis.relative import OneWindowRule, Pairing, RelativeShare
from canary.analysis.step import StepSoFar
from canary.analysis.unattributed import Unattributed
from canary.analysis.under_noise import LatencyUnderNoise
from canary.analysis.witnesses import Witnesses
from canary.model.verdict import Verdict, Window


def _no_nan(value: float) -> float:
    if math.isnan(value):
        raise ValueError("not a number")
    return value


_Real = Annotated[float, AfterValidator(_no_nan)]
_Count = Annotated[int, Field(strict=True, ge=0, le=2**80)]
_Step = Annotated[int, Field(strict=True, ge=0, le=2**53)] | None
_Flag = Annotated[bool, Field(strict=True)]
_Counts = list[_Count]
_Two, _Four = tuple[_Count, _Count], tuple[_Count, _Count, _Count, _Count]

_FIGURES: dict[type, dict[str, Any]] = {
    Judge: {
        "_step": StepSoFar | None, "_last": Window | None, "_cold_since": _Real | None, "_failed": Verdict | None,
    },
    Witnesses: {},
    ErrorsVsStable: {
        "_sums": _Four, "_step": _Step, "_step_sums": _Four, "_earlier_harm": _Real, "_is_asked": _Flag,
    },
    Health: {"_logs": list[_Real], "_log_e": _Real, "_sums": _Counts, "is_asked": _Flag},
    LatencyVsStable: {"_canary": _Counts, "_stable": _Counts, "_is_asked": _Flag},
    AbsoluteLimit: {
        "stable_breaches": _Flag, "_stable_breach_until": _Real, "_judged": _Counts, "_step": _Step,
        "judged_in_step": _Two,
    },
    FrozenBound: {
        "_stable_total": _Count, "_stable_bad": _Count, "_total": _Count, "_bad": _Count, "_bound": _Real,
    },
    Unattributed: {"_total": _Count, "_failed": _Count},
    OwnMetric: {"_values": list[_Real | None], "_is_asked": _Flag},
    LatencyUnderNoise: {"_noise": str, "_noisy_until": _Real},
    BoundedShare: {},
    RelativeShare: {},
    Mixture: {"log_e": _Real, "_log_stakes": list[_Real], "_step": _Step, "_dealt_at": _Real},
    OneWindowRule: {"_before": _Real, "_largest": _Real, "log_e": _Real},
    Pairing: {"_step": _Step, "_canary": _Counts, "_stable": _Counts},
    LastMinute: {"_entries": list[tuple[_Real, _Real, tuple[_Count, ...]]], "_sums": _Counts},
}  # fmt: skip
"""What the windows change in each kind of object, by attribute, with what it may be."""

_PARTS: dict[type, tuple[str, ...]] = {
    Judge: ("_witnesses", "_minute"),
    Witnesses: ("_errors", "_health", "_latency", "limits", "_under_noise", "_frozen", "_unattributed", "_metrics"),
    ErrorsVsStable: ("_worse", "_beyond", "_star", "_pairing"),
    Health: ("_pairing",),
    LatencyVsStable: ("_shares", "_star", "_pairing"),
    AbsoluteLimit: ("_canary", "_stable", "_minute"),
    FrozenBound: ("_share",),
    Unattributed: ("_share",),
    LatencyUnderNoise: ("_hearing",),
    BoundedShare: ("mixture",),
    RelativeShare: ("mixture",),
}
"""Objects of these kinds within them: one, a tuple of them, or None while the windows have not asked for it yet."""


def dump(judge: Judge) -> dict[str, Any]:
    """The judge's state as JSON-able values, a few KB."""
    return {"judge": _write(judge)}


def load(judge: Judge, dumped: Mapping[str, Any]) -> None:
    """Put a dumped state into a fresh judge of the same policy and baseline.

    Raises ValueError, and changes nothing, for anything but the dumped state of such a judge.
    """
    restored = copy.deepcopy(judge, {id(judge.policy): judge.policy})
    try:
        _read(restored, dumped["judge"])
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise ValueError(f"this is not the state of a judge: {first['loc']} {first['msg']}") from None
    except (KeyError, TypeError) as error:
        raise ValueError(f"this is not the state of a judge: {type(error).__name__} {error}") from None
    vars(judge).update(vars(restored))


@cache
def _adapter(kind: type, name: str) -> TypeAdapter[Any]:
    return TypeAdapter(_FIGURES[kind][name])


def _write(thing: object) -> Any:
    if thing is None:
        return None
    if isinstance(thing, tuple):
        return [_write(one) for one in thing]
    kind = type(thing)
    written = {name: _figure(kind, name, getattr(thing, name)) for name in _FIGURES[kind]}
    return written | {name: _write(getattr(thing, name)) for name in _PARTS.get(kind, ())}


def _figure(kind: type, name: str, value: Any) -> Any:
    return _finite(_adapter(kind, name).dump_python(list(value) if isinstance(value, deque) else value, mode="json"))


def _finite(value: Any) -> Any:
    """JSON has no infinity."""
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, list):
        return [_finite(one) for one in value]
    if isinstance(value, dict):
        return {name: _finite(one) for name, one in value.items()}
    return value


def _read(thing: Any, written: Any) -> None:
    kind = type(thing)
    figures, parts = _FIGURES[kind], _PARTS.get(kind, ())
    if not isinstance(written, dict) or written.keys() != {*figures, *parts}:
        raise ValueError(f"this is not the state of a judge: no {kind.__name__} is written like this")
    for name in figures:
        setattr(thing, name, _fitting(kind, name, getattr(thing, name), written[name]))
    if isinstance(thing, LastMinute) and any(len(entry[2]) != len(thing._sums) for entry in thing._entries):
        raise ValueError("this is not the state of a judge: a minute of other figures")
    for name in parts:
        setattr(thing, name, _part(thing, name, written[name]))


def _fitting(kind: type, name: str, now: Any, written: Any) -> Any:
    """The figure, of the same length where that is fixed."""
    value = _adapter(kind, name).validate_python(written)
    if isinstance(now, deque):
        if now.maxlen is not None and len(value) > now.maxlen:
            raise ValueError(f"this is not the state of a judge: {kind.__name__} has too many {name}")
        return deque(value, maxlen=now.maxlen)
    if isinstance(now, list) and len(value) != len(now):
        raise ValueError(f"this is not the state of a judge: {kind.__name__} has other {name}")
    return value


def _part(thing: Any, name: str, written: Any) -> Any:
    part = getattr(thing, name)
    if part is None and written is not None:
        part = thing.begun()
    if part is None or (written is None and isinstance(thing, FrozenBound | LatencyUnderNoise)):
        return None
    parts = part if isinstance(part, tuple) else (part,)
    states = written if isinstance(part, tuple) else [written]
    if not isinstance(states, list) or len(states) != len(parts):
        raise ValueError(f"this is not the state of a judge: {type(thing).__name__} has other {name}")
    for one, state in zip(parts, states, strict=True):
        _read(one, state)
    return part
