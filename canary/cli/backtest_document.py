"""What a backtest found as one document, for `-o json|yaml`: camelCase, Unix seconds, shares 0-1, nothing rounded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from canary.analysis.backtest import Backtest, StepEnd, Told
from canary.cli.own_past import OwnPast
from canary.model.policy import Policy
from canary.model.verdict import Baseline

Document = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Subject:
    """Whose figures they are: a rollout's (`really` is how it ended, `really_said` why), two Deployments', a file's."""

    what: str
    policy: Policy
    tile_s: float
    began: float
    until: float
    baseline: Baseline
    really: str = ""
    really_said: str = ""
    note: str = ""


def backtest_document(subject: Subject, found: Backtest) -> Document:
    baseline = subject.baseline
    return {
        "subject": subject.what,
        "policy": {"name": subject.policy.name, "digest": subject.policy.digest},
        "began": subject.began,
        "until": subject.until,
        "tileSeconds": subject.tile_s,
        "baseline": {
            "errorsPhi": baseline.errors_phi,
            "latencyPhi": {f"{bound:.15g}": phi for bound, phi in sorted(baseline.latency_phi.items())},
            "p99Phi": baseline.p99_phi,
            "unattributedBound": baseline.unattributed_bound,
            "historySeconds": baseline.history_s,
        },
        "note": subject.note,
        "windows": found.windows,
        "decision": "rollback" if found.failed else "stop" if found.stopped else "none",
        "failed": _told(found.failed) if found.failed else None,
        "stoppedAtStep": found.stopped.step if found.stopped else None,
        "changes": [_told(told) for told in found.changes],
        "steps": [_ended(step) for step in found.steps],
        "really": {"phase": subject.really, "sentence": subject.really_said} if subject.really else None,
    }


def _told(told: Told) -> Document:
    return {
        "at": told.at,
        "step": told.step,
        "weight": told.weight,
        "outcome": told.verdict.outcome.value,
        "reason": told.verdict.reason.value,
        "sentence": told.verdict.sentence,
        "evidence": [
            {
                "metric": one.metric,
                "canary": {"total": one.canary_total, "bad": one.canary_bad},
                "stable": {"total": one.stable_total, "bad": one.stable_bad},
                "bound": one.bound,
                "eValue": one.e_value,
                "limit": one.limit,
            }
            for one in told.verdict.evidence
        ],
    }


def _ended(step: StepEnd) -> Document:
    return {
        "step": step.step,
        "weight": step.weight,
        "start": step.start,
        "end": step.end,
        "canaryRequests": step.canary.requests,
        "canaryErrors": step.canary.errors,
        "outcome": step.verdict.outcome.value,
        "reason": step.verdict.reason.value,
    }


def past_document(past: OwnPast) -> Document:
    return {
        "workload": {"namespace": past.workload.namespace, "name": past.workload.name},
        "policy": {"name": past.policy.name, "digest": past.policy.digest},
        "tileSeconds": past.tile_s,
        "splits": past.splits,
        "seed": past.seed,
        "until": past.until,
        "askedHours": past.asked_hours,
        "healthyHours": past.found.hours,
        "rollouts": past.found.rollouts,
        "rolledBack": past.found.rolled_back,
        "rolledBackShare": past.found.share,
        "interval95": list(past.found.interval),
        "hours": [
            {
                "start": hour.start,
                "requests": hour.requests,
                "errors": hour.errors,
                "splits": hour.splits,
                "rolledBack": hour.rolled_back,
                "undecided": hour.undecided,
                "cut": hour.cut,
                "unwell": hour.unwell,
                "sentence": hour.sentence,
            }
            for hour in past.hours
        ],
    }
