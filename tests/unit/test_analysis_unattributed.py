"""Requests that reached no version: when Envoy has ejected every canary host, only they tell."""

from __future__ import annotations

import random
from typing import Any

import pytest

from canary.analysis import Judge
from canary.analysis.baseline import baseline_of
from canary.analysis.unattributed import Unattributed
from canary.model.policy import Policy
from canary.model.verdict import ArmCounts, Baseline, Ejections, Evidence, Outcome, Reason, Verdict, Window

POLICY = Policy.model_validate(
    {
        "name": "story",
        "strategy": {"weights": [10, 50, 100], "hold": "30s"},
        "analysis": {
            "warmup": "0s", "minRequests": 1, "errorRate": {"vsStable": "off"}, "p99": {"vsStable": "off"},
        },
    }
)  # fmt: skip
BEFORE = Baseline(unattributed_bound=0.001, history_s=600.0)


class Rollout:
    def __init__(self, baseline: Baseline = BEFORE) -> None:
        self.judge = Judge(POLICY, baseline)
        self.time = 0.0

    def feed(
        self, lost: tuple[int, int], *, canary: int = 45, stable: int = 450, times: int = 1, **more: Any
    ) -> Verdict:
        """`lost`: (requests without a version, those of them for want of a host)."""
        for _ in range(times):
            arms = ArmCounts(canary), ArmCounts(stable), ArmCounts(*lost)
            window = Window(self.time, self.time + 5, more.pop("step", 1), more.pop("weight", 10), *arms, **more)
            self.time += 5
            verdict = self.judge.observe(window, self.time + 2)
        return verdict


def numbers(verdict: Verdict) -> Evidence:
    return next(one for one in verdict.evidence if one.metric == "unattributed")


def test_a_canary_whose_hosts_are_all_ejected_is_rolled_back_though_its_own_figures_are_empty():
    rollout = Rollout()
    rollout.feed((0, 0), times=10)

    held = rollout.feed((50, 50), canary=0)
    failed = rollout.feed((50, 50), canary=0)

    assert (held.outcome, held.reason) == (Outcome.HOLD, Reason.INCONCLUSIVE)
    assert held.sentence.startswith("undecided: 50 of 5,450 (0.92 %) of the service's requests found no host of any")
    assert (failed.outcome, failed.reason) == (Outcome.FAIL, Reason.UNATTRIBUTED)
    assert failed.sentence == (
        "100 of 5,950 (1.7 %) of the service's requests found no host of any version (UH, NC, UO), over the 0.1 % of "
        "before with evidence 23,000:1 (limit 1,000:1)."
    )
    assert (numbers(failed).canary_total, numbers(failed).canary_bad) == (5950, 100)
    assert (numbers(failed).stable_total, numbers(failed).bound, numbers(failed).limit) == (0, 0.001, 1000)


def test_requests_that_failed_for_another_reason_without_a_version_are_only_requests():
    rollout = Rollout()

    verdict = rollout.feed((50, 0), times=20)

    assert verdict.outcome is Outcome.PASS
    assert (numbers(verdict).canary_total, numbers(verdict).canary_bad) == (20 * 545, 0)


def test_as_many_as_before_are_never_held_against_the_canary():
    rng = random.Random(91)
    before = [ArmCounts(500)] * 120
    for _ in range(40):
        lost = sum(rng.random() < 0.002 for _ in range(60_000))
        rollout = Rollout(baseline_of(before, 5.0, POLICY, unattributed=(lost, 60_000)))
        for _ in range(60):
            failed = sum(rng.random() < 0.002 for _ in range(500))
            assert rollout.feed((failed, failed)).outcome is not Outcome.FAIL


def test_while_hosts_of_stable_are_ejected_nobody_knows_whose_requests_failed():
    rollout = Rollout()

    both = rollout.feed((50, 50), times=10, ejections=Ejections(1, 1, 1, 3))
    assert (both.outcome, numbers(both).canary_total) == (Outcome.PASS, 0)
    assert rollout.feed((50, 50), times=2, ejections=Ejections(1, 1, 0, 3)).outcome is Outcome.FAIL


def test_it_is_asked_in_every_step_also_of_debug_users_and_at_100_percent():
    for step, weight in ((0, 0), (3, 100)):
        rollout = Rollout()
        rollout.feed((0, 0), step=step, weight=weight)
        verdict = [rollout.feed((50, 50), step=step, weight=weight) for _ in range(3)][-1]
        assert verdict.reason is Reason.UNATTRIBUTED


@pytest.mark.parametrize("bound", [None, 0.97, 1.0])
def test_where_nothing_was_known_before_or_all_failed_nothing_is_asked(bound: float | None):
    rollout = Rollout(Baseline(unattributed_bound=bound))

    verdict = rollout.feed((50, 50), times=10)

    assert verdict.outcome is Outcome.PASS
    assert verdict.evidence == ()


def test_an_idle_service_is_no_evidence():
    rollout = Rollout()

    assert numbers(rollout.feed((0, 0), canary=0, stable=0, times=5)).e_value == pytest.approx(1)


@pytest.mark.parametrize("bound", [0, 0.97, -1, float("nan")])
def test_a_bound_that_nothing_can_be_weighed_against_is_refused(bound: float):
    with pytest.raises(ValueError, match="a bound must be a share"):
        Unattributed(bound)


@pytest.mark.parametrize(
    ("lost", "says"),
    [
        ((5, 6), "unattributed has 6 errors in 5 requests"),
        ((-1, 0), "unattributed requests must be between 0 and 2^53"),
    ],
)
def test_impossible_failures_are_refused_with_the_window(lost: tuple[int, int], says: str):
    rollout = Rollout()

    with pytest.raises(ValueError, match=says.replace("^", r"\^")):
        rollout.feed(lost)
    assert numbers(rollout.feed((0, 0))).canary_total == 495
