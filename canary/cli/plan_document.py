"""A plan as one document, for `canary plan -o json|yaml`: every figure as it was computed, and the patches themselves.

Field names are the API's (camelCase); times are seconds, shares 0-1; null where there is no such time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from canary.analysis.forecast import Catch, Spread, StepForecast
from canary.cli.route_changes import Change

if TYPE_CHECKING:
    from canary.cli.plan import Plan

Document = dict[str, Any]


def document(plan: Plan) -> Document:
    release, found, traffic = plan.release, plan.forecast, plan.measured.traffic
    baseline = plan.measured.baseline
    return {
        "namespace": release.namespace,
        "target": release.target,
        "stable": release.stable,
        "service": release.service,
        "virtualService": release.route.virtual_service if release.route else None,
        "policy": {"name": release.policy.name, "digest": release.policy.digest},
        "measured": {
            "seconds": plan.measured.seconds,
            "until": plan.measured.until,
            "requestsPerSecond": traffic.requests_per_s,
            "stableRequests": traffic.requests,
            "errorShare": traffic.stable.error_share,
            "timedShare": traffic.stable.timed_share,
            "slowerShare": {f"{bound:.15g}": share for bound, share in sorted(traffic.stable.slower.items())},
            "errorsPhi": baseline.errors_phi,
            "latencyPhi": {f"{bound:.15g}": phi for bound, phi in sorted(baseline.latency_phi.items())},
            "p99Phi": baseline.p99_phi,
            "reporter": plan.asked.facts.reporter,
            "tileSeconds": plan.timing.tile_s,
            "settleSeconds": plan.timing.settle_s,
        },
        "imagined": {"runs": found.runs, "seed": found.seed},
        "headerSeconds": found.header_s,
        "steps": [_step(step) for step in found.steps],
        "badFromTheStart": {fault: _catch(catch) for fault, catch in found.whole.items()},
        "totalSeconds": _spread(found.total),
        "healthyRolledBackShare": found.rolled_back,
        "obstacle": found.obstacle,
        "writes": [_change(change) for change in plan.changes],
        "warnings": [{"about": caution.about, "text": caution.text} for caution in plan.cautions],
    }


def _step(step: StepForecast) -> Document:
    return {
        "step": step.step,
        "weight": step.weight,
        "holdSeconds": step.hold_s,
        "requests": {"canary": step.canary, "stable": step.stable},
        "canPassSeconds": _spread(step.can_pass),
        "lastsSeconds": _spread(step.lasts),
        "reachedShare": step.reached,
        "undecidedShare": step.undecided,
        "caught": {fault: _catch(catch) for fault, catch in step.catches.items()},
    }


def _catch(catch: Catch | None) -> Document | None:
    if catch is None:
        return None
    return {
        "share": catch.share,
        "stoppedShare": catch.stopped,
        "seconds": _spread(catch.seconds),
        "canaryRequests": catch.requests,
        "canaryErrors": catch.errors,
        "step": catch.step,
    }


def _spread(spread: Spread) -> Document:
    return {"median": spread.median_s, "nineOfTen": spread.ninety_s}


def _change(change: Change) -> Document:
    write = change.write
    return {
        "step": change.step,
        "weight": change.weight,
        "changes": list(change.lines),
        "write": None
        if write is None
        else {
            "verb": write.verb,
            "kind": write.kind,
            "namespace": write.namespace,
            "name": write.name,
            "body": write.body,
        },
    }
