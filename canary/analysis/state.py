"""The state of a judge, written down as plain JSON and read back exactly, bit for bit.

For a record that has outgrown its place: windows that are dropped leave the state behind that they led to. Only the
classes named here are ever made from what is read, and only their own attributes are set: a record may come from
anybody's ConfigMap. The policy is not part of it; whoever reads brings the one that the judge was made with.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from enum import Enum
from typing import Any

from canary.analysis import mixture
from canary.analysis.absolute import AbsoluteLimit, BoundedShare, Objective
from canary.analysis.counts import LastMinute
from canary.analysis.errors import ErrorsVsStable
from canary.analysis.frozen import FrozenBound
from canary.analysis.health import Health
from canary.analysis.judge import Judge
from canary.analysis.latency import LatencyVsStable
from canary.analysis.own_metrics import OwnMetric
from canary.analysis.relative import OneWindowRule, Pairing, RelativeShare
from canary.analysis.step import StepSoFar
from canary.analysis.unattributed import Unattributed
from canary.analysis.under_noise import LatencyUnderNoise
from canary.analysis.witnesses import Witnesses
from canary.model.base import Model
from canary.model.objectives import CustomMetric, Tolerance
from canary.model.policy import Policy
from canary.model.verdict import ArmCounts, Ejections, Evidence, Outcome, Reason, Verdict, Window

_OBJECTS = {
    kind.__name__: kind
    for kind in (
        AbsoluteLimit, BoundedShare, Objective, LastMinute, ErrorsVsStable, FrozenBound, Health, LatencyVsStable,
        OwnMetric, OneWindowRule, Pairing, RelativeShare, StepSoFar, Unattributed, LatencyUnderNoise, Witnesses,
        mixture.Mixture, ArmCounts, Ejections, Evidence, Verdict, Window, Judge,
    )
}  # fmt: skip
_ENUMS: dict[str, type[Enum]] = {"Outcome": Outcome, "Reason": Reason}
_MODELS: dict[str, type[Model]] = {"Tolerance": Tolerance, "CustomMetric": CustomMetric}
_GRIDS = {"WORSE": mixture.WORSE, "BEYOND": mixture.BEYOND}
_SEQUENCES = {"list": list, "tuple": tuple}


def dump(judge: Judge) -> dict[str, Any]:
    """The judge's state as JSON-able values, a few KB."""
    return {"judge": _Writer(judge.policy).write(judge)}


def load(judge: Judge, dumped: Mapping[str, Any]) -> None:
    """Put a dumped state into a fresh judge of the same policy. Raises ValueError for anything but a dumped judge."""
    try:
        restored = _Reader(judge.policy).read(dumped["judge"])
    except (KeyError, TypeError, AttributeError, IndexError, RecursionError) as error:
        raise ValueError(f"this is not the state of a judge: {type(error).__name__} {error}") from None
    if not isinstance(restored, Judge):
        raise ValueError("this is not the state of a judge")  # noqa: TRY004 - one error for bad records
    vars(judge).update(vars(restored))


def _attributes(thing: object) -> tuple[str, ...]:
    slots = [name for kind in type(thing).__mro__ for name in getattr(kind, "__slots__", ())]
    return tuple(slots) if slots else tuple(vars(thing))


class _Writer:
    """An object that is met again is written as a reference: witnesses are held in more than one place."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._numbers: dict[int, int] = {}

    def write(self, value: Any) -> Any:
        if value is None or isinstance(value, bool | int) or type(value) is str:
            return value
        if isinstance(value, float):
            return value if math.isfinite(value) else ["float", str(value)]
        if value is self._policy:
            return ["policy"]
        if isinstance(value, Enum):
            return ["enum", type(value).__name__, value.value]
        if isinstance(value, mixture.Grid):
            return ["grid", next(name for name, grid in _GRIDS.items() if grid == value)]
        if isinstance(value, Tolerance | CustomMetric):
            return ["model", type(value).__name__, value.document()]
        if isinstance(value, deque):
            return ["deque", value.maxlen, [self.write(item) for item in value]]
        if isinstance(value, list | tuple):
            return [type(value).__name__, [self.write(item) for item in value]]
        if isinstance(value, Mapping):
            return ["mapping", [[self.write(key), self.write(item)] for key, item in value.items()]]
        return self._object(value)

    def _object(self, value: Any) -> Any:
        if id(value) in self._numbers:
            return ["same", self._numbers[id(value)]]
        name = type(value).__name__
        if _OBJECTS.get(name) is not type(value):
            raise TypeError(f"{name} is no part of a judge's state")
        self._numbers[id(value)] = len(self._numbers)
        return ["object", name, {field: self.write(getattr(value, field)) for field in _attributes(value)}]


class _Reader:
    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._objects: list[Any] = []

    def read(self, value: Any) -> Any:
        match value:
            case None | bool() | int() | float() | str():
                return value
            case ["float", str(text)] if text in ("inf", "-inf"):
                return float(text)
            case ["policy"]:
                return self._policy
            case ["enum", name, text]:
                return _ENUMS[name](text)
            case ["grid", name]:
                return _GRIDS[name]
            case ["model", name, document]:
                return _MODELS[name].model_validate(document)
            case ["deque", maxlen, items]:
                return deque((self.read(item) for item in items), maxlen=maxlen)
            case ["list" | "tuple" as name, items]:
                return _SEQUENCES[name](self.read(item) for item in items)
            case ["mapping", pairs]:
                return {self.read(key): self.read(item) for key, item in pairs}
            case ["same", int(number)]:
                return self._objects[number]
            case ["object", name, dict(fields)]:
                return self._object(_OBJECTS[name], fields)
        raise ValueError(f"this is not the state of a judge: {str(value)[:80]}")

    def _object(self, kind: type[Any], fields: dict[str, Any]) -> Any:
        made = object.__new__(kind)
        self._objects.append(made)
        known = {slot for base in kind.__mro__ for slot in getattr(base, "__slots__", ())}
        for name, value in fields.items():
            if (known and name not in known) or name.startswith("__"):
                raise ValueError(f"{kind.__name__} has no {name}")
            object.__setattr__(made, name, self.read(value))
        return made
