"""What keeps a rollout where it is: nothing to see, nothing to go back to, a weight that somebody else set."""

from __future__ import annotations

from canary.engine.look import Look


def stable_gone_sentence(look: Look) -> str:
    """What is wrong and what would help when stable is gone, "" while it is there."""
    stable = look.status.stable
    if stable is None or not look.stable_is_gone:
        return ""
    gone = f"Deployment {stable.deployment} (stable) is gone: bring it back"
    return f"{gone}, or finish with `canary promote --full`" if look.is_active else gone


def hindered_by(look: Look) -> str:
    """What outside of the release keeps a rollout from beginning, "" when nothing does."""
    observed = look.observed
    if observed.source_problem:
        return observed.source_problem
    if observed.route is None:
        return observed.route_problem.sentence if observed.route_problem else "the route cannot be read"
    return stable_gone_sentence(look)


def is_drift(look: Look) -> bool:
    was_reached = look.is_reached or look.status.drift is not None or look.observed.route is None
    return look.is_active and was_reached and not look.route_is_as_desired


def drift_sentence(look: Look) -> str:
    route, problem = look.observed.route, look.observed.route_problem
    if route is None:
        return f"{problem.sentence}{who(look)}" if problem else "the route cannot be read"
    header = "" if route.header == look.wants_header else ", header route " + ("present" if route.header else "missing")
    return (
        f"somebody else set the canary's weight to {route.weight} %{header}; it should be {look.desired} %{who(look)}"
    )


def stable_subset_lost(look: Look) -> str | None:
    """It is on the route and no DestinationRule has it: Envoy answers its callers 503 NC."""
    stable = look.status.stable
    if stable is None or not look.is_pinned or look.is_past_return:
        return None
    if stable.subset not in look.observed.lost_subsets:
        return None
    return f"stable's subset {stable.subset} is gone{who(look)}; it is put back"


def who(look: Look) -> str:
    """Who changed it last, for a sentence: what a client says of itself, which nobody has checked."""
    return f" ({look.observed.manager} changed it last; unverified)" if look.observed.manager else ""


def blind_reason(look: Look) -> str:
    if look.blind_because:
        return look.blind_because
    if look.stable_is_gone:
        return stable_gone_sentence(look)
    return drift_sentence(look) if is_drift(look) else ""
