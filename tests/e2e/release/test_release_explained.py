"""Afterwards, and without Prometheus, anybody can ask why a release went back, and compute it again."""

from __future__ import annotations

import base64
import itertools
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from canary.cluster.evidence import KEY, evidence_name
from canary.cluster.kinds import CONFIGMAP
from canary.model.rollout import Phase, Rollout
from canary.sandbox import example

from .conftest import wait_until

if TYPE_CHECKING:
    from .conftest import Stage

pytestmark = pytest.mark.slow

TAKEOVER_S = 40.0


def explained(stage: Stage, ended: Rollout) -> dict[str, Any]:
    """What `explain --replay -o json` says of a rollout, once the record of its end is written."""
    said = stage.canary("explain", ended.name, "--replay", "-o", "json")
    assert said.returncode == 0, said.stderr + said.stdout[-2_000:]
    return dict(json.loads(said.stdout))


def wait_for_the_end_in_the_record(stage: Stage, ended: Rollout, outcome: str) -> dict[str, Any]:
    """The record is written behind the route and the status."""

    def there() -> bool:
        said = stage.canary("explain", ended.name, "-o", "json")
        return said.returncode == 0 and json.loads(said.stdout)["verdict"]["outcome"] == outcome

    wait_until(there, f"a record that ends in {outcome}", 20.0)
    return explained(stage, ended)


def test_a_rollback_is_explained_and_replayed_while_prometheus_is_away(stage: Stage, tmp_path: Path) -> None:
    version = stage.release(example.FAILS_SOMETIMES, policy="whole-way")
    ended = stage.wait_phase(version, Phase.ROLLED_BACK)
    wait_for_the_end_in_the_record(stage, ended, "fail")

    stage.sandbox.prometheus.stop()
    words = stage.canary("explain", example.deployment_name(version))
    replayed = stage.canary("explain", ended.name, "--replay")
    document = explained(stage, ended)

    print(words.stdout, replayed.stdout, sep="\n")
    assert ended.status.cause is not None
    assert words.returncode == 0
    verdict = document["verdict"]["sentence"]
    assert verdict.removesuffix(".") in ended.status.cause.sentence, "the same sentence in the cause and in the record"
    assert verdict in words.stdout
    assert "in at most one of 200 rollouts" in words.stdout
    assert replayed.returncode == 0
    assert "come out the same" in replayed.stdout
    assert document["replay"]["computed"] == len(document["replay"]["verdicts"]) > 1
    assert sum(step["canary"]["errors"] for step in document["judges"][-1]["steps"]) > 0
    (owner,) = stage.sandbox.gateway.get(CONFIGMAP, ended.namespace, evidence_name(ended.name))["metadata"][
        "ownerReferences"
    ]
    assert owner["uid"] == ended.uid

    # and far away from any cluster
    data = stage.sandbox.gateway.get(CONFIGMAP, ended.namespace, evidence_name(ended.name))["binaryData"][KEY]
    saved = tmp_path / "record.gz"
    saved.write_bytes(base64.b64decode(data))
    assert stage.canary("explain", "-f", str(saved), "--replay").returncode == 0
    print(f"{len(saved.read_bytes()):,} bytes")


def test_a_near_total_failure_is_explained_by_the_counts_of_its_abort(stage: Stage) -> None:
    version = stage.release(example.FAILS_ALWAYS)
    ended = stage.wait_phase(version, Phase.ROLLED_BACK)

    document = wait_for_the_end_in_the_record(stage, ended, "fail")

    assert document["verdict"]["reason"] == "fast_abort"
    assert document["replay"]["agrees"] is True
    aborts = [one for judge in document["judges"] for one in judge["verdicts"] if "canary" in one]
    assert aborts
    assert aborts[0]["canary"]["errors"] >= 5
    assert "near-total failure" in stage.canary("explain", ended.name).stdout


def test_a_controller_killed_on_the_way_leaves_no_hole_in_the_record(stage: Stage) -> None:
    version = stage.release(policy="slow-first")
    stage.wait_weight(version, 25)
    stage.wait_requests(lambda seen: seen.version(version).requests > 300, "it is well inside the step")
    running = stage.rollout(version)
    stage.wait(version, lambda rollout: rollout.status.verdict is not None)
    wait_until(lambda: stage.canary("explain", running.name, "-o", "json").returncode == 0, "a record", 10.0)

    stage.sandbox.controller.kill()
    left = json.loads(stage.canary("explain", running.name, "-o", "json").stdout)
    stage.sandbox.controller.start()
    ended = stage.wait_phase(version, Phase.SUCCEEDED, timeout_s=18.0 + TAKEOVER_S + 30)
    document = wait_for_the_end_in_the_record(stage, ended, "pass")

    (judge,) = document["judges"]
    windows = judge["windows"]
    assert document["replay"]["agrees"] is True
    assert document["replay"]["computed"] == len(document["replay"]["verdicts"])
    assert all(
        later["start"] == earlier["end"]
        for earlier, later in itertools.pairwise(windows)
        if later["step"] == earlier["step"]
    ), "no window is missing, none is there twice"
    before = [one["at"] for one in left["judges"][0]["verdicts"]]
    assert before
    assert set(before) <= {one["at"] for one in judge["verdicts"]}, "what was said before the kill is still there"
    assert {step["step"] for step in judge["steps"]} == {1, 2}
