"""`canary wait` in a pipeline: the exit code tells how it ended, stdout has the result, stderr the way there."""

from __future__ import annotations

import json
import re
import time
from typing import TYPE_CHECKING, Any

import pytest

from canary.cluster.kinds import CANARYROLLOUT

if TYPE_CHECKING:
    from conftest import Shop

ENDS = [
    ("Succeeded", 0, "was promoted"),
    ("Failed", 1, "failed"),
    ("RolledBack", 3, "was rolled back"),
    ("Aborted", 4, "was aborted"),
    ("Superseded", 4, "was superseded"),
]


@pytest.mark.parametrize(("phase", "code", "words"), ENDS)
def test_the_exit_code_tells_how_a_rollout_ended(shop: Shop, phase: str, code: int, words: str) -> None:
    shop.rollout(phase=phase, message="all there is to say")

    done = shop.canary("wait", "payment-v2")

    assert (done.returncode, done.stdout) == (code, f"payment-v2-abc-1 {words}: all there is to say\n")


def test_any_end_will_do_when_only_the_end_is_waited_for(shop: Shop) -> None:
    shop.rollout(phase="RolledBack")

    assert shop.canary("wait", "payment-v2", "--for", "finished").returncode == 0


def test_a_promotion_is_waited_for_and_its_steps_go_to_stderr(lively_shop: Shop, running: dict[str, Any]) -> None:
    lively_shop.rollout(**running)

    with lively_shop.begin("wait", "payment-v2") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        first = process.stderr.readline()
        lively_shop.status(step={"index": 5, "of": 5}, weight={"desired": 100, "configured": 100, "observed": 99})
        second = process.stderr.readline()
        lively_shop.status(phase="Succeeded", message="promoted after 9m")
        code, result = process.wait(20), process.stdout.read()

    assert re.search(r"\d\d:\d\d:\d\d payment-v2-abc-1: Progressing, 2/5, 25% \(24%\), no breach in 412", first)
    assert "5/5, 100% (99%)" in second
    assert (code, result) == (0, "payment-v2-abc-1 was promoted: promoted after 9m\n")


def test_a_pause_needs_a_person_so_the_pipeline_is_told(lively_shop: Shop, running: dict[str, Any]) -> None:
    running |= {"phase": "Paused", "pausedFor": "PauseAt", "message": "paused at 25 % as the policy asks"}
    lively_shop.rollout(**running)

    done = lively_shop.canary("wait", "payment-v2")

    assert (done.returncode, done.stdout) == (5, "payment-v2-abc-1 is paused: paused at 25 % as the policy asks\n")


def test_a_pause_is_waited_through_when_asked(lively_shop: Shop, running: dict[str, Any]) -> None:
    lively_shop.rollout(**running | {"phase": "Paused", "pausedFor": "PauseAt"})

    with lively_shop.begin("wait", "payment-v2", "--through-pauses") as process:
        assert process.stderr is not None
        assert "Paused" in process.stderr.readline()
        lively_shop.status(phase="RolledBack", cause={"reason": "Verdict", "sentence": "too many errors"})
        code = process.wait(20)

    assert code == 3


def test_time_out_is_exit_6_and_says_where_it_was(lively_shop: Shop, running: dict[str, Any]) -> None:
    lively_shop.rollout(**running)
    began = time.monotonic()

    done = lively_shop.canary("wait", "payment-v2", "--timeout", "1s")

    assert (done.returncode, done.stdout) == (6, "payment-v2-abc-1 timed out: Progressing after 1s\n")
    assert time.monotonic() - began >= 1


@pytest.mark.parametrize("timeout", ["soon", "30", "-1s"])
def test_a_timeout_that_is_no_duration_is_a_usage_error(shop: Shop, timeout: str) -> None:
    done = shop.canary("wait", "payment-v2", "--timeout", timeout)

    assert done.returncode == 2
    assert "30m" in done.stderr or "30s" in done.stderr


def test_an_unknown_rollout_is_exit_7(shop: Shop) -> None:
    done = shop.canary("wait", "nonesuch")

    assert (done.returncode, done.stdout) == (7, "")
    assert "there is no rollout or Deployment nonesuch" in done.stderr


def test_a_rollout_deleted_while_waited_for_is_exit_7(lively_shop: Shop, running: dict[str, Any]) -> None:
    lively_shop.rollout(**running)

    with lively_shop.begin("wait", "payment-v2") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stderr.readline()
        lively_shop.gateway.delete(CANARYROLLOUT, lively_shop.namespace, "payment-v2-abc-1")
        code, result = process.wait(20), process.stdout.read()

    assert (code, "was deleted" in result) == (7, True)


def test_without_a_controller_nothing_will_happen_and_exit_8_says_so(shop: Shop, running: dict[str, Any]) -> None:
    shop.rollout(**running)

    done = shop.canary("wait", "payment-v2")

    assert done.returncode == 8
    assert "no controller lives" in done.stdout


def test_a_lease_nobody_renews_is_no_controller(shop: Shop, running: dict[str, Any]) -> None:
    from canary.cluster.kinds import LEASE

    shop.rollout(**running)
    shop.controller_lives()
    stale = {"renewTime": "2020-01-01T00:00:00.000000Z", "leaseDurationSeconds": 12}
    shop.gateway.patch(LEASE, shop.namespace, "canary-member-test", {"spec": stale}, patch_type="merge")

    done = shop.canary("wait", "payment-v2")

    assert done.returncode == 8
    assert "is not renewed" in done.stdout


@pytest.mark.slow
def test_a_controller_that_dies_while_waited_for_is_noticed(lively_shop: Shop, running: dict[str, Any]) -> None:
    lively_shop.rollout(**running)

    with lively_shop.begin("wait", "payment-v2") as process:
        assert process.stderr is not None
        process.stderr.readline()
        lively_shop.controller_dies()
        code = process.wait(40)

    assert code == 8


def test_a_rollout_that_is_stalled_says_why_while_it_is_waited_for(lively_shop: Shop) -> None:
    stalled = {
        "type": "Stalled",
        "status": "True",
        "reason": "NoRoute",
        "message": "no VirtualService routes to payment",
        "lastTransitionTime": "2026-01-31T08:00:00Z",
    }
    lively_shop.rollout(phase="Pending", conditions=[stalled])

    done = lively_shop.canary("wait", "payment-v2", "--timeout", "0s")

    assert done.returncode == 6
    assert "Pending, no VirtualService routes to payment" in done.stderr


def test_the_result_as_json_is_the_object_and_nothing_else_is_on_stdout(shop: Shop) -> None:
    shop.rollout(phase="RolledBack", cause={"reason": "Verdict", "sentence": "too many errors"})

    done = shop.canary("wait", "payment-v2", "-o", "json")

    assert done.returncode == 3
    assert json.loads(done.stdout)["status"]["phase"] == "RolledBack"
    assert "was rolled back: too many errors" in done.stderr
