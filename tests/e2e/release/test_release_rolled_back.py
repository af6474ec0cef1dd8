"""Bad releases lose their traffic, with a sentence that says why; an outage of the whole service is not their fault."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from canary.model.rollout import Phase, Rollout
from canary.model.verdict import Reason
from canary.sandbox import example

if TYPE_CHECKING:
    from .conftest import Stage

pytestmark = pytest.mark.slow


def assert_gone_back(stage: Stage, version: str, before: str) -> None:
    """Everything is as if the version had never been released, and no request was lost on the way."""
    assert stage.sandbox.weights() == {before: 100}
    assert version not in stage.subsets()
    for route in stage.virtual_service()["spec"]["http"]:
        assert version not in {entry["destination"]["subset"] for entry in route["route"]}
    requests = stage.seen_requests()
    assert requests.lost == 0, requests.lost_examples


def sentence_of(ended: Rollout) -> str:
    assert ended.status.cause is not None
    return ended.status.cause.sentence


def test_five_percent_errors_are_rolled_back_with_their_numbers(stage: Stage) -> None:
    before = stage.stable

    version = stage.release(example.FAILS_SOMETIMES)
    ended = stage.wait_phase(version, Phase.ROLLED_BACK)

    sentence = sentence_of(ended)
    assert sentence.startswith("ROLLBACK at ")
    assert "worse than stable with evidence" in sentence or "over the limit of 1 %" in sentence
    assert "canary requests" in sentence
    assert "stable 0 of" in sentence
    assert stage.weights_of(version)[0] == 10
    assert stage.weights_of(version)[-1] == 0
    assert 100 not in stage.weights_of(version)
    assert_gone_back(stage, version, before)
    assert stage.wait_event(ended.name, "RollingBack")["message"] == sentence
    conditions = {condition.type: condition.status for condition in ended.status.conditions}
    assert (conditions["RolledBack"], conditions["Promoted"]) == ("True", "False")
    said = stage.canary("status", ended.name)
    assert said.returncode == 0
    assert sentence[:40] in " ".join(said.stdout.split())


def test_a_p99_three_times_as_slow_is_rolled_back(stage: Stage) -> None:
    before = stage.stable

    version = stage.release(example.SLOW, policy="quick-p99")
    ended = stage.wait_phase(version, Phase.ROLLED_BACK)

    sentence = sentence_of(ended)
    assert "canary requests" in sentence
    assert "slower than the tolerated 1.25x + 0.2 %" in sentence or "so P99 is over that limit" in sentence
    assert stage.seen_requests().version(version).percentile(0.99) > 0.1
    assert_gone_back(stage, version, before)


def test_a_total_failure_is_off_within_five_seconds_of_its_first_bad_response(stage: Stage) -> None:
    before = stage.stable

    version = stage.release(example.FAILS_ALWAYS, policy="whole-way")
    with stage.waiting("wait", example.deployment_name(version)) as waiting:
        ended = stage.wait_phase(version, Phase.ROLLED_BACK)
        code = waiting.wait(timeout=10)

    assert code == 3
    assert "near-total failure" in sentence_of(ended)
    assert ended.status.verdict is not None
    assert ended.status.verdict.reason is Reason.FAST_ABORT
    bad = stage.seen_requests().version(version)
    assert bad.requests > 0
    assert bad.first_bad is not None
    seconds_to_off = bad.last - bad.first_bad
    print(f"traffic off {seconds_to_off:.1f} s after the first bad response; {bad.errors} users saw an error")
    assert seconds_to_off < 5.0
    assert stage.weights_of(version) == [10, 0]
    assert stage.routes[-1].header_to == ""
    assert_gone_back(stage, version, before)


def test_an_outage_of_both_versions_holds_and_is_not_blamed_on_the_release(stage: Stage) -> None:
    before = stage.stable
    version = stage.release()
    stage.wait_weight(version, 10)
    stage.wait_requests(lambda seen: seen.version(version).requests > 100, "the canary is as busy as it will be")

    stage.break_pods(before, {"error_rate": "100%"})
    stage.break_pods(version, {"error_rate": "100%"})
    held = stage.wait(
        version,
        lambda rollout: rollout.status.verdict is not None and rollout.status.verdict.reason is Reason.SERVICE_INCIDENT,
    )
    failed = stage.seen_requests().version(version).errors
    stage.wait_requests(lambda seen: seen.version(version).errors > failed + 100, "the outage goes on")
    stage.break_pods(version, {"error_rate": "0"})
    stage.break_pods(before, {"error_rate": "0"})
    healthy = stage.seen_requests().version(version).requests
    stage.wait_requests(lambda seen: seen.version(version).requests > healthy + 150, "and is over")

    assert held.status.verdict is not None
    assert "an incident of the whole service" in held.status.verdict.sentence
    assert stage.rollout(version).status.phase is Phase.PROGRESSING
    assert stage.weights_of(version) == [10]
