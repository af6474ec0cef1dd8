"""promote, pause, resume, abort: what they write into the spec, and what they refuse to write."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from conftest import Shop

PAUSED = {"phase": "Paused", "pausedFor": "PauseAt", "message": "paused at 25 % as the policy asks"}
NAME = "payment-v2-abc-1"


def test_promote_goes_past_exactly_the_step_it_saw(lively_shop: Shop, running: dict[str, Any]) -> None:
    lively_shop.rollout(**running | PAUSED)

    done = lively_shop.canary("promote", "payment-v2", "--reason", "looks good")

    wish = lively_shop.spec()["promote"]
    assert (done.returncode, done.stdout) == (0, f"{NAME} goes on from step 2/5\n")
    assert (wish["step"], wish["reason"]) == (2, "looks good")
    assert wish["actor"]
    assert "full" not in wish


def test_a_later_wish_replaces_the_earlier_one_altogether(lively_shop: Shop, running: dict[str, Any]) -> None:
    """A merge patch that only adds would leave {step: 2, full: true}, which the controller cannot read."""
    lively_shop.rollout(**running | PAUSED)

    lively_shop.canary("promote", NAME)
    lively_shop.canary("promote", NAME, "--full")
    full = lively_shop.spec()["promote"]
    lively_shop.canary("promote", NAME)
    step = lively_shop.spec()["promote"]

    assert (full.get("step"), full.get("full")) == (None, True)
    assert (step.get("step"), step.get("full")) == (2, None)


def test_promote_before_the_pause_of_a_step_is_taken(lively_shop: Shop, running: dict[str, Any]) -> None:
    running["policy"]["resolved"]["strategy"]["pauseAt"] = [25]
    lively_shop.rollout(**running)

    assert lively_shop.canary("promote", NAME).returncode == 0
    assert lively_shop.spec()["promote"]["step"] == 2


def test_promote_of_a_header_only_canary_is_its_way_on(lively_shop: Shop, running: dict[str, Any]) -> None:
    running["policy"]["resolved"]["strategy"]["weights"] = []
    lively_shop.rollout(**running | {"step": {"index": 0, "of": 1}})

    done = lively_shop.canary("promote", NAME)

    assert (done.returncode, done.stdout) == (0, f"{NAME} goes on from step header\n")
    assert lively_shop.spec()["promote"]["step"] == 0


def test_promote_of_a_step_that_waits_for_nobody_is_refused(lively_shop: Shop, running: dict[str, Any]) -> None:
    lively_shop.rollout(**running)

    done = lively_shop.canary("promote", NAME)

    assert done.returncode == 1
    assert "does not wait for anybody at step 2/5" in done.stderr
    assert "promote" not in lively_shop.spec()


def test_promote_full_takes_a_running_step_to_the_end(lively_shop: Shop, running: dict[str, Any]) -> None:
    lively_shop.rollout(**running)

    done = lively_shop.canary("promote", NAME, "--full")

    assert (done.returncode, done.stdout) == (0, f"{NAME} goes to 100 % at once\n")
    assert lively_shop.spec()["promote"]["full"] is True


def test_pause_and_resume_are_a_wish_and_its_end(lively_shop: Shop, running: dict[str, Any]) -> None:
    lively_shop.rollout(**running)

    paused = lively_shop.canary("pause", NAME, "--reason", "lunch")
    wish = lively_shop.spec()["paused"]
    again = lively_shop.canary("pause", NAME)
    promoted = lively_shop.canary("promote", NAME, "--full")
    resumed = lively_shop.canary("resume", NAME)

    assert [paused.returncode, again.returncode, promoted.returncode, resumed.returncode] == [0, 0, 1, 0]
    assert wish["reason"] == "lunch"
    assert again.stdout.startswith(f"{NAME} already is paused by ")
    assert "canary resume" in promoted.stderr
    assert "paused" not in lively_shop.spec()


def test_abort_needs_a_reason_and_keeps_it(lively_shop: Shop, running: dict[str, Any]) -> None:
    lively_shop.rollout(**running)

    missing = lively_shop.canary("abort", NAME)
    blank = lively_shop.canary("abort", NAME, "--reason", " ")
    done = lively_shop.canary("abort", NAME, "--reason", "wrong build")
    again = lively_shop.canary("abort", NAME, "--reason", "really")
    promoted = lively_shop.canary("promote", NAME, "--full")

    assert [missing.returncode, blank.returncode, done.returncode, again.returncode] == [2, 2, 0, 0]
    assert lively_shop.spec()["abort"]["reason"] == "wrong build"
    assert "already is being aborted by" in again.stdout
    assert promoted.returncode == 1
    assert "is being aborted" in promoted.stderr


@pytest.mark.parametrize("command", ["promote", "pause", "resume", "abort"])
@pytest.mark.parametrize("phase", ["Succeeded", "RolledBack"])
def test_what_has_ended_cannot_be_steered_any_more(lively_shop: Shop, command: str, phase: str) -> None:
    lively_shop.rollout(phase=phase)
    before = lively_shop.spec()

    done = lively_shop.canary(command, NAME, *(["--reason", "x"] if command == "abort" else []))

    assert done.returncode == 1
    assert f"has ended ({phase})" in done.stderr
    assert lively_shop.spec() == before


def test_an_abort_of_what_was_rolled_back_calls_the_next_try_off(lively_shop: Shop, running: dict[str, Any]) -> None:
    retry = {"at": "2126-01-31T08:05:00.000000Z", "sentence": "retry 1, 30s after it was rolled back"}
    lively_shop.rollout(**running | {"phase": "RolledBack", "retry": retry})

    done = lively_shop.canary("abort", NAME, "--reason", "broken")

    assert (done.returncode, done.stdout) == (0, f"{NAME} is not tried again by itself\n")
    assert lively_shop.spec()["abort"]["reason"] == "broken"


def test_promote_full_takes_what_stable_keeps_in_the_bake(lively_shop: Shop, running: dict[str, Any]) -> None:
    baking = {"phase": "Promoting", "step": {"index": 6, "of": 5}, "weight": {"desired": 95, "configured": 95}}
    lively_shop.rollout(**running | baking)

    refused = lively_shop.canary("promote", NAME)
    done = lively_shop.canary("promote", NAME, "--full")

    assert refused.returncode == 1
    assert "bakes at 95 % and is being promoted by itself" in refused.stderr
    assert done.returncode == 0
    assert lively_shop.spec()["promote"]["full"] is True


@pytest.mark.parametrize(
    ("command", "phase", "sentence"),
    [
        ("promote", "Pending", "it has not begun"),
        ("promote", "Checking", "it has not begun"),
        ("promote", "Promoting", "is being promoted"),
        ("promote", "RollingBack", "cannot be promoted"),
        ("pause", "RollingBack", "cannot be paused"),
        ("resume", "Progressing", "is not paused"),
        ("resume", "Paused", "canary promote"),
        ("abort", "RollingBack", "already is being rolled back"),
    ],
)
def test_a_wish_that_makes_no_sense_is_refused_in_one_sentence(
    lively_shop: Shop, running: dict[str, Any], command: str, phase: str, sentence: str
) -> None:
    lively_shop.rollout(**running | {"phase": phase})
    before = lively_shop.spec()

    done = lively_shop.canary(command, NAME, *(["--reason", "x"] if command == "abort" else []))

    assert (done.returncode, done.stdout) == (1, "")
    assert sentence in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert lively_shop.spec() == before


@pytest.mark.parametrize("command", ["promote", "pause", "resume", "abort"])
def test_an_unknown_name_is_exit_7(shop: Shop, command: str) -> None:
    assert shop.canary(command, "nonesuch", *(["--reason", "x"] if command == "abort" else [])).returncode == 7


def test_without_a_controller_the_wish_is_kept_and_exit_8_says_that_nothing_happens(
    shop: Shop, running: dict[str, Any]
) -> None:
    shop.rollout(**running)

    done = shop.canary("abort", NAME, "--reason", "wrong build")

    assert (done.returncode, done.stdout) == (8, "")
    assert "the wish is stored, but no controller lives" in done.stderr
    assert shop.spec()["abort"]["reason"] == "wrong build"


@pytest.mark.parametrize("reason", ["\x1b[31mred", "a\nb", "x" * 257])
def test_a_hostile_reason_is_refused_and_nothing_is_written(
    lively_shop: Shop, running: dict[str, Any], reason: str
) -> None:
    lively_shop.rollout(**running)

    done = lively_shop.canary("pause", NAME, "--reason", reason)

    assert done.returncode == 1
    assert "--reason must be one line" in done.stderr
    assert "paused" not in lively_shop.spec()


def test_what_was_wished_shows_in_the_full_view(lively_shop: Shop, running: dict[str, Any]) -> None:
    lively_shop.rollout(**running)
    lively_shop.canary("pause", NAME, "--reason", "lunch")

    assert "(lunch)" in lively_shop.canary("status", NAME).stdout
