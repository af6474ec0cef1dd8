"""Stories of one rollout each: what the judge says, window after window."""

from __future__ import annotations

import math
import pickle
import random
import sys
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from canary.analysis import Judge
from canary.model.policy import Policy
from canary.model.verdict import ArmCounts, Baseline, Outcome, Reason, SourceState, Verdict, Window

TILE = 2.0
SETTLE = 2.0


def policy(match: dict[str, Any] | None = None, **analysis: Any) -> Policy:
    limits = {"errorRate": {"max": "1%", "vsStable": "off"}, "p99": {"max": "500ms", "vsStable": "off"}}
    strategy: dict[str, Any] = {"weights": [10, 50, 100], "hold": "30s"}
    if match is not None:
        strategy["match"] = {"headers": {"x-debug-user": {"exact": "true"}}, "hold": "30s", **match}
    return Policy.model_validate(
        {"name": "story", "strategy": strategy, "analysis": {"warmup": "10s", **limits, **analysis}}
    )


def arm(requests: int, errors: int = 0, slow: int = 0) -> ArmCounts:
    timed = requests - errors
    return ArmCounts(requests, errors, timed, {250.0: slow, 500.0: slow, 1000.0: 0})


NINETY = arm(90)


def source(now: float, **changed: Any) -> SourceState:
    fresh = SourceState(available=True, tile_s=TILE, settle_s=SETTLE, newest_tile_end=now - SETTLE)
    return replace(fresh, **changed)


class Rollout:
    """A judge and the clock of the windows it is fed."""

    def __init__(self, of: Policy | None = None) -> None:
        self.judge = Judge(of or policy())
        self.time = 1000.0
        self.windows: list[Window] = []

    @property
    def now(self) -> float:
        return self.time + SETTLE

    def window(
        self, canary: ArmCounts, stable: ArmCounts = NINETY, *, step: int = 1, weight: int = 10, warm: bool = True
    ) -> Verdict:
        window = Window(self.time, self.time + TILE, step, weight, canary, stable, warm=warm)
        self.time += TILE
        self.windows.append(window)
        return self.judge.observe(window, self.now)

    def verdict(self, step: int | None = None, **changed: Any) -> Verdict:
        return self.judge.verdict(self.now, source(self.now, **changed), step)


def draw(rng: random.Random, requests: int, error_share: float, slow_share: float = 0.0) -> ArmCounts:
    errors = sum(rng.random() < error_share for _ in range(requests))
    return arm(requests, errors, sum(rng.random() < slow_share for _ in range(requests - errors)))


def requests_until_failed(rollout: Rollout, arms: Iterator[tuple[ArmCounts, ArmCounts]]) -> int:
    seen = 0
    for canary, stable in arms:
        seen += canary.requests
        if rollout.window(canary, stable).outcome is Outcome.FAIL:
            return seen
    raise AssertionError("never failed")


# A good release


def test_a_good_release_passes_every_step_once_it_had_its_requests():
    rollout = Rollout()

    outcomes = [rollout.window(arm(10)).outcome for _ in range(6)]

    assert outcomes == [Outcome.HOLD] * 4 + [Outcome.PASS] * 2
    assert rollout.verdict().outcome is Outcome.PASS
    second = rollout.window(arm(20), step=2, weight=50)
    assert (second.outcome, second.reason) == (Outcome.HOLD, Reason.INCONCLUSIVE)
    assert "20 of the 50 canary requests that this step needs (minRequests)" in second.sentence
    assert rollout.window(arm(30), step=2, weight=50).outcome is Outcome.PASS


def test_a_pass_says_its_counts_beside_the_limits_and_stable():
    rollout = Rollout()

    verdict = rollout.window(arm(400, errors=1, slow=2), arm(1180, errors=1))

    assert verdict.sentence == (
        "1 error (0.25 %) in 400 canary requests, limit 1 %; 2 of 399 slower than 500ms (0.5 %), P99 at most 250ms, "
        "limit 500ms; stable 1 of 1,180 (0.08 %)."
    )
    errors, p99 = verdict.evidence
    assert (errors.metric, errors.canary_total, errors.canary_bad) == ("error_rate", 400, 1)
    assert (errors.stable_total, errors.stable_bad, errors.bound, errors.limit) == (1180, 1, 0.01, 200)
    assert (p99.metric, p99.canary_total, p99.canary_bad, p99.bound) == ("p99", 399, 2, 0.01)


def test_a_healthy_release_at_a_tenth_of_its_limit_is_never_failed_in_a_hundred_rollouts():
    rng = random.Random(1)

    for _ in range(100):
        rollout = Rollout()
        for index in range(60):
            step, weight = 1 + index // 30, (10, 50)[index // 30]
            counts = draw(rng, weight, 0.001, 0.001)
            verdict = rollout.window(counts, draw(rng, 100 - weight, 0.001, 0.001), step=step, weight=weight)
            assert verdict.outcome is not Outcome.FAIL, verdict.sentence


def test_a_policy_without_absolute_limits_still_asks_for_requests():
    rollout = Rollout(policy(errorRate={"vsStable": "off"}, p99={"vsStable": "off"}))

    assert rollout.window(arm(49, errors=3)).outcome is Outcome.HOLD
    verdict = rollout.window(arm(1))

    assert verdict.outcome is Outcome.PASS
    assert verdict.sentence == "3 errors (6 %) in 50 canary requests; stable 0 of 180 (0 %)."


# Bad ones


def test_five_percent_errors_against_a_limit_of_one_are_caught_within_a_few_hundred_requests():
    rng = random.Random(2)

    caught = sorted(
        requests_until_failed(Rollout(), iter(lambda: (draw(rng, 10, 0.05), draw(rng, 90, 0.001)), None))
        for _ in range(60)
    )

    assert caught[30] <= 260
    assert caught[54] <= 480


def test_a_release_three_times_as_slow_in_its_tail_fails_on_p99_and_says_so():
    rng = random.Random(3)
    rollout = Rollout()

    caught = requests_until_failed(rollout, iter(lambda: (draw(rng, 10, 0.0, 0.06), draw(rng, 90, 0.0, 0.004)), None))
    verdict = rollout.verdict()

    assert caught <= 400
    assert verdict.reason is Reason.LATENCY
    assert "took longer than 500ms" in verdict.sentence
    assert "so P99 is over that limit with evidence" in verdict.sentence


def test_an_all_5xx_release_reads_100_percent_and_fails_in_its_second_window():
    rollout = Rollout()

    first = rollout.window(arm(10, errors=10))
    second = rollout.window(arm(10, errors=10))

    assert (first.outcome, first.reason) == (Outcome.HOLD, Reason.INCONCLUSIVE)  # one odd window decides nothing
    assert (second.outcome, second.reason) == (Outcome.FAIL, Reason.ERROR_RATE)
    assert second.sentence == (
        "20 errors (100 %) in 20 canary requests, over the limit of 1 % with evidence 27,000:1 (limit 200:1); "
        "stable 0 of 180 (0 %)."
    )
    assert second.evidence[0].anytime_p == 1 / second.evidence[0].e_value
    assert second.evidence[1].canary_total == 0  # nothing was timed: no latency, and not a NaN


def test_errors_and_latency_broken_at_once_are_both_told():
    rollout = Rollout()
    for _ in range(2):
        verdict = rollout.window(arm(20, errors=10, slow=10))

    assert verdict.reason is Reason.ERROR_RATE
    assert "errors" in verdict.sentence
    assert "took longer than" in verdict.sentence


def test_a_failure_late_in_the_rollout_also_gives_the_counts_of_its_own_step():
    rollout = Rollout()
    rollout.window(arm(1000))
    for _ in range(2):
        verdict = rollout.window(arm(50, errors=20), step=2, weight=50)

    assert verdict.outcome is Outcome.FAIL
    assert "40 errors (3.6 %) in 1,100 canary requests (in this step 40 of 100 (40 %))" in verdict.sentence


def test_a_broken_limit_stays_broken_through_later_health_and_outages():
    rollout = Rollout()
    rollout.window(arm(10, errors=10))
    failed = rollout.window(arm(10, errors=10))

    later = [rollout.window(arm(10, errors=10)), *(rollout.window(arm(1000)) for _ in range(20))]

    assert later == [failed] * 21
    assert rollout.verdict(available=False) == failed


def test_a_higher_confidence_asks_for_more_evidence():
    sure, surer = Rollout(), Rollout(policy(confidence="99.98%"))

    needed = [
        requests_until_failed(rollout, iter(lambda: (arm(10, errors=1), arm(90)), None)) for rollout in (sure, surer)
    ]

    assert surer.verdict().evidence[0].limit == 10_000
    assert needed[0] < needed[1]


def test_noisy_counts_before_the_rollout_make_the_judge_slower_to_convict():
    calm, noisy = Rollout(), Rollout()
    noisy.judge = Judge(policy(), Baseline(errors_phi=4.0))

    needed = [
        requests_until_failed(rollout, iter(lambda: (arm(10, errors=1), arm(90)), None)) for rollout in (calm, noisy)
    ]

    assert needed[0] < needed[1]


# Not bad enough to fail, not good enough to pass


def test_evidence_near_the_limit_does_not_pass_although_it_does_not_fail():
    rollout = Rollout()
    rollout.window(arm(2000))
    for _ in range(2):
        verdict = rollout.window(arm(30, errors=3), step=2, weight=50)

    assert (verdict.outcome, verdict.reason) == (Outcome.HOLD, Reason.INCONCLUSIVE)
    assert 5 <= verdict.evidence[0].e_value < 200
    assert verdict.sentence.startswith("undecided: canary 6 of 2,060 (0.29 %) (in this step 6 of 60 (10 %)) errors")


def test_a_step_whose_plain_share_is_over_the_limit_does_not_pass_on_weak_evidence():
    rollout = Rollout()

    over = rollout.window(arm(60, errors=1))
    within = rollout.window(arm(60))

    assert (over.outcome, over.reason) == (Outcome.HOLD, Reason.INCONCLUSIVE)
    assert over.evidence[0].e_value < 5
    assert within.outcome is Outcome.PASS


def test_p99_does_not_pass_on_requests_that_were_not_timed():
    rollout = Rollout()

    verdict = rollout.window(ArmCounts(requests=500))

    assert (verdict.outcome, verdict.reason) == (Outcome.HOLD, Reason.INCONCLUSIVE)
    assert "0 of the 50 timed canary requests" in verdict.sentence


# Incidents of the whole service


def test_an_outage_of_both_versions_holds_and_never_fails_also_not_after_it_ended():
    rng = random.Random(4)
    rollout = Rollout()
    seen = set()

    for index in range(300):
        error_share = 0.9 if 20 <= index < 35 else 0.001
        verdict = rollout.window(draw(rng, 20, error_share), draw(rng, 180, error_share))
        assert verdict.outcome is not Outcome.FAIL, verdict.sentence
        seen.add((index, verdict.reason))

    assert all((index, Reason.SERVICE_INCIDENT) in seen for index in range(20, 35))
    passed = rollout.verdict()
    assert passed.outcome is Outcome.PASS
    assert int(passed.sentence.split()[0]) <= 20, passed.sentence  # the outage's 270 errors are not among its figures


def test_an_incident_is_told_with_the_figures_of_both_versions():
    rollout = Rollout()

    verdict = rollout.window(arm(20, errors=4), arm(180, errors=30))

    assert verdict.reason is Reason.SERVICE_INCIDENT
    assert verdict.sentence == (
        "an incident of the whole service: errors over the limit of 1 % in both versions within the last minute, "
        "canary 4 of 20 (20 %), stable 30 of 180 (16.7 %); not held against the canary."
    )


def test_a_slow_incident_is_seen_by_stables_own_evidence_before_its_last_minute_shows_it():
    rollout = Rollout(policy(p99={}))
    for _ in range(30):
        rollout.window(arm(10), arm(3000))

    reasons = [rollout.window(arm(30, errors=1), arm(300, errors=60), step=2).reason for _ in range(5)]

    # 300 of 90,000 is still within 1 % over the minute, yet stable has broken the limit by itself
    assert Reason.SERVICE_INCIDENT in reasons


def test_a_broken_release_is_failed_once_stable_is_healthy_again():
    rng = random.Random(5)
    rollout = Rollout()
    for _ in range(10):
        assert rollout.window(draw(rng, 20, 0.3), draw(rng, 180, 0.3)).reason is Reason.SERVICE_INCIDENT

    verdicts = [rollout.window(draw(rng, 20, 0.3), draw(rng, 180, 0.001)) for _ in range(40)]

    assert verdicts[-1].outcome is Outcome.FAIL
    assert sum(verdict.reason is Reason.SERVICE_INCIDENT for verdict in verdicts) <= 32


def test_a_repair_may_pass_while_only_stable_is_broken():
    rollout = Rollout()

    for _ in range(10):
        verdict = rollout.window(arm(10), arm(90, errors=5))

    assert verdict.outcome is Outcome.PASS
    assert "stable 50 of 900 (5.6 %)" in verdict.sentence


# The last step, and the first


def test_at_100_percent_the_canary_alone_decides():
    rollout = Rollout()
    rollout.window(arm(100), arm(100, errors=20), step=2, weight=50)
    for _ in range(2):
        verdict = rollout.window(arm(100, errors=20), arm(0), step=3, weight=100)

    assert (verdict.outcome, verdict.reason) == (Outcome.FAIL, Reason.ERROR_RATE)


def test_at_100_percent_one_good_request_passes_and_none_does_not():
    rollout = Rollout()
    rollout.window(arm(1000), step=2, weight=50)

    none = rollout.window(arm(0), arm(0), step=3, weight=100)
    one = rollout.window(arm(1), arm(0), step=3, weight=100)

    assert none.outcome is Outcome.HOLD
    assert one.outcome is Outcome.PASS
    assert "no stable request to compare with" in one.sentence


def test_the_header_stage_goes_on_when_nobody_came_and_says_so():
    rollout = Rollout(policy(match={}))

    for stable in (arm(100), arm(0)):
        verdict = rollout.window(arm(0), stable, step=0, weight=0, warm=False)
        assert (verdict.outcome, verdict.reason) == (Outcome.PASS, Reason.HEALTHY)
        assert "nobody tried the canary" in verdict.sentence
        assert rollout.verdict().outcome is Outcome.PASS

    assert rollout.verdict(series_seen=False).outcome is Outcome.HOLD
    assert rollout.verdict(available=False).outcome is Outcome.HOLD


def test_the_header_stage_waits_for_the_debug_requests_the_policy_asks_for():
    rollout = Rollout(policy(match={"minRequests": 3}))

    nobody = rollout.window(arm(0), step=0, weight=0)
    some = rollout.window(arm(2), step=0, weight=0)
    enough = rollout.window(arm(1), step=0, weight=0)

    assert (nobody.outcome, nobody.reason) == (Outcome.HOLD, Reason.NO_TRAFFIC)
    assert "3 are asked for (match.minRequests)" in nobody.sentence
    assert (some.outcome, some.reason) == (Outcome.HOLD, Reason.INCONCLUSIVE)
    assert enough.outcome is Outcome.PASS


def test_debug_requests_of_the_warm_up_hold_the_header_stage_until_it_is_over():
    rollout = Rollout(policy(match={}))

    assert rollout.window(arm(3), step=0, weight=0, warm=False).reason is Reason.WARMING_UP
    after = rollout.window(arm(0), step=0, weight=0)

    assert after.outcome is Outcome.PASS
    assert "nobody" not in after.sentence


def test_one_odd_debug_request_of_a_few_does_not_hold_the_header_stage():
    rollout = Rollout(policy(match={}))

    verdict = rollout.window(arm(30, errors=1), arm(70), step=0, weight=0)

    assert verdict.outcome is Outcome.PASS
    assert "1 error (3.3 %) in 30 canary requests, limit 1 %" in verdict.sentence


def test_debug_requests_that_all_fail_fail_the_header_stage():
    rollout = Rollout(policy(match={}))

    verdicts = [rollout.window(arm(2, errors=2), arm(98), step=0, weight=0) for _ in range(4)]

    assert verdicts[0].reason is Reason.INCONCLUSIVE
    assert verdicts[-1].outcome is Outcome.FAIL


# Data states: none of them ever passes


@pytest.mark.parametrize(
    ("changed", "reason", "says"),
    [
        ({"available": False, "detail": "connection refused"}, Reason.UNAVAILABLE, "connection refused"),
        ({"series_seen": False}, Reason.NO_DATA, "no series of this service"),
        ({"newest_tile_end": None}, Reason.NO_DATA, "no settled window"),
        ({"newest_tile_end": 980.0}, Reason.STALE, "are 44 s old, and only those of the last 6 s count as fresh"),
        ({"newest_tile_end": 4624.0}, Reason.STALE, "are 3600 s ahead of the controller's clock"),
        ({"newest_tile_end": math.nan}, Reason.NO_DATA, "no settled window"),
    ],
)
def test_no_data_is_never_a_pass(changed: dict[str, Any], reason: Reason, says: str):
    rollout = Rollout()
    for _ in range(11):
        passed = rollout.window(arm(100))
    assert passed.outcome is Outcome.PASS

    verdict = rollout.verdict(**changed)

    assert (verdict.outcome, verdict.reason) == (Outcome.HOLD, reason)
    assert says in verdict.sentence
    assert rollout.verdict().outcome is Outcome.PASS  # and it goes on by itself


def test_before_the_first_window_there_is_no_data():
    rollout = Rollout()

    assert rollout.verdict().reason is Reason.NO_DATA


def test_windows_of_the_step_before_do_not_speak_for_this_one():
    rollout = Rollout()
    rollout.window(arm(100))

    assert rollout.verdict(step=1).outcome is Outcome.PASS
    assert rollout.verdict(step=2).reason is Reason.NO_DATA


def test_a_fresh_source_whose_windows_no_longer_arrive_is_stale():
    rollout = Rollout()
    rollout.window(arm(100))

    later = rollout.now + 60
    verdict = rollout.judge.verdict(later, source(later))

    assert (verdict.outcome, verdict.reason) == (Outcome.HOLD, Reason.STALE)


def test_an_idle_service_holds():
    rollout = Rollout()
    rollout.window(arm(100))
    assert rollout.window(arm(0), arm(0)).outcome is Outcome.PASS

    for _ in range(30):
        verdict = rollout.window(arm(0), arm(0))

    assert (verdict.outcome, verdict.reason) == (Outcome.HOLD, Reason.NO_TRAFFIC)
    assert verdict.sentence == "the service is idle: no request to either version in the last 60 s."


def test_stable_traffic_of_which_none_reaches_the_canary_is_a_routing_fault():
    rollout = Rollout()

    early = rollout.window(arm(0), arm(499))
    late = rollout.window(arm(0), arm(1))

    assert early.reason is Reason.INCONCLUSIVE
    assert (late.outcome, late.reason) == (Outcome.HOLD, Reason.NO_CANARY_TRAFFIC)
    assert late.sentence == (
        "a routing fault: no request reached the canary, about 50 were expected at 10 %; stable had 500 in this step."
    )
    assert rollout.window(arm(1), arm(9)).reason is Reason.INCONCLUSIVE  # one request: the route works


def test_the_warm_up_is_no_evidence_and_says_what_is_left():
    rollout = Rollout()

    for _ in range(3):
        verdict = rollout.window(arm(100, errors=80), warm=False)

    assert (verdict.outcome, verdict.reason) == (Outcome.HOLD, Reason.WARMING_UP)
    assert verdict.sentence == (
        "warming up, about 2 s left; 240 errors (80 %) in 300 canary requests so far are not judged."
    )
    assert rollout.window(arm(100)).outcome is Outcome.PASS


def test_a_canary_that_goes_cold_again_holds_again():
    rollout = Rollout()
    rollout.window(arm(100))

    assert rollout.window(arm(100), warm=False).reason is Reason.WARMING_UP


tallies = st.integers(0, 300).flatmap(
    lambda requests: st.integers(0, requests).flatmap(
        lambda errors: st.integers(0, requests - errors).map(lambda slow: arm(requests, errors, slow))
    )
)
settings_of_sources = st.fixed_dictionaries(
    {
        "available": st.booleans(),
        "series_seen": st.booleans(),
        "newest_tile_end": st.one_of(st.none(), st.floats(0, 1e6), st.just(math.nan)),
    }
)


@settings(max_examples=80, deadline=None)
@given(st.lists(st.tuples(tallies, tallies, st.booleans()), max_size=12), settings_of_sources)
def test_whatever_is_observed_every_figure_is_finite_and_a_pass_had_fresh_requests(
    observed: list[tuple[ArmCounts, ArmCounts, bool]], changed: dict[str, Any]
):
    rollout = Rollout()
    verdicts = [rollout.window(canary, stable, warm=warm) for canary, stable, warm in observed]
    final = rollout.verdict(**changed)

    for verdict in (*verdicts, final):
        assert verdict.sentence.endswith(".")
        assert "nan" not in verdict.sentence.lower()
        for numbers in verdict.evidence:
            assert math.isfinite(numbers.e_value)
            assert 0 <= numbers.anytime_p <= 1
    if final.outcome is Outcome.PASS:
        assert changed["available"]
        assert changed["series_seen"]
        assert sum(canary.requests for canary, _, warm in observed if warm) >= 50


# Windows that cannot be


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"canary": ArmCounts(5, 6)}, "canary has 6 errors in 5 requests"),
        ({"stable": ArmCounts(-1)}, "stable requests must be between 0 and 2^53, not -1"),
        ({"canary": ArmCounts(2**60)}, "must be between"),
        ({"canary": ArmCounts(math.nan)}, "must be a whole number, not nan"),
        ({"canary": ArmCounts(1.5)}, "must be a whole number, not 1.5"),
        ({"canary": ArmCounts(True)}, "must be a whole number, not True"),
        ({"canary": ArmCounts(5, 0, 5, {500.0: 6})}, "6 requests slower than 500 ms among 5 timed"),
        ({"canary": ArmCounts(5, 0, 5, {500.0: 0, math.nan: 1})}, "no bucket bound"),
        ({"canary": ArmCounts(5, 0, 5, {250.0: 0})}, "no requests slower than 500 ms, the limit of P99"),
        ({"start": 1000.0, "end": 1000.0}, "must end after it starts"),
        ({"end": math.inf}, "must end after it starts"),
        ({"start": 998.0}, "does not follow"),
        ({"start": 900.0, "end": 902.0}, "does not follow"),
        ({"step": 0, "weight": 0}, "does not follow"),
        ({"step": -1}, "no such step or weight"),
        ({"weight": 101}, "no such step or weight"),
        ({"end": 1010.0}, "only settled windows are judged"),
    ],
)
def test_an_impossible_window_is_refused_and_changes_nothing(changed: dict[str, Any], says: str):
    rollout = Rollout()
    rollout.time = 998.0
    rollout.window(arm(100, errors=1))
    before = pickle.dumps(rollout.judge)

    with pytest.raises(ValueError, match=says.replace("^", r"\^")):
        rollout.judge.observe(replace(Window(1000.0, 1002.0, 1, 10, arm(10), arm(90)), **changed), now=1004.0)

    assert pickle.dumps(rollout.judge) == before


# Restart, replay, cost


def random_rollout(seed: int, windows: int) -> Rollout:
    rng = random.Random(seed)
    rollout = Rollout()
    for index in range(windows):
        weight = (10, 50, 100)[index * 3 // windows]
        incident = 0.5 if windows // 4 < index < windows // 3 else 0.004
        rollout.window(
            draw(rng, weight, incident, 0.004),
            draw(rng, 100 - weight, incident, 0.004),
            step=1 + index * 3 // windows,
            weight=weight,
            warm=index > 4,
        )
    return rollout


def test_after_a_restart_the_same_windows_give_the_same_verdict_bit_for_bit():
    rollout = random_rollout(seed=6, windows=120)
    again = Judge(policy())

    for window in rollout.windows:
        again.observe(window, rollout.now)

    assert again.verdict(rollout.now, source(rollout.now)) == rollout.verdict()
    assert pickle.dumps(again) == pickle.dumps(rollout.judge)


def test_a_window_costs_as_much_after_hours_as_after_a_minute_and_so_does_the_state():
    def cost_of_the_next_minute(rollout: Rollout) -> int:
        calls = 0

        def count(_frame: object, event: str, _argument: object) -> None:
            nonlocal calls
            calls += event in ("call", "c_call")

        sys.setprofile(count)
        try:
            for _ in range(int(60 / TILE)):
                rollout.window(arm(10), arm(90))
        finally:
            sys.setprofile(None)
        return calls

    rollout = Rollout()
    costs, sizes = [], []
    for _ in range(3):
        for _ in range(1200):
            rollout.window(arm(10), arm(90))
        rollout.windows.clear()
        costs.append(cost_of_the_next_minute(rollout))
        sizes.append(len(pickle.dumps(rollout.judge)))

    assert max(costs) - min(costs) < 0.05 * min(costs)
    assert max(sizes) - min(sizes) < 0.05 * min(sizes)
