"""Which signals an observation gives. Each function answers with the sentence of why, or None when it does not hold."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from types import MappingProxyType

from canary.engine import ending, holding, passing
from canary.engine.look import Look
from canary.engine.table import Signal
from canary.model.rollout import Phase

SUBSET_GRACE = timedelta(seconds=1)
"""From a new subset to the first weight on it: istiod debounces 100 ms, and a route to a missing subset is 503 NC."""


def _finding(look: Look) -> str | None:
    return look.observed.finding.sentence if look.observed.finding else None


def _resolved(look: Look) -> str | None:
    return "everything it needs was found" if look.observed.resolved else None


def _is_ready(look: Look) -> bool:
    return look.observed.pods.are_ready and not holding.hindered_by(look)


def _ready(look: Look) -> str | None:
    made = look.status.resumed_at
    has_settled = made is None or look.now - made >= SUBSET_GRACE
    if not (_is_ready(look) and look.observed.is_prepared and has_settled):
        return None
    return f"{look.observed.pods.ready} pods ready, the route carries the service, metrics are there"


def _unprepared(look: Look) -> str | None:
    return "the canary's subset is missing" if _is_ready(look) and not look.observed.is_prepared else None


def _unreached(look: Look) -> str | None:
    if look.observed.route is None or look.route_is_as_desired:
        return None
    if look.phase is Phase.ROLLING_BACK or not (look.is_reached or look.status.drift):
        return f"the route is at {look.observed.route.weight} %, to be set to {look.desired} %"
    return None


def _drift(look: Look) -> str | None:
    drift = look.status.drift
    is_due = drift is None or look.lost_or_found or look.now >= drift.next_try
    return holding.drift_sentence(look) if holding.is_drift(look) and is_due else None


def _reached(look: Look) -> str | None:
    if look.phase is Phase.ROLLING_BACK:
        if look.status.resumed_at is not None:
            return None
        if look.route_is_as_desired:
            return "all traffic is back on stable"
        return "there is no route left to set back" if ending.nothing_to_set_back(look) else None
    settled = look.is_reached and look.status.drift is None
    return f"the canary has {look.desired} %" if look.route_is_as_desired and not settled else None


def _unclean(look: Look) -> str | None:
    if look.observed.is_clean:
        return None
    if look.phase is Phase.ROLLING_BACK:
        is_back = look.status.resumed_at is not None and look.now - look.status.resumed_at >= passing.DRAIN_GRACE
        return "what was added for the canary is no longer used" if is_back else None
    return passing.may_end(look) if passing.has_drained(look) else None


def _clock_stop(look: Look) -> str | None:
    if look.status.resumed_at is None or (look.is_handed_over and look.route_is_as_desired):
        return None
    return holding.blind_reason(look) or None


def _clock_start(look: Look) -> str | None:
    may_run = look.is_reached and look.route_is_as_desired and not holding.blind_reason(look)
    return "goes on" if may_run and look.status.resumed_at is None else None


SIGNALS: Mapping[Signal, Callable[[Look], str | None]] = MappingProxyType(
    {
        Signal.DELETED: ending.deleted,
        Signal.ABORT: ending.abort,
        Signal.TARGET_GONE: ending.target_gone,
        Signal.SUPERSEDED: ending.superseded,
        Signal.BROKEN_STATUS: ending.broken_status,
        Signal.ROLLBACK_MARK: ending.rollback_mark,
        Signal.FAIL: ending.fail,
        Signal.STABLE_CHANGED: ending.stable_changed,
        Signal.DRIFT_ABORT: ending.drift_abort,
        Signal.FINDING: _finding,
        Signal.RESOLVED: _resolved,
        Signal.NOT_READY: ending.not_ready,
        Signal.READY: _ready,
        Signal.UNPREPARED: _unprepared,
        Signal.ROUTE_LOST: ending.route_lost,
        Signal.SUBSET_LOST: ending.subset_lost,
        Signal.PROMOTE_FULL: passing.promote_full,
        Signal.UNREACHED: _unreached,
        Signal.DRIFT: _drift,
        Signal.REACHED: _reached,
        Signal.STABLE_SUBSET_LOST: holding.stable_subset_lost,
        Signal.PAUSE: passing.pause,
        Signal.RESUME: passing.resume,
        Signal.RESUME_BAKE: passing.resume_bake,
        Signal.INCONCLUSIVE_ROLLBACK: ending.inconclusive_rollback,
        Signal.ADVANCE: passing.advance,
        Signal.BAKE: passing.bake,
        Signal.HAND_OVER: passing.hand_over,
        Signal.FINISH: passing.finish,
        Signal.UNCLEAN: _unclean,
        Signal.ENDED_ROLLED_BACK: ending.ended(Phase.ROLLED_BACK),
        Signal.ENDED_ABORTED: ending.ended(Phase.ABORTED),
        Signal.ENDED_SUPERSEDED: ending.ended(Phase.SUPERSEDED),
        Signal.ENDED_FAILED: ending.ended(Phase.FAILED),
        Signal.CLOCK_STOP: _clock_stop,
        Signal.CLOCK_START: _clock_start,
    }
)
"""One detector for each signal, in the order of the enum."""
