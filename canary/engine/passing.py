"""Signals that a step is over, or waits for a person instead: evidence and time, or somebody's word."""

from __future__ import annotations

from datetime import timedelta

from canary.engine.look import Look, said
from canary.model.policy import OnInconclusive
from canary.model.rollout import PausedFor, Phase
from canary.model.units import format_duration
from canary.model.verdict import Outcome, Reason

_NEVER_A_PASS = frozenset({Reason.NO_DATA, Reason.NO_TRAFFIC, Reason.NO_CANARY_TRAFFIC, Reason.WARMING_UP})
"""Holds in which nothing was measured yet: no policy promotes on them. An undecided or a noisy one it may."""

DRAIN_GRACE = timedelta(seconds=2)
"""From a version's last traffic to the removal of its subset: make before break, on the way down too."""


def promote_full(look: Look) -> str | None:
    wish = look.observed.rollout.spec.promote
    may_have_more = look.is_active and not look.has_everything and look.observed.route is not None
    return said("promoted", wish) if wish and wish.full and may_have_more else None


def pause(look: Look) -> str | None:
    found = pause_reason(look)
    return found[1] if found else None


def pause_reason(look: Look) -> tuple[PausedFor, str] | None:
    """Why a step has to wait for a person, and for what; None when it has not."""
    wish = look.observed.rollout.spec.paused
    if wish:
        return PausedFor.WISH, said("paused", wish) + "; goes on with `canary resume`"
    if look.time_is_over and look.passes and not look.is_past_this_pause and not look.is_baking:
        if look.step and look.strategy.weight_of(look.step) in look.strategy.pause_at:
            return PausedFor.PAUSE_AT, f"paused at {look.desired} % as the policy asks; goes on with `canary promote`"
        if look.step == 0 and look.strategy.is_header_only:
            return PausedFor.HEADER_ONLY, "open to requests with the header only; goes on with `canary promote`"
    if look.is_overdue and not look.is_past_this_pause:
        verdict = look.observed.verdict
        assert verdict is not None  # overdue says so
        choice = look.policy.analysis.on_inconclusive
        if verdict.reason is Reason.NO_CANARY_TRAFFIC:
            return None  # a routing fault goes back, it does not ask
        if choice is OnInconclusive.PAUSE or (choice is OnInconclusive.PROMOTE and verdict.reason in _NEVER_A_PASS):
            waited = format_duration(look.patience)
            sentence = f"no verdict after {waited}: {verdict.sentence} Goes on with `canary promote`."
            return PausedFor.INCONCLUSIVE, sentence
    return None


def _is_resumed(look: Look) -> str | None:
    wish_is_gone = look.status.paused_for is PausedFor.WISH and look.observed.rollout.spec.paused is None
    return "resumed" if wish_is_gone else None


def resume(look: Look) -> str | None:
    return None if look.is_baking else _is_resumed(look)


def resume_bake(look: Look) -> str | None:
    return _is_resumed(look) if look.is_baking else None


def may_leave(look: Look) -> str | None:
    """Why the step is over: evidence and time, a person's word, or the policy's choice for want of a verdict."""
    spec, verdict = look.observed.rollout.spec, look.observed.verdict
    if look.phase is Phase.PAUSED:
        is_readable = look.observed.route is not None
        wished = look.is_past_this_pause and spec.paused is None and spec.promote is not None and is_readable
        return said("promoted", spec.promote) if wished and spec.promote else None
    if look.stable_is_gone:
        finish = spec.promote is not None and spec.promote.full is True and look.has_everything
        return said("promoted", spec.promote) if finish and spec.promote and look.route_is_as_desired else None
    if not (look.route_is_as_desired and look.time_is_over) or look.is_blind or verdict is None:
        return None
    if verdict.outcome is Outcome.PASS:
        return _left_early(look) + verdict.sentence
    if look.is_overdue and look.is_past_this_pause and spec.promote:
        return said("promoted", spec.promote)
    by_policy = look.is_overdue and look.policy.analysis.on_inconclusive is OnInconclusive.PROMOTE
    if by_policy and verdict.reason not in _NEVER_A_PASS:
        return f"no verdict in time, and the policy says onInconclusive: promote; {verdict.sentence}"
    return None


def _left_early(look: Look) -> str:
    """What an adaptive step says of its time, "" in the others."""
    if look.hold == look.longest_hold:
        return ""
    spent = timedelta(seconds=round(look.elapsed.total_seconds()))
    least, longest = format_duration(look.hold), format_duration(look.longest_hold)
    return f"left after {format_duration(spent)} of {least} to {longest}: the evidence is there; "


def advance(look: Look) -> str | None:
    return may_leave(look) if look.step < look.strategy.last_step else None


def bake(look: Look) -> str | None:
    return may_leave(look) if look.step == look.strategy.last_step else None


def hand_over(look: Look) -> str | None:
    """Why the share that was kept on stable is the canary's now: the bake is over."""
    return may_leave(look) if look.is_baking and not look.has_everything else None


def finish(look: Look) -> str | None:
    return may_end(look) if look.observed.is_clean else None


def has_drained(look: Look) -> bool:
    """Stable has had no traffic for a while, so that what was added for it can go."""
    changes = look.status.weight_changes
    reached = changes[-1].reached if changes else None
    return look.is_past_return or (reached is not None and look.now - reached >= DRAIN_GRACE)


def may_end(look: Look) -> str | None:
    """Why the bake is over. Once the clean-up has begun it is, whatever is seen or wished since."""
    if look.is_past_return:
        return "promoted: the older version is off the route"
    why = may_leave(look) if look.has_everything else None
    if why is None and look.is_handed_over and look.phase is not Phase.PAUSED and look.route_is_as_desired:
        return "the bake is over, and all of the traffic is on the canary"
    return why
