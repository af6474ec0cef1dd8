"""The policy's own metrics: over the limit in N of M tiles, with gaps, and never silent."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from canary.analysis import Judge
from canary.model.policy import Policy
from canary.model.verdict import ArmCounts, Outcome, Reason, Verdict, Window


def policy(*metrics: dict[str, Any], match: bool = False) -> Policy:
    strategy: dict[str, Any] = {"weights": [10, 50, 100], "hold": "30s"}
    if match:
        strategy["match"] = {"headers": {"x-debug-user": {"exact": "true"}}, "hold": "30s"}
    off = {"errorRate": {"vsStable": "off"}, "p99": {"vsStable": "off"}}
    named = [{"name": "queue", "query": "queue_length", "max": 100, **metric} for metric in metrics]
    judged = {"warmup": "10s", "minRequests": 1, **off, "metrics": named}
    return Policy.model_validate({"name": "story", "strategy": strategy, "analysis": judged})


class Rollout:
    def __init__(self, *metrics: dict[str, Any], match: bool = False) -> None:
        self.judge = Judge(policy(*(metrics or ({"breaches": 3, "of": 5},)), match=match))
        self.time = 0.0

    def feed(
        self,
        *values: float | None,
        step: int = 1,
        weight: int = 10,
        canary: int = 10,
        warm: bool = True,
        name: str = "queue",
    ) -> Verdict:
        """One window per value, None where the metric had none."""
        for value in values:
            metrics = {} if value is None else {name: value}
            arms = ArmCounts(canary), ArmCounts(90)
            window = Window(self.time, self.time + 5, step, weight, *arms, warm=warm, metrics=metrics)
            self.time += 5
            verdict = self.judge.observe(window, self.time + 2)
        return verdict


def test_three_of_the_last_five_tiles_over_the_limit_roll_back_and_the_sentence_says_what_that_is_worth():
    rollout = Rollout()

    assert rollout.feed(150, 20, 120, 90).outcome is Outcome.PASS
    verdict = rollout.feed(130)

    assert (verdict.outcome, verdict.reason) == (Outcome.FAIL, Reason.METRIC)
    assert verdict.sentence == (
        "queue was 130, over its limit of 100 in 3 of the last 5 tiles (3 of 5 are enough; the policy's own metric, "
        "without a bound on false rollbacks)."
    )
    assert verdict.evidence == ()


def test_old_breaches_are_forgotten():
    rollout = Rollout()

    assert rollout.feed(150, 150, 20, 20, 20, 150, 150).outcome is Outcome.PASS
    assert rollout.feed(150).outcome is Outcome.FAIL


def test_a_value_at_the_limit_is_within_it():
    assert Rollout().feed(100, 100, 100, 100, 100).outcome is Outcome.PASS


def test_gaps_are_tiles_too_neither_good_nor_bad():
    rollout = Rollout()

    assert rollout.feed(150, None, 150, None, None).outcome is Outcome.PASS
    assert rollout.feed(150).outcome is Outcome.PASS  # the first one has gone: two of the last five
    assert rollout.feed(150).outcome is Outcome.FAIL
    assert "in 3 of the last 5 tiles" in rollout.feed(1).sentence  # and that is final


def test_a_metric_that_falls_silent_holds_and_goes_on_when_it_speaks_again():
    rollout = Rollout()
    rollout.feed(20)

    verdict = rollout.feed(None, None, None, None, None)

    assert (verdict.outcome, verdict.reason) == (Outcome.HOLD, Reason.NO_DATA)
    assert verdict.sentence == (
        "the policy's own metric queue is silent: no value in the last 5 tiles; no data is never a pass."
    )
    assert rollout.feed(20).outcome is Outcome.PASS


def test_a_metric_that_never_spoke_holds():
    assert "no value in the last tile;" in Rollout().feed(None).sentence
    assert Rollout().feed(None, None).reason is Reason.NO_DATA


def test_a_metric_that_nobody_makes_does_not_hold_the_header_stage_that_goes_on_when_nobody_came():
    rollout = Rollout(match=True)

    cold = rollout.feed(None, step=0, weight=0, canary=0, warm=False)
    warm = rollout.feed(None, None, step=0, weight=0, canary=0)

    assert [verdict.outcome for verdict in (cold, warm)] == [Outcome.PASS] * 2
    assert "nobody tried the canary" in warm.sentence
    assert rollout.feed(None).reason is Reason.NO_DATA  # in the first step it does


def test_debug_users_can_break_it():
    assert Rollout(match=True).feed(150, 150, 150, step=0, weight=0).reason is Reason.METRIC


def test_the_warm_up_is_not_judged():
    rollout = Rollout()

    assert rollout.feed(150, 150, 150, warm=False).reason is Reason.WARMING_UP
    assert rollout.feed(20).outcome is Outcome.PASS


def test_one_tile_is_enough_where_the_policy_says_so():
    verdict = Rollout({"breaches": 1, "of": 1, "max": 0.5}).feed(0.75)

    assert verdict.sentence == (
        "queue was 0.75, over its limit of 0.5 in the last tile (one is enough; the policy's own metric, without a "
        "bound on false rollbacks)."
    )


@pytest.mark.parametrize(
    ("value", "limit", "says"),
    [
        (1234567.0, 1e6, "queue was 1,234,567, over its limit of 1,000,000 in"),
        (2500.5, 1000, "queue was 2,500.5, over its limit of 1,000 in"),
        (math.inf, 3, "queue was inf, over its limit of 3 in"),
        (-1.0, -2, "queue was -1, over its limit of -2 in"),
        (0.000012, 0.00001, "queue was 1.2e-05, over its limit of 1e-05 in"),
        (3e20, 1e18, "queue was 3e+20, over its limit of 1e+18 in"),
    ],
)
def test_figures_read_as_people_write_them(value: float, limit: float, says: str):
    assert says in Rollout({"breaches": 1, "of": 1, "max": limit}).feed(value).sentence


def test_each_metric_is_judged_by_itself():
    rollout = Rollout({"breaches": 3, "of": 5}, {"name": "lag", "breaches": 1, "of": 3, "max": 2})

    assert rollout.feed(150, 150).reason is Reason.NO_DATA  # lag is silent
    assert (
        "lag was 5, over its limit of 2 in 1 of the last 3 tiles (one is enough;"
        in rollout.feed(5, name="lag").sentence
    )


@pytest.mark.parametrize("value", [math.nan, True, "5", None])
def test_what_is_no_number_is_refused_with_its_window(value: Any):
    rollout = Rollout()
    window = Window(0, 5, 1, 10, ArmCounts(10), ArmCounts(90), metrics={"queue": value})

    with pytest.raises(ValueError, match="metric queue must be a number, not"):
        rollout.judge.observe(window, 5)
    assert rollout.feed(20).outcome is Outcome.PASS


@given(st.lists(st.one_of(st.none(), st.integers(0, 200)), min_size=1, max_size=30), st.data())
def test_it_fails_at_the_first_tile_that_completes_n_of_m(values: list[int | None], data: st.DataObject):
    of = data.draw(st.integers(1, 8))
    breaches = data.draw(st.integers(1, of))
    rollout = Rollout({"breaches": breaches, "of": of})

    for index, value in enumerate(values):
        verdict = rollout.feed(value)
        newest = values[: index + 1][-of:]
        over = [one for one in newest if one is not None and one > 100]
        if len(over) >= breaches:
            assert verdict.reason is Reason.METRIC
            return
        expected = Reason.HEALTHY if any(one is not None for one in newest) else Reason.NO_DATA
        assert verdict.reason is expected
