"""Signals that send a rollout back and end it. Each says why, or None when it does not hold.

Nothing here may depend on a stable that is gone: there would be nowhere to send the traffic.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

from canary.engine import holding
from canary.engine.look import Look, said
from canary.engine.observed import ROUTE_GONE
from canary.model.policy import OnDrift, OnInconclusive
from canary.model.rollout import FINALIZER, Cause, Phase
from canary.model.units import format_duration
from canary.model.verdict import Outcome, Reason

ROUTE_LOST_AFTER = timedelta(minutes=1)
"""A VirtualService that is deleted and made again (`kubectl replace --force`) is back long before."""


def deleted(look: Look) -> str | None:
    rollout = look.observed.rollout
    is_ours_to_release = not look.phase.is_terminal or FINALIZER in rollout.finalizers
    return "the CanaryRollout is being deleted" if rollout.deleting and is_ours_to_release else None


def abort(look: Look) -> str | None:
    wish = look.observed.rollout.spec.abort
    return said("aborted", wish) if wish else None


def target_gone(look: Look) -> str | None:
    gone = look.is_pinned and not look.observed.target_revision
    return f"Deployment {look.observed.rollout.spec.target} is gone" if gone else None


def superseded(look: Look) -> str | None:
    observed = look.observed
    if look.is_active and look.stable_is_gone:
        return None  # nothing to go back to: the canary's traffic would have nowhere to go
    if observed.superseded_by:
        return f"superseded by {observed.superseded_by}"
    pinned, newest = look.status.target_revision, observed.target_revision
    if pinned and newest and newest != pinned:
        return f"Deployment {observed.rollout.spec.target} has a newer revision, {newest} instead of {pinned}"
    return None


def broken_status(look: Look) -> str | None:
    if look.phase is Phase.PENDING:
        return None
    if look.is_pinned:
        return _off_plan(look)
    return "the frozen policy or the pinned route of this rollout is gone"


def _off_plan(look: Look) -> str | None:
    if not look.is_active or look.is_on_plan:
        return None
    step, weight = look.status.step, look.status.weight.desired
    return f"the status names step {step.index if step else '(none)'} at {weight} %, which the policy does not have"


def rollback_mark(look: Look) -> str | None:
    return look.mark.sentence if look.mark else None


def fail(look: Look) -> str | None:
    verdict = look.observed.verdict
    if verdict is None or verdict.outcome is not Outcome.FAIL or look.stable_is_gone:
        return None
    return f"ROLLBACK at {look.status.weight.desired} %: {verdict.sentence}"


def stable_changed(look: Look) -> str | None:
    pinned = look.status.stable
    now = look.observed.stable_revision
    if pinned is None or not now or now == pinned.revision:
        return None
    return f"stable changed during the rollout: {pinned.deployment} is at revision {now}, not {pinned.revision}"


def drift_abort(look: Look) -> str | None:
    moved = holding.is_drift(look) and look.observed.route is not None and not look.stable_is_gone
    return holding.drift_sentence(look) if moved and look.policy.on_drift is OnDrift.ABORT else None


def not_ready(look: Look) -> str | None:
    deadline, pods = look.strategy.progress_deadline, look.observed.pods
    if look.unhindered < deadline or holding.hindered_by(look):
        return None
    if not pods.are_ready:
        return f"{pods.ready} of {pods.wanted} pods ready after {format_duration(deadline)} (progressDeadline)"
    were_asked_for = look.status.resumed_at is not None
    if look.observed.is_prepared or not were_asked_for:
        return None
    return f"the subsets could not be made within {format_duration(deadline)} (progressDeadline)"


def route_lost(look: Look) -> str | None:
    problem, drift = look.observed.route_problem, look.status.drift
    if problem is None or drift is None or look.lost_or_found or look.now - drift.since < ROUTE_LOST_AFTER:
        return None
    return problem.sentence


def subset_lost(look: Look) -> str | None:
    """Putting it back would take no longer, but whoever took it out may do so again, each time at the users' cost."""
    canary, stable, lost = look.status.canary, look.status.stable, look.observed.lost_subsets
    if canary is None or stable is None or canary.subset not in lost or stable.subset in lost:
        return None  # without stable's there is nothing to go back to: both are put back
    return f"the canary's subset {canary.subset} is gone from the DestinationRule{holding.who(look)}"


def inconclusive_rollback(look: Look) -> str | None:
    verdict = look.observed.verdict
    if not look.is_overdue or verdict is None:
        return None
    if look.policy.analysis.on_inconclusive is OnInconclusive.ROLLBACK or verdict.reason is Reason.NO_CANARY_TRAFFIC:
        return f"ROLLBACK at {look.desired} %: no verdict after {format_duration(look.patience)}: " + (verdict.sentence)
    return None


def nothing_to_set_back(look: Look) -> bool:
    """The route is gone for good. One that is only being made anew would come back with the canary's weight on it."""
    observed = look.observed
    if observed.route is not None:
        return False
    if observed.route_problem is None:
        return True  # none was ever pinned
    was_waited_for = look.cause in (Cause.ROUTE_LOST, Cause.DELETED) or look.in_phase >= ROUTE_LOST_AFTER
    return observed.route_problem.reason == ROUTE_GONE and was_waited_for


def ended(end: Phase) -> Callable[[Look], str | None]:
    """The detector of one end: everything is back and clean, and the cause is one that ends there."""

    def detector(look: Look) -> str | None:
        status = look.status
        if look.cause.ends_in is not end or status.resumed_at is None or not look.observed.is_clean:
            return None
        return status.cause.sentence if status.cause else "its status does not say why it goes back"

    return detector
