"""How far each ReplicaSet of a Deployment may grow or shrink now. Arithmetic only, no I/O.

The rules are those of Kubernetes' Deployment controller (pkg/controller/deployment/rolling.go and recreate.go): never
more than replicas + maxSurge Pods, never fewer than replicas - maxUnavailable available ones, unhealthy old Pods go
first. Left out: spreading a scale proportionally over ReplicaSets in the middle of a rolling update; here the update
goes on towards the new number.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_DEFAULT_SHARE = "25%"


@dataclass(frozen=True, slots=True)
class Scale:
    """One ReplicaSet: how many Pods it shall have, how many it has, how many of those are available."""

    name: str
    wanted: int
    existing: int
    available: int


@dataclass(frozen=True, slots=True)
class Bounds:
    """How far a Deployment may be from its replicas while it rolls: Pods more, Pods unavailable."""

    surge: int
    unavailable: int
    is_recreate: bool = False

    @staticmethod
    def of(strategy: Mapping[str, Any] | None, replicas: int) -> Bounds:
        """From a Deployment's `spec.strategy`; percentages are of `replicas`, surge rounded up, unavailable down."""
        if (strategy or {}).get("type") == "Recreate":
            return Bounds(0, replicas, is_recreate=True)
        rolling = (strategy or {}).get("rollingUpdate") or {}
        surge = _count(rolling.get("maxSurge", _DEFAULT_SHARE), replicas, math.ceil)
        unavailable = _count(rolling.get("maxUnavailable", _DEFAULT_SHARE), replicas, math.floor)
        return Bounds(surge, min(unavailable, replicas) if surge or unavailable else 1)


def _count(value: object, of: int, rounded: Any) -> int:
    if isinstance(value, str) and value.endswith("%"):
        return int(rounded(int(value[:-1]) * of / 100))
    return int(str(value))


def plan(replicas: int, bounds: Bounds, new: Scale, old: Sequence[Scale]) -> dict[str, int]:
    """`{name: Pods it shall have from now on}`, only for ReplicaSets that change. `old` is oldest first."""
    if bounds.is_recreate:
        return _recreate(replicas, new, old)
    wanted = {scale.name: scale.wanted for scale in (new, *old)}
    changes = _grow_new(replicas, bounds, new, sum(wanted.values()))
    if not changes:
        changes = _shrink_old(replicas, bounds, new, old)
    return {name: count for name, count in changes.items() if count != wanted[name]}


def plan_paused(replicas: int, scales: Sequence[Scale]) -> dict[str, int]:
    """While paused nothing rolls; the newest ReplicaSet with Pods takes the difference. `scales` is newest first."""
    active = [scale for scale in scales if scale.wanted] or list(scales[:1])
    if not active:
        return {}
    difference = replicas - sum(scale.wanted for scale in active)
    wanted = max(0, active[0].wanted + difference)
    return {active[0].name: wanted} if wanted != active[0].wanted else {}


def _recreate(replicas: int, new: Scale, old: Sequence[Scale]) -> dict[str, int]:
    changes = {scale.name: 0 for scale in old if scale.wanted}
    if not changes and not any(scale.existing for scale in old) and new.wanted != replicas:
        changes[new.name] = replicas
    return changes


def _grow_new(replicas: int, bounds: Bounds, new: Scale, total: int) -> dict[str, int]:
    if new.wanted > replicas:
        return {new.name: replicas}
    room = min(replicas + bounds.surge - total, replicas - new.wanted)
    return {new.name: new.wanted + room} if room > 0 else {}


def _shrink_old(replicas: int, bounds: Bounds, new: Scale, old: Sequence[Scale]) -> dict[str, int]:
    least = replicas - bounds.unavailable
    wanted = {scale.name: scale.wanted for scale in old}
    spare = new.wanted + sum(wanted.values()) - least - max(0, new.wanted - new.available)
    if spare <= 0:
        return {}
    for scale in old:  # those that never served cost nothing
        unhealthy = min(spare, max(0, scale.wanted - scale.available))
        wanted[scale.name] -= unhealthy
        spare -= unhealthy
    spare = new.available + sum(min(scale.available, wanted[scale.name]) for scale in old) - least
    for scale in old:
        gone = min(max(0, spare), wanted[scale.name])
        wanted[scale.name] -= gone
        spare -= gone
    return wanted
