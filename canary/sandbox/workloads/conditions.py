"""What a Deployment's status says: counts and the conditions Available and Progressing. No I/O.

`kubectl rollout status` and `kubectl wait` read nothing else. Reasons and rules are those of Kubernetes' Deployment
controller (pkg/controller/deployment/progress.go).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from canary.cluster.timestamps import format_time, parse_time
from canary.sandbox.workloads.ownership import Object
from canary.sandbox.workloads.rolling import Bounds

_DEADLINE = 600
_COMPLETE = "NewReplicaSetAvailable"
_PAUSED = "DeploymentPaused"
_TIMED_OUT = "ProgressDeadlineExceeded"


def condition(conditions: Sequence[Mapping[str, Any]], type_: str) -> Mapping[str, Any] | None:
    return next((c for c in conditions if c["type"] == type_), None)


def deployment_status(
    deployment: Object, current: Object | None, old: Sequence[Object], now: datetime, *, is_new: bool = False
) -> dict[str, Any]:
    """The whole status of a Deployment whose ReplicaSets are `current` and `old`; `is_new`: current was made just now.

    Equal to the status before when nothing changed, whatever the time is.
    """
    spec, before = deployment["spec"], deployment.get("status") or {}
    replicas = spec.get("replicas", 1)
    everyone = [*old, *([current] if current else [])]
    available = _sum(everyone, "availableReplicas")
    counts = {
        "observedGeneration": deployment["metadata"].get("generation", 0),
        "replicas": _sum(everyone, "replicas"),
        "updatedReplicas": _sum([current] if current else [], "replicas"),
        "readyReplicas": _sum(everyone, "readyReplicas"),
        "availableReplicas": available,
        "unavailableReplicas": max(0, sum(rs["spec"].get("replicas", 1) for rs in everyone) - available),
    }
    conditions = _Conditions(before.get("conditions") or [], now)
    least = replicas - Bounds.of(spec.get("strategy"), replicas).unavailable
    reported = [
        _available(conditions, is_available=available >= least),
        _progressing(deployment, current, counts, conditions, is_new=is_new),
    ]
    return counts | {"conditions": [c for c in reported if c]}


def deadline_in(deployment: Object, status: Mapping[str, Any], now: datetime) -> float | None:
    """Seconds until the rollout of this status will have taken too long; None when it is over or paused."""
    progressing = condition(status["conditions"], "Progressing")
    if progressing is None or progressing["reason"] in (_COMPLETE, _TIMED_OUT, _PAUSED):
        return None
    updated = parse_time(progressing["lastUpdateTime"]) or now
    end = updated + timedelta(seconds=deployment["spec"].get("progressDeadlineSeconds", _DEADLINE))
    return max(0.0, (end - now).total_seconds())


def _sum(replicasets: Sequence[Object], field: str) -> int:
    return sum((rs.get("status") or {}).get(field, 0) for rs in replicasets)


@dataclass(frozen=True)
class _Conditions:
    """The conditions before, and the time of what is written over them."""

    known: Sequence[Mapping[str, Any]]
    now: datetime

    def set(self, type_: str, status: str, reason: str, message: str, *, touch: bool = False) -> dict[str, Any]:
        """The condition, its times kept while it says the same; `touch` moves lastUpdateTime all the same."""
        before = condition(self.known, type_)
        said = {"type": type_, "status": status, "reason": reason, "message": message}
        if before and said.items() <= before.items() and not touch:
            return dict(before)
        time = format_time(self.now)
        since = before["lastTransitionTime"] if before and before["status"] == status else time
        return said | {"lastUpdateTime": time, "lastTransitionTime": since}


def _available(conditions: _Conditions, *, is_available: bool) -> dict[str, Any]:
    if is_available:
        said = "Deployment has minimum availability."
        return conditions.set("Available", "True", "MinimumReplicasAvailable", said)
    said = "Deployment does not have minimum availability."
    return conditions.set("Available", "False", "MinimumReplicasUnavailable", said)


def _progressing(
    deployment: Object, current: Object | None, counts: Mapping[str, int], conditions: _Conditions, *, is_new: bool
) -> dict[str, Any] | None:
    spec, before = deployment["spec"], deployment.get("status") or {}
    known = condition(conditions.known, "Progressing")
    reason = known["reason"] if known else ""
    if spec.get("paused"):
        return conditions.set("Progressing", "Unknown", _PAUSED, "Deployment is paused")
    if current is None:
        return dict(known) if known else None
    replicas, name = spec.get("replicas", 1), current["metadata"]["name"]
    if is_new:
        return conditions.set("Progressing", "True", "NewReplicaSetCreated", f'Created new replica set "{name}"')
    if {counts["replicas"], counts["updatedReplicas"], counts["availableReplicas"]} == {replicas}:
        said = f'ReplicaSet "{name}" has successfully progressed.'
        return conditions.set("Progressing", "True", _COMPLETE, said)
    if known is None:
        return conditions.set("Progressing", "True", "FoundNewReplicaSet", f'Found new replica set "{name}"')
    if reason == _COMPLETE and counts["replicas"] == counts["updatedReplicas"]:
        return dict(known)  # a Pod that fails after the rollout does not undo that it was rolled out
    if reason == _PAUSED:
        return conditions.set("Progressing", "Unknown", "DeploymentResumed", "Deployment is resumed")
    if _moved(before, counts):
        said = f'ReplicaSet "{name}" is progressing.'
        return conditions.set("Progressing", "True", "ReplicaSetUpdated", said, touch=True)
    deadline = timedelta(seconds=spec.get("progressDeadlineSeconds", _DEADLINE))
    updated = parse_time(known["lastUpdateTime"]) or conditions.now
    if reason not in (_COMPLETE, _TIMED_OUT) and conditions.now > updated + deadline:
        return conditions.set("Progressing", "False", _TIMED_OUT, f'ReplicaSet "{name}" has timed out progressing.')
    return dict(known)


def _moved(before: Mapping[str, Any], counts: Mapping[str, int]) -> bool:
    """More updated, ready or available Pods than before, or fewer old ones."""
    old = before.get("replicas", 0) - before.get("updatedReplicas", 0)
    return counts["replicas"] - counts["updatedReplicas"] < old or any(
        counts[field] > before.get(field, 0) for field in ("updatedReplicas", "readyReplicas", "availableReplicas")
    )
