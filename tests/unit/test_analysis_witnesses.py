"""The judge with everything a policy can ask for: who wins, any rollout at all, and windows that cannot be."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from canary.analysis import Judge
from canary.analysis.state import dump
from canary.model.policy import Policy
from canary.model.verdict import ArmCounts, Baseline, Ejections, Evidence, Outcome, Reason, SourceState, Verdict, Window

BOUNDS = (100.0, 250.0, 500.0, 1000.0)
KNOWN = Baseline(
    errors_phi=1.4,
    latency_phi={100.0: 1.0, 250.0: 2.0, 1000.0: 1.0},
    p99_phi=1.5,
    unattributed_bound=0.002,
    history_s=600.0,
)
PLAIN = Baseline(latency_phi=dict.fromkeys(BOUNDS, 1.0), unattributed_bound=0.001, history_s=600.0)


def policy(**analysis: Any) -> Policy:
    strategy = {
        "match": {"headers": {"x-debug-user": {"exact": "true"}}, "hold": "30s"},
        "weights": [10, 50, 100],
        "hold": "30s",
    }
    judged = {
        "warmup": "10s",
        "errorRate": {"max": "5%"},
        "p99": {"max": "500ms"},
        "harmBudget": {"errors": 5},
        "frozenBound": True,
        "metrics": [{"name": "queue", "query": "q", "max": 10}, {"name": "lag", "query": "l", "max": 2, "of": 9}],
        **analysis,
    }
    return Policy.model_validate({"name": "story", "strategy": strategy, "analysis": judged})


EVERYTHING = policy()


def arm(rng: random.Random, requests: int, error_share: float, slow: float) -> ArmCounts:
    def part(n: int, share: float) -> int:
        if n > 2000:
            return round(n * share)
        return sum(rng.random() < share for _ in range(n))

    errors = part(requests, error_share)
    timed = requests - errors
    tail = [part(timed, min(1.0, slow * share)) for share in (0.2, 0.02, 0.004, 0.0005)]
    return ArmCounts(requests, errors, timed, dict(zip(BOUNDS, sorted(tail, reverse=True), strict=True)))


def any_rollout(seed: int, windows: int = 60) -> Iterator[Window]:
    """Windows of a rollout with whatever happens in one: each seed is another kind of release, service and day."""
    rng = random.Random(seed)
    rate = rng.choice((0, 3, 60, 60, 60, 800, 2**52))
    errors = [rng.choice((0.0, 0.001, 0.01, 0.05, 0.3)) for _ in range(2)]
    if rng.random() < 0.4:
        errors[0] = errors[1]  # no worse than stable
    slow = [rng.choice((1.0, 1.0, 1.5, 4.0)), rng.choice((1.0, 1.0, 1.0, 3.0))]
    odd = rng.choice((0.0, 0.02, 0.2))
    time, step = rng.choice((0.0, 1.7e9)), 0
    for index in range(windows):
        if rng.random() < 0.06:
            step = min(3, step + 1)
        weight = (0, 10, 50, 100)[step]
        time += rng.choice((0.0, 0.0, 0.0, 40.0)) if odd else 0.0
        outage = 0.9 if rng.random() < odd else 0.0
        busy = 0 if rng.random() < odd else 1
        canary_n = 0 if rng.random() < odd else busy * max(rate * weight // 100, rng.randrange(3) if weight == 0 else 0)
        stable_n = 0 if rng.random() < odd else busy * (rate - rate * weight // 100)
        lost = rng.randrange(20) if rng.random() < odd else 0
        ejected = rng.randrange(3) if rng.random() < odd else 0
        yield Window(
            time,
            time + 5,
            step,
            weight,
            arm(rng, canary_n, max(outage, errors[0]), slow[0]),
            arm(rng, stable_n, max(outage, errors[1]), slow[1]),
            unattributed=ArmCounts(lost, rng.randint(0, lost)),
            ejections=Ejections(rng.randrange(3), 2, ejected, 3) if rng.random() < 0.5 else None,
            warm=index > 2 and rng.random() > odd / 4,
            noise="CPU steal" if rng.random() < odd else "",
            metrics={name: rng.uniform(0, 11) for name in ("queue", "lag", "other") if rng.random() > odd},
        )
        time += 5


def source(now: float) -> SourceState:
    return SourceState(available=True, tile_s=5.0, settle_s=2.0, newest_tile_end=now - 2)


def entry(verdict: Verdict, metric: str) -> Evidence:
    return next(one for one in verdict.evidence if one.metric == metric)


def at_limit(verdict: Verdict, *metrics: str) -> bool:
    return any(one.metric in metrics and one.e_value >= one.limit for one in verdict.evidence)


def is_backed(verdict: Verdict) -> bool:
    """Whether the numbers beside a fail bear it out."""
    match verdict.reason:
        case Reason.ERROR_RATE:
            both = at_limit(verdict, "error_rate_vs_stable") and at_limit(verdict, "error_rate_vs_tolerated")
            return both or at_limit(verdict, "error_rate", "error_rate_vs_frozen")
        case Reason.LATENCY:
            return at_limit(verdict, "latency_vs_stable", "p99")
        case Reason.UNATTRIBUTED:
            return at_limit(verdict, "unattributed")
        case Reason.HARM_BUDGET:
            return entry(verdict, "error_rate_vs_stable").e_value >= 20
        case Reason.METRIC:
            return "over its limit of" in verdict.sentence
    return False


seeds = st.integers(0, 2**32)


@settings(max_examples=150)
@given(seeds)
def test_in_any_rollout_every_verdict_is_whole_and_a_fail_has_its_evidence_and_is_final(seed: int):
    judge = Judge(EVERYTHING, KNOWN)
    failed = None
    for window in any_rollout(seed):
        verdict = judge.observe(window, window.end + 2)

        assert verdict.sentence.endswith(".")
        assert "nan" not in verdict.sentence.lower().replace("finan", "")
        assert ".." not in verdict.sentence
        for numbers in verdict.evidence:
            assert math.isfinite(numbers.e_value)
            assert numbers.e_value >= 0
            assert 0 <= numbers.anytime_p <= 1
            assert 0 <= numbers.bound <= 1
            assert 0 <= numbers.canary_bad <= numbers.canary_total
            assert 0 <= numbers.stable_bad <= numbers.stable_total
        if failed is not None:
            assert verdict == failed
        elif verdict.outcome is Outcome.FAIL:
            assert is_backed(verdict), verdict
            failed = verdict
        if verdict.outcome is Outcome.PASS and 0 < window.weight < 100:
            assert entry(verdict, "pass").e_value >= 20
            assert all(
                one.e_value < 5 for one in verdict.evidence if one.metric not in ("pass", "error_rate_vs_tolerated")
            )


@settings(max_examples=40)
@given(seeds)
def test_asked_or_told_it_is_the_same_verdict_and_the_same_windows_again_are_the_same_judge(seed: int):
    judge, again = Judge(EVERYTHING, KNOWN), Judge(EVERYTHING, KNOWN)
    for window in any_rollout(seed):
        now = window.end + 2
        told = judge.observe(window, now)
        assert judge.verdict(now, source(now), window.step) == told
        assert judge.verdict(now, source(now)) == told  # asking changes nothing

    for window in any_rollout(seed):
        again.observe(window, window.end + 2)

    assert dump(again) == dump(judge)


def test_the_random_rollouts_are_of_every_kind():
    """Or the tests above would show little."""
    missing = set(Reason) - {Reason.FAST_ABORT, Reason.STALE, Reason.UNAVAILABLE}
    for seed in range(400):
        judge = Judge(EVERYTHING, KNOWN)
        missing -= {judge.observe(window, window.end + 2).reason for window in any_rollout(seed)}
        if not missing:
            return

    assert not missing


# Who wins


def plain_arm(requests: int, errors: int = 0, slow: int = 0) -> ArmCounts:
    return ArmCounts(requests, errors, requests - errors, {100.0: slow, 250.0: slow, 500.0: slow, 1000.0: 0})


def feed(judge: Judge, canary: ArmCounts, stable: ArmCounts, times: int = 1, **more: Any) -> Verdict:
    for _ in range(times):
        start = judge._last.end if judge._last else 0.0
        values = {"step": 1, "weight": 10, "metrics": {"queue": 1.0, "lag": 1.0}, **more}
        verdict = judge.observe(Window(start, start + 5, canary=canary, stable=stable, **values), start + 7)
    return verdict


def test_everything_broken_at_once_is_told_in_the_order_of_its_weight():
    judge = Judge(policy(harmBudget={"errors": 1}), PLAIN)
    over = {"queue": 99.0, "lag": 1.0}
    lost = ArmCounts(50, 50)

    verdict = feed(judge, plain_arm(100, 40, 30), plain_arm(900), times=3, metrics=over, unattributed=lost)

    assert verdict.reason is Reason.ERROR_RATE
    parts = [
        "worse than stable with evidence",
        "slower than the tolerated",
        "over the limit of 5 % with evidence",
        "so P99 is over that limit with evidence",
        "over the harm budget of 1",
        "found no host of any version",
    ]
    places = [verdict.sentence.index(part) for part in parts]
    assert places == sorted(places)


@pytest.mark.parametrize(
    ("analysis", "canary", "reason"),
    [
        ({}, plain_arm(100, 40), Reason.ERROR_RATE),
        ({"errorRate": {"max": "5%", "vsStable": "off"}}, plain_arm(100, 40, 30), Reason.LATENCY),
        (
            {"errorRate": {"max": "5%", "vsStable": "off"}, "p99": {"vsStable": "off"}},
            plain_arm(100, 40),
            Reason.ERROR_RATE,
        ),
        ({"p99": {"vsStable": "off", "max": "500ms"}}, plain_arm(100, 0, 30), Reason.LATENCY),
    ],
)
def test_whichever_is_asked_for_decides(analysis: dict[str, Any], canary: ArmCounts, reason: Reason):
    verdict = feed(Judge(policy(**analysis), PLAIN), canary, plain_arm(900), times=3)

    assert (verdict.outcome, verdict.reason) == (Outcome.FAIL, reason)


def test_a_hold_for_what_is_around_the_canary_comes_before_one_for_what_it_does():
    judge = Judge(EVERYTHING, PLAIN)

    verdict = feed(judge, plain_arm(100, 30), plain_arm(900, 270), times=2)

    assert entry(verdict, "error_rate_vs_stable").e_value < 5
    assert verdict.reason is Reason.SERVICE_INCIDENT


def test_what_the_judge_needs_counted_is_told_before_the_first_window():
    assert Judge(EVERYTHING, KNOWN).bounds == {100.0, 250.0, 500.0, 1000.0}
    assert Judge(EVERYTHING).bounds == {500.0}
    assert Judge(policy(p99={"vsStable": "off"})).bounds == frozenset()


# Windows that cannot be

GOOD = Window(100.0, 105.0, 1, 10, plain_arm(100), plain_arm(900), metrics={"queue": 1.0, "lag": 1.0})
NO_COUNT = (-1, 2**53 + 1, 1.0, math.nan, math.inf, True, "5", None)
NO_TIME = (math.nan, math.inf, -math.inf, "5", None)


def arms_that_cannot_be() -> Iterator[ArmCounts]:
    for value in NO_COUNT:
        yield replace(GOOD.canary, requests=value)
        yield replace(GOOD.canary, errors=value)
        yield replace(GOOD.canary, timed=value)
        yield replace(GOOD.canary, slower={**GOOD.canary.slower, 250.0: value})
    for bound in (0, -1.0, math.nan, math.inf, True, "250"):
        yield replace(GOOD.canary, slower={**GOOD.canary.slower, bound: 1})
    yield replace(GOOD.canary, errors=101)
    yield replace(GOOD.canary, slower={**GOOD.canary.slower, 250.0: 101})


def windows_that_cannot_be() -> Iterator[Window]:
    for one in arms_that_cannot_be():
        yield replace(GOOD, canary=one)
        yield replace(GOOD, stable=one)
        yield replace(GOOD, unattributed=one)
    for missing in BOUNDS:
        less = {bound: 0 for bound in BOUNDS if bound != missing}
        yield replace(GOOD, canary=replace(GOOD.canary, slower=less))
        yield replace(GOOD, stable=replace(GOOD.stable, slower=less))
    for value in NO_COUNT:
        for name in ("canary", "canary_members", "stable", "stable_members"):
            yield replace(GOOD, ejections=Ejections(**{name: value}))
    for value in (math.nan, True, "5", None):
        yield replace(GOOD, metrics={"queue": value})
    for time in NO_TIME:
        yield replace(GOOD, start=time)
        yield replace(GOOD, end=time)
    for number in (-1, 1.0, math.nan, True, "1", None):
        yield replace(GOOD, step=number)
        yield replace(GOOD, weight=number)
    yield replace(GOOD, weight=101)
    yield replace(GOOD, end=100.0)
    yield replace(GOOD, end=106.0)  # not over yet
    yield replace(GOOD, start=99.0)  # overlaps the one before
    yield replace(GOOD, step=0, weight=0)  # back a step


def test_every_impossible_window_is_refused_with_a_sentence_and_changes_nothing():
    judge = Judge(EVERYTHING, KNOWN)
    feed(judge, plain_arm(100, 2, 3), plain_arm(900, 1), times=20)
    before = dump(judge)
    refused = 0

    for window in windows_that_cannot_be():
        with pytest.raises(ValueError, match=r"\w+ \w+ \w+"):
            judge.observe(window, 105.5)
        refused += 1

    assert refused > 150
    assert dump(judge) == before
    judge.observe(GOOD, 105.5)
    assert dump(judge) != before


@pytest.mark.parametrize("value", [-1, math.nan, True, 1.5, "2", 2**60])
def test_impossible_ejections_are_refused_by_the_fast_abort(value: Any):
    judge = Judge(EVERYTHING)

    for name in ("canary", "canary_members", "stable", "stable_members"):
        with pytest.raises(ValueError, match="hosts must be"):
            judge.abort(ArmCounts(5), ArmCounts(5), Ejections(**{name: value}))


@pytest.mark.parametrize("requests", [2**53, 2**52])
def test_the_hugest_counts_that_can_be_are_judged_like_any_others(requests: int):
    judge = Judge(EVERYTHING, KNOWN)

    for step, weight in ((1, 10), (2, 50)):
        healthy = ArmCounts(requests, requests // 1000, requests, dict.fromkeys(BOUNDS, 0))
        verdict = feed(judge, healthy, healthy, times=12, step=step, weight=weight)
        assert verdict.outcome is Outcome.PASS, verdict.sentence

    all_slow = ArmCounts(requests, requests, requests, dict.fromkeys(BOUNDS, requests))
    assert feed(judge, all_slow, ArmCounts(), times=3, step=3, weight=100).outcome is Outcome.FAIL
