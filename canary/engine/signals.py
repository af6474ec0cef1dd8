"""Which signals an observation gives. Each function answers with the sentence of why, or None when it does not hold."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from types import MappingProxyType

from canary.engine.look import Look
from canary.engine.table import Signal
from canary.model.policy import OnDrift, OnInconclusive
from canary.model.rollout import Cause, PausedFor, Phase, Wish
from canary.model.units import format_duration
from canary.model.verdict import Outcome, Reason

SUBSET_GRACE = timedelta(seconds=1)
"""From a new subset to the first weight on it: istiod debounces 100 ms, and a route to a missing subset is 503 NC."""

DRAIN_GRACE = timedelta(seconds=2)
"""From the route's return to the removal of the subset: make before break, on the way down too."""

ROUTE_LOST_AFTER = timedelta(minutes=1)
"""A VirtualService that is deleted and made again (`kubectl replace --force`) is back long before."""

_NEVER_A_PASS = frozenset({Reason.NO_DATA, Reason.NO_TRAFFIC, Reason.NO_CANARY_TRAFFIC})


def _said(what: str, wish: Wish) -> str:
    return what + (f" by {wish.actor}" if wish.actor else "") + (f": {wish.reason}" if wish.reason else "")


def _deleted(look: Look) -> str | None:
    return "the CanaryRollout is being deleted" if look.observed.rollout.deleting else None


def _abort(look: Look) -> str | None:
    wish = look.observed.rollout.spec.abort
    return _said("aborted", wish) if wish else None


def _target_gone(look: Look) -> str | None:
    gone = look.is_pinned and not look.observed.target_revision
    return f"Deployment {look.observed.rollout.spec.target} is gone" if gone else None


def _superseded(look: Look) -> str | None:
    observed = look.observed
    if observed.superseded_by:
        return f"superseded by {observed.superseded_by}"
    pinned, newest = look.status.target_revision, observed.target_revision
    if pinned and newest and newest != pinned:
        return f"Deployment {observed.rollout.spec.target} has a newer revision, {newest} instead of {pinned}"
    return None


def _broken_status(look: Look) -> str | None:
    if look.phase is Phase.PENDING or look.is_pinned:
        return None
    return "the frozen policy or the pinned route of this rollout is gone"


def _rollback_mark(look: Look) -> str | None:
    return look.mark.sentence if look.mark else None


def _fail(look: Look) -> str | None:
    verdict = look.observed.verdict
    if verdict is None or verdict.outcome is not Outcome.FAIL or look.stable_is_gone:
        return None
    return f"ROLLBACK at {look.status.weight.desired} %: {verdict.sentence}"


def _stable_changed(look: Look) -> str | None:
    pinned = look.status.stable
    now = look.observed.stable_revision
    if pinned is None or not now or now == pinned.revision:
        return None
    return f"stable changed during the rollout: {pinned.deployment} is at revision {now}, not {pinned.revision}"


def _is_drift(look: Look) -> bool:
    was_reached = look.is_reached or look.status.drift is not None
    return look.is_active and was_reached and not look.route_is_as_desired


def _drift_sentence(look: Look) -> str:
    route, problem = look.observed.route, look.observed.route_problem
    if route is None:
        return problem.sentence if problem else "the route cannot be read"
    who = f" ({look.observed.manager} changed it last; unverified)" if look.observed.manager else ""
    header = "" if route.header == look.wants_header else ", header route " + ("present" if route.header else "missing")
    return f"somebody else set the canary's weight to {route.weight} %{header}; it should be {_desired(look)} %{who}"


def _desired(look: Look) -> int:
    return look.status.weight.desired


def _drift_abort(look: Look) -> str | None:
    moved = _is_drift(look) and look.observed.route is not None
    return _drift_sentence(look) if moved and look.policy.on_drift is OnDrift.ABORT else None


def _finding(look: Look) -> str | None:
    return look.observed.finding.sentence if look.observed.finding else None


def _resolved(look: Look) -> str | None:
    return "everything it needs was found" if look.observed.resolved else None


def _not_ready(look: Look) -> str | None:
    deadline, pods = look.strategy.progress_deadline, look.observed.pods
    if look.in_phase < deadline or look.observed.source_problem:
        return None
    if not pods.are_ready:
        return f"{pods.ready} of {pods.wanted} pods ready after {format_duration(deadline)} (progressDeadline)"
    return (
        f"the subsets could not be made within {format_duration(deadline)}" if not look.observed.is_prepared else None
    )


def _is_ready(look: Look) -> bool:
    return look.observed.pods.are_ready and look.observed.route is not None and not look.observed.source_problem


def _ready(look: Look) -> str | None:
    made = look.status.resumed_at
    has_settled = made is None or look.now - made >= SUBSET_GRACE
    if not (_is_ready(look) and look.observed.is_prepared and has_settled):
        return None
    return f"{look.observed.pods.ready} pods ready, the route carries the service, metrics are there"


def _unprepared(look: Look) -> str | None:
    return "the canary's subset is missing" if _is_ready(look) and not look.observed.is_prepared else None


def _route_lost(look: Look) -> str | None:
    problem, drift = look.observed.route_problem, look.status.drift
    if problem is None or drift is None or look.now - drift.since < ROUTE_LOST_AFTER:
        return None
    return problem.sentence


def _promote_full(look: Look) -> str | None:
    wish = look.observed.rollout.spec.promote
    before_the_bake = look.is_active and look.step <= look.strategy.last_step
    return _said("promoted", wish) if wish and wish.full and before_the_bake and not look.stable_is_gone else None


def _unreached(look: Look) -> str | None:
    if look.observed.route is None or look.route_is_as_desired:
        return None
    if look.phase is Phase.ROLLING_BACK or not (look.is_reached or look.status.drift):
        return f"the route is at {look.observed.route.weight} %, to be set to {_desired(look)} %"
    return None


def _drift(look: Look) -> str | None:
    drift = look.status.drift
    is_due = drift is None or look.now >= drift.next_try
    return _drift_sentence(look) if _is_drift(look) and is_due else None


def _reached(look: Look) -> str | None:
    if look.phase is Phase.ROLLING_BACK:
        is_back = look.observed.route is None or look.route_is_as_desired
        return "all traffic is back on stable" if is_back and look.status.resumed_at is None else None
    settled = look.is_reached and look.status.drift is None
    return f"the canary has {_desired(look)} %" if look.route_is_as_desired and not settled else None


def _pause(look: Look) -> str | None:
    found = pause_reason(look)
    return found[1] if found else None


def pause_reason(look: Look) -> tuple[PausedFor, str] | None:
    """Why a step has to wait for a person, and for what; None when it has not."""
    wish = look.observed.rollout.spec.paused
    if wish:
        return PausedFor.WISH, _said("paused", wish) + "; goes on with `canary resume`"
    if look.time_is_over and look.passes and not look.is_past_this_pause and look.step <= look.strategy.last_step:
        if look.step and look.strategy.weight_of(look.step) in look.strategy.pause_at:
            return PausedFor.PAUSE_AT, f"paused at {_desired(look)} % as the policy asks; goes on with `canary promote`"
        if look.step == 0 and look.strategy.is_header_only:
            return PausedFor.HEADER_ONLY, "open to requests with the header only; goes on with `canary promote`"
    if look.is_overdue and not look.is_past_this_pause:
        verdict = look.observed.verdict
        assert verdict is not None  # overdue says so
        choice = look.policy.analysis.on_inconclusive
        if choice is OnInconclusive.PAUSE or (choice is OnInconclusive.PROMOTE and verdict.reason in _NEVER_A_PASS):
            waited = format_duration(look.hold + look.max_wait)
            sentence = f"no verdict after {waited}: {verdict.sentence} Goes on with `canary promote`."
            return PausedFor.INCONCLUSIVE, sentence
    return None


def _is_resumed(look: Look) -> str | None:
    wish_is_gone = look.status.paused_for is PausedFor.WISH and look.observed.rollout.spec.paused is None
    return "resumed" if wish_is_gone else None


def _resume(look: Look) -> str | None:
    return _is_resumed(look) if look.step <= look.strategy.last_step else None


def _resume_bake(look: Look) -> str | None:
    return _is_resumed(look) if look.step > look.strategy.last_step else None


def _inconclusive_rollback(look: Look) -> str | None:
    verdict = look.observed.verdict
    if not look.is_overdue or verdict is None or look.stable_is_gone:
        return None
    if look.policy.analysis.on_inconclusive is OnInconclusive.ROLLBACK or verdict.reason is Reason.NO_CANARY_TRAFFIC:
        return f"ROLLBACK at {_desired(look)} %: no verdict after {format_duration(look.hold + look.max_wait)}: " + (
            verdict.sentence
        )
    return None


def _may_leave(look: Look) -> str | None:
    """Why the step is over: evidence and time, a person's word, or the policy's choice for want of a verdict."""
    spec, verdict = look.observed.rollout.spec, look.observed.verdict
    if look.phase is Phase.PAUSED:
        wished = look.is_past_this_pause and spec.paused is None and spec.promote is not None
        return _said("promoted", spec.promote) if wished and spec.promote else None
    if not (look.route_is_as_desired and look.time_is_over) or look.is_blind or verdict is None:
        return None
    if verdict.outcome is Outcome.PASS:
        return verdict.sentence
    if look.is_overdue and look.is_past_this_pause and spec.promote:
        return _said("promoted", spec.promote)
    by_policy = look.is_overdue and look.policy.analysis.on_inconclusive is OnInconclusive.PROMOTE
    if by_policy and verdict.reason not in _NEVER_A_PASS:
        return f"no verdict in time, and the policy says onInconclusive: promote; {verdict.sentence}"
    return None


def _advance(look: Look) -> str | None:
    return _may_leave(look) if look.step < look.strategy.last_step else None


def _bake(look: Look) -> str | None:
    return _may_leave(look) if look.step == look.strategy.last_step else None


def _finish(look: Look) -> str | None:
    return _may_leave(look) if look.step > look.strategy.last_step and look.observed.is_clean else None


def _unclean(look: Look) -> str | None:
    if look.observed.is_clean:
        return None
    if look.phase is Phase.ROLLING_BACK:
        has_drained = look.status.resumed_at is not None and look.now - look.status.resumed_at >= DRAIN_GRACE
        return "what was added for the canary is no longer used" if has_drained else None
    return _may_leave(look) if look.step > look.strategy.last_step else None


def _ended(*causes: Cause) -> Callable[[Look], str | None]:
    def ended(look: Look) -> str | None:
        status = look.status
        if status.cause is None or status.cause.reason not in causes or status.resumed_at is None:
            return None
        return status.cause.sentence if look.observed.is_clean else None

    return ended


def _blind_reason(look: Look) -> str:
    if look.blind_because:
        return look.blind_because
    if look.stable_is_gone and look.status.stable:
        return (
            f"Deployment {look.status.stable.deployment} (stable) is gone: bring it back, or finish with "
            "`canary promote --full`"
        )
    return _drift_sentence(look) if _is_drift(look) else ""


def _clock_stop(look: Look) -> str | None:
    return (_blind_reason(look) or None) if look.status.resumed_at is not None else None


def _clock_start(look: Look) -> str | None:
    may_run = look.is_reached and look.route_is_as_desired and not _blind_reason(look)
    return "goes on" if may_run and look.status.resumed_at is None else None


def _causes(phase: Phase) -> tuple[Cause, ...]:
    return tuple(cause for cause in Cause if cause.ends_in is phase)


SIGNALS: Mapping[Signal, Callable[[Look], str | None]] = MappingProxyType(
    {
        Signal.DELETED: _deleted,
        Signal.ABORT: _abort,
        Signal.TARGET_GONE: _target_gone,
        Signal.SUPERSEDED: _superseded,
        Signal.BROKEN_STATUS: _broken_status,
        Signal.ROLLBACK_MARK: _rollback_mark,
        Signal.FAIL: _fail,
        Signal.STABLE_CHANGED: _stable_changed,
        Signal.DRIFT_ABORT: _drift_abort,
        Signal.FINDING: _finding,
        Signal.RESOLVED: _resolved,
        Signal.NOT_READY: _not_ready,
        Signal.READY: _ready,
        Signal.UNPREPARED: _unprepared,
        Signal.ROUTE_LOST: _route_lost,
        Signal.PROMOTE_FULL: _promote_full,
        Signal.UNREACHED: _unreached,
        Signal.DRIFT: _drift,
        Signal.REACHED: _reached,
        Signal.PAUSE: _pause,
        Signal.RESUME: _resume,
        Signal.RESUME_BAKE: _resume_bake,
        Signal.INCONCLUSIVE_ROLLBACK: _inconclusive_rollback,
        Signal.ADVANCE: _advance,
        Signal.BAKE: _bake,
        Signal.FINISH: _finish,
        Signal.UNCLEAN: _unclean,
        Signal.ENDED_ROLLED_BACK: _ended(*_causes(Phase.ROLLED_BACK)),
        Signal.ENDED_ABORTED: _ended(*_causes(Phase.ABORTED)),
        Signal.ENDED_SUPERSEDED: _ended(*_causes(Phase.SUPERSEDED)),
        Signal.ENDED_FAILED: _ended(*_causes(Phase.FAILED)),
        Signal.CLOCK_STOP: _clock_stop,
        Signal.CLOCK_START: _clock_start,
    }
)
"""One detector for each signal, in the order of the enum."""
