"""A rollout in pretended time keeps the engine's rules: hold, evidence, maxWait, and tiles that settle late."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

from canary.analysis.judge import Judge
from canary.analysis.walk import Ending, Timing, Walk, Walked
from canary.model.policy import Policy
from canary.model.verdict import ArmCounts, Outcome, Window

TIMING = Timing(tile_s=5.0, settle_s=2.0, propagation_s=1.0, lag_s=5.0)
GOOD, BAD, NOTHING = ArmCounts(100), ArmCounts(100, 40), ArmCounts()


def policy(hold: Any = "60s", **analysis: Any) -> Policy:
    judged = {"warmup": "0s", "maxWait": "2m", "errorRate": {"max": "1%"}, **analysis}
    return Policy.model_validate(
        {"name": "story", "strategy": {"weights": [10, 50, 100], "hold": hold}, "analysis": judged}
    )


def walk(of: Policy, canary: Callable[[Window], ArmCounts], timing: Timing = TIMING, **how: Any) -> Walked:
    stable = ArmCounts(900)
    judge = Judge(of)
    return Walk(of, judge, timing, lambda window: replace(window, canary=canary(window), stable=stable)).step(
        1, 1000.0, 1000.0, **how
    )


def test_a_healthy_step_is_left_when_its_hold_is_over_and_not_before() -> None:
    walked = walk(policy(), lambda _: GOOD)

    assert walked.ending is Ending.LEFT
    assert walked.left == 1060.0
    assert walked.first_pass is not None
    # a tile that counts from 1006 on at the earliest, for 385 requests at 100 a tile, then settling
    assert walked.first_pass == 1010.0 + 4 * 5 + 2


def test_a_step_waits_for_the_evidence_that_its_hold_was_too_short_for() -> None:
    walked = walk(policy(hold="10s"), lambda _: GOOD)

    assert (walked.ending, walked.left) == (Ending.LEFT, walked.first_pass)
    assert walked.left > 1010.0


def test_an_adaptive_step_is_left_as_soon_as_it_may_pass() -> None:
    walked = walk(policy(hold={"min": "5s", "max": "10m"}), lambda _: GOOD)

    assert (walked.ending, walked.left) == (Ending.LEFT, walked.first_pass)


def test_without_enough_requests_the_step_is_undecided_at_hold_and_max_wait() -> None:
    walked = walk(policy(), lambda _: ArmCounts(2))

    assert walked.ending is Ending.UNDECIDED
    assert walked.left == 1000.0 + 60 + 120


def test_whoever_is_patient_learns_when_it_would_have_passed() -> None:
    walked = walk(policy(), lambda _: ArmCounts(10), patience_s=3600)

    assert walked.overdue
    assert walked.ending is Ending.LEFT
    assert walked.first_pass is not None
    assert walked.first_pass > 1180


def test_a_failing_canary_ends_the_step_when_its_second_tile_has_settled() -> None:
    walked = walk(policy(), lambda _: BAD)

    assert walked.ending is Ending.FAILED
    assert walked.left == 1010.0 + 2 * 5 + 2  # no single window decides
    assert walked.verdict is not None
    assert walked.verdict.outcome is Outcome.FAIL


def test_errors_in_tiles_that_settled_after_the_step_was_left_are_evidence_all_the_same() -> None:
    timing = replace(TIMING, settle_s=12.0)

    walked = walk(policy(), lambda window: BAD if window.end > 1045.0 else GOOD, timing)

    assert walked.ending is Ending.FAILED
    assert 1060.0 < walked.left <= 1060.0 + 12


def test_the_fast_abort_does_not_wait_for_a_tile_at_the_new_weight_to_settle() -> None:
    timing = replace(TIMING, interval_s=10.0)

    walked = walk(policy(), lambda _: ArmCounts(20, 20), timing)

    assert walked.ending is Ending.FAILED
    assert walked.left < 1010.0
    assert walked.verdict is not None
    assert "near-total failure" in walked.verdict.sentence


def test_where_the_figures_end_the_step_has_no_end() -> None:
    of = policy()
    judge = Judge(of)

    def supply(window: Window) -> Window | None:
        return replace(window, canary=GOOD, stable=ArmCounts(900)) if window.end < 1030 else None

    walked = Walk(of, judge, TIMING, supply).step(1, 1000.0, 1000.0)

    assert walked.ending is Ending.NO_MORE_DATA
    assert walked.left <= 1030


def test_a_tile_in_the_warm_up_is_no_evidence() -> None:
    of = policy()
    seen: list[Window] = []

    def supply(window: Window) -> Window:
        seen.append(window)
        return replace(window, canary=GOOD, stable=ArmCounts(900))

    Walk(of, Judge(of), TIMING, supply).step(1, 1000.0, 1030.0)

    assert [window.warm for window in seen if window.start < 1030] == [False] * 4
    assert all(window.warm for window in seen if window.start >= 1030)


def test_growing_windows_are_whole_tiles_that_follow_each_other_and_meet_the_end_of_the_hold() -> None:
    of = policy(hold="10m", minRequests=10_000)
    seen: list[Window] = []

    def supply(window: Window) -> Window:
        seen.append(window)
        return replace(window, canary=NOTHING, stable=NOTHING)

    Walk(of, Judge(of), TIMING, supply, growth=1 / 6).step(1, 1000.0, 1000.0)

    assert all(after.start == before.end for before, after in pairwise(seen))
    assert all((window.end - window.start) % 5 == 0 for window in seen)
    assert len(seen) < 40
    assert any(window.end == 1595.0 for window in seen)  # the last tile known when the hold is over
