"""Windows out of a file: a record of the controller's, what `canary explain -o json` printed, or anybody's own counts.

The form is in docs/plan.md. Whatever the file holds, the answer is windows, or an InputError that says what is wrong.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from canary.analysis.entries import Life
from canary.analysis.record import Record
from canary.errors import InputError
from canary.model.policy import Policy
from canary.model.verdict import ArmCounts, Baseline, Ejections, Window

LARGEST = 64 * 1024 * 1024
GZIP = b"\x1f\x8b"


@dataclass(frozen=True, slots=True)
class FromFile:
    """`policy` is the one that the windows were judged by, None where the file does not say; `note` what is missing."""

    windows: tuple[Window, ...]
    baseline: Baseline
    tile_s: float
    settle_s: float
    policy: Policy | None = None
    note: str = ""


def read_windows(path: Path) -> FromFile:
    """Raises InputError for a file that holds no windows, OSError when it cannot be read."""
    with path.open("rb") as stream:
        data = stream.read(LARGEST + 1)
    if len(data) > LARGEST:
        raise InputError(f"{path} is larger than {LARGEST} bytes: no rollout has so many windows")
    try:
        return _of_record(Record.unpack(data)) if data.startswith(GZIP) else _of_document(json.loads(data))
    except (InputError, ValidationError, json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"{path}: {_said(error)}") from error


def _said(error: Exception) -> str:
    if not isinstance(error, ValidationError):
        return str(error)
    wrong = error.errors()[0]
    return f"policy.{'.'.join(str(part) for part in wrong['loc'])}: {wrong['msg']}"


def _of_record(record: Record) -> FromFile:
    if not record.lives:
        raise InputError("the record holds no judge")
    life = record.lives[-1]
    windows = tuple(seen.window for seen in life.windows)
    return FromFile(windows, life.baseline, record.tile_s, life.settle_s, record.policy, _note(life))


def _note(life: Life) -> str:
    if life.base is None:
        return ""
    return (
        f"The record's first {life.base.windows:,} windows gave way to newer ones: what they were evidence of is gone."
    )


def _of_document(document: Any) -> FromFile:
    whole = _mapping(document, "the document")
    judges = whole.get("judges")
    part = _mapping(judges[-1], "judges") if isinstance(judges, list) and judges else whole
    windows = part.get("windows")
    if not isinstance(windows, list) or not windows:
        raise InputError("it has no list `windows`, or an empty one")
    read = tuple(_window(_mapping(one, f"windows[{place}]"), f"windows[{place}]") for place, one in enumerate(windows))
    tile_s = min(window.end - window.start for window in read)
    policy = whole.get("policy")
    return FromFile(
        read,
        _baseline(_mapping(part.get("baseline") or {}, "baseline")),
        _number(whole, "tileSeconds", "", tile_s),
        _number(part, "settleSeconds", "", 2.0),
        Policy.model_validate(policy) if isinstance(policy, dict) else None,
    )


def _window(one: Mapping[str, Any], where: str) -> Window:
    ejections = one.get("ejections")
    return Window(
        start=_number(one, "start", where),
        end=_number(one, "end", where),
        step=_whole(one, "step", where, 1),
        weight=_whole(one, "weight", where),
        canary=_arm(one, "canary", where),
        stable=_arm(one, "stable", where),
        unattributed=_arm(one, "unattributed", where) if one.get("unattributed") else ArmCounts(),
        ejections=_ejections(_mapping(ejections, f"{where}.ejections"), where) if ejections else None,
        warm=one.get("warm", True) is True,
        noise=str(one.get("noise") or ""),
        metrics={
            str(name): _number(_mapping(one["metrics"], where), name, f"{where}.metrics")
            for name in _mapping(one.get("metrics") or {}, f"{where}.metrics")
        },
    )


def _arm(one: Mapping[str, Any], name: str, where: str) -> ArmCounts:
    here = f"{where}.{name}"
    arm = _mapping(one.get(name), here)
    slower = _mapping(arm.get("slower") or {}, f"{here}.slower")
    try:
        bounds = {float(bound): _whole(slower, bound, f"{here}.slower") for bound in slower}
    except ValueError as error:
        raise InputError(f"{here}.slower: its keys must be bucket bounds in milliseconds") from error
    return ArmCounts(
        _whole(arm, "requests", here), _whole(arm, "errors", here, 0), _whole(arm, "timed", here, 0), bounds
    )


def _ejections(found: Mapping[str, Any], where: str) -> Ejections:
    canary, stable = (_mapping(found.get(arm) or {}, f"{where}.ejections.{arm}") for arm in ("canary", "stable"))
    return Ejections(
        *(_whole(canary, key, f"{where}.ejections", 0) for key in ("ejected", "members")),
        *(_whole(stable, key, f"{where}.ejections", 0) for key in ("ejected", "members")),
    )


def _baseline(found: Mapping[str, Any]) -> Baseline:
    latency = _mapping(found.get("latencyPhi") or {}, "baseline.latencyPhi")
    unattributed = found.get("unattributedBound")
    try:
        phis = {float(bound): _number(latency, bound, "baseline.latencyPhi") for bound in latency}
    except ValueError as error:
        raise InputError("baseline.latencyPhi: its keys must be bucket bounds in milliseconds") from error
    return Baseline(
        errors_phi=_number(found, "errorsPhi", "baseline", 1.0),
        latency_phi=phis,
        p99_phi=_number(found, "p99Phi", "baseline", 1.0),
        unattributed_bound=None if unattributed is None else _number(found, "unattributedBound", "baseline"),
        history_s=_number(found, "historySeconds", "baseline", 0.0),
    )


def _mapping(value: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise InputError(f"{where} must be an object, not {str(value)[:40]!r}")
    return value


def _number(found: Mapping[str, Any], name: str, where: str, otherwise: float | None = None) -> float:
    value = found.get(name, otherwise)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise InputError(f"{'.'.join(filter(None, (where, name)))} must be a number, not {str(value)[:40]!r}")
    return float(value)


def _whole(found: Mapping[str, Any], name: str, where: str, otherwise: int | None = None) -> int:
    value = found.get(name, otherwise)
    if isinstance(value, bool) or not isinstance(value, int):
        raise InputError(f"{where}.{name} must be a whole number, not {str(value)[:40]!r}")
    return value
