"""The sandbox as stories use it: parts that crash and come back, and callers whose every request is accounted for."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from canary.model.phase import Phase
from canary.sandbox.cluster import Sandbox
from canary.sandbox.load import Tally
from canary.sandbox.process import answers

pytestmark = pytest.mark.slow


def until(condition: Callable[[], object], what: str, timeout_s: float = 20.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout_s} s: {what}"
        time.sleep(0.05)


def test_crashed_parts_come_back_at_their_addresses_and_no_caller_notices(sandbox: Sandbox) -> None:
    record = sandbox.callers.record
    assert record is not None
    before = sandbox.pids

    sandbox.controller.kill()
    sandbox.prometheus.kill()
    assert sandbox.pids.keys() == before.keys() - {"controller", "prometheus"}
    assert not answers(f"{sandbox.controller.url}/readyz")
    assert not answers(f"{sandbox.prometheus.url}/-/ready")

    sandbox.controller.start()
    sandbox.prometheus.start()
    assert answers(f"{sandbox.controller.url}/readyz")
    assert answers(f"{sandbox.prometheus.url}/-/ready")
    assert sandbox.pids.keys() == before.keys()

    sent = Tally.read(record).requests
    until(lambda: Tally.read(record).requests > sent + 100, "more requests")
    sandbox.callers.stop()
    tally = Tally.read(record)
    assert tally.ending["unanswered"] == 0
    assert (tally.errors, tally.lost, set(tally.versions)) == (0, 0, {"v1"})


def test_an_annotated_version_is_reached_by_its_header_first_and_by_its_weight_then(sandbox: Sandbox) -> None:
    name = sandbox.release("v2")

    sandbox.wait_rollout(name, lambda rollout: rollout.status.phase is Phase.PROGRESSING, 30)
    until(lambda: sandbox.callers.debug_request().version == "v2", "the header route")
    assert sandbox.weights() == {"v1": 100}

    until(lambda: sandbox.weights() == {"v1": 90, "v2": 10}, "the first weight")
    (rollout,) = sandbox.rollouts(name)
    assert (rollout.spec.policy_name, rollout.spec.target) == ("demo", "payment-v2")
