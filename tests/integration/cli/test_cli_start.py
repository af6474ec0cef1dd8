"""`canary start` and `canary retry`: one object per attempt, and everybody races into the same one."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from canary.cluster.kinds import DEPLOYMENT

if TYPE_CHECKING:
    from conftest import Shop

NAME = "payment-v2-abc-1"


def test_start_makes_the_first_attempt_of_the_newest_revision(lively_shop: Shop) -> None:
    lively_shop.deployment()

    done = lively_shop.canary(
        "start", "payment-v2", "--policy", "standard", "--service", "payment", "--virtual-service", "routes",
        "--route", "primary", "--release-id", "build-7", "--reason", "friday",
    )  # fmt: skip

    spec = lively_shop.spec(NAME)
    user = spec["trigger"].pop("user")
    assert (done.returncode, done.stdout) == (0, f"{NAME} started\n")
    assert spec == {
        "target": "payment-v2",
        "policyName": "standard",
        "service": "payment",
        "virtualService": "routes",
        "route": "primary",
        "trigger": {"by": "cli", "reason": "friday", "id": "build-7"},
    }
    assert user


def test_the_newest_template_counts_and_not_the_newest_replicaset(lively_shop: Shop) -> None:
    lively_shop.deployment()
    found = lively_shop.gateway.get(DEPLOYMENT, lively_shop.namespace, "payment-v2")
    lively_shop.replicaset(found, "undone", number=7)
    lively_shop.replicaset(found, "younger", number=3)

    lively_shop.canary("start", "deploy/payment-v2", "--policy", "standard")

    assert lively_shop.names() == {"payment-v2-undone-1"}


def test_start_joins_the_attempt_that_is_under_way(lively_shop: Shop, running: dict[str, Any]) -> None:
    lively_shop.deployment()
    lively_shop.rollout("made-by-hand", **running)

    done = lively_shop.canary("start", "payment-v2", "--policy", "strict")

    assert done.returncode == 0
    assert done.stdout == "made-by-hand is already there (Progressing, with policy standard and not strict): joined\n"
    assert lively_shop.names() == {"made-by-hand"}


def test_two_pipelines_that_start_at_once_get_one_rollout(lively_shop: Shop) -> None:
    lively_shop.deployment()

    processes = [lively_shop.begin("start", "payment-v2", "--policy", "standard", "-o", "name") for _ in range(3)]
    results = [process.communicate(timeout=30)[0] for process in processes]

    assert results == [f"canaryrollout.canary.delivery/{NAME}\n"] * 3
    assert {process.returncode for process in processes} == {0}
    assert lively_shop.names() == {NAME}


@pytest.mark.parametrize(
    ("phase", "word"), [("Succeeded", "promoted"), ("RolledBack", "rolled back"), ("Aborted", "aborted")]
)
def test_a_revision_that_has_had_its_chance_is_not_started_again_by_itself(
    lively_shop: Shop, phase: str, word: str
) -> None:
    lively_shop.deployment()
    lively_shop.rollout(NAME, phase=phase)

    done = lively_shop.canary("start", "payment-v2", "--policy", "standard")

    assert (done.returncode, done.stdout) == (1, "")
    assert f"this revision was already {word} by {NAME}: canary retry {NAME}" in done.stderr
    assert lively_shop.names() == {NAME}


def test_a_new_revision_starts_whatever_became_of_the_old_one(lively_shop: Shop) -> None:
    lively_shop.deployment(revision="def")
    lively_shop.rollout(NAME, phase="RolledBack")

    lively_shop.canary("start", "payment-v2", "--policy", "standard")

    assert lively_shop.names() == {NAME, "payment-v2-def-1"}


def test_retry_is_a_new_attempt_with_the_same_wishes(lively_shop: Shop) -> None:
    lively_shop.deployment()
    asked = {"service": "payment", "route": "primary", "trigger": {"by": "annotation", "id": "build-7"}}
    lively_shop.rollout(NAME, spec={**asked, "abort": {"reason": "wrong build"}}, phase="Aborted")

    done = lively_shop.canary("retry", "payment-v2", "--reason", "flaky network")

    spec = lively_shop.spec("payment-v2-abc-2")
    assert (done.returncode, done.stdout) == (0, "payment-v2-abc-2 tries payment-v2 again\n")
    assert (spec["service"], spec["route"], spec["policyName"]) == ("payment", "primary", "standard")
    assert (spec["trigger"]["by"], spec["trigger"]["reason"]) == ("cli", "flaky network")
    assert spec["trigger"]["id"] == "build-7"
    assert "abort" not in spec


def test_the_next_attempt_after_the_tenth_is_the_eleventh(lively_shop: Shop) -> None:
    lively_shop.deployment()
    for number in (9, 10):
        lively_shop.rollout(f"payment-v2-abc-{number}", phase="RolledBack")

    lively_shop.canary("retry", "payment-v2-abc-9")

    assert "payment-v2-abc-11" in lively_shop.names()


def test_retry_of_what_is_under_way_is_refused(lively_shop: Shop, running: dict[str, Any]) -> None:
    lively_shop.deployment()
    lively_shop.rollout(NAME, **running)

    done = lively_shop.canary("retry", NAME)

    assert done.returncode == 1
    assert f"{NAME} is still Progressing" in done.stderr


def test_retry_of_a_revision_that_is_gone_points_to_start(lively_shop: Shop) -> None:
    lively_shop.deployment(revision="def")
    lively_shop.rollout(NAME, phase="RolledBack")

    done = lively_shop.canary("retry", NAME)

    assert done.returncode == 1
    assert "canary start payment-v2 --policy standard" in done.stderr


def test_start_and_wait_end_with_the_rollouts_exit_code(lively_shop: Shop) -> None:
    lively_shop.deployment()

    with lively_shop.begin("start", "payment-v2", "--policy", "standard", "--wait", "-o", "json") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stderr.readline() == f"{NAME} started\n"
        lively_shop.status(NAME, phase="RolledBack", cause={"reason": "Verdict", "sentence": "too many errors"})
        code, result = process.wait(20), process.stdout.read()

    assert code == 3
    assert json.loads(result)["status"]["phase"] == "RolledBack"


def test_start_and_wait_gives_up_when_told(lively_shop: Shop) -> None:
    lively_shop.deployment()

    done = lively_shop.canary("start", "payment-v2", "--policy", "standard", "--wait", "--timeout", "1s")

    assert done.returncode == 6
    assert lively_shop.names() == {NAME}


def test_without_a_controller_the_rollout_is_stored_and_exit_8_says_so(shop: Shop) -> None:
    shop.deployment()

    done = shop.canary("start", "payment-v2", "--policy", "standard")

    assert done.returncode == 8
    assert f"{NAME} is stored, but no controller lives" in done.stderr
    assert shop.names() == {NAME}


def test_a_missing_deployment_is_exit_7(lively_shop: Shop) -> None:
    done = lively_shop.canary("start", "payment-v2", "--policy", "standard")

    assert done.returncode == 7
    assert f"there is no Deployment payment-v2 in namespace {lively_shop.namespace}" in done.stderr


def test_a_name_that_could_not_be_right_is_refused_before_anything_is_sent(shop: Shop) -> None:
    done = shop.canary("start", "payment-v2", "--policy", "standard", "--service", "payment.other")

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "--service must be a plain name like payment, not 'payment.other'\n"
    assert shop.names() == set()


def test_a_policy_has_to_be_named(shop: Shop) -> None:
    assert shop.canary("start", "payment-v2").returncode == 2
