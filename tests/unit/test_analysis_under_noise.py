"""Noise that is not the canary's fault: latency is not judged on it, errors always are."""

from __future__ import annotations

from typing import Any

import pytest

from canary.analysis import Judge
from canary.model.policy import Policy
from canary.model.verdict import ArmCounts, Baseline, Evidence, Outcome, Reason, Verdict, Window

STOLEN = "CPU steal on the canary's nodes 30 % against 2 % on stable's"
KNOWN = Baseline(latency_phi={250.0: 1.0, 500.0: 1.0}, history_s=600.0)


def policy(**analysis: Any) -> Policy:
    strategy = {"weights": [10, 50, 100], "hold": "30s"}
    judged = {"warmup": "0s", "minRequests": 1, **analysis}
    return Policy.model_validate({"name": "story", "strategy": strategy, "analysis": judged})


def arm(timed: int, slow: int, errors: int = 0) -> ArmCounts:
    return ArmCounts(timed + errors, errors, timed, {250.0: slow, 500.0: slow // 4})


STABLE = arm(900, 18)
GOOD, SLOW, FAILING = arm(100, 2), arm(100, 12), arm(80, 2, errors=20)


class Rollout:
    def __init__(self, **analysis: Any) -> None:
        self.judge = Judge(policy(**analysis), KNOWN)
        self.time = 0.0

    def feed(
        self,
        canary: ArmCounts,
        *,
        noise: str = "",
        times: int = 1,
        stable: ArmCounts = STABLE,
        step: int = 1,
        weight: int = 10,
    ) -> Verdict:
        for _ in range(times):
            window = Window(self.time, self.time + 5, step, weight, canary, stable, noise=noise)
            self.time += 5
            verdict = self.judge.observe(window, self.time + 2)
        return verdict


def numbers(verdict: Verdict, metric: str = "latency_vs_stable") -> Evidence:
    return next(one for one in verdict.evidence if one.metric == metric)


def test_without_noise_the_slow_release_is_rolled_back():
    rollout = Rollout()
    rollout.feed(GOOD, times=10)

    assert rollout.feed(SLOW, times=8).reason is Reason.LATENCY


def test_a_latency_that_would_convict_under_noise_holds_and_names_the_cause():
    rollout = Rollout()
    rollout.feed(GOOD, times=10)

    verdict = rollout.feed(SLOW, noise=STOLEN, times=8)

    assert (verdict.outcome, verdict.reason) == (Outcome.HOLD, Reason.NOISY)
    assert verdict.sentence == (
        "noisy: CPU steal on the canary's nodes 30 % against 2 % on stable's; latency is not held against the canary "
        "meanwhile, though 116 of 1,800 canary requests (6.4 %) took longer than 250ms against stable 324 of 16,200 "
        "(2 %); slower than the tolerated 1.25x + 0.2 % with evidence over 1,000,000:1 (limit 200:1)."
    )
    assert numbers(verdict).canary_total == 1000  # the quiet windows alone are evidence
    assert numbers(verdict).e_value < 1


def test_an_absolute_p99_under_noise_holds_as_well():
    rollout = Rollout(p99={"max": "250ms", "vsStable": "off"})
    fast = arm(900, 0)

    verdict = rollout.feed(arm(100, 30), noise="the control plane is behind", times=5, stable=fast)

    assert (verdict.outcome, verdict.reason) == (Outcome.HOLD, Reason.NOISY)
    assert verdict.sentence.startswith("noisy: the control plane is behind; latency is not held against the canary")
    assert "so P99 is over that limit with evidence" in verdict.sentence
    assert numbers(verdict, "p99").canary_total == 0


def test_noise_in_which_nothing_looks_slow_holds_nothing():
    rollout = Rollout()

    assert rollout.feed(GOOD, noise=STOLEN, times=20).outcome is Outcome.PASS


@pytest.mark.parametrize("analysis", [{}, {"errorRate": {"max": "1%", "vsStable": "off"}}])
def test_no_noise_explains_errors_away(analysis: dict[str, Any]):
    rollout = Rollout(**analysis)
    rollout.feed(GOOD, times=10)

    verdict = rollout.feed(FAILING, noise=STOLEN, times=4)

    assert (verdict.outcome, verdict.reason) == (Outcome.FAIL, Reason.ERROR_RATE)


def test_errors_that_break_a_limit_under_noise_do_not_drag_its_latency_into_the_sentence():
    rollout = Rollout()
    rollout.feed(GOOD, times=10)

    verdict = rollout.feed(arm(80, 40, errors=20), noise=STOLEN, times=4)

    assert verdict.reason is Reason.ERROR_RATE
    assert "took longer" not in verdict.sentence


def test_what_was_slow_under_noise_is_never_held_against_the_canary_afterwards():
    rollout, spared = Rollout(), Rollout()
    for one in (rollout, spared):
        one.feed(GOOD, times=10)
    rollout.feed(SLOW, noise=STOLEN, times=30)
    spared.time = rollout.time

    later = [(rollout.feed(GOOD), spared.feed(GOOD)) for _ in range(20)]

    assert numbers(later[-1][0]) == numbers(later[-1][1])
    assert later[-1][0].outcome is Outcome.PASS


def test_the_hold_ends_a_minute_after_the_noise():
    rollout = Rollout()
    rollout.feed(GOOD, times=10)
    rollout.feed(SLOW, noise=STOLEN, times=30)

    reasons = [rollout.feed(GOOD).reason for _ in range(14)]

    assert reasons == [Reason.NOISY] * 12 + [Reason.HEALTHY] * 2


def test_a_release_that_is_slow_by_itself_is_rolled_back_once_it_is_quiet():
    rollout = Rollout()
    rollout.feed(SLOW, noise=STOLEN, times=30)

    reasons = [rollout.feed(SLOW).reason for _ in range(8)]

    assert reasons[0] is Reason.NOISY
    assert reasons[-1] is Reason.LATENCY


def test_noise_that_comes_again_is_heard_from_what_is_known_without_the_first():
    rollout = Rollout()
    rollout.feed(GOOD, times=10)
    rollout.feed(SLOW, noise=STOLEN, times=30)
    rollout.feed(GOOD, times=14)

    assert rollout.feed(GOOD, noise=STOLEN, times=3).outcome is Outcome.PASS


def test_the_newest_cause_is_named():
    rollout = Rollout()
    rollout.feed(SLOW, noise=STOLEN, times=20)

    assert rollout.feed(SLOW, noise="istiod is away").sentence.startswith("noisy: istiod is away; ")


def test_at_100_percent_a_doubt_about_latency_of_before_holds_nothing_noisy_or_not():
    rollout = Rollout()
    rollout.feed(GOOD, times=10)
    doubt = next(verdict for verdict in (rollout.feed(SLOW) for _ in range(9)) if verdict.outcome is not Outcome.PASS)
    assert (doubt.outcome, doubt.reason) == (Outcome.HOLD, Reason.INCONCLUSIVE)
    assert "slower than tolerated with evidence" in doubt.sentence

    verdict = rollout.feed(GOOD, noise=STOLEN, step=3, weight=100)

    assert verdict.outcome is Outcome.PASS


def test_an_incident_of_the_whole_service_is_seen_through_noise_and_over_when_it_is_over():
    rollout = Rollout(p99={"max": "250ms", "vsStable": "off"}, errorRate={"vsStable": "off"})
    healthy, slow = (arm(100, 0), arm(900, 0)), (arm(100, 30), arm(900, 270))

    quiet = rollout.feed(slow[0], stable=slow[1], times=3)
    noisy = rollout.feed(slow[0], stable=slow[1], noise=STOLEN, times=20)
    assert [quiet.reason, noisy.reason] == [Reason.SERVICE_INCIDENT] * 2

    over = rollout.feed(healthy[0], stable=healthy[1], noise=STOLEN, times=40)
    assert over.outcome is Outcome.PASS

    again = rollout.feed(slow[0], stable=slow[1], noise=STOLEN, times=20)
    assert again.reason is Reason.SERVICE_INCIDENT


def test_a_step_seen_through_noise_alone_is_not_held_by_the_slow_requests_of_the_step_before():
    rollout = Rollout(p99={"max": "250ms", "vsStable": "off"}, errorRate={"vsStable": "off"})
    over = rollout.feed(arm(100, 2), stable=arm(900, 0))
    assert (over.outcome, over.reason) == (Outcome.HOLD, Reason.INCONCLUSIVE)
    assert numbers(over, "p99").e_value < 5

    assert rollout.feed(arm(500, 1), stable=arm(500, 0), noise=STOLEN, step=2, weight=50).outcome is Outcome.PASS
