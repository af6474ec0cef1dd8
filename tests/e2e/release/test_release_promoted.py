"""A good release: every weight in its order, nobody's request lost, and the mesh as tidy behind it as before."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from canary.model.rollout import Phase
from canary.sandbox import example

if TYPE_CHECKING:
    from .conftest import Stage

pytestmark = pytest.mark.slow

USERS_OWN = "v1"


def test_a_good_release_is_promoted_over_every_weight_and_loses_no_request(stage: Stage) -> None:
    version = stage.release(policy="whole-way")
    opened = stage.wait(version, lambda rollout: rollout.status.resumed_at is not None and bool(rollout.status.step))
    stage.wait_header(version)
    debug = stage.sandbox.callers.debug_request()
    ended = stage.wait_phase(version, Phase.SUCCEEDED, timeout_s=90)

    assert opened.status.step is not None
    assert opened.status.step.index == 0, "the header stage comes first"
    assert debug.version == version, "a debug user reaches the canary before any weight"
    assert stage.weights_of(version) == [10, 25, 50, 75, 100]
    assert stage.steps_of(version) == [0, 1, 2, 3, 4, 5, 6]
    assert stage.phases_of(version)[-3:] == [Phase.PROGRESSING, Phase.PROMOTING, Phase.SUCCEEDED]
    requests = stage.seen_requests()
    assert requests.lost == 0, requests.lost_examples
    assert requests.errors == 0
    first_weight = next(route.at for route in stage.routes if route.weights.get(version))
    early = [seen for seen in stage.requests if seen.version == version and seen.end < first_weight]
    assert early == [], "and before any weight nobody else does"
    conditions = {condition.type: condition.status for condition in ended.status.conditions}
    assert conditions["Promoted"] == conditions["Ready"] == "True"
    assert conditions["Stalled"] == conditions["Reconciling"] == conditions["RolledBack"] == "False"
    assert stage.wait_event(ended.name, "Succeeded")["type"] == "Normal"
    assert stage.routes[-1].header_to == ""
    assert stage.subsets() == {USERS_OWN, version}, "what users wrote stays"

    stage.wait_event(example.deployment_name(USERS_OWN), "OlderRevision")
    assert stage.sandbox.rollouts(example.deployment_name(USERS_OWN)) == [], "an annotated v1 does not come back"


def test_after_the_next_promotion_what_was_added_for_the_older_version_is_gone(stage: Stage) -> None:
    if stage.stable == USERS_OWN:
        stage.wait_phase(stage.release(policy="two-steps"), Phase.SUCCEEDED)
    older = stage.stable
    assert stage.subsets() == {USERS_OWN, older}
    newer = stage.release(policy="two-steps")
    stage.wait_phase(newer, Phase.SUCCEEDED)

    assert stage.weights_of(newer) == [50, 100]
    assert stage.sandbox.weights() == {newer: 100}
    assert stage.subsets() == {USERS_OWN, newer}
    primary = stage.virtual_service()["spec"]["http"][0]
    assert {entry["destination"]["subset"] for entry in primary["route"]} == {USERS_OWN, newer}
    assert stage.seen_requests().lost == 0
    assert stage.rollout(older).status.phase is Phase.SUCCEEDED, "the record of the older one stays"
