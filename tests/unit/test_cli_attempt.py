"""What a person reads of one CanaryRollout, whoever wrote the object."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from canary.cli import detail, table
from canary.cli.attempt import Attempt, newest_attempt, newest_first
from canary.cli.durations import exact, short
from canary.model.policy_yaml import parse_policy
from canary.shipped import shipped

NOW = datetime(2026, 1, 31, 8, 10, tzinfo=UTC)
STANDARD = parse_policy((shipped("policies") / "standard.yaml").read_text(), "standard.yaml").document()
HEADER_ONLY = parse_policy((shipped("policies") / "header-only.yaml").read_text(), "header-only.yaml").document()


def ago(seconds: float) -> str:
    return (NOW - timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def attempt(
    name: str = "payment-v2-6d4b75cb6d-1", *, age: float = 600, spec: Any = None, policy: Any = None, **status: Any
) -> Attempt:
    resolved = {"policy": {"name": "standard", "digest": "d", "resolved": policy}} if policy else {}
    return Attempt(
        {
            "metadata": {"namespace": "shop", "name": name, "creationTimestamp": ago(age), "uid": name},
            "spec": {"target": "payment-v2", "policyName": "standard", **(spec or {})},
            "status": {**resolved, **status},
        }
    )


def step(index: int, of: int = 5) -> dict[str, int]:
    return {"index": index, "of": of}


@pytest.mark.parametrize(("index", "text"), [(0, "header"), (1, "1/5"), (5, "5/5"), (6, "bake")])
def test_the_header_stage_and_the_bake_are_named(index: int, text: str) -> None:
    assert attempt(phase="Progressing", step=step(index)).step_text == text


def test_the_weight_is_the_configured_one_and_the_observed_one() -> None:
    assert attempt(weight={"desired": 25, "configured": 25, "observed": 24}).weight_text == "25% (24%)"
    assert attempt(weight={"desired": 25, "configured": 25}).weight_text == "25%"
    assert attempt(weight={"desired": 25}).weight_text == ""


@pytest.mark.parametrize(
    ("phase", "index", "elapsed", "left"),
    [
        ("Progressing", 0, "1m", "4m"),
        ("Progressing", 2, "10s", "1m50s"),
        ("Progressing", 2, "5m", "due"),
        ("Promoting", 6, "1m", "9m"),
    ],
)
def test_time_left_is_the_policys_hold_minus_what_was_spent(phase: str, index: int, elapsed: str, left: str) -> None:
    shown = attempt(phase=phase, step=step(index), stepElapsed=elapsed, resumedAt=ago(0), policy=STANDARD)

    assert shown.left_text(NOW) == left


def test_the_running_clock_counts_since_it_was_resumed() -> None:
    shown = attempt(phase="Progressing", step=step(1), stepElapsed="10s", resumedAt=ago(20.5), policy=STANDARD)

    left = timedelta(seconds=120 - 10 - 20.5)
    assert shown.left(NOW) == (left, left)


def test_an_outage_stops_the_clock_and_shows_why_it_holds() -> None:
    shown = attempt(
        phase="Progressing",
        step=step(1),
        stepElapsed="10s",
        policy=STANDARD,
        message="HOLD: Prometheus does not answer",
        verdict={"outcome": "hold", "reason": "unavailable", "sentence": "an old verdict"},
    )

    assert shown.left_text(NOW) == "stopped"
    assert shown.sentence == "HOLD: Prometheus does not answer"


def test_a_list_of_holds_gives_each_step_its_own() -> None:
    policy = {"strategy": {"weights": [50, 100], "hold": ["1m", "5m"]}}

    shown = attempt(phase="Progressing", step=step(2, 2), stepElapsed="0s", resumedAt=ago(0), policy=policy)

    assert shown.left_text(NOW) == "5m"


@pytest.mark.parametrize(
    ("elapsed", "cell", "fact"),
    [
        ("6s", "14s-4m54s", "1/2, 14s to 4m54s left, ends as soon as the evidence is there"),
        ("20s", "<4m40s", "1/2, 0s to 4m40s left, ends as soon as the evidence is there"),
        ("6m", "due", "1/2, time over, waits for evidence"),
    ],
)
def test_an_adaptive_step_shows_the_least_and_the_longest_time_left(elapsed: str, cell: str, fact: str) -> None:
    policy = {"strategy": {"weights": [50, 100], "hold": {"min": "20s", "max": "5m"}, "bake": "1m"}}

    def shown(index: int, **clock: Any) -> Attempt:
        return attempt(phase="Progressing", step=step(index, 2), stepElapsed=elapsed, policy=policy, **clock)

    assert shown(1, resumedAt=ago(0)).left_text(NOW) == cell
    assert dict(detail.facts(shown(1, resumedAt=ago(0)), NOW))["Step"] == fact
    assert shown(1).left_text(NOW) == "stopped"
    assert dict(detail.facts(shown(3, resumedAt=ago(0)), NOW))["Step"].startswith("bake")


@pytest.mark.parametrize(
    ("retry", "fact"),
    [
        ({"at": ago(-90), "sentence": "retry 2"}, "in 1m30s (08:11:30 UTC): retry 2"),
        ({"at": ago(60), "sentence": "retry 2"}, "due since 08:09:00 UTC: retry 2"),
        ({"sentence": "tried again by payment-v2-abc-3"}, "tried again by payment-v2-abc-3"),
        (None, None),
    ],
)
def test_what_was_rolled_back_says_when_it_is_tried_again(retry: Any, fact: str | None) -> None:
    assert dict(detail.facts(attempt(phase="RolledBack", retry=retry), NOW)).get("Retry") == fact


def test_half_an_adaptive_hold_is_no_time() -> None:
    policy = {"strategy": {"weights": [50, 100], "hold": {"min": "20s"}}}

    assert attempt(phase="Progressing", step=step(1, 2), resumedAt=ago(0), policy=policy).left(NOW) is None


def test_a_header_only_canary_has_no_time_to_wait_for() -> None:
    shown = attempt(phase="Progressing", step=step(0, 1), stepElapsed="1m", resumedAt=ago(0), policy=HEADER_ONLY)

    assert shown.left_text(NOW) == ""


@pytest.mark.parametrize("phase", ["Pending", "Checking", "Paused", "Succeeded", "RolledBack", "RollingBack"])
def test_only_a_step_that_runs_has_time_left(phase: str) -> None:
    assert attempt(phase=phase, step=step(1), stepElapsed="1s", policy=STANDARD).left(NOW) is None


def test_a_stalled_rollout_says_what_is_in_the_way() -> None:
    shown = attempt(
        phase="Pending",
        message="waiting",
        conditions=[{"type": "Stalled", "status": "True", "reason": "NoRoute", "message": "no VirtualService"}],
    )

    assert shown.sentence == "no VirtualService"


def test_a_condition_that_is_not_true_is_not_in_the_way() -> None:
    shown = attempt(phase="Pending", message="waiting", conditions=[{"type": "Stalled", "status": "False"}])

    assert shown.sentence == "waiting"


def test_the_verdict_speaks_while_a_step_runs_and_the_cause_when_it_is_over() -> None:
    verdict = {"outcome": "pass", "sentence": "no breach in 400 requests"}
    cause = {"reason": "Verdict", "sentence": "5% of requests failed"}

    running = attempt(phase="Progressing", step=step(1), resumedAt=ago(1), message="step 1", verdict=verdict)
    over = attempt(phase="RolledBack", step=step(1), message="back on stable", verdict=verdict, cause=cause)

    assert running.sentence == "no breach in 400 requests"
    assert over.sentence == "5% of requests failed"


def test_an_object_nobody_looked_at_yet_is_pending() -> None:
    shown = attempt()

    assert shown.phase == "Pending"
    assert not shown.is_terminal
    assert table.Shape().row(shown, NOW) == ["payment-v2-6d4b75cb6d-1", "-", "Pending", "-", "-", "-", "10m"]


def test_a_phase_of_a_newer_controller_is_shown_as_it_is() -> None:
    shown = attempt(phase="Contemplating", step=step(1), pausedFor="Moonlight", message="thinking")

    assert (shown.phase, shown.is_terminal, shown.sentence) == ("Contemplating", False, "thinking")


def test_the_revision_is_in_the_name_until_it_is_pinned() -> None:
    assert attempt().revision == "6d4b75cb6d"
    assert attempt(targetRevision="other").revision == "other"
    assert attempt("made-by-hand").revision == ""
    assert (attempt("payment-v2-abc-12").number, attempt("payment-v2-x").number) == (12, 0)


def test_those_under_way_come_first_and_the_newest_first_in_both() -> None:
    attempts = [
        attempt("old-done", age=900, phase="Succeeded"),
        attempt("new-done", age=10, phase="RolledBack"),
        attempt("old-active", age=1000, phase="Progressing"),
        attempt("new-active", age=100, phase="Paused"),
    ]

    assert [shown.name for shown in newest_first(attempts)] == ["new-active", "old-active", "new-done", "old-done"]


def test_a_deployments_name_means_its_newest_attempt() -> None:
    first = attempt("payment-v2-abc-1", age=900, phase="RolledBack")
    second = attempt("payment-v2-abc-2", age=100, phase="Progressing")

    assert newest_attempt([second, first]) is second
    assert newest_attempt([]) is None


def test_of_two_made_at_once_for_one_revision_the_oldest_lives() -> None:
    oldest = attempt("payment-v2-abc-1", age=101, phase="Progressing", targetRevision="abc")
    twin = attempt("by-hand", age=100, phase="Pending", targetRevision="abc")

    assert newest_attempt([twin, oldest]) is oldest


def test_attempts_made_in_the_same_second_are_told_apart_by_their_number() -> None:
    ninth = attempt("payment-v2-abc-9", age=5, phase="RolledBack")
    tenth = attempt("payment-v2-abc-10", age=5, phase="RolledBack")

    assert newest_attempt([tenth, ninth]) is tenth


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-5, "0s"), (59, "59s"), (119, "119s"), (120, "2m"), (332, "5m32s"), (600, "10m"), (3 * 3600, "3h"),
     (4 * 3600 + 300, "4h5m"), (47 * 3600, "47h"), (50 * 3600, "2d2h"), (30 * 86400, "30d"), (800 * 86400, "2y70d")],
)  # fmt: skip
def test_ages_are_written_as_kubectl_writes_them(seconds: int, text: str) -> None:
    assert short(timedelta(seconds=seconds)) == text


@pytest.mark.parametrize(("seconds", "text"), [(0, "0s"), (90, "1m30s"), (119, "1m59s"), (3600, "1h"), (-3, "0s")])
def test_a_count_down_shows_every_second(seconds: int, text: str) -> None:
    assert exact(timedelta(seconds=seconds)) == text


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
FIELDS = [
    "phase", "message", "service", "step", "weight", "stepElapsed", "resumedAt", "targetRevision", "stable", "route",
    "policy", "verdict", "pausedFor", "cause", "drift", "history", "historyDropped", "conditions",
]  # fmt: skip


@given(st.dictionaries(st.sampled_from(FIELDS), json_values), st.dictionaries(st.text(), json_values, max_size=3))
def test_no_status_however_strange_breaks_the_table_or_the_detail(status: Any, spec: Any) -> None:
    shown = attempt(spec=spec, **status)

    lines = table.plain_lines([shown], table.Shape(namespaces=True, wide=True), NOW) + detail.plain_lines(shown, NOW)

    assert all(line.isprintable() for line in lines)
