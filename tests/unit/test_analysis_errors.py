"""Errors against stable, as the judge tells them: worse at all, worse than tolerated, and what it cost."""

from __future__ import annotations

import random
from typing import Any

import pytest

from canary.analysis import Judge
from canary.model.policy import Policy
from canary.model.verdict import ArmCounts, Baseline, Evidence, Outcome, Reason, Verdict, Window

KNOWN = Baseline(history_s=600.0)


def policy(**analysis: Any) -> Policy:
    weights = {"weights": [10, 50, 100], "hold": "30s"}
    judged = {"warmup": "0s", "minRequests": 1, "p99": {"vsStable": "off"}, **analysis}
    return Policy.model_validate({"name": "story", "strategy": weights, "analysis": judged})


class Rollout:
    """A judge fed with windows of (requests, errors) per arm, five seconds each."""

    def __init__(self, baseline: Baseline = KNOWN, **analysis: Any) -> None:
        self.judge = Judge(policy(**analysis), baseline)
        self.time = 0.0
        self.requests = 0

    def feed(
        self, canary: tuple[int, int], stable: tuple[int, int], *, step: int = 1, weight: int = 10, times: int = 1
    ) -> Verdict:
        for _ in range(times):
            window = Window(self.time, self.time + 5, step, weight, ArmCounts(*canary), ArmCounts(*stable))
            self.time += 5
            self.requests += canary[0]
            verdict = self.judge.observe(window, self.time + 2)
        return verdict


def numbers(verdict: Verdict, metric: str = "error_rate_vs_stable") -> Evidence:
    return next(one for one in verdict.evidence if one.metric == metric)


def windows_to_fail(rollout: Rollout, canary: tuple[int, int], stable: tuple[int, int]) -> int:
    return next(index for index in range(1, 500) if rollout.feed(canary, stable).outcome is Outcome.FAIL)


# Rolled back


def test_a_release_worse_than_stable_is_rolled_back_with_both_answers_in_the_sentence():
    rollout = Rollout()

    fourth = rollout.feed((100, 2), (900, 3), times=4)
    fifth = rollout.feed((100, 2), (900, 3))

    assert (fourth.outcome, fourth.reason) == (Outcome.HOLD, Reason.INCONCLUSIVE)
    assert (fifth.outcome, fifth.reason) == (Outcome.FAIL, Reason.ERROR_RATE)
    assert fifth.sentence == (
        "10 errors (2 %) in 500 canary requests against stable 15 of 4,500 (0.33 %); worse than stable with evidence "
        "360:1 (limit 200:1) and worse than the tolerated 1.2x + 0.05 % with 72:1 (limit 5:1)."
    )
    worse, beyond = numbers(fifth), numbers(fifth, "error_rate_vs_tolerated")
    assert (worse.canary_total, worse.canary_bad, worse.stable_total, worse.stable_bad) == (500, 10, 4500, 15)
    assert (worse.bound, worse.limit, beyond.limit) == (15 / 4500, 200, 5)
    assert beyond.bound == pytest.approx(1.2 * 15 / 4500 + 0.0005)
    assert worse.anytime_p == 1 / worse.e_value < 0.005


def test_a_single_error_reads_in_the_singular_and_none_of_stables_as_such():
    rollout = Rollout()

    rollout.feed((1, 0), (50, 0))
    verdict = rollout.feed((1, 1), (50, 0))

    assert verdict.sentence == (
        "undecided: 1 error (50 %) in 2 canary requests against stable 0 of 100 (0 %); worse than stable with evidence "
        "5.9:1 (a step passes below 5:1, fails at 200:1)."
    )


@pytest.mark.parametrize(
    ("history_s", "says"),
    [
        (0.0, "; nothing of stable's past was known, so bursts may count for too much."),
        (90.0, "; only 1m30s of stable's past was known, so bursts may count for too much."),
        (580.0, "(limit 5:1)."),
    ],
)
def test_a_short_look_at_stables_past_is_said(history_s: float, says: str):
    rollout = Rollout(Baseline(history_s=history_s))

    assert rollout.feed((100, 3), (900, 3), times=5).sentence.endswith(says)


def test_an_outage_of_both_versions_is_no_evidence_whatever_its_size():
    rng = random.Random(41)
    for _ in range(20):
        rollout = Rollout()
        for index in range(60):
            share = 0.8 if 20 <= index < 30 else 0.01
            canary, stable = ((n, sum(rng.random() < share for _ in range(n))) for n in (25, 225))
            assert rollout.feed(canary, stable).outcome is not Outcome.FAIL


def test_a_drift_of_the_whole_service_to_three_times_its_errors_is_no_evidence():
    rng = random.Random(42)
    for _ in range(20):
        rollout = Rollout()
        for index in range(100):
            share = 0.01 * (1 + 2 * index / 100)
            canary, stable = ((n, sum(rng.random() < share for _ in range(n))) for n in (25, 225))
            assert rollout.feed(canary, stable).outcome is not Outcome.FAIL


def test_one_window_alone_never_rolls_back_however_bad_it_is():
    rollout = Rollout()

    assert rollout.feed((1000, 1000), (9000, 0)).outcome is Outcome.HOLD
    assert rollout.feed((1000, 1), (9000, 9), times=20).outcome is not Outcome.FAIL
    assert rollout.feed((1000, 30), (9000, 9)).outcome is Outcome.HOLD  # E* had shrunk to nothing again


# Both questions must be answered yes


def test_a_release_proven_worse_but_within_the_tolerance_holds_and_says_that_it_is_tolerated():
    rollout = Rollout()

    verdict = rollout.feed((1000, 13), (9000, 100), times=100)

    assert numbers(verdict).e_value > 200
    assert (verdict.outcome, verdict.reason) == (Outcome.HOLD, Reason.INCONCLUSIVE)
    assert verdict.sentence == (
        "undecided: 1,300 errors (1.3 %) in 100,000 canary requests against stable 10,000 of 900,000 (1.1 %); worse "
        "than stable with evidence 2,100:1 (a step passes below 5:1), but worse than the tolerated 1.2x + 0.05 % "
        "only with 0.14:1 (fails at 5:1)."
    )


def test_a_release_beyond_the_tolerance_but_not_yet_proven_worse_holds():
    rollout = Rollout()

    rollout.feed((30, 2), (270, 0))
    verdict = rollout.feed((30, 2), (270, 0))

    assert numbers(verdict, "error_rate_vs_tolerated").e_value > 5
    assert 5 <= numbers(verdict).e_value < 200
    assert verdict.outcome is Outcome.HOLD
    assert verdict.sentence == (
        "undecided: 4 errors (6.7 %) in 60 canary requests against stable 0 of 540 (0 %); worse than stable with "
        "evidence 92:1 (a step passes below 5:1, fails at 200:1)."
    )


def test_a_step_does_not_end_while_the_evidence_is_near_a_breach_and_goes_on_once_it_has_gone():
    rollout = Rollout()
    rollout.feed((100, 0), (900, 1), times=10)  # healthy beyond doubt
    assert rollout.feed((100, 0), (900, 1)).outcome is Outcome.PASS

    held = [rollout.feed((100, 3), (900, 1)) for _ in range(3)][-1]
    assert (held.outcome, held.reason) == (Outcome.HOLD, Reason.INCONCLUSIVE)
    assert numbers(held).e_value >= 5

    released = [rollout.feed((100, 0), (900, 1)) for _ in range(30)]
    for verdict in released:
        assert (verdict.outcome is Outcome.PASS) == (
            numbers(verdict).e_value < 5 and numbers(verdict, "pass").e_value >= 20
        )
    assert [verdict.outcome for verdict in (released[0], released[-1])] == [Outcome.HOLD, Outcome.PASS]


# Where it is not asked


def test_debug_users_are_not_compared_with_everybody_else():
    rollout = Rollout()

    verdict = rollout.feed((10, 9), (900, 0), step=0, weight=0, times=5)

    assert verdict.outcome is not Outcome.FAIL
    assert numbers(verdict).e_value == 1
    assert numbers(verdict, "pass").e_value == 1


def test_at_100_percent_nothing_is_compared_and_old_doubts_hold_nothing():
    rollout = Rollout()
    rollout.feed((100, 0), (900, 1), times=20)
    assert rollout.feed((100, 4), (900, 1), times=2).outcome is Outcome.HOLD

    verdict = rollout.feed((1000, 30), (0, 0), step=2, weight=100)

    assert verdict.outcome is Outcome.PASS
    assert numbers(verdict).canary_total == 2200
    assert (
        rollout.feed((1000, 30), (40, 0), step=2, weight=100, times=9).outcome is Outcome.PASS
    )  # late stable requests


def test_a_share_kept_on_stable_is_compared_to_the_end():
    rollout = Rollout(keepStable="5%")

    passed = rollout.feed((950, 1), (50, 0), step=3, weight=95, times=30)
    worse = rollout.feed((950, 60), (50, 0), step=3, weight=95, times=10)

    assert "evidence of health" in passed.sentence
    assert (worse.outcome, worse.reason) == (Outcome.FAIL, Reason.ERROR_RATE)
    assert "worse than stable with evidence" in worse.sentence


def test_windows_without_a_stable_request_wait_for_the_next_of_their_step():
    together, apart = Rollout(), Rollout()

    told = together.feed((40, 6), (180, 1))
    apart.feed((20, 2), (0, 0))
    apart.feed((0, 0), (180, 1))
    split = apart.feed((20, 4), (0, 0))

    assert numbers(split).canary_total == 20  # the last one waits
    assert numbers(apart.feed((0, 0), (0, 0))).canary_total == 20
    other_step = apart.feed((20, 0), (180, 0), step=2, weight=50)
    assert (numbers(other_step).canary_total, numbers(other_step).canary_bad) == (40, 2)
    assert numbers(told).canary_total == 40


def test_windows_of_the_warm_up_are_no_evidence():
    judge = Judge(policy(warmup="30s"), KNOWN)
    for index in range(4):
        cold = Window(5.0 * index, 5.0 * index + 5, 1, 10, ArmCounts(100, 50), ArmCounts(900, 0), warm=False)
        assert judge.observe(cold, cold.end).reason is Reason.WARMING_UP

    warm = judge.observe(Window(20, 25, 1, 10, ArmCounts(100, 0), ArmCounts(900, 0)), 25)

    assert numbers(warm).canary_total == 100
    assert numbers(warm).e_value == 1


# What the policy and the past change


def test_confidence_sets_how_much_evidence_is_asked_for():
    limits, needed = [], []
    for confidence in ("90%", "99%", "99.9%"):
        rollout = Rollout(confidence=confidence)
        needed.append(windows_to_fail(rollout, (50, 1), (450, 1)))
        limits.append(numbers(rollout.feed((50, 0), (450, 0))).limit)

    assert limits == [20, 200, 2000]
    assert needed[0] < needed[1] < needed[2]


def test_bursts_in_stables_past_divide_the_evidence():
    calm, bursty = Rollout(), Rollout(Baseline(errors_phi=3.0, history_s=600.0))
    one, other = calm.feed((10, 1), (90, 0)), bursty.feed((10, 1), (90, 0))
    needed = [windows_to_fail(rollout, (50, 1), (450, 1)) for rollout in (calm, bursty)]

    assert 1 < numbers(other).e_value < numbers(one).e_value
    assert 2.5 * needed[0] < needed[1] < 3.5 * needed[0]


@pytest.mark.parametrize(
    ("vs_stable", "fails", "tolerated"),
    [
        ("strict", True, "1x + 0 %"),
        ("default", True, "1.2x + 0.05 %"),
        ("lenient", False, "1.5x + 0.1 %"),
        ({"ratio": 3, "slack": "1%"}, False, "3x + 1 %"),
    ],
)
def test_what_is_tolerated_is_the_policys_choice(vs_stable: Any, fails: bool, tolerated: str):
    rollout = Rollout(errorRate={"vsStable": vs_stable})

    verdict = rollout.feed((1000, 16), (9000, 102), times=60)  # 1.4 times stable's errors

    assert numbers(verdict).e_value > 200
    assert verdict.outcome is (Outcome.FAIL if fails else Outcome.HOLD)
    assert f"worse than the tolerated {tolerated}" in verdict.sentence


def test_a_tolerated_slack_counts_on_its_own_where_stable_has_no_errors():
    tight, slack = (
        Rollout(errorRate={"vsStable": "strict"}),
        Rollout(errorRate={"vsStable": {"ratio": 1, "slack": "2%"}}),
    )

    verdicts = [rollout.feed((1000, 10), (9000, 0), times=10) for rollout in (tight, slack)]

    assert [verdict.outcome for verdict in verdicts] == [Outcome.FAIL, Outcome.HOLD]


def test_off_compares_nothing_and_asks_for_no_evidence_of_health():
    rollout = Rollout(errorRate={"vsStable": "off"})

    verdict = rollout.feed((1000, 500), (9000, 0), times=5)

    assert verdict.outcome is Outcome.PASS
    assert verdict.evidence == ()
    assert verdict.sentence == "2,500 errors (50 %) in 5,000 canary requests; stable 0 of 45,000 (0 %)."


# The harm budget


def test_a_spent_harm_budget_with_some_evidence_rolls_back_before_the_limit():
    rollout = Rollout(harmBudget={"errors": 4})

    assert rollout.feed((100, 2), (900, 3), times=2).outcome is Outcome.HOLD
    verdict = rollout.feed((100, 2), (900, 3))

    assert (verdict.outcome, verdict.reason) == (Outcome.FAIL, Reason.HARM_BUDGET)
    assert verdict.sentence == (
        "the canary cost 5 more errors than stable's rate explains, over the harm budget of 4: 6 errors (2 %) in 300 "
        "canary requests against stable 9 of 2,700 (0.33 %); worse than stable with evidence 24:1 (20:1 is enough for "
        "the budget)."
    )


def test_harm_is_told_in_tenths():
    rollout = Rollout(harmBudget={"errors": 3})

    rollout.feed((30, 2), (300, 0))
    verdict = rollout.feed((30, 2), (300, 1))

    assert "cost 3.9 more errors than stable's rate explains, over the harm budget of 3: 4 errors" in verdict.sentence


def test_an_excess_that_chance_explains_spends_no_budget():
    """At 1,000 rps healthy rollouts exceed stable's rate by ten errors all the time."""
    rng = random.Random(43)
    over = 0
    for _ in range(30):
        rollout = Rollout(harmBudget={"errors": 10})
        for index in range(60):
            step, weight, n_c = ((1, 10, 500), (2, 50, 2500))[index // 30]
            errors = [round(rng.gauss(n * 0.01, (n * 0.0099) ** 0.5)) for n in (n_c, 5000 - n_c)]
            verdict = rollout.feed((n_c, errors[0]), (5000 - n_c, errors[1]), step=step, weight=weight)
            assert verdict.outcome is not Outcome.FAIL
        over += rollout.judge._witnesses._errors[0].harm > 10

    assert over >= 5


def test_evidence_without_the_excess_spends_no_budget():
    rollout = Rollout(harmBudget={"errors": 6})

    verdict = rollout.feed((100, 2), (900, 3), times=3)

    assert numbers(verdict).e_value > 20
    assert verdict.outcome is Outcome.HOLD


def test_harm_is_reckoned_step_by_step_so_a_busy_hour_at_a_larger_weight_is_not_held_against_the_canary():
    """Both arms fail 1 % first and 5 % later: pooled, the canary would seem to have cost 100 errors."""
    rollout = Rollout(harmBudget={"errors": 20})

    rollout.feed((100, 1), (900, 9), times=10)
    verdict = rollout.feed((500, 25), (500, 25), step=2, weight=50, times=10)

    assert verdict.outcome is not Outcome.FAIL
    assert rollout.judge._witnesses._errors[0].harm == pytest.approx(0)


def test_a_budget_is_not_asked_for_where_there_is_none():
    rollout = Rollout()

    assert rollout.feed((100, 2), (900, 3), times=4).outcome is Outcome.HOLD
    assert rollout.judge._witnesses._errors[0].harm > 6
