"""What the engine writes about a rollout: conditions, history, evidence; how often, how large; marks on the route."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from canary.engine.actions import WriteStatus
from canary.engine.mark import Mark, read_mark
from canary.engine.observed import evidence_every
from canary.model.rollout import Cause, Phase, PromoteWish, Wish
from canary.model.verdict import Evidence, Outcome, Reason, Verdict

Make = Callable[..., Any]
SIZE_LIMIT = 16 * 1024


def condition(release: Any, kind: str) -> Any:
    return next(entry for entry in release.status.conditions if entry.type == kind)


def is_true(release: Any) -> set[str]:
    return {entry.type for entry in release.status.conditions if entry.status == "True"}


def judged(requests: int, sentence: str = "no worse than its limits.") -> Verdict:
    numbers = Evidence(
        "errorRate", canary_total=requests, canary_bad=1, stable_total=requests, stable_bad=1, bound=0.01
    )
    return Verdict(Outcome.HOLD, Reason.INCONCLUSIVE, sentence, (numbers,))


def writes(release: Any) -> int:
    return sum(isinstance(action, WriteStatus) for action in release.done)


@pytest.mark.parametrize(
    ("end", "true"),
    [
        (Phase.SUCCEEDED, {"Ready", "Promoted"}),
        (Phase.ROLLED_BACK, {"RolledBack"}),
        (Phase.ABORTED, set()),
        (Phase.SUPERSEDED, set()),
        (Phase.FAILED, set()),
    ],
)
def test_the_conditions_of_each_end_are_what_kubectl_wait_asks_for(world: Make, end: Phase, true: set[str]) -> None:
    release = world().run_to_weight(10)
    if end is Phase.ROLLED_BACK:
        release.say(Outcome.FAIL, Reason.ERROR_RATE)
    if end is Phase.ABORTED:
        release.wish(abort=Wish())
    if end is Phase.SUPERSEDED:
        release.superseded_by = "CanaryRollout payment-v3-abc-1"
    if end is Phase.FAILED:
        release.target_revision = ""

    release.run_to(end)

    assert is_true(release) == true
    assert {entry.reason for entry in release.status.conditions if entry.type != "Stalled"} == {end.value}


def test_on_its_way_a_rollout_is_reconciling_and_nothing_else(world: Make) -> None:
    release = world().run_to_weight(10)

    assert is_true(release) == {"Reconciling"}
    assert condition(release, "Ready").reason == "Progressing"


def test_stalled_and_reconciling_are_never_true_together(world: Make) -> None:
    release = world().run_to_weight(10)
    release.source_problem = "Prometheus does not answer"
    release.settle()
    assert is_true(release) == {"Stalled"}

    release.source_problem = ""
    release.settle()
    assert is_true(release) == {"Reconciling"}


def test_the_transition_time_of_a_condition_moves_only_with_its_status(world: Make) -> None:
    release = world().run_to_weight(10)
    begun = condition(release, "Reconciling").last_transition_time

    release.run_to(Phase.PROMOTING)
    assert condition(release, "Reconciling").last_transition_time == begun
    assert condition(release, "Reconciling").reason == "Promoting"

    release.run_to(Phase.SUCCEEDED)
    assert condition(release, "Reconciling").last_transition_time == release.now
    assert condition(release, "Ready").last_transition_time == release.now


def test_every_condition_says_which_generation_it_is_about(world: Make) -> None:
    release = world().run_to_weight(10)

    assert {entry.observed_generation for entry in release.status.conditions} == {1}
    assert release.status.observed_generation == 1


@pytest.mark.parametrize("rollouts", [1, 60])
def test_numbers_alone_are_written_once_a_minute(world: Make, rollouts: int) -> None:
    release = world(hold="10m").run_to_weight(10)
    release.under_judgement = rollouts
    release.verdict = judged(100)
    release.settle()
    before = writes(release)

    for second in range(1, 181):
        release.verdict = judged(100 + second, f"{100 + second} requests so far.")
        release.run(1)

    assert writes(release) - before == 3
    assert release.done[-1].evidence_only
    assert release.status.verdict.evidence[0].canary == (1, 280)


@pytest.mark.parametrize(("rollouts", "per_minute"), [(100, 60), (300, 60), (2000, 400)])
def test_numbers_of_many_rollouts_are_written_less_often_and_not_all_at_once(rollouts: int, per_minute: int) -> None:
    every = [evidence_every(rollouts, f"uid-{number}") for number in range(rollouts)]

    assert sum(timedelta(minutes=1) / one for one in every) == pytest.approx(per_minute, rel=0.15)
    assert min(every) >= timedelta(minutes=1)
    assert max(every) <= timedelta(minutes=7)
    begun_together = Counter(one // timedelta(seconds=10) for one in every)
    assert max(begun_together.values()) <= max(0.1 * rollouts, 30)


def test_a_change_of_outcome_is_written_at_once(world: Make) -> None:
    release = world(hold="10m").run_to_weight(10)
    release.verdict = judged(100)
    release.run(5)
    before = writes(release)

    release.say(Outcome.HOLD, Reason.NO_TRAFFIC)
    release.settle()

    assert writes(release) == before + 1
    assert release.status.verdict.reason is Reason.NO_TRAFFIC


def test_the_observed_weight_is_written_when_it_moved_by_a_point(world: Make) -> None:
    release = world(hold="10m").run_to_weight(10)
    release.observed_weight = 9
    release.settle()
    before = writes(release)

    assert writes(release.run(50)) == before
    for observed in (9.6, 8.4, 9.9):
        release.observed_weight = observed
        assert writes(release.run(1)) == before, "between two whole numbers is no point"
    release.observed_weight = 10
    assert writes(release.run(1)) == before + 1
    assert release.status.weight.observed == 10


def test_the_observed_weight_of_a_step_is_not_shown_as_that_of_the_next(world: Make) -> None:
    release = world().run_to_weight(10)
    release.observed_weight = 9

    release.run_to_weight(25)

    written = [action.status for action in release.done if isinstance(action, WriteStatus)]
    asked = next(status for status in written if status.weight.desired == 25)
    assert asked.weight.observed is None


def test_a_rollout_that_only_waits_writes_nothing_but_how_fresh_its_verdict_is(world: Make) -> None:
    release = world(pauseAt=[25]).run_to(Phase.PAUSED)
    before = len(release.done)

    new = release.run(300).done[before:]

    assert len(new) == 5
    assert all(isinstance(action, WriteStatus) and action.evidence_only for action in new)


def test_blindness_with_moving_figures_is_said_once(world: Make) -> None:
    for pause in ([], [25]):
        release = world(pauseAt=pause, hold="10s")
        release.run_to(Phase.PAUSED) if pause else release.run_to_weight(10)
        release.say(Outcome.HOLD, Reason.STALE, "the newest data is 31 s old.")
        release.settle()
        before = writes(release)

        for age in range(32, 80):
            release.say(Outcome.HOLD, Reason.STALE, f"the newest data is {age} s old.")
            release.run(1)

        assert writes(release) == before
        assert release.stalled == "TelemetryUnavailable"


def test_history_is_bounded_and_counts_what_it_dropped(world: Make) -> None:
    release = world(hold="10m").run_to_weight(10)

    for turn in range(40):
        release.wish(paused=Wish(reason=f"{turn} " + "x" * 250))
        release.run(1)
        release.wish(paused=None)
        release.run(1)

    history = release.status.history
    assert len(history) == 20
    assert release.status.history_dropped == 2 + 80 - 20
    assert history[-1].sentence == "resumed"
    assert all(len(entry.sentence) <= 300 for entry in history)
    assert len(json.dumps(release.status.document())) < SIZE_LIMIT


def test_a_long_fight_over_the_weights_leaves_a_status_that_fits(world: Make) -> None:
    release = world(hold="10m").run_to_weight(10)
    first = release.status.weight_changes[0]
    release.manager = "somebody-else at 12:01"

    for _ in range(60):
        release.move_route(33)
        release.run(1)
        release.move_route(10)
        release.run(1)

    assert len(release.status.weight_changes) == 40
    assert release.status.weight_changes[0] == first, "the warm-up counts from it"
    assert len(json.dumps(release.status.document())) < SIZE_LIMIT


def test_long_and_hostile_sentences_are_cut_and_put_on_one_line(world: Make) -> None:
    release = world(hold="10m").run_to_weight(10)

    release.say(Outcome.FAIL, Reason.ERROR_RATE, "line one\nline two\x1b[31m " + "é" * 5000)
    release.run_to(Phase.ROLLED_BACK)

    assert "\n" not in release.status.message
    assert "\x1b" not in release.status.message
    assert len(release.status.message) <= 2048
    assert len(release.status.cause.sentence) <= 2048


def test_who_asked_for_what_stays_in_the_history(world: Make) -> None:
    release = world(pauseAt=[25]).run_to(Phase.PAUSED)
    release.wish(promote=PromoteWish(step=2, actor="ann", reason="looks good"))
    release.run_to(Phase.SUCCEEDED)

    sentences = [entry.sentence for entry in release.status.history]
    assert "promoted by ann: looks good" in sentences
    assert [entry.weight for entry in release.status.history] == [0, 10, 25, 25, 50, 100, 100, 100]


def test_a_step_keeps_when_it_was_asked_for_and_when_it_was_reached(world: Make) -> None:
    release = world().run_to(Phase.SUCCEEDED)

    for change in release.status.weight_changes:
        assert change.reached is not None
        assert timedelta(0) <= change.reached - change.asked <= timedelta(seconds=1)


@given(
    st.builds(Mark, st.from_regex(r"[a-z0-9-]{1,63}", fullmatch=True), st.sampled_from(Cause), st.text(max_size=900))
)
def test_a_mark_reads_back_as_it_was_written(mark: Mark) -> None:
    read = read_mark(mark.render())

    assert read is not None
    assert (read.rollout, read.cause) == (mark.rollout, mark.cause)
    assert read_mark(read.render()) == read
    assert len(mark.render()) < 2048
    assert "\n" not in mark.render()


@given(
    st.text()
    | st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["rollout", "cause", "sentence", "x"]), inner),
    ).map(json.dumps)
)
def test_whatever_stands_in_the_annotation_is_a_mark_or_nothing(text: str) -> None:
    mark = read_mark(text)

    assert mark is None or (isinstance(mark.rollout, str) and isinstance(mark.cause, Cause))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "[]",
        '"rollback"',
        "{}",
        '{"rollout": "payment-v2-v2hash-1"}',
        '{"rollout": "payment-v2-v2hash-1", "cause": "Because", "sentence": "x"}',
        '{"rollout": "payment-v2-v2hash-1", "cause": ["Verdict"], "sentence": "x"}',
        "[" * 100_000,
        '{"a":' * 100_000,
    ],
)
def test_a_hostile_annotation_is_not_a_mark(world: Make, text: str) -> None:
    assert read_mark(text) is None

    release = world().run_to_weight(10)
    release.route = type(release.route)(10, header=False, resource_version="2", mark=text)
    assert release.run(3).phase is Phase.PROGRESSING
