"""`step(observed, now) -> Decision`: the whole controller, as one pure function."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from canary.engine.actions import Announce, Decision, WriteStatus
from canary.engine.case import Case, Outcome
from canary.engine.conditions import conditions
from canary.engine.effects import EFFECTS
from canary.engine.holding import hindered_by
from canary.engine.look import Look
from canary.engine.observed import Observed
from canary.engine.passing import DRAIN_GRACE
from canary.engine.signals import SIGNALS, SUBSET_GRACE
from canary.engine.table import TABLE, Effect
from canary.model.rollout import HISTORY_LIMIT, EvidenceStatus, Phase, RolloutStatus, VerdictStatus
from canary.model.text import plain
from canary.model.verdict import Verdict

POINT = 1.0
"""By so many percent the observed share moves before it is written anew (decisions.md 8)."""

WEIGHT_CHANGES_LIMIT = 40


_MOVES_TRAFFIC = frozenset({Effect.ROLL_BACK, Effect.SHIFT, Effect.DRIFT})


def recognise(look: Look) -> tuple[Case, Effect] | None:
    """The first signal that holds and has a rule in this phase, as a case, and what is to be done about it.

    A promotion that was cleaned up after cannot go back: whatever would, it ends as the promotion it is.
    """
    for signal, holds in SIGNALS.items():
        rule = TABLE.get((look.phase, signal))
        if rule is None or (look.is_past_return and rule.effect in _MOVES_TRAFFIC):
            continue
        why = holds(look)
        if why is not None:
            return Case(look.observed, look.now, signal, rule.to, why), rule.effect
    return None


def step(observed: Observed, now: datetime) -> Decision:
    """Decide what to do about one observation at `now` (aware, UTC).

    Total: there is a decision for every phase and every observation. Idempotent: seeing the same again changes
    nothing. The status write is left out when it would say nothing new.
    """
    look = Look(observed, now)
    found = recognise(look)
    if found is None:
        why = waiting_for(look)
        status = look.status.model_copy(update={"message": plain(why, 2048)}) if why else look.status
        is_news = bool(why) and why == observed.share_problem and why != look.status.message
        announce = (Announce("Warning", "ShareDiffers", why),) if is_news else ()
        outcome, again = Outcome(status, after=announce), _until_time_is_over(look)
    else:
        case, effect = found
        why, outcome, again = case.why, EFFECTS[effect](case), None
        if effect is Effect.FORGET:  # the object goes away with its status
            return Decision(outcome.after, why)

    new = _as_seen(look, outcome.status)
    new = _bounded(new.model_copy(update={"conditions": conditions(observed, new, now)}))
    write = _write(observed, new, now)
    actions = (*outcome.before, *write, *outcome.after)
    seen = observed.verdict.sentence if observed.verdict else new.message
    return Decision(actions, why or seen, again)


def waiting_for(look: Look) -> str:
    """What a rollout without any signal waits for; "" when its message stands. No figures that change by themselves."""
    observed = look.observed
    if look.phase is Phase.PENDING:
        return f"waits until {observed.waits_for} has ended" if observed.waits_for else "waiting to be looked at"
    if look.phase is Phase.CHECKING:
        if hindered_by(look):
            return hindered_by(look)
        pods = observed.pods
        if not pods.are_ready:
            return f"waiting for pods of {observed.rollout.spec.target}: {pods.ready} of {pods.wanted} ready"
    if look.is_active and look.status.resumed_at is not None:
        return observed.share_problem or f"the canary has {look.status.weight.desired} %"
    return ""


def _until_time_is_over(look: Look) -> float | None:
    """Seconds until the time is over that this rollout waits for, so that it does not wait for the next tick."""
    begun = look.status.resumed_at
    if begun is None:
        return None
    waits: tuple[timedelta, ...] = ()
    if look.phase is Phase.CHECKING:
        waits = (SUBSET_GRACE - (look.now - begun),)
    elif look.phase is Phase.ROLLING_BACK:
        waits = (DRAIN_GRACE - (look.now - begun),)
    elif look.is_active:
        waits = (look.hold - look.elapsed, DRAIN_GRACE - (look.now - begun))
    return next((wait.total_seconds() for wait in waits if wait > timedelta(0)), None)


def _as_seen(look: Look, status: RolloutStatus) -> RolloutStatus:
    """What this look saw, whatever is decided: weights on the route and in requests, the verdict, the generation."""
    observed = look.observed
    weight: dict[str, Any] = {}
    if observed.route is not None:
        desired = status.weight.desired
        weight["configured"] = desired if observed.route.says(desired) else observed.route.weight
    elif look.is_pinned:
        weight["configured"] = None
    if observed.observed_weight is not None and status.step == look.status.step:  # not the share of the step it leaves
        said = status.weight.observed
        if said is None or abs(observed.observed_weight - said) >= POINT:  # 5.4 and 5.6 are no news to each other
            weight["observed"] = round(observed.observed_weight)
    changes: dict[str, Any] = {
        "observed_generation": observed.rollout.generation,
        "weight": status.weight.model_copy(update=weight),
    }
    if observed.verdict is not None:
        changes["verdict"] = verdict_status(observed.verdict, look.now)
    return status.model_copy(update=changes)


def verdict_status(verdict: Verdict, now: datetime) -> VerdictStatus:
    return VerdictStatus(
        outcome=verdict.outcome,
        reason=verdict.reason,
        sentence=plain(verdict.sentence, 2048),
        at=now,
        evidence=tuple(
            EvidenceStatus(
                metric=entry.metric,
                canary=(entry.canary_bad, entry.canary_total),
                stable=(entry.stable_bad, entry.stable_total),
                bound=entry.bound,
                e_value=float(f"{entry.e_value:.4g}"),
                limit=entry.limit,
            )
            for entry in verdict.evidence
        ),
    )


def _bounded(status: RolloutStatus) -> RolloutStatus:
    changes: dict[str, Any] = {}
    if len(status.history) > HISTORY_LIMIT:
        extra = len(status.history) - HISTORY_LIMIT
        changes["history"] = status.history[extra:]
        changes["history_dropped"] = (status.history_dropped or 0) + extra
    if len(status.weight_changes) > WEIGHT_CHANGES_LIMIT:
        # the first stays: the warm-up counts from it
        changes["weight_changes"] = (status.weight_changes[0], *status.weight_changes[1 - WEIGHT_CHANGES_LIMIT :])
    return status.model_copy(update=changes) if changes else status


def _write(observed: Observed, new: RolloutStatus, now: datetime) -> tuple[WriteStatus, ...]:
    old = observed.rollout.status
    if _material(old) != _material(new):
        return (WriteStatus(new),)
    if new.verdict is None or new.verdict == old.verdict:
        return ()
    is_due = old.verdict is None or now - old.verdict.at >= observed.evidence_every
    return (WriteStatus(new, evidence_only=True),) if is_due else ()


def _material(status: RolloutStatus) -> RolloutStatus:
    """The status without what moves by itself: a verdict's figures, and the messages that repeat them."""
    verdict = status.verdict
    if verdict is None:
        return status
    blank = verdict.model_copy(update={"sentence": "", "at": datetime.min, "evidence": ()})  # noqa: DTZ901
    return status.model_copy(update={"verdict": blank})
