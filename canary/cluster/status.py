"""The only writer of a CanaryRollout's status.

It is given the object as it was read and the status as it should be, and sends the difference, pinned to the
resourceVersion it was decided on. Nothing is sent when nothing changed. It decides nothing about a rollout; what it
adds of its own is the bookkeeping of a status: transition times, a size that fits, null for what is gone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

import orjson

from canary.cluster.gateway import Gateway
from canary.cluster.kinds import CANARYROLLOUT
from canary.cluster.timestamps import format_time, utc_now
from canary.errors import Ambiguous, Conflict, Invalid, Unavailable

Object = dict[str, Any]

TARGET_BYTES = 16 * 1024
"""Size an object should keep to: one 8 KB status patch costs the API server 4 ms, one of 64 KB 15 ms (cluster.md)."""

HARD_BYTES = 32 * 1024
"""Size no object may pass, whatever is lost for it; over 1.5 MB the API server answers 500 (decisions.md 9)."""

HISTORY_ENTRIES = 20
HISTORY_KEPT = 5
"""Newest entries that stay even where the target is missed: without them nobody understands the outcome."""


class StatusWriter:
    """Writes statuses through one gateway. Safe for several threads, each with an object of its own."""

    def __init__(self, gateway: Gateway, *, now: Callable[[], datetime] = utc_now) -> None:
        self._gateway = gateway
        self._now = now

    def write(self, previous: Mapping[str, Any], status: Mapping[str, Any]) -> Object:
        """Make the status of `previous` (an object as read or projected) the given one; returns the object after it.

        A key of the old status that the new one lacks, or has as None, is removed. Raises Conflict when somebody
        wrote the object since `previous` was read, Invalid when it would not fit even without its history, Ambiguous
        when nobody can tell whether it was written; NotOurs and the ClusterError tree as the gateway does.
        """
        before = previous.get("status") or {}
        wanted = _fitted(previous, self._with_transition_times(before, _without_nulls(status)))
        difference = _merge_patch(before, wanted)
        if not difference:
            return dict(previous)
        metadata = previous["metadata"]
        body = {"metadata": {"resourceVersion": metadata["resourceVersion"]}, "status": difference}
        try:
            return self._gateway.patch(
                CANARYROLLOUT,
                metadata["namespace"],
                metadata["name"],
                body,
                patch_type="merge",
                subresource="status",
            )
        except Ambiguous as error:
            return self._after_no_answer(error, metadata, wanted)

    def _after_no_answer(self, error: Ambiguous, metadata: Mapping[str, Any], wanted: Object) -> Object:
        """Re-read and compare: the patch may have arrived although its answer did not.

        Unchanged, it may still be on its way: that stays Ambiguous, and trying again is safe, for the
        resourceVersion lets only one of the two through.
        """
        try:
            current = self._gateway.get(CANARYROLLOUT, metadata["namespace"], metadata["name"])
        except Unavailable:
            raise error from None
        if current["metadata"].get("uid") == metadata.get("uid") and not _merge_patch(
            current.get("status") or {}, wanted
        ):
            return current
        if current["metadata"]["resourceVersion"] == metadata["resourceVersion"]:
            raise error
        raise Conflict(
            f"canaryrollout {metadata['namespace']}/{metadata['name']} was changed by somebody else while its status "
            "was written",
            status=409,
        ) from error

    def _with_transition_times(self, before: Mapping[str, Any], wanted: Object) -> Object:
        """Conditions keep the lastTransitionTime of the moment their status last changed, whatever else changed."""
        if "conditions" not in wanted:
            return wanted
        known = {condition.get("type"): condition for condition in before.get("conditions") or ()}
        conditions = []
        for condition in wanted["conditions"]:
            old = known.get(condition["type"], {})
            if old.get("status") == condition["status"] and "lastTransitionTime" in old:
                moment = old["lastTransitionTime"]
            else:
                moment = condition.get("lastTransitionTime") or format_time(self._now())
            conditions.append({**condition, "lastTransitionTime": moment})
        return {**wanted, "conditions": conditions}


def _merge_patch(before: Mapping[str, Any], wanted: Mapping[str, Any]) -> Object:
    """The JSON merge patch (RFC 7386) that makes `before` into `wanted`; empty when they are equal."""
    patch: Object = dict.fromkeys(before.keys() - wanted.keys())
    for key, value in wanted.items():
        old = before.get(key)
        if isinstance(value, dict) and isinstance(old, dict):
            inner = _merge_patch(old, value)
            if inner:
                patch[key] = inner
        elif key not in before or old != value:
            patch[key] = value
    return patch


def _without_nulls(value: Any) -> Any:
    """In a merge patch null means removal, so a field that is None is a field that is not there."""
    if isinstance(value, Mapping):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    if isinstance(value, list | tuple):
        return [_without_nulls(item) for item in value]
    return value


def _fitted(previous: Mapping[str, Any], wanted: Object) -> Object:
    """The status cut to size: the oldest history first, counted in historyDropped, then what is there for display."""
    history = list(wanted.get("history", ()))
    already = wanted.get("historyDropped") or (previous.get("status") or {}).get("historyDropped") or 0

    def cut(kept: int, status: Object) -> Object:
        gone = len(history) - kept
        shorter = {**status, "history": history[gone:]} if history else dict(status)
        return shorter | ({"historyDropped": already + gone} if already + gone else {})

    kept = min(len(history), HISTORY_ENTRIES)
    fitted = cut(kept, wanted)
    while kept > HISTORY_KEPT and _size(previous, fitted) > TARGET_BYTES:
        kept -= 1
        fitted = cut(kept, wanted)
    for bare in (lambda status: status, _without_policy_copy, _without_evidence):
        wanted = bare(wanted)
        while True:
            fitted = cut(kept, wanted)
            if _size(previous, fitted) <= HARD_BYTES:
                return fitted
            if kept == 0:
                break
            kept -= 1
    name = f"{previous['metadata'].get('namespace')}/{previous['metadata'].get('name')}"
    raise Invalid(
        f"canaryrollout {name} would have {_size(previous, fitted)} bytes, of {HARD_BYTES} allowed, even without its "
        "history: its spec or annotations are too large"
    )


def _size(previous: Mapping[str, Any], status: Object) -> int:
    return len(orjson.dumps({**previous, "status": status}))


def _without_policy_copy(status: Object) -> Object:
    """The copy is for display: the controller runs the one it froze itself (security.md 3)."""
    policy = status.get("policy")
    return {**status, "policy": {**policy, "resolved": {}}} if isinstance(policy, dict) else status


def _without_evidence(status: Object) -> Object:
    verdict = status.get("verdict")
    return {**status, "verdict": {**verdict, "evidence": []}} if isinstance(verdict, dict) else status
