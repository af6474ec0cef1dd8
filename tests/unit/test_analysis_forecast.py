"""A forecast must say what the real judge then does: stories, and a second simulation that shares no code with it."""

from __future__ import annotations

import math
import statistics
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

import pytest

from canary.analysis.baseline import baseline_of
from canary.analysis.faults import FAULTS
from canary.analysis.forecast import forecast
from canary.analysis.judge import Judge
from canary.analysis.traffic import Behaviour, Traffic
from canary.analysis.walk import Timing
from canary.daemon.windows import PROPAGATION_S, window
from canary.model.policy import ISTIO_BUCKETS_MS, Policy
from canary.model.rollout import RolloutStatus, WeightChange
from canary.model.verdict import ArmCounts, Baseline, Outcome

LOGNORMAL = statistics.NormalDist(math.log(50), 0.7)
SLOWER = {bound: 1 - LOGNORMAL.cdf(math.log(bound)) for bound in ISTIO_BUCKETS_MS}
TELLING = Baseline(latency_phi={bound: 1.0 for bound, share in SLOWER.items() if 0.002 <= share <= 0.3})
EPOCH = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)


def policy(**strategy: Any) -> Policy:
    judged = {"warmup": "10s", "maxWait": "5m", "errorRate": {"max": "1%"}, "p99": {"max": "500ms"}}
    plan = {"weights": [10, 50, 100], "hold": "1m", **strategy}
    return Policy.model_validate({"name": "story", "strategy": plan, "analysis": judged})


def traffic(requests_per_s: float, errors: float = 0.001) -> Traffic:
    return Traffic(requests_per_s, Behaviour(errors, 1 - errors, SLOWER))


def timing(tile_s: float) -> Timing:
    return Timing(tile_s, settle_s=2.0, propagation_s=PROPAGATION_S, lag_s=tile_s)


def test_a_healthy_release_at_good_traffic_takes_its_holds_and_is_not_rolled_back() -> None:
    found = forecast(policy(), traffic(300), TELLING, timing(5), runs=20)

    assert found.total.median_s == pytest.approx(180, abs=1)
    assert found.rolled_back == 0
    assert [step.undecided for step in found.steps] == [0, 0, 0]
    first = found.steps[0]
    assert (first.canary, first.stable) == pytest.approx((300 * 60 * 0.1, 300 * 60 * 0.9), rel=0.02)
    assert first.can_pass.median_s is not None
    assert 385 / 30 < first.can_pass.median_s < 60


def test_worse_versions_are_noticed_sooner_and_cost_more_each_second() -> None:
    found = forecast(policy(), traffic(300), TELLING, timing(5), runs=20)
    caught = {fault.name: found.whole[fault.name] for fault in FAULTS}

    assert all(catch is not None for catch in caught.values())
    times = [caught[name].seconds.median_s for name in ("all_fail", "errors_5", "errors_1")]  # type: ignore[union-attr]
    assert times == sorted(times)  # type: ignore[type-var]
    total = caught["all_fail"]
    assert total is not None
    assert total.share == 1
    assert total.seconds.median_s is not None
    assert total.seconds.median_s < 6  # one scrape interval and a look
    assert total.errors == total.requests


def test_the_header_stage_and_the_bake_are_part_of_the_time() -> None:
    match = {"headers": {"x-debug-user": {"exact": "true"}}, "hold": "2m"}

    found = forecast(policy(match=match, bake="3m"), traffic(300), TELLING, timing(5), runs=8)

    assert found.header_s == pytest.approx(120, abs=1)
    assert found.total.median_s == pytest.approx(120 + 180 + 180, abs=2)


def test_a_step_that_a_trickle_of_traffic_cannot_decide_is_said_and_when_it_would_be() -> None:
    found = forecast(policy(), traffic(2), TELLING, timing(5), runs=20)
    first = found.steps[0]

    assert first.undecided > 0.9
    assert first.lasts.median_s is None
    assert first.can_pass.median_s is not None
    assert first.can_pass.median_s > 360  # 385 requests at 0.2 a second take half an hour
    assert found.total.median_s is None


def test_errors_at_the_limit_itself_are_no_fault_where_no_stable_is_left_to_compare_with() -> None:
    at_full_weight = forecast(policy(), traffic(300), TELLING, timing(5), runs=12).steps[-1].catches["errors_1"]

    assert at_full_weight is not None
    assert at_full_weight.share < 0.2


def test_what_stable_does_already_is_no_fault() -> None:
    found = forecast(policy(), traffic(300, errors=0.0), TELLING, timing(5), runs=4)

    assert found.whole["errors_doubled"] is None
    assert found.whole["errors_5"] is not None


def test_the_same_seed_imagines_the_same_rollouts() -> None:
    once, again, other = (forecast(policy(), traffic(40), TELLING, timing(5), runs=6, seed=seed) for seed in (1, 1, 2))

    assert once == again
    assert once != other


def test_a_policy_of_ones_own_metrics_is_forecast_as_if_they_kept_their_limits() -> None:
    judged = {"metrics": [{"name": "queue", "query": "1", "max": 5}], "errorRate": {"max": "1%"}, "warmup": "0s"}
    of = Policy.model_validate({"name": "story", "strategy": {"weights": [50, 100], "hold": "1m"}, "analysis": judged})

    found = forecast(of, traffic(300), Baseline(), timing(5), runs=4)

    assert found.total.median_s is not None


def test_bursty_errors_make_everything_slower() -> None:
    calm = forecast(policy(), traffic(60, 0.005), TELLING, timing(5), runs=12)
    bursty_baseline = Baseline(errors_phi=4.0, latency_phi=TELLING.latency_phi)
    bursty_traffic = Traffic(60, Behaviour(0.005, 0.995, SLOWER, phi=4.0))
    bursty = forecast(policy(), bursty_traffic, bursty_baseline, timing(5), runs=12)

    calm_s, bursty_s = (found.steps[0].can_pass.median_s for found in (calm, bursty))
    assert calm_s is not None
    assert bursty_s is None or bursty_s > 1.5 * calm_s


@pytest.mark.slow
def test_the_forecast_agrees_with_a_simulation_request_by_request_and_tile_by_tile() -> None:
    """40 requests/s, 5 s tiles, the daemon's own rule for which tile is evidence; 5 % errors in the first step.

    Tolerance: the medians of 60 runs each differ by chance by some 15 %, growing windows add a sixth.
    """
    of, rate, tile_s, runs = policy(), 40.0, 5.0, 60
    found = forecast(of, traffic(rate), TELLING, timing(tile_s), runs=runs, seed=11)

    passes = [brute_force(of, rate, tile_s, 0.001, Random(f"pass{run}"))[0] for run in range(runs)]
    catches = [brute_force(of, rate, tile_s, 0.05, Random(f"fail{run}"))[1] for run in range(runs)]

    caught = found.steps[0].catches["errors_5"]
    assert caught is not None
    assert caught.share == 1.0
    assert caught.seconds.median_s == pytest.approx(statistics.median(catches), rel=0.3)
    assert caught.seconds.ninety_s == pytest.approx(statistics.quantiles(catches, n=10)[-1], rel=0.4)
    assert found.steps[0].can_pass.median_s == pytest.approx(statistics.median(passes), rel=0.3)


def brute_force(of: Policy, rate: float, tile_s: float, errors: float, rng: Random) -> tuple[float, float]:
    """(seconds until it could pass, until it failed) of one rollout in its first step, without a line of `imagined`."""
    phase = rng.random() * tile_s
    reached = EPOCH + timedelta(seconds=phase)
    change = WeightChange(step=1, weight=10, asked=reached, reached=reached)
    status = RolloutStatus(weight_changes=(change,))
    tiles = [requests_of(rng, rate * tile_s * 0.9, 0.001) for _ in range(120)]
    judge = Judge(of, Baseline(latency_phi=baseline_of(tiles, tile_s, of).latency_phi))
    could_pass, look = math.inf, rng.random() * tile_s
    for number in range(600):
        start = EPOCH.timestamp() + number * tile_s
        counts = requests_of(rng, rate * tile_s * 0.1, errors), requests_of(rng, rate * tile_s * 0.9, 0.001)
        judged = window(of, status, (start, start + tile_s), counts)
        if judged is None:
            continue
        now = judged.end + 2.0 + look
        verdict = judge.observe(judged, now)
        if verdict.outcome is Outcome.FAIL:
            return could_pass, now - reached.timestamp()
        if verdict.outcome is Outcome.PASS and not math.isfinite(could_pass):
            could_pass = now - reached.timestamp()
            if errors < 0.01:
                return could_pass, math.inf
    return could_pass, math.inf


def requests_of(rng: Random, mean: float, errors: float) -> ArmCounts:
    """One by one: exponential gaps, a coin for each error, a lognormal latency for each of the others."""
    number, clock = 0, rng.expovariate(1.0)
    while clock <= mean:
        number, clock = number + 1, clock + rng.expovariate(1.0)
    failed = sum(rng.random() < errors for _ in range(number))
    latencies = [rng.lognormvariate(math.log(50), 0.7) for _ in range(number - failed)]
    slower = {bound: sum(latency > bound for latency in latencies) for bound in (100.0, 250.0, 500.0, 1000.0)}
    return ArmCounts(number, failed, number - failed, slower)
