"""What is done about a signal: one function for each `Effect`, from a look to a new status and the actions around it.

The order of the actions is the promise: intent (status) before act (route); a rollback does the route first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import timedelta
from types import MappingProxyType
from typing import Any

from canary.engine import hold_effects
from canary.engine.actions import Announce, CleanUp, FreezePolicy, Prepare, SetFinalizer, Shift
from canary.engine.case import Case, Outcome, moved, updated
from canary.engine.look import Look
from canary.engine.mark import Mark
from canary.engine.passing import pause_reason
from canary.engine.retry import planned
from canary.engine.table import Effect, Signal
from canary.model.policy import FULL_WEIGHT
from canary.model.rollout import (
    Cause,
    CauseStatus,
    Phase,
    PolicyStatus,
    RolloutStatus,
    StepStatus,
    WeightChange,
    WeightStatus,
)
from canary.model.text import plain

_CAUSES: Mapping[Signal, Cause] = MappingProxyType(
    {
        Signal.DELETED: Cause.DELETED,
        Signal.ABORT: Cause.ABORT,
        Signal.TARGET_GONE: Cause.TARGET_GONE,
        Signal.SUPERSEDED: Cause.SUPERSEDED,
        Signal.BROKEN_STATUS: Cause.BROKEN,
        Signal.FAIL: Cause.VERDICT,
        Signal.STABLE_CHANGED: Cause.STABLE_CHANGED,
        Signal.DRIFT_ABORT: Cause.DRIFT,
        Signal.NOT_READY: Cause.NOT_READY,
        Signal.ROUTE_LOST: Cause.ROUTE_LOST,
        Signal.SUBSET_LOST: Cause.SUBSET_LOST,
        Signal.INCONCLUSIVE_ROLLBACK: Cause.INCONCLUSIVE,
    }
)


def _stall(case: Case) -> Outcome:
    finding = case.observed.finding
    new = updated(case.status, message=plain(case.why, 2048), phase_started_at=case.status.phase_started_at or case.now)
    is_news = case.status.message != new.message
    announce = (Announce("Warning", finding.reason, case.why),) if is_news and finding else ()
    return Outcome(new, after=announce)


def _pin(case: Case) -> Outcome:
    resolved, observed = case.observed.resolved, case.observed
    assert resolved is not None  # the signal says so
    policy = resolved.policy
    status = moved(
        case,
        f"checking: {resolved.canary.deployment} against {resolved.stable.deployment} by policy {policy.name}; "
        f"outlier thresholds of {resolved.thresholds}",
        service=resolved.service,
        target_revision=observed.target_revision,
        stable=resolved.stable,
        canary=resolved.canary,
        route=resolved.route,
        policy=PolicyStatus(name=policy.name, digest=policy.digest, resolved=policy.document()),
        step=StepStatus(index=policy.strategy.first_step, of=policy.strategy.last_step),
        weight=WeightStatus(desired=0),
        step_elapsed=timedelta(0),
        resumed_at=None,
    )
    after = (Announce("Warning", "HeaderFromOutside", resolved.warning),) if resolved.warning else ()
    return Outcome(status, before=(FreezePolicy(), SetFinalizer(True)), after=after)


def _prepare(case: Case) -> Outcome:
    # resumed_at remembers when the subset was asked for: the first weight waits for the mesh to know it.
    return Outcome(updated(case.status, resumed_at=case.now, message=case.why), after=(Prepare(),))


def _ask(case: Case, step: int, weight: int) -> Outcome:
    """Intent first: the step and its weight in status, then the route. The bake keeps its time through it.

    A bake for which nothing is to be set is no change of weight: what is counted across its beginning is evidence.
    """
    strategy = case.strategy
    status = moved(
        case,
        case.why,
        step=StepStatus(index=step, of=strategy.last_step),
        weight=case.status.weight.model_copy(update={"desired": weight, "observed": None}),
        step_elapsed=case.elapsed if step == case.step and case.is_baking else timedelta(0),
        resumed_at=None,
        paused_for=None,
        drift=None,
    )
    wants_header = Look(_seen_as(case, status), case.now).wants_header
    route = case.observed.route
    is_there = route is not None and route.says(weight) and route.header == wants_header
    if is_there and case.is_reached and case.status.drift is None and weight == case.desired:
        return Outcome(updated(status, resumed_at=case.now))
    change = WeightChange(step=step, weight=weight, asked=case.now)
    status = updated(status, weight_changes=(*status.weight_changes, change))
    return Outcome(status, after=() if is_there else (Shift(weight, wants_header),))


def _seen_as(case: Case, status: RolloutStatus) -> Any:
    return replace(case.observed, rollout=case.observed.rollout.model_copy(update={"status": status}))


def _begin(case: Case) -> Outcome:
    first = case.strategy.first_step
    outcome = _ask(case, first, case.policy.weight_of(first))
    outcome = replace(outcome, status=updated(outcome.status, tile=case.observed.tile))
    where = "the header route" if case.strategy.match else f"{outcome.status.weight.desired} %"
    return _announced(outcome, Announce("Normal", "RolloutStarted", f"started with {where}: {case.why}"))


def _advance(case: Case) -> Outcome:
    weight = case.policy.weight_of(case.step + 1)
    outcome = _ask(case, case.step + 1, weight)
    if case.step == case.strategy.last_step:
        has = "all traffic is" if weight == FULL_WEIGHT else f"{weight} % of the traffic, all but what stable keeps, is"
        return _announced(outcome, Announce("Normal", "Baking", f"{has} on the canary: {case.why}"))
    return _announced(outcome, Announce("Normal", "StepPassed", f"going on to {weight} %: {case.why}"))


def _jump(case: Case) -> Outcome:
    outcome = _ask(case, case.strategy.last_step + 1, FULL_WEIGHT)
    return _announced(outcome, Announce("Normal", "FullPromotion", f"going to 100 % at once: {case.why}"))


def _hand_over(case: Case) -> Outcome:
    outcome = _ask(case, case.step, FULL_WEIGHT)
    status = updated(outcome.status, paused_for=case.status.paused_for)  # a pause is not over by it
    return _announced(replace(outcome, status=status), Announce("Normal", "HandingOver", f"going to 100 %: {case.why}"))


def _announced(outcome: Outcome, announce: Announce) -> Outcome:
    return Outcome(outcome.status, outcome.before, (*outcome.after, announce))


def _shift(case: Case) -> Outcome:
    mark = ""
    if case.phase is Phase.ROLLING_BACK and case.status.cause:
        mark = Mark(case.observed.rollout.name, case.status.cause.reason, case.status.cause.sentence).render()
    return Outcome(case.status, before=(Shift(case.status.weight.desired, case.wants_header, mark),))


def _start_clock(case: Case) -> Outcome:
    status = case.status
    changes = status.weight_changes
    if changes and changes[-1].reached is None:
        last = changes[-1]  # never before it was asked for, whatever a clock that was set back says
        changes = (*changes[:-1], last.model_copy(update={"reached": max(case.now, last.asked)}))
    clock_runs = case.phase is not Phase.PAUSED
    new = updated(
        status,
        weight_changes=changes,
        drift=None,
        resumed_at=(status.resumed_at or case.now) if clock_runs else None,
        message=plain(case.why if clock_runs else _why_paused(case), 2048),
    )
    return Outcome(new)


def _why_paused(case: Case) -> str:
    """What a paused rollout waits for; a drift that is over must not be what its message still says."""
    found = pause_reason(case)
    if found:
        return found[1]
    return case.status.history[-1].sentence if case.status.history else case.why


def _pause(case: Case) -> Outcome:
    found = pause_reason(case)
    assert found is not None  # the signal says so
    status = moved(case, case.why, paused_for=found[0], step_elapsed=case.elapsed, resumed_at=None)
    return Outcome(status, after=(Announce("Normal", "Paused", case.why),))


def _resume(case: Case) -> Outcome:
    running = case.now if case.is_reached else None
    return Outcome(moved(case, case.why, paused_for=None, resumed_at=running))


def _roll_back(case: Case) -> Outcome:
    cause = case.mark.cause if case.signal is Signal.ROLLBACK_MARK and case.mark else _CAUSES[case.signal]
    name, route = case.observed.rollout.name, case.observed.route
    change = WeightChange(step=case.step, weight=0, asked=case.now)
    status = moved(
        case,
        case.why,
        cause=CauseStatus(reason=cause, sentence=plain(case.why, 2048)),
        weight=case.status.weight.model_copy(update={"desired": 0}),
        step_elapsed=timedelta(0),
        resumed_at=None,
        paused_for=None,
        drift=None,
        weight_changes=(*case.status.weight_changes, change),
    )
    has_traffic = route is not None and (route.weight > 0 or route.header)
    first = (Shift(0, False, Mark(name, cause, case.why).render()),) if has_traffic else ()
    return Outcome(status, before=first, after=(Announce("Warning", "RollingBack", case.why),))


def _clean(case: Case) -> Outcome:
    return Outcome(case.status, before=(CleanUp(promoted=case.phase is not Phase.ROLLING_BACK),))


def _end(case: Case) -> Outcome:
    status = moved(case, case.why, resumed_at=None, paused_for=None, drift=None)
    if case.to is Phase.ROLLED_BACK and case.observed.policy:
        rollout, rollbacks = case.observed.rollout, case.observed.rollbacks + 1
        status = updated(status, retry=planned(case.policy, rollout.name, rollbacks, case.now))
    announce = Announce("Normal" if case.to is Phase.SUCCEEDED else "Warning", case.to.value, case.why)
    if case.observed.rollout.deleting:  # it goes away with its finalizer, so its status comes first
        return Outcome(status, after=(SetFinalizer(False), announce))
    # Nobody looks at an ended rollout again: a finalizer that outlived a crash here would stay for good.
    return Outcome(status, before=(SetFinalizer(False),), after=(announce,))


def _forget(case: Case) -> Outcome:
    return Outcome(case.status, after=(SetFinalizer(False),))


EFFECTS: Mapping[Effect, Callable[[Case], Outcome]] = MappingProxyType(
    {
        Effect.STALL: _stall,
        Effect.PIN: _pin,
        Effect.PREPARE: _prepare,
        Effect.RESTORE: hold_effects.restore,
        Effect.BEGIN: _begin,
        Effect.SHIFT: _shift,
        Effect.START_CLOCK: _start_clock,
        Effect.STOP_CLOCK: hold_effects.stop_clock,
        Effect.DRIFT: hold_effects.drift,
        Effect.PAUSE: _pause,
        Effect.RESUME: _resume,
        Effect.ADVANCE: _advance,
        Effect.JUMP: _jump,
        Effect.HAND_OVER: _hand_over,
        Effect.ROLL_BACK: _roll_back,
        Effect.CLEAN: _clean,
        Effect.END: _end,
        Effect.FORGET: _forget,
    }
)
