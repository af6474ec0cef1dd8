"""The controller dies in the middle of things and is started again: the release goes on from where it was."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING

import pytest

from canary.cluster.slots import SILENCE_S
from canary.model.rollout import Phase
from canary.sandbox import example

if TYPE_CHECKING:
    from .conftest import RouteSeen, Stage

pytestmark = pytest.mark.slow

TAKEOVER_S = SILENCE_S + 10.0
"""A new process has another identity, so it waits until the old one's Lease has been silent for so long."""


def test_killed_inside_a_step_it_goes_on_where_it_was(stage: Stage) -> None:
    hold_s = 18.0  # of the policy's first step: longer than the Lease takes to change hands
    version = stage.release(policy="slow-first")
    running = stage.wait_weight(version, 25)
    stage.wait_requests(lambda seen: seen.version(version).requests > 100, "it is well inside the step")

    stage.sandbox.controller.kill()
    killed = time.time()
    stage.sandbox.controller.start()
    ended = stage.wait_phase(version, Phase.SUCCEEDED, timeout_s=hold_s + TAKEOVER_S + 30)

    reached = [route.at for route in stage.routes if route.weights.get(version)]
    in_first_step = next(route.at for route in stage.routes if route.weights.get(version) == 100) - reached[0]
    took_over = min(at for at, rollout in stage.states_of(version) if at > killed) - killed
    print(f"first status of the new process {took_over:.1f} s after the kill; {in_first_step:.1f} s in a step of 18 s")
    assert stage.weights_of(version) == [25, 100]
    assert stage.steps_of(version) == [1, 2, 3], "no step is repeated"
    assert hold_s <= in_first_step < hold_s + 8.0, "the time before the kill counts"
    assert running.status.resumed_at is not None
    assert ended.uid == running.uid
    requests = stage.seen_requests()
    assert requests.lost == 0, requests.lost_examples
    assert requests.errors == 0


def test_killed_in_the_middle_of_a_rollback_it_still_ends_rolled_back(stage: Stage) -> None:
    before = stage.stable
    at_the_kill: list[float] = []

    def kill_when_off(route: RouteSeen) -> None:
        if stage.weights_of(version)[-1:] == [0] and not at_the_kill:
            os.kill(stage.sandbox.controller.pid, signal.SIGKILL)
            at_the_kill.append(route.at)

    version = stage.release(example.FAILS_ALWAYS)
    stage.wait_weight(version, 10)
    stage.on_route = kill_when_off
    stage.wait_dead()
    left = stage.rollout(version)
    stage.sandbox.controller.start()
    ended = stage.wait_phase(version, Phase.ROLLED_BACK, timeout_s=TAKEOVER_S + 20)

    print(f"killed while its status said {left.status.phase}")
    assert left.status.phase in (Phase.PROGRESSING, Phase.ROLLING_BACK)
    assert at_the_kill
    assert stage.weights_of(version) == [10, 0], "its own rollback is not taken for somebody else's edit"
    assert ended.status.cause is not None
    assert "near-total failure" in ended.status.cause.sentence
    assert stage.sandbox.weights() == {before: 100}
    assert version not in stage.subsets()
    assert stage.seen_requests().lost == 0


def test_told_to_end_it_drains_and_its_successor_goes_on_at_once(stage: Stage) -> None:
    version = stage.release(policy="two-steps")
    stage.wait_weight(version, 50)

    begun = time.monotonic()
    stage.sandbox.controller.stop()
    ended_after = time.monotonic() - begun
    code = stage.sandbox.controller.exit_code
    nobody = stage.canary("wait", example.deployment_name(version))
    pause = stage.canary("pause", example.deployment_name(version), "--reason", "while nobody is there")
    started = time.monotonic()
    stage.sandbox.controller.start()
    stage.wait_phase(version, Phase.PAUSED, timeout_s=TAKEOVER_S)
    heard_after = time.monotonic() - started
    stage.canary("resume", example.deployment_name(version))
    stage.wait_phase(version, Phase.SUCCEEDED)

    print(f"SIGTERM to exit {ended_after:.1f} s; start to first decision {heard_after:.1f} s")
    assert code == 0
    assert ended_after < 5.0
    assert nobody.returncode == 8
    assert "no controller lives" in nobody.stdout + nobody.stderr
    assert pause.returncode == 8, "the wish is stored, and said to wait"
    assert heard_after < SILENCE_S - 2.0, "the slots were given back, and not waited for"
    assert stage.weights_of(version) == [50, 100]
    assert stage.seen_requests().lost == 0
