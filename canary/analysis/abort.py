"""The fast abort: near-total failure of the canary alone, seen within one interval, without waiting for tiles.

In Envoy's own units and names (outlierDetection), plus the look at stable that Envoy does not take: without it an
outage of both versions would roll every canary back. It complements the evidence and never replaces it: a run of five
failures at a 5 % error rate takes millions of requests to turn up.
"""

from __future__ import annotations

from canary.analysis import sentence
from canary.analysis.counts import check_arm, check_ejections
from canary.model.policy import OutlierDetection
from canary.model.verdict import ArmCounts, Ejections, Outcome, Reason, Verdict

FAILING_SHARE = 0.5
STABLE_TO_CANARY = 0.25


def fast_abort(
    thresholds: OutlierDetection,
    canary: ArmCounts,
    stable: ArmCounts,
    ejections: Ejections | None = None,
) -> Verdict | None:
    """Judge the counts of one `thresholds.interval`, ending now: a fail, or None when nothing is near-total.

    Fails when Envoy's outlier detection has ejected all of the canary's hosts, or more than `maxEjectionPercent` of
    them, and none of stable's; or when the canary has at least `consecutive5xxErrors` errors, at least half of its
    requests failed, and stable's share of errors is at most a quarter of the canary's. Without a stable request the
    canary's share decides alone.
    Raises ValueError for impossible counts.
    """
    check_arm(canary, "canary")
    check_arm(stable, "stable")
    if ejections is not None:
        check_ejections(ejections)
        if _is_ejected(thresholds, ejections):
            return Verdict(Outcome.FAIL, Reason.FAST_ABORT, sentence.ejected(ejections, canary, stable))
    if canary.errors < thresholds.consecutive5xx_errors or canary.errors < FAILING_SHARE * canary.requests:
        return None
    if stable.error_share > STABLE_TO_CANARY * canary.error_share:
        return None
    return Verdict(Outcome.FAIL, Reason.FAST_ABORT, sentence.fast_abort(thresholds, canary, stable))


def _is_ejected(thresholds: OutlierDetection, ejections: Ejections) -> bool:
    if not ejections.canary or ejections.stable:
        return False
    share = ejections.canary / max(ejections.canary_members, ejections.canary)
    return share == 1 or 100 * share > thresholds.max_ejection_percent
