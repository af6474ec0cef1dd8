"""A plan's warnings: each names its figure, and following it mends what it warns of."""

from __future__ import annotations

import re
from typing import Any

import pytest

from canary.analysis.advice import Caution, cautions_of, rate_text, retries_caution
from canary.analysis.forecast import Forecast, forecast
from canary.analysis.traffic import Behaviour, Traffic
from canary.analysis.walk import Timing
from canary.model.policy import Policy
from canary.model.units import format_duration, parse_duration
from canary.model.verdict import Baseline

SLOWER = {50.0: 0.4, 100.0: 0.1, 250.0: 0.01, 500.0: 0.001, 1000.0: 0.0}
TELLING = Baseline(latency_phi={100.0: 1.0, 250.0: 1.0, 500.0: 1.0})


def policy(analysis: dict[str, Any] | None = None, **strategy: Any) -> Policy:
    judged = {"warmup": "0s", "maxWait": "10m", "errorRate": {"max": "1%"}, "p99": {"max": "500ms"}}
    plan = {"weights": [10, 50, 100], "hold": "2m", **strategy}
    return Policy.model_validate({"name": "story", "strategy": plan, "analysis": {**judged, **(analysis or {})}})


def imagine(
    of: Policy, rate: float, errors: float = 0.001, tile_s: float = 5.0, baseline: Baseline = TELLING
) -> tuple[Forecast, list[Caution]]:
    traffic, timing = Traffic(rate, Behaviour(errors, 1 - errors, SLOWER)), Timing(tile_s, 2.0, 1.0, tile_s)
    found = forecast(of, traffic, baseline, timing, runs=10)
    return found, cautions_of(of, traffic, baseline, timing, found)


def about(word: str, cautions: list[Caution]) -> str:
    return next((caution.text for caution in cautions if caution.about == word), "")


def test_nothing_speaks_against_a_plan_at_good_traffic() -> None:
    assert imagine(policy(), 300)[1] == []


def test_too_little_traffic_is_said_with_the_figure() -> None:
    _, cautions = imagine(policy(), 3.0)

    assert "3 requests/s is little" in about("little_traffic", cautions)


@pytest.mark.slow
def test_a_step_that_cannot_be_decided_names_what_would_do_and_each_of_these_does() -> None:
    found, cautions = imagine(policy(), 3.0)
    text = about("undecided", cautions)

    assert found.steps[0].undecided > 0.5
    assert "step 1/3 (10 %) cannot be decided within its hold + maxWait (12m)" in text
    assert "wait for a person" in text
    max_wait = re.search(r"maxWait: (\w+)", text)
    weight = re.search(r"weights that begin with (\d+) %", text)
    rate = re.search(r"or ([\d.]+) requests/s", text)
    assert max_wait
    assert weight
    assert rate
    longer = {"maxWait": format_duration(parse_duration(max_wait[1]))}
    for of, requests_per_s in (
        (policy(longer), 3.0),
        (policy(weights=[int(weight[1]), 75, 100]), 3.0),
        (policy(), float(rate[1])),
    ):
        assert imagine(of, requests_per_s)[0].steps[0].undecided <= 0.2


def test_scrapes_as_long_as_the_holds_are_said() -> None:
    _, cautions = imagine(policy(hold="15s"), 300, tile_s=15.0)
    text = about("coarse_tiles", cautions)

    assert "15 s long" in text
    assert "a hold of 15s" in text
    assert "Scrape the proxies every 5s" in text


def test_slow_scrapes_are_said_even_where_the_holds_are_long() -> None:
    assert "30 s long" in about("coarse_tiles", imagine(policy(hold="10m"), 300, tile_s=30.0)[1])


def test_a_latency_that_no_bucket_bound_tells_anything_about_is_said() -> None:
    text = about("no_bound", imagine(policy(), 300, baseline=Baseline())[1])

    assert "by p99.max alone" in text
    assert "statsHistogramBuckets" in text


def test_a_stable_over_its_own_limit_is_said_with_a_limit_that_it_would_keep() -> None:
    found, cautions = imagine(policy(), 300, errors=0.02)
    text = about("over_limit", cautions)

    assert "stable itself fails 2 % of its requests, over errorRate.max 1 %" in text
    assert "raise errorRate.max to 4 %" in text
    assert found.steps[0].undecided == 1.0
    assert "an incident of the whole service" in about("undecided", cautions)


def test_a_limit_that_is_no_bucket_bound_names_its_neighbours() -> None:
    of, traffic = policy({"p99": {"max": "250ms"}}), Traffic(300, Behaviour(0.001, 0.999, {100.0: 0.1, 400.0: 0.01}))
    timing = Timing(5.0, 2.0, 1.0, 5.0)
    found = forecast(of, traffic, Baseline(), timing, runs=4)

    text = about("foreign_bound", cautions_of(of, traffic, Baseline(), timing, found))

    assert "p99.max 250ms is no bucket bound" in text
    assert "100ms or 400ms" in text


def test_a_service_without_latency_figures_is_told_that_no_step_would_pass() -> None:
    of, traffic, timing = policy(), Traffic(300, Behaviour(0.001, 0.0)), Timing(5.0, 2.0, 1.0, 5.0)
    found = forecast(of, traffic, Baseline(), timing, runs=4)

    assert "no step would pass" in about("no_latency", cautions_of(of, traffic, Baseline(), timing, found))
    assert found.steps[0].undecided == 1.0


def test_bursty_errors_are_said_with_their_dispersion() -> None:
    _, cautions = imagine(policy(), 300, baseline=Baseline(errors_phi=3.2, latency_phi=TELLING.latency_phi))

    assert "divided by 3.2" in about("bursts", cautions)


def test_bursts_of_slow_requests_are_said_too() -> None:
    _, cautions = imagine(policy(), 300, baseline=Baseline(latency_phi={100.0: 40.0, 250.0: 25.0, 500.0: 1.0}))

    assert "slow requests come in bursts (their number varies 25 times" in about("bursts", cautions)


@pytest.mark.parametrize(
    ("reporter", "said"),
    [("source", "count each user request once"), ("destination", "one user request counts several times")],
)
def test_retries_say_what_is_counted(reporter: str, said: str) -> None:
    assert said in retries_caution(3, "5xx", reporter).text


@pytest.mark.parametrize(
    ("rate", "text"), [(312.4, "312 requests/s"), (3.0, "3 requests/s"), (0.42, "0.42 requests/s")]
)
def test_a_rate_is_written_as_people_say_it(rate: float, text: str) -> None:
    assert rate_text(rate) == text
