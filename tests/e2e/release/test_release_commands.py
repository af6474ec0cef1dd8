"""A person at the command line: pauses, promotes, aborts and tries again; pipelines read the exit codes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from canary.cluster.kinds import CANARYROLLOUT
from canary.errors import NotFound
from canary.model.rollout import PausedFor, Phase
from canary.sandbox import example

if TYPE_CHECKING:
    from .conftest import Stage

pytestmark = pytest.mark.slow


def test_a_person_takes_a_release_through_its_pause_and_to_the_end(stage: Stage) -> None:
    version = stage.release(policy="with-pause")
    name = example.deployment_name(version)
    stage.wait_weight(version, 25)

    paused = stage.canary("wait", name)
    at_pause = stage.rollout(version)
    promoted = stage.canary("promote", name, "--reason", "looked at it")
    stage.wait_weight(version, 50)
    full = stage.canary("promote", "--full", name)
    ended = stage.canary("wait", name, "--timeout", "40s")
    at_end = stage.rollout(version)

    assert paused.returncode == 5, paused.stderr
    assert "paused at 25 % as the policy asks" in paused.stdout
    assert at_pause.status.paused_for is PausedFor.PAUSE_AT
    assert at_pause.status.weight.configured == 25
    assert promoted.returncode == 0, promoted.stderr
    assert full.returncode == 0, full.stderr
    assert ended.returncode == 0, ended.stderr
    assert stage.weights_of(version) == [25, 50, 100]
    assert "looked at it" in " ".join(entry.sentence for entry in at_end.status.history)
    assert stage.seen_requests().lost == 0
    condition = stage.kubectl("wait", "--for=condition=Promoted", f"crol/{at_end.name}", "--timeout=5s")
    assert condition.returncode == 0, condition.stderr


def test_a_paused_release_keeps_its_weight_and_its_time_until_it_is_resumed(stage: Stage) -> None:
    version = stage.release(policy="two-steps")
    name = example.deployment_name(version)
    stage.wait_weight(version, 50)

    pause = stage.canary("pause", name, "--reason", "lunch")
    waited = stage.canary("wait", name)
    paused = stage.rollout(version)
    served = stage.seen_requests().version(version).requests
    stage.wait_requests(lambda seen: seen.version(version).requests > served + 500, "time passes")
    later = stage.rollout(version)
    resume = stage.canary("resume", name)
    ended = stage.wait_phase(version, Phase.SUCCEEDED)

    assert (pause.returncode, waited.returncode, resume.returncode) == (0, 5, 0)
    assert "lunch" in waited.stdout
    assert paused.status.paused_for is PausedFor.WISH
    assert (later.status.phase, later.status.weight.configured) == (Phase.PAUSED, 50)
    assert later.status.step_elapsed == paused.status.step_elapsed, "a pause is no time of the step's"
    assert ended.spec.paused is None
    assert stage.weights_of(version) == [50, 100]
    assert stage.seen_requests().lost == 0


def test_an_aborted_release_goes_back_and_may_be_tried_again(stage: Stage) -> None:
    before = stage.stable
    version = stage.release(policy="long-steps")
    name = example.deployment_name(version)
    stage.wait_weight(version, 10)

    timeout = stage.canary("wait", name, "--timeout", "1s")
    with stage.waiting("wait", name) as waiting:
        abort = stage.canary("abort", name, "--reason", "wrong branch")
        code = waiting.wait(timeout=20)
    aborted = stage.wait_phase(version, Phase.ABORTED)
    again = stage.canary("abort", name, "--reason", "twice")
    weights = stage.sandbox.weights()
    retry = stage.canary("retry", name, "--reason", "right branch now")
    second = stage.wait_weight(version, 10)

    assert timeout.returncode == 6
    assert abort.returncode == 0, abort.stderr
    assert code == 4
    assert aborted.status.cause is not None
    assert "wrong branch" in aborted.status.cause.sentence
    assert again.returncode == 1
    assert "has ended" in again.stderr
    assert weights == {before: 100}
    assert retry.returncode == 0, retry.stderr
    assert second.name == f"{aborted.name.rpartition('-')[0]}-2"
    assert second.spec.trigger.reason == "right branch now"
    assert stage.weights_of(version) == [10, 0, 10]
    assert stage.seen_requests().lost == 0


def test_deleting_the_object_gives_the_traffic_back_first(stage: Stage) -> None:
    before = stage.stable
    version = stage.release(policy="long-steps")
    name = stage.wait_weight(version, 10).name

    with stage.waiting("wait", name) as waiting:
        # else its Deployment, still annotated and never tried, would start again
        stage.sandbox.annotate(example.deployment_name(version), {"canary.delivery/policy": None})
        deleted = stage.kubectl("delete", "crol", name, "--timeout=30s")
        code = waiting.wait(timeout=20)

    assert deleted.returncode == 0, deleted.stderr
    assert code in (4, 7), "aborted was its last word, unless it was gone before that was seen"
    with pytest.raises(NotFound):
        stage.sandbox.gateway.get(CANARYROLLOUT, example.NAMESPACE, name)
    assert stage.sandbox.weights() == {before: 100}
    last_state = stage.states_of(version)[-1][1]
    assert last_state.status.phase.is_terminal, "it was driven to its end before it went"
    assert stage.weights_of(version) == [10, 0]
    assert version not in stage.subsets()
    assert stage.seen_requests().lost == 0
    assert stage.canary("wait", name).returncode == 7
