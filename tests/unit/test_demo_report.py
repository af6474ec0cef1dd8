"""The demo's verdict on itself, from hand-written results; and what is printed of it."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from rich.console import Console

from canary.model.phase import Phase
from canary.model.rollout import Rollout
from canary.sandbox.demo.figures import Figures
from canary.sandbox.demo.releases import RELEASES, Release
from canary.sandbox.demo.report import document, failures, print_table
from canary.sandbox.demo.scenario import Ended, Result
from canary.sandbox.load import Request

BEGAN = datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC)
T = BEGAN.timestamp()
SENTENCE = "ROLLBACK at 10 %: 29 of 29 canary requests (100 %) failed within 2s, a near-total failure."


def at(seconds: float) -> str:
    return (BEGAN + timedelta(seconds=seconds)).isoformat()


def rollout(release: Release, phase: Phase, weights: list[int]) -> Rollout:
    changes = [{"step": 0, "weight": 0, "asked": at(0), "reached": at(0)}]
    changes += [{"step": n, "weight": w, "asked": at(n), "reached": at(n)} for n, w in enumerate(weights, 1)]
    status: dict[str, Any] = {"phase": phase.value, "weightChanges": changes}
    if phase is Phase.ROLLED_BACK:
        status["weightChanges"].append({"step": 1, "weight": 0, "asked": at(3)})
        status["history"] = [
            {"at": at(3), "phase": "RollingBack", "sentence": SENTENCE},
            {"at": at(5), "phase": "RolledBack", "sentence": SENTENCE},
        ]
        status["cause"] = {"reason": "Verdict", "sentence": SENTENCE}
    meta = {"namespace": "default", "name": f"{release.deployment}-abc-1", "uid": "1", "resourceVersion": "1"}
    return Rollout.parse(
        {
            "metadata": {**meta, "creationTimestamp": at(0)},
            "spec": {"target": release.deployment, "policyName": "demo"},
            "status": status,
        }
    )


def ended(release: Release, **figures: float) -> Ended:
    if release.expected is Phase.SUCCEEDED:
        cost = Figures(requests=9000, exposed=5000, first_exposed=T + 1, off=T + 40)
        return Ended(release, rollout(release, Phase.SUCCEEDED, [10, 25, 50, 75, 100, 100]), cost, 40.0)
    cost = Figures(1000, 30, 30, 0, 0, T + 1, T + 1.1, T + 3.1)
    return Ended(release, rollout(release, Phase.ROLLED_BACK, [10]), replace(cost, **figures), 12.0)  # type: ignore[arg-type]


@pytest.fixture
def result() -> Result:
    """A run in which everything was as promised."""
    debug = Request(T + 0.5, 0.02, 200, "v2", is_probe=True)
    return Result(400.0, [ended(release) for release in RELEASES], debug, requests=36_000, lost=0, seconds=92.0)


def with_last(result: Result, last: Ended) -> Result:
    return replace(result, ended=[*result.ended[:-1], last])


def test_a_run_as_promised_has_no_failures(result: Result) -> None:
    assert failures(result) == []
    assert document(result)["ok"] is True


def test_another_outcome_is_said_with_its_reason(result: Result) -> None:
    v3 = RELEASES[1]
    promoted = replace(result.ended[1], rollout=rollout(v3, Phase.SUCCEEDED, [10, 100]))
    (failure,) = failures(replace(result, ended=[result.ended[0], promoted, *result.ended[2:]]))

    assert failure == "v3 ended as Succeeded, expected RolledBack"


def test_releases_that_were_not_tried_are_named(result: Result) -> None:
    assert failures(replace(result, ended=result.ended[:2])) == ["v4, v5 not tried, because of what came before"]


def test_one_lost_request_fails_the_demo(result: Result) -> None:
    assert failures(replace(result, lost=1)) == ["1 request lost on the way, expected 0"]


def test_a_total_failure_that_keeps_its_traffic_for_more_than_five_seconds_fails_the_demo(result: Result) -> None:
    v5 = RELEASES[-1]

    assert failures(with_last(result, ended(v5, off=T + 1.1 + 5.0))) == []
    (failure,) = failures(with_last(result, ended(v5, off=T + 1.1 + 6.0)))

    assert failure == "v5 kept traffic for 6.0 s after its first bad response, expected at most 5 s"


def test_a_total_failure_that_nobody_saw_fail_proves_nothing(result: Result) -> None:
    unseen = replace(result.ended[-1], figures=Figures(requests=1000))

    assert failures(with_last(result, unseen)) == ["v5 had no bad response, expected at most 5 s"]


@pytest.mark.parametrize("debug", [None, Request(T + 1.5, 0.02, 200, "v2", is_probe=True)])
def test_the_debug_header_must_reach_the_canary_before_any_weight(result: Result, debug: Request | None) -> None:
    late = replace(result, debug_request=debug)

    assert failures(late) == ["no request with the debug header reached the canary before its first weight"]
    assert document(late)["debugHeader"]["beforeAnyWeight"] is False


def test_the_document_has_the_figures_of_each_release(result: Result) -> None:
    said = json.loads(json.dumps(document(result)))

    assert [release["weights"] for release in said["releases"]] == [[10, 25, 50, 75, 100], [10], [10], [10]]
    v2, *_, v5 = said["releases"]
    assert v2["secondsToTrafficOff"] is None
    assert v2["secondsToDetect"] is None
    assert v5 == {
        "version": "v5",
        "what": "every request fails",
        "rollout": "payment-v5-abc-1",
        "expected": "RolledBack",
        "outcome": "RolledBack",
        "asExpected": True,
        "weights": [10],
        "seconds": 12.0,
        "firstBadResponse": "2026-01-01T12:00:01.100000Z",
        "secondsToDetect": 1.9,
        "secondsToTrafficOff": 2.0,
        "requests": 1000,
        "exposed": 30,
        "errors": 30,
        "slow": 0,
        "lost": 0,
        "sentence": SENTENCE,
    }


def test_a_release_that_got_no_rollout_is_reported_as_such(result: Result) -> None:
    without = replace(result.ended[0], rollout=None, figures=Figures())
    early = replace(result, ended=[without])

    said = document(early)

    assert said["releases"][0]["outcome"] == "no rollout"
    assert said["failures"][0] == "v2 ended as no rollout, expected Succeeded"


@pytest.mark.parametrize("width", [80, 100])
def test_the_table_cuts_nothing_off(result: Result, width: int) -> None:
    console = Console(file=io.StringIO(), width=width, markup=False, emoji=False, highlight=False)
    print_table(result, console)
    text = console.file.getvalue()  # type: ignore[attr-defined]

    assert "…" not in text
    assert max(len(line.rstrip()) for line in text.splitlines()) <= width
    header, v2, *_ = text.splitlines()
    assert header.split() == ["OUTCOME", "WEIGHTS", "DETECTED", "OFF", "ERRORS", "SLOW", "EXPOSED", "LOST"]
    assert v2.split() == ["v2", "Succeeded", *["10", "25", "50", "75", "100"], "-", "-", "0", "0", "5,000", "0"]
    assert " ".join(SENTENCE.split()) in " ".join(text.split())
