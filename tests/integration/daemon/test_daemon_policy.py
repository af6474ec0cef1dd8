"""What a policy says and the service's own objects add to it, carried out on a real API server."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from canary.cluster.kinds import CONFIGMAP, DESTINATIONRULE
from canary.model.rollout import Phase

pytestmark = pytest.mark.slow

ATTEMPT = "payment-v2-v2a-1"


@pytest.fixture
def policy(policies: Path) -> Callable[..., None]:
    """Writes the policy `own`: `quick` with some of its text replaced."""

    def write(**replaced: str) -> None:
        text = (policies / "quick.yaml").read_text(encoding="utf-8").replace("name: quick", "name: own")
        for old, new in replaced.items():
            assert old in text
            text = text.replace(old, new)
        (policies / "own.yaml").write_text(text, encoding="utf-8")

    return write


def without_thresholds(policies: Path) -> None:
    text = (policies / "quick.yaml").read_text(encoding="utf-8").replace("name: quick", "name: own")
    kept = [line for line in text.splitlines() if not line.startswith("outlierDetection")]
    (policies / "own.yaml").write_text("\n".join(kept), encoding="utf-8")


def test_stable_has_its_share_in_the_bake_and_the_canary_everything_in_the_end(
    released: Any, counts: Any, policy: Any, run_daemon: Callable[..., Any], wait: Callable[..., Any]
) -> None:
    policy(**{"warmup: 0s": "warmup: 0s, keepStable: 5%", "bake: 200ms": "bake: 2s"})
    run_daemon()
    released.release("v2", policy="own")

    wait(lambda: released.rollout(ATTEMPT).status.phase is Phase.PROMOTING if released.rollouts() else False)
    assert released.weights() == {"v1": 5, "v2": 95}

    done = released.reaches(ATTEMPT, Phase.SUCCEEDED)
    assert released.weights() == {"v1": 0, "v2": 100}
    assert [change.weight for change in done.status.weight_changes] == [50, 95, 100]


def test_a_stable_that_an_earlier_release_added_is_taken_out_only_when_it_has_nothing(
    released: Any, counts: Any, policy: Any, run_daemon: Callable[..., Any], wait: Callable[..., Any]
) -> None:
    policy(**{"warmup: 0s": "warmup: 0s, keepStable: 5%", "bake: 200ms": "bake: 2s"})
    run_daemon()
    released.release("v2")
    released.reaches(ATTEMPT, Phase.SUCCEEDED)
    released.release("v3", policy="own")

    wait(lambda: released.weights().get("v3") == 95)
    assert released.weights() == {"v1": 0, "v2": 5, "v3": 95}

    released.reaches("payment-v3-v3a-1", Phase.SUCCEEDED)
    assert released.weights() == {"v1": 0, "v3": 100}
    assert [one["name"] for one in released.rule_now()["spec"]["subsets"]] == ["v1", "v3"]
    assert "Holding" not in [reason for reason, _ in released.events("payment-v3-v3a-1")]


def test_a_step_is_left_early_with_the_evidence(
    released: Any, counts: Any, policy: Any, run_daemon: Callable[..., Any]
) -> None:
    policy(**{"hold: 200ms": "hold: {min: 1s, max: 5m}"})
    run_daemon()
    released.release("v2", policy="own")

    done = released.reaches(ATTEMPT, Phase.SUCCEEDED)

    assert any(entry.sentence.startswith("left after 1s of 1s to 5m") for entry in done.status.history)


def test_thresholds_that_the_policy_leaves_out_are_those_of_the_destination_rule(
    released: Any, counts: Any, policies: Path, run_daemon: Callable[..., Any]
) -> None:
    without_thresholds(policies)
    detection = {"consecutive5xxErrors": 7, "interval": "3s"}
    released.patch(DESTINATIONRULE, "payment", {"spec": {"trafficPolicy": {"outlierDetection": detection}}})
    controller = run_daemon()
    released.release("v2", policy="own")

    done = released.reaches(ATTEMPT, Phase.SUCCEEDED)

    place = f"DestinationRule {released.namespace}/payment: spec.trafficPolicy.outlierDetection"
    assert done.status.history[0].sentence.endswith(f"outlier thresholds of {place}")
    frozen = released.gateway.get(CONFIGMAP, controller.own_namespace, f"canary-policy-{done.status.policy.digest}")
    taken = json.loads(frozen["data"]["policy.json"])["outlierDetection"]
    assert taken == {
        "consecutive5xxErrors": 7, "interval": "3s", "baseEjectionTime": "30s", "maxEjectionPercent": 10,
    }  # fmt: skip
    assert done.status.policy.resolved["outlierDetection"] == taken


def test_thresholds_that_cannot_be_read_keep_a_release_waiting_until_they_can(
    released: Any, counts: Any, policies: Path, run_daemon: Callable[..., Any]
) -> None:
    without_thresholds(policies)
    broken = {"trafficPolicy": {"outlierDetection": {"consecutive5xxErrors": 20000}}}
    released.patch(DESTINATIONRULE, "payment", {"spec": broken})
    run_daemon()
    released.release("v2", policy="own")

    waiting = released.stalled(ATTEMPT, "BadOutlierDetection")
    assert "consecutive5xxErrors must be less than or equal to 10000, not 20000" in waiting.status.message
    released.patch(DESTINATIONRULE, "payment", {"spec": {"trafficPolicy": None}})

    done = released.reaches(ATTEMPT, Phase.SUCCEEDED)
    assert "outlier thresholds of canary's defaults" in done.status.history[0].sentence
