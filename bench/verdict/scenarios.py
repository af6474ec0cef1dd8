"""What is simulated, and what it should come to: the ten rows of targets.

Rows and targets are those that were set before the judge was written; each case names its traffic, its policy and its
figures. Nothing is computed here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import log
from statistics import NormalDist
from typing import Literal

from bench.verdict.disturbances import ArmNoise, Blip, Bursts, ColdStart, Disturbance, Drift, Outage
from bench.verdict.drive import Driving
from bench.verdict.figures import Mean, Quantile, Share, Target
from bench.verdict.rivals import RULES, Rule
from bench.verdict.traffic import Latency, Plan, Traffic

RATES = (50.0, 1000.0)
BASES = (0.001, 0.01)
STANDARD_SEEDS = 2000
TEN_STEPS = Plan()
AS_THE_TABLE = Driving()


@dataclass(frozen=True)
class Case:
    """One kind of traffic under one policy. `seeds` rollouts of it are simulated when the standard is 2,000."""

    row: str
    name: str
    traffic: Traffic
    targets: tuple[Target, ...]
    driving: Driving = AS_THE_TABLE
    plan: Plan = TEN_STEPS
    rules: tuple[Rule, ...] = ()
    """Other controllers' rules that judge the same traffic."""
    seeds: int = STANDARD_SEEDS

    @property
    def key(self) -> str:
        """Unique; the traffic's random numbers come from it, the seed and the rollout's number."""
        return f"{self.row}: {self.name}"


TITLES = {
    "1": "false rollback of an identical canary (A/A) over a whole rollout",
    "2": "the same while something happens to the service",
    "3": "0.1 % → 5 % errors at 50 rps",
    "4": "0.1 % → 2 %, 20 %, 100 % errors at 50 rps",
    "5": "slower responses at 50 rps",
    "6": "0.1 % → 5 % errors from step 6 on, 50 rps",
    "7": "the pass: false at the boundary, quick when healthy",
    "8": "0.1 % → 0.5 % errors at 1,000 rps",
    "9": "small regressions at small traffic: 50 rps, ten minutes",
    "10": "inside the tolerance, and at its edge",
}


def target_rows() -> tuple[Case, ...]:
    return tuple(
        case
        for rows in (_identical, _events, _told_events, _large, _slower, _late, _passing, _small, _tolerated)
        for case in rows()
    )


def of_rate(rps: float, base: float) -> str:
    return f"{rps:,g} rps, {100 * base:g} %"


def false_rollbacks(at_most: float | None) -> Target:
    return Target(Share("rolled back"), at_most=at_most)


def caught(at_least: float | None) -> Target:
    return Target(Share("caught"), at_least=at_least)


def quantile(figure: Literal["requests", "errors", "seconds"], level: float, at_most: float | None) -> Target:
    """Of the canary, up to the rollback."""
    return Target(Quantile(f"{figure} p{100 * level:g}", figure, level, figure), at_most=at_most)


def _identical() -> Iterator[Case]:
    for rps in RATES:
        for base in BASES:
            name = of_rate(rps, base)
            yield Case("1", name, Traffic(rps, base), (false_rollbacks(0.005),), rules=RULES)
            for windows, often in ((1, "every window"), (5, "every 5 windows")):
                noisy = Traffic(rps, base, disturbances=(ArmNoise(windows),))
                yield Case("1", f"{name}, arm noise new {often}", noisy, (false_rollbacks(0.01),))
    for rps in RATES:
        name = f"{of_rate(rps, 0.001)}, shipped limits too"
        yield Case("1", name, Traffic(rps, 0.001), (false_rollbacks(0.005),), Driving("standard"), seeds=1000)
    name = f"{of_rate(50, 0.01)}, shipped limits too: sits on errorRate max"
    yield Case("1", name, Traffic(50, 0.01), (false_rollbacks(0.01),), Driving("standard"))


def _events() -> Iterator[Case]:
    events: tuple[tuple[str, Disturbance, float, str], ...] = (
        ("outage of both for 30 s", Outage(), 0.005, "relative"),
        ("bursts, both at 20 % in 3 % of windows", Bursts(), 0.005, "relative"),
        ("cold start inside the warm-up", ColdStart(), 0.005, "relative-warm"),
        ("both drift to 3x", Drift(), 0.005, "relative"),
        ("canary at 5-40 % in one window", Blip(), 0.01, "relative"),
    )
    for what, event, at_most, policy in events:
        for rps in RATES:
            for base in BASES:
                traffic = Traffic(rps, base, disturbances=(event,))
                name = f"{what}; {of_rate(rps, base)}"
                yield Case("2", name, traffic, (false_rollbacks(at_most),), Driving(policy), seeds=1000)


def _told_events() -> Iterator[Case]:
    """Told, not asked: choices of the policy, and 100 %, where nothing is beside the canary to tell an outage by."""
    at_full = Traffic(disturbances=(Outage(at_full_weight=True),))
    told = (false_rollbacks(None),)
    yield Case("2", f"outage at 100 %; {of_rate(50, 0.001)}", at_full, told, seeds=200)
    for rps, base in ((50.0, 0.01), (1000.0, 0.01)):
        name, drifting = of_rate(rps, base), Traffic(rps, base, disturbances=(Drift(),))
        frozen = Driving("frozen-bound")
        yield Case("2", f"both drift to 3x, frozen bound; {name}", drifting, told, frozen, seeds=500)
        yield Case("2", f"frozen bound, nothing happens; {name}", Traffic(rps, base), told, frozen, seeds=500)
    harm = Driving("harm-budget")
    yield Case(
        "2", f"harm budget of 50, nothing happens; {of_rate(1000, 0.01)}", Traffic(1000, 0.01), told, harm, seeds=1000
    )


def _large() -> Iterator[Case]:
    yield Case(
        "3",
        "→ 5 %",
        Traffic(canary=0.05),
        (
            caught(1.0),
            quantile("requests", 0.5, 140),
            quantile("requests", 0.9, 220),
            quantile("errors", 0.5, 7),
            quantile("errors", 0.9, 10),
        ),
    )
    for share, middle, most in ((0.02, 330, 650), (0.20, 65, 85)):
        targets = (caught(None), quantile("requests", 0.5, middle), quantile("requests", 0.9, most))
        yield Case("4", f"→ {100 * share:g} %", Traffic(canary=share), targets)
    first = Target(Share("aborted at the first look with 5 requests", "aborted_at_first_look"), at_least=1.0)
    yield Case("4", "→ 100 %", Traffic(canary=1.0), (first, quantile("seconds", 0.9, None)))
    yield Case(
        "8",
        "→ 0.5 %",
        Traffic(1000, canary=0.005),
        (caught(1.0), quantile("seconds", 0.5, None), quantile("seconds", 0.9, 60)),
    )


def _slower() -> Iterator[Case]:
    scaled = Traffic(canary_latency=Latency(median_ms=75))
    yield Case("5", "every quantile x1.5", scaled, (caught(None), quantile("requests", 0.9, 780)))
    tail = Traffic(canary_latency=tail_latency(1.5))
    yield Case("5", "the tail alone, P99 x1.5", tail, (caught(0.99), quantile("requests", 0.9, None)))


def tail_latency(factor: float) -> Latency:
    """The same median, and a sigma that makes P99 `factor` times as long."""
    same = Latency()
    return Latency(same.median_ms, same.sigma + log(factor) / NormalDist().inv_cdf(0.99))


def _late() -> Iterator[Case]:
    """Seconds count from the start of step 6."""
    targets = (caught(None), quantile("seconds", 0.5, 18), quantile("seconds", 0.9, 24))
    yield Case("6", "→ 5 % after 300 s", Traffic(canary=0.05, bad_from_step=6), targets)


def _passing() -> Iterator[Case]:
    for rps in RATES:
        for base in BASES:
            boundary = Traffic(rps, base, 2 * base + 0.01)
            target = Target(Share("passed at any time", "passed"), at_most=0.05)
            name = f"canary at 2x + 1 %; {of_rate(rps, base)}"
            yield Case("7", name, boundary, (target,), Driving("never-rolls-back"), seeds=1000)
    slow = Plan(weights=(10, 100), hold_s=600.0)
    for base, most in ((0.001, 800), (0.01, 1100)):
        target = Target(Quantile("canary requests to pass p90", "requests_to_pass", 0.9, "requests"), at_most=most)
        yield Case("7", f"healthy at 10 %; {of_rate(50, base)}", Traffic(50, base), (target,), plan=slow, seeds=1000)


def _small() -> Iterator[Case]:
    for base, bad, planned in ((0.001, 0.005, 0.96), (0.01, 0.02, 0.945)):
        traffic, name = Traffic(50, base, bad), f"{100 * base:g} → {100 * bad:g} %"
        yield Case("9", f"{name}, 600 s plan", traffic, (caught(planned), quantile("requests", 0.5, None)), seeds=3000)
        paused, promoted = Target(Share("still paused", "paused")), Target(Share("promoted", "promoted"))
        holding = Driving(with_hold=True)
        yield Case("9", f"{name}, with the hold", traffic, (caught(0.99), paused, promoted), holding, seeds=3000)
        warm = Driving("relative-warm", with_hold=True)
        yield Case(
            "9", f"{name}, with the hold and 30 s warm-up", traffic, (caught(None), paused, promoted), warm, seeds=1000
        )
    for base in BASES:
        targets = (
            Target(Mean("held by doubt", "held_by_doubt_s"), at_most=5),
            Target(Mean("held for pass evidence", "held_for_pass_s")),
            Target(Share("rolled back")),
            Target(Share("still paused", "paused")),
        )
        yield Case(
            "9", f"healthy, {100 * base:g} %, with the hold", Traffic(50, base), targets, Driving(with_hold=True)
        )


def _tolerated() -> Iterator[Case]:
    for rps in RATES:
        for base in BASES:
            inside = Traffic(rps, base, 1.1 * base)
            yield Case("10", f"1.1x; {of_rate(rps, base)}", inside, (false_rollbacks(0.01),), seeds=1000)
            edge = Traffic(rps, base, 1.2 * base + 0.0005)
            yield Case("10", f"1.2x + 0.05 %; {of_rate(rps, base)}", edge, (false_rollbacks(0.08),), seeds=1000)
