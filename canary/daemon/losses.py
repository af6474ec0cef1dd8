"""What a restarted controller cannot rebuild: figures that the metrics source had, and has no longer.

They were judged once, and their sums stand in the rollout's status. Judging goes on with what there is, which keeps the
bound on false rollbacks; but whoever reads a verdict must be told that it knows less than the one before it.
"""

from __future__ import annotations

from canary.daemon.tracks import Case, Track

ERRORS = frozenset({"error_rate", "error_rate_vs_stable", "pass"})
"""Evidence that rests on every window with requests; that on latency leaves out what was noisy."""


def what_was_lost(case: Case, track: Track, now: float) -> str:
    """One sentence, "" when all that was judged before is judged again. `now` is Unix seconds; asked once, after a
    judge was rebuilt."""
    before = case.rollout.status.verdict
    if before is None:
        return ""
    again = {one.metric: one.canary_total for one in track.judge.verdict(now, track.source).evidence}
    lost = [
        (one.canary[1], again.get(one.metric, 0))
        for one in before.evidence
        if one.metric in ERRORS and again.get(one.metric, 0) < one.canary[1]
    ]
    if not lost:
        return ""
    known_then, known_now = max(lost)
    return (
        f"Since a restart of the controller this rests on less: of {known_then:,} canary requests judged before, the "
        f"metrics source still has {known_now:,}."
    )
