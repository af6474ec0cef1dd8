"""Slow requests against stable: at the bounds that its past gave, and the absolute limit alone where it gave none."""

from __future__ import annotations

import math
import random
from typing import Any

import pytest

from canary.analysis import Judge
from canary.analysis.latency import LatencyVsStable
from canary.analysis.mixture import WORSE
from canary.analysis.relative import OneWindowRule, RelativeShare
from canary.model.objectives import Tolerance
from canary.model.policy import Policy
from canary.model.verdict import ArmCounts, Baseline, Evidence, Outcome, Reason, Verdict, Window

BOUNDS = (100.0, 250.0, 500.0)
KNOWN = Baseline(latency_phi=dict.fromkeys(BOUNDS, 1.0), history_s=600.0)
DEFAULT = Tolerance.model_validate({"ratio": 1.25, "slack": "0.2%"})

Slow = tuple[int, int, int]
"""Slower than each of the bounds."""


def policy(**analysis: Any) -> Policy:
    weights = {"weights": [10, 50, 100], "hold": "30s"}
    judged = {"warmup": "0s", "minRequests": 1, "errorRate": {"vsStable": "off"}, **analysis}
    return Policy.model_validate({"name": "story", "strategy": weights, "analysis": judged})


def arm(timed: int, slow: Slow, errors: int = 0) -> ArmCounts:
    return ArmCounts(timed + errors, errors, timed, dict(zip(BOUNDS, slow, strict=True)))


class Rollout:
    def __init__(self, baseline: Baseline = KNOWN, **analysis: Any) -> None:
        self.judge = Judge(policy(**analysis), baseline)
        self.time = 0.0

    def feed(self, canary: ArmCounts, stable: ArmCounts, *, step: int = 1, weight: int = 10, times: int = 1) -> Verdict:
        for _ in range(times):
            window = Window(self.time, self.time + 5, step, weight, canary, stable)
            self.time += 5
            verdict = self.judge.observe(window, self.time + 2)
        return verdict


def numbers(verdict: Verdict, metric: str = "latency_vs_stable") -> Evidence:
    return next(one for one in verdict.evidence if one.metric == metric)


HEALTHY = arm(1000, (190, 20, 2))
GOOD = arm(100, (19, 2, 0))


def test_a_release_slower_in_its_tail_is_rolled_back_naming_the_bound_that_shows_it():
    rollout = Rollout()

    held = rollout.feed(arm(100, (19, 8, 2)), HEALTHY, times=2)
    failed = rollout.feed(arm(100, (19, 8, 2)), HEALTHY, times=2)

    assert (held.outcome, held.reason) == (Outcome.HOLD, Reason.INCONCLUSIVE)
    assert held.sentence == (
        "undecided: 16 of 200 canary requests (8 %) took longer than 250ms against stable 40 of 2,000 (2 %); slower "
        "than tolerated with evidence 17:1 (a step passes below 5:1, fails at 200:1)."
    )
    assert (failed.outcome, failed.reason) == (Outcome.FAIL, Reason.LATENCY)
    assert failed.sentence == (
        "32 of 400 canary requests (8 %) took longer than 250ms against stable 80 of 4,000 (2 %); slower than the "
        "tolerated 1.25x + 0.2 % with evidence 2,400:1 (limit 200:1)."
    )
    entry = numbers(failed)
    assert (entry.canary_total, entry.canary_bad, entry.stable_total, entry.stable_bad) == (400, 32, 4000, 80)
    assert entry.bound == pytest.approx(1.25 * 0.02 + 0.002)


def test_a_short_look_at_stables_past_is_said():
    rollout = Rollout(Baseline(latency_phi={250.0: 1.0}, history_s=120.0))

    verdict = rollout.feed(arm(100, (19, 10, 2)), HEALTHY, times=5)

    assert verdict.sentence.endswith("; only 2m of stable's past was known, so bursts may count for too much.")


def test_a_release_as_slow_as_stable_passes_and_one_within_the_tolerance_is_never_failed():
    same, tolerated = Rollout(), Rollout()

    assert same.feed(GOOD, HEALTHY, times=50).outcome is Outcome.PASS
    assert tolerated.feed(arm(1000, (220, 25, 3)), HEALTHY, times=50).outcome is Outcome.PASS


def test_a_slow_hour_of_the_whole_service_is_no_evidence():
    rng = random.Random(61)
    for _ in range(10):
        rollout = Rollout()
        for index in range(60):
            slower = 3 if index >= 30 else 1
            canary, stable = (
                arm(n, tuple(sum(rng.random() < slower * share for _ in range(n)) for share in (0.19, 0.02, 0.002)))
                for n in (25, 225)
            )
            assert rollout.feed(canary, stable).outcome is not Outcome.FAIL


def test_failed_requests_are_in_neither_side_of_the_share():
    """A release that fails fast would look fast: only what was timed counts."""
    rollout = Rollout()

    verdict = rollout.feed(arm(10, (2, 1, 0), errors=90), HEALTHY)

    assert numbers(verdict).canary_total == 10


def test_the_evidence_is_the_average_over_the_bounds_under_the_one_window_rule():
    latency, star = LatencyVsStable(DEFAULT, 0.005, KNOWN), OneWindowRule()
    single = [RelativeShare(WORSE, DEFAULT, limit=200, cap=200) for _ in BOUNDS]
    rng = random.Random(62)
    for index in range(40):
        slow = [
            tuple(sum(rng.random() < times * share for _ in range(n)) for share in (0.2, 0.02, 0.003))
            for n, times in ((50, 1.8), (200, 1.0))
        ]
        window = Window(5.0 * index, 5.0 * index + 5, index // 20, 10, arm(50, slow[0]), arm(200, slow[1]))
        latency.observe(Window(window.start, window.end, 1 + window.step, 10, window.canary, window.stable))
        for place, share in enumerate(single):
            share.observe(1 + window.step, (50, slow[0][place]), (200, slow[1][place]), at=window.start)
        star.update(math.log(sum(share.mixture.e_value for share in single) / 3))

    assert latency.worse == pytest.approx(math.exp(star.log_e), rel=1e-9)
    assert latency.worse > 5


def test_each_bound_has_the_dispersion_of_its_own_past():
    at_100, at_250 = ({**dict.fromkeys(BOUNDS, 1.0), bursty: 4.0} for bursty in (100.0, 250.0))
    rollouts = [Rollout(Baseline(latency_phi=phi, history_s=600.0)) for phi in (at_100, at_250)]

    tail = [numbers(rollout.feed(arm(100, (19, 8, 2)), HEALTHY, times=3)).e_value for rollout in rollouts]

    assert tail[0] > 5 * tail[1]


def test_one_slow_window_alone_never_rolls_back():
    rollout = Rollout()
    rollout.feed(GOOD, HEALTHY, times=10)

    assert rollout.feed(arm(100, (100, 100, 100)), HEALTHY).outcome is not Outcome.FAIL


def test_windows_in_which_nothing_was_timed_wait_for_the_next_of_their_step():
    rollout = Rollout()

    first = rollout.feed(ArmCounts(50, 50), HEALTHY)
    second = rollout.feed(arm(40, (8, 1, 0)), ArmCounts())

    assert numbers(first).canary_total == 0
    assert (numbers(second).canary_total, numbers(second).stable_total) == (40, 1000)


def test_it_is_not_asked_of_debug_users_nor_at_100_percent():
    rollout = Rollout()
    slow = arm(100, (90, 90, 90))

    rollout.feed(slow, HEALTHY, step=0, weight=0, times=5)
    held = rollout.feed(arm(100, (19, 8, 2)), HEALTHY, times=2)
    verdict = rollout.feed(slow, HEALTHY, step=3, weight=100, times=5)

    assert numbers(held).canary_total == 200
    assert 5 < numbers(held).e_value < 200
    assert verdict.outcome is Outcome.PASS
    assert numbers(verdict).canary_total == 200


@pytest.mark.parametrize(
    ("vs_stable", "outcome"),
    [
        ("strict", Outcome.FAIL),
        ("default", Outcome.FAIL),
        ("lenient", Outcome.PASS),
        ({"ratio": 2, "slack": "1%"}, Outcome.PASS),
    ],
)
def test_what_is_tolerated_is_the_policys_choice(vs_stable: Any, outcome: Outcome):
    rollout = Rollout(p99={"vsStable": vs_stable})

    verdict = rollout.feed(arm(1000, (200, 33, 5)), HEALTHY, times=60)

    assert verdict.outcome is outcome


def test_confidence_is_the_limit_here_too():
    needed = []
    for confidence in ("90%", "99.9%"):
        rollout = Rollout(confidence=confidence)
        verdicts = (rollout.feed(arm(100, (19, 6, 1)), HEALTHY) for _ in range(100))
        needed.append(next(index for index, verdict in enumerate(verdicts) if verdict.outcome is Outcome.FAIL))
        assert numbers(rollout.feed(GOOD, HEALTHY)).limit == (20 if confidence == "90%" else 2000)

    assert needed[0] < needed[1]


# Which bounds, and none


def test_both_arms_must_be_counted_at_every_bound_that_is_judged():
    rollout = Rollout(p99={"max": "1s"})

    assert rollout.judge.bounds == {100.0, 250.0, 500.0, 1000.0}
    short = ArmCounts(10, 0, 10, {100.0: 1, 250.0: 0, 1000.0: 0})
    whole = ArmCounts(10, 0, 10, {**dict.fromkeys(BOUNDS, 0), 1000.0: 0})
    for canary, stable in ((short, whole), (whole, short)):
        with pytest.raises(ValueError, match="no requests slower than 500 ms, a bound that is judged"):
            rollout.feed(canary, stable)
    rollout.time += 5
    assert rollout.feed(whole, ArmCounts()).evidence  # nothing timed: nothing to count


@pytest.mark.parametrize(
    ("baseline", "says"),
    [
        (Baseline(), "; latency not compared with stable, of whose past nothing was known."),
        (
            Baseline(history_s=600.0),
            "; latency not compared with stable (before the rollout there was no bucket bound that 0.2 % to 30 % of "
            "its requests exceeded).",
        ),
    ],
)
def test_without_a_telling_bound_the_absolute_limit_alone_judges_and_the_pass_says_so(baseline: Baseline, says: str):
    rollout = Rollout(baseline, p99={"max": "500ms"})

    passed = rollout.feed(GOOD, HEALTHY)
    at_100 = rollout.feed(GOOD, ArmCounts(), step=3, weight=100)

    assert passed.outcome is Outcome.PASS
    assert passed.sentence.endswith(says)
    assert "not compared" not in at_100.sentence
    assert rollout.judge.bounds == {500.0}
    assert all(one.metric != "latency_vs_stable" for one in passed.evidence)


def test_off_is_not_compared_and_nothing_is_said_of_it():
    rollout = Rollout(p99={"vsStable": "off"})

    verdict = rollout.feed(arm(100, (90, 90, 90)), HEALTHY, times=5)

    assert verdict.outcome is Outcome.PASS
    assert "not compared" not in verdict.sentence
    assert rollout.judge.bounds == frozenset()
