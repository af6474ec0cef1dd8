"""The ground moves under a release: a newer version, another template, a missing Deployment, somebody else's hands."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import pytest

from canary.model.rollout import Phase
from canary.sandbox import example

if TYPE_CHECKING:
    from .conftest import Stage

pytestmark = pytest.mark.slow

REASSERT_S = 30.0
"""The first back-off before a weight that somebody else moved is set again."""


def test_a_newer_version_takes_over_after_the_older_one_has_given_its_traffic_back(stage: Stage) -> None:
    older = stage.release(policy="long-steps")
    older_rollout = stage.wait_weight(older, 10)

    newer = stage.release(policy="long-steps")
    newer_rollout = stage.wait_weight(newer, 10)
    ended = stage.wait_phase(older, Phase.SUPERSEDED)

    assert stage.weights_of(older) == [10, 0]
    assert stage.weights_of(newer) == [10]
    both = [route for route in stage.routes if route.weights.get(older) and route.weights.get(newer)]
    assert both == []
    assert ended.uid == older_rollout.uid
    assert ended.status.cause is not None
    assert newer_rollout.name in ended.status.cause.sentence
    assert older not in stage.subsets()
    assert stage.canary("wait", ended.name).returncode == 4
    assert stage.seen_requests().lost == 0


def test_another_template_in_the_middle_of_a_release_starts_it_anew(stage: Stage) -> None:
    version = stage.release(policy="long-steps")
    first = stage.wait_weight(version, 10)

    stage.release(example.HEALTHY | {"RELEASE": "second build"}, policy="long-steps", version=version)
    second = stage.wait(
        version, lambda rollout: rollout.uid != first.uid and rollout.status.weight.configured == 10, timeout_s=40
    )

    attempts = stage.sandbox.rollouts(example.deployment_name(version))
    assert [attempt.uid for attempt in attempts] == [first.uid, second.uid]
    assert attempts[0].status.phase is Phase.SUPERSEDED
    assert attempts[0].status.cause is not None
    assert "newer revision" in attempts[0].status.cause.sentence
    assert second.status.target_revision != first.status.target_revision
    assert stage.weights_of(version) == [10, 0, 10]
    assert stage.seen_requests().lost == 0


def test_a_deployment_deleted_in_the_middle_gives_the_traffic_back_and_fails(stage: Stage) -> None:
    before = stage.stable
    version = stage.release(policy="long-steps")
    stage.wait_weight(version, 10)

    stage.sandbox.delete_deployment(example.deployment_name(version))
    ended = stage.wait_phase(version, Phase.FAILED)

    assert ended.status.cause is not None
    assert "is gone" in ended.status.cause.sentence
    assert stage.sandbox.weights() == {before: 100}
    assert stage.weights_of(version) == [10, 0]
    assert version not in stage.subsets()
    assert stage.canary("wait", ended.name).returncode == 1


def test_weights_moved_by_somebody_else_are_held_and_set_again_once_after_a_pause(stage: Stage) -> None:
    before = stage.stable
    version = stage.release(policy="long-steps")
    stage.wait_weight(version, 10)
    http = stage.virtual_service()["spec"]["http"]
    index = next(index for index, route in enumerate(http) if route.get("name") == "primary")
    weights = {before: 60, version: 40}
    patch = [
        {
            "op": "replace",
            "path": f"/spec/http/{index}/route/{position}/weight",
            "value": weights[entry["destination"]["subset"]],
        }
        for position, entry in enumerate(http[index]["route"])
        if entry["destination"]["subset"] in weights
    ]

    moved = stage.kubectl("patch", "virtualservice", example.SERVICE, "--type=json", "-p", json.dumps(patch))
    moved_at = time.time()
    held = stage.wait(version, lambda rollout: rollout.status.drift is not None, timeout_s=10)
    again = stage.wait(
        version,
        lambda rollout: rollout.status.drift is None and rollout.status.resumed_at is not None,
        timeout_s=REASSERT_S + 20,
    )

    assert moved.returncode == 0, moved.stderr
    assert held.status.drift is not None
    assert "kubectl" in held.status.drift.manager
    assert "kubectl" in held.status.message
    assert "40 %" in held.status.message
    assert held.status.phase is Phase.PROGRESSING
    assert held.status.resumed_at is None
    assert stage.weights_of(version) == [10, 40, 10], "set again once, nobody fights"
    set_again = stage.routes[-1].at - moved_at
    assert REASSERT_S - 1.0 < set_again < REASSERT_S + 10.0
    assert again.status.phase is Phase.PROGRESSING
    assert stage.wait_event(again.name, "Drift")
