"""Conditions in kstatus terms (Ready, Reconciling, Stalled), and Promoted and RolledBack for `kubectl wait`."""

from __future__ import annotations

from datetime import datetime, timedelta

from canary.engine.observed import Observed
from canary.model.rollout import Condition, PausedFor, Phase, RolloutStatus
from canary.model.text import plain
from canary.model.verdict import Reason

STALLED_ROLLBACK = timedelta(minutes=1)

_BLIND_SENTENCES = {  # without figures: those move at every look, and every move would be a write
    Reason.UNAVAILABLE: "the metrics source does not answer",
    Reason.STALE: "the newest metrics are too old to judge by",
}


def stalled(observed: Observed, status: RolloutStatus, now: datetime) -> tuple[str, str] | None:
    """Why nothing moves until somebody does something: reason and sentence; None when it does move."""
    if status.phase.is_terminal:
        return None
    if observed.refused:
        return observed.refused.reason, observed.refused.sentence
    if status.phase in (Phase.PENDING, Phase.CHECKING) and observed.finding:
        return observed.finding.reason, observed.finding.sentence
    if observed.route_problem and status.phase is not Phase.PENDING:
        return observed.route_problem.reason, observed.route_problem.sentence
    if status.phase is Phase.ROLLING_BACK:
        is_late = now - (status.phase_started_at or now) > STALLED_ROLLBACK
        if status.resumed_at:  # the traffic is back
            return (
                ("CleanUpNotThrough", "what was added could not be taken away yet; still trying") if is_late else None
            )
        return ("RollbackNotThrough", "the route could not be set back yet; still trying") if is_late else None
    if status.drift:
        return "Drift", status.message
    if observed.source_problem:
        return "TelemetryUnavailable", observed.source_problem
    if observed.verdict and observed.verdict.reason in _BLIND_SENTENCES:
        return "TelemetryUnavailable", _BLIND_SENTENCES[observed.verdict.reason]
    if status.stable and observed.policy and not observed.stable_revision:
        return "StableGone", f"Deployment {status.stable.deployment} (stable) is gone"
    if status.phase is Phase.PAUSED and status.paused_for is PausedFor.INCONCLUSIVE:
        return "Inconclusive", status.message
    return None


def conditions(observed: Observed, status: RolloutStatus, now: datetime) -> tuple[Condition, ...]:
    """All conditions; lastTransitionTime moves only when a condition's status does."""
    phase = status.phase
    stuck = stalled(observed, status, now)
    wanted = (
        ("Ready", phase is Phase.SUCCEEDED, phase.value, status.message),
        ("Reconciling", not phase.is_terminal and stuck is None, phase.value, status.message),
        ("Stalled", stuck is not None, stuck[0] if stuck else "Moving", stuck[1] if stuck else ""),
        ("Promoted", phase is Phase.SUCCEEDED, phase.value, ""),
        ("RolledBack", phase is Phase.ROLLED_BACK, phase.value, ""),
    )
    before = {condition.type: condition for condition in status.conditions}
    result = []
    for kind, is_true, reason, message in wanted:
        value, old = "True" if is_true else "False", before.get(kind)
        since = old.last_transition_time if old and old.status == value else now
        result.append(
            Condition(
                type=kind, status=value, reason=reason, message=plain(message, 2048), last_transition_time=since,
                observed_generation=observed.rollout.generation,
            )
        )  # fmt: skip
    return tuple(result)
