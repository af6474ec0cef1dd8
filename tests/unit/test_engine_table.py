"""The transition table as data: total, nothing illegal in it, and the page in docs/ is drawn from it."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from canary.engine.effects import EFFECTS
from canary.engine.picture import page
from canary.engine.signals import SIGNALS
from canary.engine.table import TABLE, Effect, Signal
from canary.model.rollout import Phase

ALLOWED = {
    Phase.PENDING: {Phase.CHECKING, Phase.ABORTED, Phase.SUPERSEDED},
    Phase.CHECKING: {Phase.PROGRESSING, Phase.ROLLING_BACK},
    Phase.PROGRESSING: {Phase.PAUSED, Phase.PROMOTING, Phase.ROLLING_BACK},
    Phase.PAUSED: {Phase.PROGRESSING, Phase.PROMOTING, Phase.SUCCEEDED, Phase.ROLLING_BACK},
    Phase.PROMOTING: {Phase.PAUSED, Phase.SUCCEEDED, Phase.ROLLING_BACK},
    Phase.ROLLING_BACK: {Phase.ROLLED_BACK, Phase.ABORTED, Phase.SUPERSEDED, Phase.FAILED},
    Phase.SUCCEEDED: set(),
    Phase.ROLLED_BACK: set(),
    Phase.ABORTED: set(),
    Phase.SUPERSEDED: set(),
    Phase.FAILED: set(),
}
"""Pending → Checking → Progressing ⇄ Paused → Promoting → Succeeded; RollingBack → its four ends. Nothing else."""


def test_the_phases_lead_only_where_the_design_says() -> None:
    leads = {phase: {rule.to for (start, _), rule in TABLE.items() if start is phase} - {phase} for phase in Phase}

    assert leads == ALLOWED


@pytest.mark.parametrize(("phase", "signal"), list(itertools.product(Phase, Signal)))
def test_every_pair_is_listed_with_a_legal_goal_or_changes_nothing(phase: Phase, signal: Signal) -> None:
    rule = TABLE.get((phase, signal))

    assert rule is None or (rule.to in ALLOWED[phase] | {phase} and rule.effect in EFFECTS)


@pytest.mark.parametrize("phase", [phase for phase in Phase if phase.is_terminal])
def test_a_terminal_phase_is_never_left(phase: Phase) -> None:
    rules = {signal: rule for (start, signal), rule in TABLE.items() if start is phase}

    assert {signal: (rule.to, rule.effect) for signal, rule in rules.items()} == {
        Signal.DELETED: (phase, Effect.FORGET)
    }


def test_every_other_phase_has_a_way_to_an_end() -> None:
    ends = {phase for phase in Phase if phase.is_terminal}
    while more := {phase for phase in Phase if ALLOWED[phase] & ends} - ends:
        ends |= more

    assert ends == set(Phase)


@pytest.mark.parametrize("phase", [Phase.CHECKING, Phase.PROGRESSING, Phase.PAUSED, Phase.PROMOTING])
@pytest.mark.parametrize(
    "signal",
    [Signal.DELETED, Signal.ABORT, Signal.TARGET_GONE, Signal.SUPERSEDED, Signal.BROKEN_STATUS, Signal.STABLE_CHANGED],
)
def test_whatever_ends_a_rollout_early_goes_by_way_of_the_route(phase: Phase, signal: Signal) -> None:
    assert TABLE[phase, signal].to is Phase.ROLLING_BACK
    assert TABLE[phase, signal].effect is Effect.ROLL_BACK


@pytest.mark.parametrize("phase", [Phase.PROGRESSING, Phase.PAUSED, Phase.PROMOTING])
def test_a_failing_verdict_rolls_back_wherever_the_canary_can_have_traffic(phase: Phase) -> None:
    assert TABLE[phase, Signal.FAIL].to is Phase.ROLLING_BACK


def test_only_a_rollback_or_an_end_before_any_traffic_leads_to_a_bad_end() -> None:
    bad = {Phase.ROLLED_BACK, Phase.ABORTED, Phase.SUPERSEDED, Phase.FAILED}
    starts = {phase for (phase, _), rule in TABLE.items() if rule.to in bad and not phase.is_terminal}

    assert starts == {Phase.PENDING, Phase.ROLLING_BACK}


def test_every_signal_has_a_detector_in_the_order_of_their_priority() -> None:
    assert list(SIGNALS) == list(Signal)


def test_every_signal_and_every_effect_is_used_and_has_its_function() -> None:
    assert {signal for _, signal in TABLE} == set(Signal)
    assert {rule.effect for rule in TABLE.values()} == set(Effect) == set(EFFECTS)


def test_the_table_cannot_be_changed_at_run_time() -> None:
    with pytest.raises(TypeError):
        TABLE[Phase.FAILED, Signal.READY] = TABLE[Phase.CHECKING, Signal.READY]  # type: ignore[index]


def test_the_page_in_docs_is_what_the_table_says() -> None:
    written = Path(__file__).parents[2] / "docs" / "engine.md"

    assert written.read_text(encoding="utf-8") == page(), "run `make docs`"
