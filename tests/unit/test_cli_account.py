"""What `canary explain` makes of a record: rows that a person can follow, whatever a rollout went through."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from canary.analysis.entries import Aborted, Base, Judged, Life, Seen, StepSum
from canary.analysis.record import Record
from canary.cli.account import Account
from canary.cli.account_rows import (
    NUMBER_COLUMNS,
    STEP_COLUMNS,
    clock,
    facts,
    legend,
    number_rows,
    plain_table,
    span,
    step_rows,
    verdict_rows,
)
from canary.model.policy import Policy
from canary.model.verdict import ArmCounts, Baseline, Evidence, Outcome, Reason, SourceState, Verdict, Window

BEGIN = 1_772_452_800.0
POLICY = Policy.model_validate({"name": "quick", "strategy": {"weights": [10, 50, 100]}})
SOURCE = SourceState(True, 5.0, 2.0, BEGIN)


def windows(*steps: int) -> tuple[Seen, ...]:
    """One window of 5 s per number."""
    arms = ArmCounts(100, 1, 99, {500.0: 2}), ArmCounts(900, 2, 898, {500.0: 9})
    found = []
    for number, step in enumerate(steps):
        start = BEGIN + 5 * number
        found.append(Seen(Window(start, start + 5, step, (0, 10, 50, 100)[step], *arms), start + 8))
    return tuple(found)


def said(step: int, outcome: Outcome, reason: Reason, *evidence: Evidence, at: float = 0.0) -> Judged:
    return Judged(BEGIN + at, step, SOURCE, BEGIN, Verdict(outcome, reason, f"{outcome} because {reason}.", evidence))


def account(*lives: Life, phase: str = "") -> Account:
    return Account(Record(POLICY, 5.0, lives), phase)


def cell(shown: Account, row: int, column: str) -> str:
    return step_rows(shown)[row][STEP_COLUMNS.index(column)]


WORSE = Evidence("error_rate_vs_stable", 131, 7, 1180, 1, 0.0008, 3912.0, 200.0)
TOLERATED = Evidence("error_rate_vs_tolerated", 131, 7, 1180, 1, 0.0015, 240_000.0, 5.0)
LIMIT = Evidence("error_rate", 131, 7, 1180, 1, 0.01, 12.0, 200.0)
HEALTH = Evidence("pass", 131, 7, 1180, 1, 0.01, 0.5, 20.0)


def test_a_row_says_what_was_counted_how_strong_the_evidence_is_and_what_came_of_it() -> None:
    life = Life(
        Baseline(), 2.0,
        entries=(
            said(1, Outcome.PASS, Reason.HEALTHY, HEALTH, at=5),
            said(2, Outcome.FAIL, Reason.ERROR_RATE, WORSE, TOLERATED, LIMIT, HEALTH, at=20),
        ),
        windows=windows(1, 1, 2, 2),
    )  # fmt: skip
    shown = account(life, phase="RolledBack")

    assert [cell(shown, row, "STEP") for row in (0, 1)] == ["1/3", "2/3"]
    assert [cell(shown, row, "WEIGHT") for row in (0, 1)] == ["10%", "50%"]
    assert (cell(shown, 0, "FROM"), cell(shown, 0, "LASTED")) == ("12:00:00", "10s")
    assert cell(shown, 0, "CANARY FAILED") == "2 of 200 (1 %)"
    assert cell(shown, 1, "STABLE FAILED") == "4 of 1,800 (0.22 %)"
    assert cell(shown, 1, "AGAINST IT") == "3,900:1 of 200:1"
    assert cell(shown, 1, "IN FAVOUR") == "0.50:1 of 20:1"
    assert [cell(shown, row, "RESULT") for row in (0, 1)] == ["passed", "rolled back: error rate"]


def test_the_second_bet_about_errors_is_never_shown_as_the_strongest() -> None:
    """At 5:1 it is nearly always beyond its limit; alone it convicts nobody."""
    harmless = replace(WORSE, e_value=1.5)
    shown = account(Life(Baseline(), 2.0, entries=(said(1, Outcome.PASS, Reason.HEALTHY, harmless, TOLERATED),)))

    assert cell(shown, 0, "AGAINST IT") == "1.5:1 of 200:1"
    assert any("About errors a second bet must agree, at 5:1" in line for line in legend(shown))


@pytest.mark.parametrize(
    ("phase", "outcome", "reason", "says"),
    [
        ("Progressing", Outcome.PASS, Reason.HEALTHY, "passes"),
        ("Progressing", Outcome.HOLD, Reason.NO_TRAFFIC, "holds: no traffic"),
        ("Succeeded", Outcome.PASS, Reason.HEALTHY, "promoted"),
        ("RolledBack", Outcome.HOLD, Reason.INCONCLUSIVE, "rolled back"),
        ("RollingBack", Outcome.FAIL, Reason.LATENCY, "rolling back: latency"),
        ("Aborted", Outcome.PASS, Reason.HEALTHY, "aborted"),
        ("", Outcome.FAIL, Reason.LATENCY, "failed: latency"),
        ("AWordOfANewerController", Outcome.PASS, Reason.HEALTHY, "passes"),
    ],
)
def test_what_came_of_the_newest_step(phase: str, outcome: Outcome, reason: Reason, says: str) -> None:
    life = Life(Baseline(), 2.0, entries=(said(1, outcome, reason),), windows=windows(1))

    assert cell(account(life, phase=phase), 0, "RESULT") == says


def test_a_step_that_ended_without_a_pass_says_that_it_went_on_all_the_same() -> None:
    entries = said(1, Outcome.HOLD, Reason.INCONCLUSIVE), said(2, Outcome.PASS, Reason.HEALTHY)

    shown = account(Life(Baseline(), 2.0, entries=entries, windows=windows(1, 2)))

    assert cell(shown, 0, "RESULT") == "went on (inconclusive)"


def test_a_fast_abort_is_not_weighed_and_the_numbers_are_those_before_it() -> None:
    abort = Verdict(Outcome.FAIL, Reason.FAST_ABORT, "12 of 12 canary requests failed.")
    life = Life(
        Baseline(), 2.0,
        entries=(
            said(1, Outcome.PASS, Reason.HEALTHY, replace(WORSE, e_value=0.7), at=5),
            Aborted(BEGIN + 9, ArmCounts(12, 12), ArmCounts(100), None, BEGIN, abort),
            Judged(BEGIN + 9.1, 1, SOURCE, BEGIN, abort),
        ),
        windows=windows(1, 1),
    )  # fmt: skip
    shown = account(life, phase="RolledBack")

    assert shown.last is not None
    assert shown.last.verdict is abort
    assert cell(shown, 0, "AGAINST IT") == "near-total failure"
    assert cell(shown, 0, "RESULT") == "rolled back: fast abort"
    assert [row[NUMBER_COLUMNS.index("ODDS")] for row in number_rows(shown)] == ["0.70:1"]


def test_what_gave_way_is_said_and_still_counted() -> None:
    counted = StepSum(1, 10, BEGIN - 5000, BEGIN, 1000, ArmCounts(9_900, 99), ArmCounts(90_000), ArmCounts())
    life = Life(Baseline(), 2.0, base=Base(BEGIN, 1000, {}, (counted,)), windows=windows(1), lost=7)

    shown = account(life)

    assert cell(shown, 0, "CANARY FAILED") == "100 of 10,000 (1 %)"
    assert ("Kept from", "12:00:00 on; of the time before, sums and the judge's state") in facts(shown)
    assert ("Left out", "7 changes of the verdict, the oldest of their steps") in facts(shown)


def test_two_judges_are_told_apart_and_the_one_that_got_furthest_is_shown() -> None:
    before = Life(Baseline(), 2.0, entries=(said(1, Outcome.HOLD, Reason.NO_DATA),), windows=windows(1, 1, 1))
    behind = Life(Baseline(errors_phi=2.0), 2.0, windows=windows(1, 1))
    ahead = Life(Baseline(errors_phi=2.0), 2.0, windows=windows(1, 1, 2, 2))

    assert account(before, behind).life is before
    assert account(before, ahead).life is ahead
    assert "another judge" in dict(facts(account(before, ahead)))["Restarts"]
    assert dict(facts(account(before, ahead)))["Stable"] == (
        "had no past that was known; its errors come in bursts, so each weighs 50%"
    )
    assert len(verdict_rows(account(before, ahead))) == 1


def test_a_record_of_nothing_yet_is_shown_as_that() -> None:
    empty = account(Life(Baseline(), 2.0))

    assert step_rows(empty) == number_rows(empty) == legend(empty) == []
    assert empty.last is empty.weighed is None
    assert dict(facts(account())) == {}
    assert plain_table(STEP_COLUMNS, []) == ["  ".join(STEP_COLUMNS)]


@pytest.mark.parametrize("absurd", [math.inf, -math.inf, math.nan, 1e300, -1e18])
def test_a_time_that_is_none_is_a_question_mark(absurd: float) -> None:
    assert clock(absurd) == "?"
    assert span(0.0, absurd) in ("?", "0s")
    assert dict(facts(Account(Record(POLICY, absurd, (Life(Baseline(history_s=absurd), 2.0),)))))["Judged by"]
