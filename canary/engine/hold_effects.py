"""What is done about what others did to the mesh, and while nothing can be seen: hold, say so, put it right."""

from __future__ import annotations

from datetime import timedelta

from canary.engine.actions import Announce, Prepare, Shift
from canary.engine.case import Case, Outcome, updated
from canary.model.rollout import DriftStatus, Phase, WeightChange
from canary.model.text import plain

REASSERT_FIRST = timedelta(seconds=30)
REASSERT_LONGEST = timedelta(minutes=10)
REASSERT_DOUBLINGS = 5


def restore(case: Case) -> Outcome:
    """What stable's callers get without its subset are errors, and going back would send them more: the rule first."""
    status = case.status
    if case.phase is not Phase.ROLLING_BACK:  # there resumed_at says since when the traffic is back
        status = updated(status, step_elapsed=case.elapsed, resumed_at=None)
    new = updated(status, message=plain(f"HOLD: {case.why}", 2048))
    return Outcome(
        new,
        after=(
            Prepare(),
            Announce("Warning", "SubsetLost", case.why),
        ),
    )


def stop_clock(case: Case) -> Outcome:
    new = updated(case.status, step_elapsed=case.elapsed, resumed_at=None, message=plain(f"HOLD: {case.why}", 2048))
    return Outcome(new, after=(Announce("Warning", "Holding", case.why),))


def drift(case: Case) -> Outcome:
    """Hold, say who, and set the weight again with a growing pause: never fight in a loop.

    The pause grows with every time that this step's weight was moved or set again: somebody who moves it back at once
    is a second controller, and it is not for us to win.
    """
    status, changes = case.status, case.status.weight_changes
    if status.drift is None:  # from here on the configured weight is not the step's: no evidence until it is again
        changes = (*changes, WeightChange(step=case.step, weight=status.weight.desired, asked=case.now))
    old = None if case.lost_or_found else status.drift
    tries = old.reasserted if old else 0
    earlier = sum(change.step == case.step for change in changes) - 2
    doublings = min(max(earlier, 0) + tries, REASSERT_DOUBLINGS)
    now_drifting = DriftStatus(
        since=old.since if old else case.now,
        manager=plain(case.observed.manager, 253),
        reasserted=tries + 1 if old and case.observed.route else tries,
        next_try=case.now + min(REASSERT_FIRST * 2**doublings, REASSERT_LONGEST),
    )
    new = updated(
        status,
        drift=now_drifting,
        weight_changes=changes,
        step_elapsed=case.elapsed,
        resumed_at=None,
        message=plain(f"HOLD: {case.why}", 2048),
    )
    shift = (Shift(status.weight.desired, case.wants_header),) if old and case.observed.route else ()
    announce = Announce("Warning", "Drift", case.why)
    return Outcome(new, after=(*shift, announce))
