"""At 100 %: nothing to compare with, what stable was (`frozenBound`), or a share that stays on it (`keepStable`)."""

from __future__ import annotations

import random
from typing import Any

import pytest
from pydantic import ValidationError

from canary.analysis import Judge
from canary.analysis.interval import upper_bound
from canary.model.policy import Policy
from canary.model.verdict import ArmCounts, Baseline, Evidence, Outcome, Reason, Verdict, Window

KNOWN = Baseline(history_s=600.0)


def policy(**analysis: Any) -> Policy:
    weights = {"weights": [10, 50, 100], "hold": "30s"}
    judged = {"warmup": "0s", "minRequests": 1, "p99": {"vsStable": "off"}, **analysis}
    return Policy.model_validate({"name": "story", "strategy": weights, "analysis": judged})


class Rollout:
    def __init__(self, baseline: Baseline = KNOWN, **analysis: Any) -> None:
        self.judge = Judge(policy(**analysis), baseline)
        self.time = 0.0

    def feed(
        self,
        canary: tuple[int, int],
        stable: tuple[int, int] = (0, 0),
        *,
        step: int = 3,
        weight: int = 100,
        times: int = 1,
    ) -> Verdict:
        for _ in range(times):
            window = Window(self.time, self.time + 5, step, weight, ArmCounts(*canary), ArmCounts(*stable))
            self.time += 5
            verdict = self.judge.observe(window, self.time + 2)
        return verdict

    def up_to_the_last_step(self) -> Rollout:
        self.feed((100, 0), (900, 1), step=1, weight=10, times=10)
        self.feed((500, 1), (500, 1), step=2, weight=50, times=10)
        return self


def frozen(verdict: Verdict) -> Evidence:
    return next(one for one in verdict.evidence if one.metric == "error_rate_vs_frozen")


def test_a_release_that_turns_bad_at_100_percent_is_rolled_back_by_what_stable_was():
    rollout = Rollout(frozenBound=True).up_to_the_last_step()

    held = rollout.feed((1000, 12))
    failed = rollout.feed((1000, 12), times=2)

    assert (held.outcome, held.reason) == (Outcome.HOLD, Reason.INCONCLUSIVE)
    assert held.sentence.startswith("undecided: 12 of 1,000 (1.2 %) failed at 100 %, over the 0.33 % that the policy ")
    assert (failed.outcome, failed.reason) == (Outcome.FAIL, Reason.ERROR_RATE)
    assert failed.sentence == (
        "24 of 2,000 (1.2 %) failed at 100 %, over the 0.33 % that the policy tolerates over what stable was, with "
        "evidence 12,000:1 (limit 200:1); stable 20 of 14,000 (0.14 %) while it had traffic."
    )


def test_without_the_choice_nothing_is_left_to_compare_with():
    rollout = Rollout().up_to_the_last_step()

    assert rollout.feed((1000, 12), times=10).outcome is Outcome.PASS


def test_the_bound_is_what_stable_was_at_worst_within_the_tolerance_and_never_moves_again():
    rollout = Rollout(frozenBound=True).up_to_the_last_step()

    bounds = {frozen(rollout.feed((1000, bad), (5, 5))).bound for bad in (0, 2, 4)}

    assert bounds == {1.2 * upper_bound(14_000, 20, 0.01) + 0.0005}


def test_a_short_look_at_stable_is_no_reason_to_convict():
    rollout = Rollout(frozenBound=True)
    rollout.feed((5, 0), (40, 0), step=2, weight=50)

    verdict = rollout.feed((1000, 50), times=10)

    assert frozen(verdict).bound == pytest.approx(1.2 * (1 - 0.01 ** (1 / 40)) + 0.0005)
    assert verdict.outcome is Outcome.PASS


@pytest.mark.parametrize("seen", [(0, 0), (3, 3)])
def test_a_stable_that_was_never_seen_or_failed_always_gives_no_bound(seen: tuple[int, int]):
    rollout = Rollout(frozenBound=True)
    rollout.feed((5, 0), seen, step=2, weight=50)

    verdict = rollout.feed((1000, 1000), times=10)

    assert all(one.metric != "error_rate_vs_frozen" for one in verdict.evidence)
    assert verdict.outcome is Outcome.PASS  # nothing that was asked for speaks against it: the fast abort would


def test_it_follows_the_policys_tolerance_confidence_and_the_bursts_of_before():
    sure = Rollout(frozenBound=True, confidence="99.9%", errorRate={"vsStable": "strict"}).up_to_the_last_step()
    bursty = Rollout(Baseline(errors_phi=5.0, history_s=600.0), frozenBound=True).up_to_the_last_step()
    plain = Rollout(frozenBound=True).up_to_the_last_step()

    verdicts = [rollout.feed((1000, 8)) for rollout in (sure, bursty, plain)]

    assert frozen(verdicts[0]).limit == 2000
    assert frozen(verdicts[0]).bound == upper_bound(14_000, 20, 0.01)
    assert 1 < frozen(verdicts[1]).e_value < frozen(verdicts[2]).e_value


def test_a_healthy_last_step_passes_in_every_one_of_sixty_rollouts():
    rng = random.Random(81)

    def drawn(n: int) -> tuple[int, int]:
        return n, sum(rng.random() < 0.01 for _ in range(n))

    for _ in range(60):
        rollout = Rollout(frozenBound=True)
        for _ in range(10):
            rollout.feed(drawn(60), drawn(60), step=2, weight=50)
        for _ in range(40):
            assert rollout.feed(drawn(120)).outcome is not Outcome.FAIL


def test_what_came_in_the_warm_up_is_not_what_stable_was():
    judge = Judge(policy(frozenBound=True, warmup="5s"), Baseline(history_s=600.0))
    judge.observe(Window(0, 5, 2, 50, ArmCounts(10), ArmCounts(1000, 900), warm=False), 5)
    judge.observe(Window(5, 10, 2, 50, ArmCounts(10), ArmCounts(1000, 0)), 10)

    verdict = judge.observe(Window(10, 15, 3, 100, ArmCounts(10), ArmCounts()), 15)

    assert (frozen(verdict).stable_total, frozen(verdict).stable_bad) == (1000, 0)


# A share that stays on stable


def test_a_share_kept_on_stable_judges_a_drift_of_the_whole_service_rightly_to_the_end():
    rng = random.Random(82)
    rollout = Rollout(keepStable="5%")
    for index in range(80):
        share = 0.01 if index < 20 else 0.03
        canary, stable = ((n, sum(rng.random() < share for _ in range(n))) for n in (190, 10))
        assert rollout.feed(canary, stable, weight=95).outcome is not Outcome.FAIL

    assert rollout.feed((190, 40), (10, 0), weight=95, times=15).outcome is Outcome.FAIL


def test_a_share_kept_on_stable_still_asks_for_min_requests_and_health():
    rollout = Rollout(keepStable="5%", minRequests=50)

    few = rollout.feed((19, 0), (1, 0), weight=95)
    unproven = rollout.feed((95, 0), (5, 0), weight=95)

    assert "19 of the 50 canary requests that this step needs (minRequests)" in few.sentence
    assert "not proven yet" in unproven.sentence


def test_both_at_once_are_refused_by_the_policy():
    with pytest.raises(ValidationError, match="leave out frozenBound"):
        policy(keepStable="5%", frozenBound=True)
