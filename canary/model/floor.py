"""When a policy is at least as strict as another, the floor of a namespace. Pure.

A floor says what every release in a namespace is judged by at least. One rule per field that decides how much traffic
a bad version gets, for how long, or how it is found out; each says why. The relation is reflexive and transitive, so
that a floor may be raised step by step. What only delays a release, or is a matter of taste, is not compared:

    match              the header stage gives the canary no traffic that did not ask for it
    warmup, maxWait    while they last nothing passes
    progressDeadline   there is no traffic yet
    connectionPool     Envoy's limits, for stable as well; no part of a verdict
    allowedNamespaces  checked by itself
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta

from canary.model.objectives import CustomMetric, OnInconclusive, Tolerance
from canary.model.policy import OnDrift, Policy, Retry
from canary.model.units import format_duration, format_percent

Shortfall = tuple[str, str]
"""A field, and what it is against what the floor has: ("analysis.minRequests", "is 20, at least 50")."""

_INCONCLUSIVE = (OnInconclusive.PROMOTE, OnInconclusive.PAUSE, OnInconclusive.ROLLBACK)
"""From the loosest to the strictest."""


def shortfalls(policy: Policy, floor: Policy) -> tuple[Shortfall, ...]:
    """Where a policy is less strict than the floor; empty when it is at least as strict in everything."""
    return tuple(found for rule in _RULES for found in rule(policy, floor))


def below(policy: Policy, floor: Policy) -> str:
    """The first shortfall in words, and how many more there are; "" when there is none."""
    found = shortfalls(policy, floor)
    if not found:
        return ""
    (field, text), more = found[0], len(found) - 1
    return f"{field} {text}" + (f" (and {more} more)" if more else "")


def _exposure(policy: Policy, floor: Policy) -> Iterator[Shortfall]:
    """At no time may the canary have more of the traffic than the floor would have given it by then.

    Compared with the shortest holds and from the first weight on: that is how long users are exposed to a version whose
    fault is not seen. The number of steps does not matter.
    """
    allowed = _plan(floor)
    for since, weight in _plan(policy):
        most = max(each for start, each in allowed if start <= since)
        if weight > most:
            yield (
                "strategy.weights",
                f"gives the canary {weight}% after {format_duration(since)}, at most {most}% by then",
            )
            return


def _plan(policy: Policy) -> list[tuple[timedelta, int]]:
    """(time since the first weight, at least; integer percent) of each step."""
    strategy, since, plan = policy.strategy, timedelta(0), []
    for step in range(1, strategy.last_step + 1):
        plan.append((since, policy.weight_of(step)))
        since += strategy.hold_of(step)
    return plan


def _pauses(policy: Policy, floor: Policy) -> Iterator[Shortfall]:
    """By each weight at which the floor waits for a person, as many must have been asked."""
    mine = policy.strategy.pause_at
    for least, weight in enumerate(sorted(floor.strategy.pause_at), start=1):
        asked = sum(pause <= weight for pause in mine)
        if asked < least:
            yield "strategy.pauseAt", f"waits for a person {_times(asked)} up to {weight}%, at least {_times(least)}"


def _times(number: int) -> str:
    return "once" if number == 1 else f"{number} times"


def _bake(policy: Policy, floor: Policy) -> Iterator[Shortfall]:
    """After the last step it can still go back by itself: for as long as the floor says."""
    mine, least = policy.strategy.bake, floor.strategy.bake
    if mine < least:
        yield "strategy.bake", f"is {format_duration(mine)}, at least {format_duration(least)}"


def _retry(policy: Policy, floor: Policy) -> Iterator[Shortfall]:
    """Every retry harms users once more: by itself only where the floor does, and no sooner."""
    if policy.strategy.retry is Retry.NEVER:
        return
    if floor.strategy.retry is Retry.NEVER:
        yield "strategy.retry", "is backoff, and must be never"
        return
    mine, least = policy.outlier_detection.base_ejection_time, floor.outlier_detection.base_ejection_time
    if mine < least:
        yield (
            "outlierDetection.baseEjectionTime",
            f"is {format_duration(mine)}, at least {format_duration(least)}: the pause before a retry",
        )


def _requests(policy: Policy, floor: Policy) -> Iterator[Shortfall]:
    """What an absolute limit needs to have seen before it may pass a step."""
    mine, least = policy.analysis.min_requests, floor.analysis.min_requests
    if mine < least:
        yield "analysis.minRequests", f"is {mine}, at least {least}"


def _harm(policy: Policy, floor: Policy) -> Iterator[Shortfall]:
    """The errors that a release may cost at most."""
    mine, most = policy.analysis.harm_budget, floor.analysis.harm_budget
    if most is None:
        return
    if mine is None or mine.errors > most.errors:
        given = f"is {mine.errors}" if mine else "is missing"
        yield "analysis.harmBudget.errors", f"{given}, at most {most.errors}"


def _to_the_end(policy: Policy, floor: Policy) -> Iterator[Shortfall]:
    """What the canary is compared with at full weight: stable itself, else what stable was, else nothing."""
    mine, least = policy.analysis.keep_stable, floor.analysis.keep_stable
    if mine < least:
        yield "analysis.keepStable", f"is {format_percent(mine)}, at least {format_percent(least)}"
    if floor.analysis.frozen_bound and not (policy.analysis.frozen_bound or mine):
        yield "analysis.frozenBound", "is false, and must be true, or keepStable above 0%"


def _errors_counted(policy: Policy, floor: Policy) -> Iterator[Shortfall]:
    """A status that does not count as an error is a fault that nobody sees."""
    missing = [status for status in floor.analysis.grpc_errors if status not in policy.analysis.grpc_errors]
    if missing:
        yield "analysis.grpcErrors", f"lacks {', '.join(missing)}"


def _error_rate(policy: Policy, floor: Policy) -> Iterator[Shortfall]:
    """The share of failed requests: at most the floor's, and no worse than stable by more than the floor tolerates."""
    mine, most = policy.analysis.error_rate, floor.analysis.error_rate
    if most.max is not None and (mine.max is None or mine.max > most.max):
        given = "is missing" if mine.max is None else f"is {format_percent(mine.max)}"
        yield "analysis.errorRate.max", f"{given}, at most {format_percent(most.max)}"
    yield from _compared("analysis.errorRate.vsStable", mine.tolerance, most.tolerance)


def _latency(policy: Policy, floor: Policy) -> Iterator[Shortfall]:
    """The same for slow requests."""
    mine, most = policy.analysis.p99, floor.analysis.p99
    if most.max is not None and (mine.max is None or mine.max > most.max):
        given = "is missing" if mine.max is None else f"is {format_duration(mine.max)}"
        yield "analysis.p99.max", f"{given}, at most {format_duration(most.max)}"
    yield from _compared("analysis.p99.vsStable", mine.tolerance, most.tolerance)


def _compared(field: str, mine: Tolerance | None, most: Tolerance | None) -> Iterator[Shortfall]:
    """Tolerances are p_c <= ratio p_b + slack: neither may be larger. None is `off`, which tolerates everything."""
    if most is None:
        return
    if mine is None or mine.ratio > most.ratio or mine.slack > most.slack:
        given = "is off" if mine is None else f"tolerates {_tolerance(mine)}"
        yield field, f"{given}, at most {_tolerance(most)}"


def _tolerance(tolerance: Tolerance) -> str:
    return f"{tolerance.ratio:g}x stable + {format_percent(tolerance.slack)}"


def _metrics(policy: Policy, floor: Policy) -> Iterator[Shortfall]:
    """A metric of the floor's must be there, by its name and with its query, and as easily breached."""
    mine = {metric.name: metric for metric in policy.analysis.metrics}
    for wanted in floor.analysis.metrics:
        if (metric := mine.get(wanted.name)) is None:
            yield "analysis.metrics", f"lacks {wanted.name}"
        elif not _is_as_easily_breached(metric, wanted):
            yield (
                f"analysis.metrics.{wanted.name}",
                f"must have the same query, max at most {wanted.max:g}, and breaches in "
                f"{wanted.breaches} of {wanted.of} tiles or sooner",
            )


def _is_as_easily_breached(metric: CustomMetric, wanted: CustomMetric) -> bool:
    same = metric.query == wanted.query
    return same and metric.max <= wanted.max and metric.breaches <= wanted.breaches and metric.of >= wanted.of


def _confidence(policy: Policy, floor: Policy) -> Iterator[Shortfall]:
    """How much proof it takes to roll back. More of it means that a bad version lives longer."""
    mine, most = policy.analysis.confidence, floor.analysis.confidence
    if mine > most:
        yield "analysis.confidence", f"is {format_percent(mine, 12)}, at most {format_percent(most, 12)}"


def _inconclusive(policy: Policy, floor: Policy) -> Iterator[Shortfall]:
    """What becomes of a release that nobody could judge: promote < pause < rollback."""
    mine, least = policy.analysis.on_inconclusive, floor.analysis.on_inconclusive
    if _INCONCLUSIVE.index(mine) < _INCONCLUSIVE.index(least):
        strict_enough = " or ".join(_INCONCLUSIVE[_INCONCLUSIVE.index(least) :])
        yield "analysis.onInconclusive", f"is {mine}, and must be {strict_enough}"


def _drift(policy: Policy, floor: Policy) -> Iterator[Shortfall]:
    """Weights that somebody else moved: held, or given up as not ours any more."""
    if floor.on_drift is OnDrift.ABORT and policy.on_drift is not OnDrift.ABORT:
        yield "onDrift", f"is {policy.on_drift}, and must be abort"


def _fast_abort(policy: Policy, floor: Policy) -> Iterator[Shortfall]:
    """The fast abort's thresholds, which a service's DestinationRule may set where the policy leaves them out.

    The interval must be the floor's own: in a shorter one the same number of errors is rarely reached, in a longer one
    the good requests before a fault outweigh it for longer.
    """
    mine, most = policy.outlier_detection, floor.outlier_detection
    if mine.consecutive5xx_errors > most.consecutive5xx_errors:
        yield (
            "outlierDetection.consecutive5xxErrors",
            f"is {mine.consecutive5xx_errors}, at most {most.consecutive5xx_errors}",
        )
    if mine.interval != most.interval:
        yield (
            "outlierDetection.interval",
            f"is {format_duration(mine.interval)}, and must be {format_duration(most.interval)}",
        )
    if mine.max_ejection_percent > most.max_ejection_percent:
        yield (
            "outlierDetection.maxEjectionPercent",
            f"is {mine.max_ejection_percent}, at most {most.max_ejection_percent}",
        )


_RULES: tuple[Callable[[Policy, Policy], Iterator[Shortfall]], ...] = (
    _exposure,
    _pauses,
    _bake,
    _retry,
    _requests,
    _harm,
    _to_the_end,
    _errors_counted,
    _error_rate,
    _latency,
    _metrics,
    _confidence,
    _inconclusive,
    _drift,
    _fast_abort,
)
