"""Prometheus is away for longer than any step may take: everything waits, visibly, and nothing is blamed."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from canary.model.rollout import Phase
from canary.sandbox import example

if TYPE_CHECKING:
    from .conftest import Stage

pytestmark = pytest.mark.slow

OUTAGE_S = 60.0
"""Four times the policy's hold and maxWait together, after which a step without a verdict pauses for a person."""


def test_prometheus_outage_holds_the_step_and_never_rolls_back(stage: Stage) -> None:
    version = stage.release(policy="impatient")
    stage.wait_weight(version, 25)

    stage.sandbox.prometheus.kill()
    began = time.monotonic()
    held = stage.wait(
        version,
        lambda rollout: any(
            condition.type == "Stalled" and condition.status == "True" for condition in rollout.status.conditions
        ),
    )
    visible_after = time.monotonic() - began
    status = stage.canary("status", example.deployment_name(version))
    while time.monotonic() < began + OUTAGE_S:
        rollout = stage.rollout(version)
        assert rollout.status.phase is Phase.PROGRESSING, rollout.status.message
        assert rollout.status.weight.desired == 25
        time.sleep(0.5)
    last = stage.rollout(version)
    stage.sandbox.prometheus.start()
    back = time.monotonic()
    ended = stage.wait_phase(version, Phase.SUCCEEDED)

    print(f"visible after {visible_after:.1f} s; promoted {time.monotonic() - back:.1f} s after its return")
    stalled = next(condition for condition in held.status.conditions if condition.type == "Stalled")
    assert stalled.reason == "TelemetryUnavailable"
    assert "HOLD" in held.status.message
    assert "Prometheus" in status.stdout
    assert last.status.resumed_at is None, "the step's clock stands still"
    assert last.status.step_elapsed == held.status.step_elapsed
    assert stage.wait_event(ended.name, "Holding")
    assert stage.phases_of(version)[-3:] == [Phase.PROGRESSING, Phase.PROMOTING, Phase.SUCCEEDED]
    assert stage.weights_of(version) == [25, 100]
    assert next(c for c in ended.status.conditions if c.type == "Stalled").status == "False"
    assert stage.seen_requests().lost == 0
