"""The words of a comparison: exact, with figures that are right, never at odds with the threshold beside them."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from canary.analysis import comparison
from canary.analysis.sentence import ejected, ratio_text, undecided
from canary.model.objectives import CustomMetric, Tolerance
from canary.model.verdict import ArmCounts, Ejections, Evidence

DEFAULT = Tolerance.model_validate({"ratio": 1.2, "slack": "0.05%"})


def numbers(
    bad: int = 7, total: int = 131, stable: tuple[int, int] = (1, 1180), e_value: float = 3912.4, limit: float = 200.0
) -> Evidence:
    return Evidence("any", total, bad, stable[1], stable[0], 0.01, e_value, limit)


def test_the_sentence_of_the_design():
    said = comparison.worse_than_stable(numbers(), numbers(e_value=2380.0, limit=5.0), DEFAULT, 600.0)

    assert said == (
        "7 errors (5.3 %) in 131 canary requests against stable 1 of 1,180 (0.08 %); worse than stable with evidence "
        "3,900:1 (limit 200:1) and worse than the tolerated 1.2x + 0.05 % with 2,400:1 (limit 5:1)"
    )


@pytest.mark.parametrize(
    ("one", "says"),
    [
        (numbers(bad=1), "1 error (0.76 %) in 131 canary requests against stable 1 of 1,180 (0.08 %)"),
        (numbers(bad=0), "0 errors (0 %) in 131 canary requests against"),
        (numbers(total=0, bad=0), "no canary request yet against stable 1 of 1,180 (0.08 %)"),
        (numbers(stable=(0, 0)), "7 errors (5.3 %) in 131 canary requests against stable without requests"),
        (numbers(bad=1_234_567, total=2_000_000), "1,234,567 errors (61.7 %) in 2,000,000 canary requests"),
    ],
)
def test_counts_read_as_people_write_them(one: Evidence, says: str):
    assert comparison.perhaps_worse(one, None, 5.0).startswith(f"undecided: {says}")


def test_slow_requests_are_told_with_their_bound():
    said = comparison.perhaps_worse(numbers(e_value=42.0), 2500.0, 5.0)

    assert said == (
        "undecided: 7 of 131 canary requests (5.3 %) took longer than 2s500ms against stable 1 of 1,180 (0.08 %); "
        "slower than tolerated with evidence 42:1 (a step passes below 5:1, fails at 200:1)."
    )


@pytest.mark.parametrize(
    ("tolerance", "text"),
    [
        ({"ratio": 1.2, "slack": "0.05%"}, "1.2x + 0.05 %"),
        ({"ratio": 1, "slack": "0%"}, "1x + 0 %"),
        ({"ratio": 2.5, "slack": "10%"}, "2.5x + 10 %"),
    ],
)
def test_a_tolerance_reads_as_it_is_written(tolerance: dict[str, object], text: str):
    assert comparison.tolerance_text(Tolerance.model_validate(tolerance)) == text


@pytest.mark.parametrize(
    ("harm", "budget", "says"),
    [
        (50.04, 50, "the canary cost 50.1 more errors than stable's rate explains, over the harm budget of 50: "),
        (12.0, 10, "the canary cost 12 more errors than stable's rate explains, over the harm budget of 10: "),
        (
            1234.56,
            1000,
            "the canary cost 1,234.6 more errors than stable's rate explains, over the harm budget of 1,000: ",
        ),
    ],
)
def test_the_harm_told_is_always_more_than_the_budget(harm: float, budget: float, says: str):
    assert comparison.harm_done(numbers(), harm, budget, 20.0).startswith(says)


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (None, "its errors are not clearly below twice stable's + 1 %."),
        (0, "about 1 more canary requests like these."),
        (1200, "about 1,200 more canary requests like these."),
    ],
)
def test_what_is_missing_for_a_pass(more: int | None, says: str):
    said = comparison.not_yet_healthy(numbers(bad=0, e_value=3.14, limit=20.0), more)

    assert "evidence of health 3.1:1 of the 20:1 that a step needs, " in said
    assert said.endswith(says)


def test_one_tile_and_many_read_as_people_write_them():
    metric = CustomMetric(name="lag", query="q", max=2, breaches=1, of=4)

    assert comparison.own_metric(metric, 3.0, 1, 1).startswith(
        "lag was 3, over its limit of 2 in the last tile (one is"
    )
    assert comparison.own_metric(metric, 3.0, 1, 4).startswith(
        "lag was 3, over its limit of 2 in 1 of the last 4 tiles"
    )
    assert "no value in the last tile;" in comparison.own_metric_silent(metric, 1)
    assert "no value in the last 4 tiles;" in comparison.own_metric_silent(metric, 4)


def test_ejected_hosts_are_told_with_those_of_stable_where_they_are_known():
    known = ejected(Ejections(2, 2, 0, 3), ArmCounts(0), ArmCounts(5))
    unknown = ejected(Ejections(2, 0, 0, 0), ArmCounts(0), ArmCounts(5))

    assert known.startswith("Envoy has ejected 2 of 2 canary hosts (outlierDetection) and none of stable's 3; ")
    assert unknown.startswith("Envoy has ejected 2 of 2 canary hosts (outlierDetection) and none of stable's; ")


# Odds beside a threshold


@pytest.mark.parametrize(
    ("e_value", "below", "text"),
    [
        (199.6, 200, "190:1"),
        (199.6, math.inf, "200:1"),
        (200.0, 200, "200:1"),
        (4.97, 5, "4.9:1"),
        (5.0, 5, "5:1"),
        (19.99, 20, "19:1"),
        (0.997, 1, "0.99:1"),
        (1996.0, 2000, "1,900:1"),
        (3912.4, 200, "3,900:1"),
    ],
)
def test_odds_that_have_not_reached_a_threshold_are_not_rounded_up_to_it(e_value: float, below: float, text: str):
    assert ratio_text(e_value, below) == text


def as_number(text: str) -> float:
    return float(text.removesuffix(":1").replace(",", ""))


@given(st.floats(0.011, 9e5), st.sampled_from([4.0, 5.0, 20.0, 200.0, 1000.0, 2000.0]))
def test_what_is_read_is_on_the_same_side_of_the_threshold_as_what_is_meant(e_value: float, threshold: float):
    read = as_number(ratio_text(e_value, threshold))

    assert (read >= threshold) == (e_value >= threshold)
    assert read == pytest.approx(e_value, rel=0.1)


def test_an_absolute_limit_nearly_reached_and_a_step_over_it_on_weak_evidence_read_so():
    near = undecided(numbers(e_value=199.7), None, (131, 7), 5.0)
    weak = undecided(numbers(e_value=4.98), 500.0, (131, 7), 5.0)

    assert "errors, limit 1 %, evidence 190:1 (a step passes within its limit and below 5:1, fails at 200:1)" in near
    assert "slower than 500ms, P99 allows 1 %, evidence 4.9:1 (a step passes within its limit and below 5:1" in weak


@given(st.integers(0, 2**60), st.integers(0, 2**60), st.integers(0, 2**60), st.integers(0, 2**60), st.floats(0, 1e299))
def test_no_counts_make_a_sentence_that_is_none(good: int, bad: int, stable_good: int, stable_bad: int, e_value: float):
    one = numbers(bad, good + bad, (stable_bad, stable_good + stable_bad), e_value)
    metric = CustomMetric(name="lag", query="q", max=2)

    for text in (
        comparison.worse_than_stable(one, one, DEFAULT, 0.0),
        comparison.slower_than_stable(one, 250.0, DEFAULT, 60.0),
        comparison.perhaps_worse(one, 0.5, 5.0),
        comparison.worse_but_tolerated(one, one, DEFAULT, 5.0),
        comparison.not_yet_healthy(one, bad),
        comparison.healthy_enough(one),
        comparison.harm_done(one, e_value, 50.0, 20.0),
        comparison.unattributed(one),
        comparison.worse_than_frozen(one),
        comparison.own_metric(metric, e_value, 3, 5),
    ):
        assert "nan" not in text
        assert "inf" not in text
        assert "  " not in text
