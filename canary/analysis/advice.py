"""What a plan warns of, each with what to change. Sentences from a forecast's figures; nothing is simulated here."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass
from datetime import timedelta

from canary.analysis.absolute import SLOWER_THAN_P99
from canary.analysis.baseline import TAIL
from canary.analysis.forecast import Forecast, StepForecast
from canary.analysis.sentence import bound_text, seconds_text, share_text
from canary.analysis.traffic import Behaviour, Traffic
from canary.analysis.walk import Timing
from canary.model.policy import Policy
from canary.model.units import format_duration
from canary.model.verdict import Baseline

LITTLE_RPS = 50.0
"""Below this many requests per second small regressions take long, whatever the rule (docs/bench-verdict.md)."""

COARSE_TILE_S, MIDDLE_TILE_S, LEAST_TILE_S = 15.0, 5.0, 1.0
UNDECIDED = 0.1
"""More healthy rollouts than this without a verdict in time are worth a warning."""

BURSTY = 1.5
"""A dispersion from which on it is worth a word."""

MOST_WEIGHT = 50
ROOM = 1.15
"""A weight above the one that would just do: the evidence for a pass grows a little slower at larger weights."""


@dataclass(frozen=True, slots=True)
class Caution:
    """`about` is one word for machines, `text` a sentence or two: what is wrong, and what to change."""

    about: str
    text: str


def cautions_of(policy: Policy, traffic: Traffic, baseline: Baseline, timing: Timing, found: Forecast) -> list[Caution]:
    """Everything about this plan that will not go as one might think, worst first."""
    return [
        *_over_limit(policy, traffic.stable),
        *_foreign_bound(policy, traffic.stable),
        *_undecided(policy, traffic, found),
        *_coarse(policy, timing),
        *_unseen(policy, traffic.stable, baseline),
        *_little(traffic),
        *_bursts(baseline),
    ]


def _over_limit(policy: Policy, stable: Behaviour) -> list[Caution]:
    found = []
    most, p99 = policy.analysis.error_rate.max, policy.analysis.p99.max_ms
    if most is not None and stable.error_share > most:
        found.append(
            Caution(
                "over_limit",
                f"stable itself fails {share_text(stable.error_share)} of its requests, over errorRate.max "
                f"{share_text(most)}: every verdict would be an incident of the whole service, and no step would pass. "
                f"Mend the service, or raise errorRate.max to {share_text(_nice_share(2 * stable.error_share))}.",
            )
        )
    slow = stable.slower.get(p99, 0.0) if p99 is not None else 0.0
    if p99 is not None and slow > SLOWER_THAN_P99:
        kept = [bound for bound, share in sorted(stable.slower.items()) if share <= SLOWER_THAN_P99 / 2]
        other = f", or raise p99.max to {bound_text(kept[0])}" if kept else ""
        found.append(
            Caution(
                "over_limit",
                f"{share_text(slow)} of stable's own requests are slower than p99.max {bound_text(p99)}, and P99 "
                f"allows 1 %: every verdict would be an incident of the whole service, and no step would pass. Mend "
                f"the service{other}.",
            )
        )
    return found


def _foreign_bound(policy: Policy, stable: Behaviour) -> list[Caution]:
    p99 = policy.analysis.p99.max_ms
    if p99 is None or not stable.timed_share or p99 in stable.slower:
        return []
    below = [bound for bound in sorted(stable.slower) if bound < p99][-1:]
    above = [bound for bound in sorted(stable.slower) if bound > p99][:1]
    near = " or ".join(bound_text(bound) for bound in below + above)
    return [
        Caution(
            "foreign_bound",
            f"p99.max {bound_text(p99)} is no bucket bound of this mesh's latency histogram, so it cannot be counted: "
            f"a rollout would wait for a source that can. Set it to {near}.",
        )
    ]


def _undecided(policy: Policy, traffic: Traffic, found: Forecast) -> list[Caution]:
    late = [step for step in found.steps if step.undecided > UNDECIDED]
    if not late:
        if found.rolled_back > UNDECIDED:
            text = f"{found.rolled_back:.0%} of rollouts without any fault would be rolled back: {found.obstacle}"
            return [Caution("false_alarms", text)]
        return []
    first = late[0]
    limit_s = (policy.strategy.longest_hold_of(first.step) + policy.analysis.max_wait).total_seconds()
    who = f"step {first.step}/{policy.strategy.last_step} ({first.weight} %)"
    limit = format_duration(timedelta(seconds=limit_s))
    then = {"pause": "wait for a person", "rollback": "be rolled back", "promote": "go on without evidence"}
    said = (
        f"{who} cannot be decided within its hold + maxWait ({limit}) in {first.undecided:.0%} of rollouts without any "
        f"fault, which would {then[policy.analysis.on_inconclusive.value]}"
    )
    needs_s = first.can_pass.ninety_s
    if needs_s is None:
        why = f": {found.obstacle}" if found.obstacle else "."
        return [Caution("undecided", f"{said}{why}")]
    return [
        Caution(
            "undecided",
            f"{said}: at {rate_text(traffic.requests_per_s)} the evidence for a pass takes up to "
            f"{format_duration(timedelta(seconds=round(needs_s)))} (9 of 10). Any one of these would do: "
            f"{_ways_out(policy, traffic, first, needs_s, limit_s)}.",
        )
    ]


def _ways_out(policy: Policy, traffic: Traffic, step: StepForecast, needs_s: float, limit_s: float) -> str:
    """What decides the step in time: canary requests count, so time, weight and traffic stand for each other."""
    wait_s = needs_s * ROOM - policy.strategy.longest_hold_of(step.step).total_seconds()
    times = needs_s * ROOM / limit_s
    weight = math.ceil(step.weight * times / 5) * 5
    ways = [f"maxWait: {format_duration(timedelta(minutes=math.ceil(wait_s / 60)))}"]
    if weight <= MOST_WEIGHT and step.weight < weight:
        first = "weights that begin with" if step.step == 1 else f"in place of {step.weight} % a weight of"
        ways.append(f"{first} {weight} %")
    return f"{', '.join(ways)}, or {rate_text(traffic.requests_per_s * times)}"


def _coarse(policy: Policy, timing: Timing) -> list[Caution]:
    """From a weight's write to its first verdict: propagation, a scrape, a tile's start and end, settle, a look."""
    longest_s = timing.propagation_s + timing.lag_s + 3 * timing.tile_s + timing.settle_s
    typical_s = timing.propagation_s + timing.lag_s + 2 * timing.tile_s + timing.settle_s
    steps = range(1, policy.strategy.last_step + 1)
    short = [step for step in steps if policy.strategy.hold_of(step).total_seconds() < longest_s]
    if timing.tile_s < COARSE_TILE_S and not short:
        return []
    text = (
        f"tiles are {seconds_text(timing.tile_s)} long (the scrape interval of the proxies): after each change of "
        f"weight the first verdict comes about {seconds_text(typical_s)} later, {seconds_text(longest_s)} at worst"
    )
    changes = []
    if timing.tile_s > LEAST_TILE_S:
        changes.append(f"Scrape the proxies every {'5s' if timing.tile_s > MIDDLE_TILE_S else '1s'}")
    if short:
        least = min(policy.strategy.hold_of(step) for step in short)
        text += f", which is longer than a hold of {format_duration(least)}: those steps take longer than they say"
        lasting = format_duration(timedelta(seconds=math.ceil(longest_s / 10) * 10))
        changes.append(f"hold for {lasting} and more" if changes else f"Hold for {lasting} and more")
    return [Caution("coarse_tiles", f"{text}. {', or '.join(changes)}.")]


def _unseen(policy: Policy, stable: Behaviour, baseline: Baseline) -> list[Caution]:
    p99 = policy.analysis.p99
    if not stable.timed_share or not stable.slower:
        if p99.max_ms is None and p99.tolerance is None:
            return []
        needs = ": no step would pass, because p99.max needs timed requests. Leave p99.max out" if p99.max_ms else ""
        return [Caution("no_latency", f"no latency of stable is measured, so it cannot be judged{needs}.")]
    if p99.tolerance is None or baseline.latency_phi:
        return []
    judged = "by p99.max alone" if p99.max_ms is not None else "by nothing"
    low, high = share_text(TAIL[0]), share_text(TAIL[1])
    return [
        Caution(
            "no_bound",
            f"no bucket bound of the latency histogram has between {low} and {high} of stable's requests above it, so "
            f"canary and stable are not compared: latency is judged {judged}. Finer buckets mend it (annotation "
            "sidecar.istio.io/statsHistogramBuckets on the callers).",
        )
    ]


def _little(traffic: Traffic) -> list[Caution]:
    if traffic.requests_per_s >= LITTLE_RPS:
        return []
    return [
        Caution(
            "little_traffic",
            f"{rate_text(traffic.requests_per_s)} is little: healthy releases are rolled back no more often than the "
            f"policy states, but small faults take long to tell from chance below {LITTLE_RPS:.0f} requests/s (see the "
            "table). Larger first weights and longer holds help; the fast abort of a total failure needs a few "
            "requests only.",
        )
    ]


def _bursts(baseline: Baseline) -> list[Caution]:
    """Evidence is divided by the dispersion: what stable does in bursts takes as many times the requests to tell."""
    found = []
    for what, phi in (
        ("errors", baseline.errors_phi),
        ("slow requests", statistics.median(baseline.latency_phi.values()) if baseline.latency_phi else 1.0),
    ):
        if phi >= BURSTY:
            text = (
                f"stable's {what} come in bursts (their number varies {phi:.3g} times as much as that of independent "
                f"ones), so evidence about {what} is divided by {phi:.3g} and takes about as many times the requests. "
                "Nothing to change in the policy; find what makes them come together."
            )
            found.append(Caution("bursts", text))
    return found


def retries_caution(attempts: int, retry_on: str, reporter: str) -> Caution:
    """The route retries by its own words. Who counts decides what a request is."""
    what = f"the route retries up to {attempts} times on {retry_on or 'the default conditions'}"
    if reporter == "destination":
        text = (
            f"{what}, and the called pods' own proxies count each try: one user request counts several times, and a "
            "failure that a retry mended counts as an error. Metrics of the callers' proxies count user requests."
        )
    else:
        text = (
            f"{what}: the callers' proxies count each user request once, with what came of its last try. Failures that "
            "a retry mended are counted nowhere, their time is in the latency; a caller that repeats a request itself "
            "is counted each time."
        )
    return Caution("retries", text)


def rate_text(requests_per_s: float) -> str:
    """ "312 requests/s", "0.4 requests/s"."""
    digits = 0 if requests_per_s >= 100 else 1 if requests_per_s >= 1 else 2
    return f"{requests_per_s:,.{digits}f}".removesuffix(".0") + " requests/s"


def _nice_share(share: float) -> float:
    """Up to one significant digit: 0.0234 -> 0.03."""
    size = 10.0 ** math.floor(math.log10(share))
    return min(1.0, math.ceil(share / size - 1e-9) * size)
