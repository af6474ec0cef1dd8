"""What was rolled back is tried again by itself, on a real API server: once, later each time, against nobody."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from canary.cluster.kinds import CANARYROLLOUT
from canary.model.rollout import Phase, TriggerBy

pytestmark = pytest.mark.slow

FIRST, SECOND, THIRD = (f"payment-v2-v2a-{number}" for number in (1, 2, 3))


@pytest.fixture
def backoff(policies: Path) -> Callable[[str], None]:
    """Makes the policy `again`: tried again after `base` times the rollbacks."""

    def make(base: str) -> None:
        text = (policies / "quick.yaml").read_text(encoding="utf-8")
        text = text.replace("name: quick", "name: again").replace("{weights", "{retry: backoff, weights")
        text = text.replace("interval: 2s", f"interval: 2s, baseEjectionTime: {base}")
        (policies / "again.yaml").write_text(text, encoding="utf-8")

    return make


def test_a_release_that_was_bad_luck_is_promoted_by_the_third_attempt(
    released: Any, counts: Any, backoff: Any, run_daemon: Callable[..., Any], wait: Callable[..., Any]
) -> None:
    backoff("1s")
    counts.broken["payment-v2"] = (1.0, 0.0)
    run_daemon()
    released.release("v2", policy="again", release_id="build/77")

    first = released.reaches(FIRST, Phase.ROLLED_BACK)
    second = released.reaches(SECOND, Phase.ROLLED_BACK)
    counts.broken.clear()
    third = released.reaches(THIRD, Phase.SUCCEEDED)

    waited = [
        (later.created - earlier.status.phase_started_at.replace(microsecond=0)).total_seconds()
        for earlier, later in ((first, second), (second, third))
    ]
    assert waited[0] >= 1
    assert waited[1] >= 2
    assert third.spec.trigger.by is TriggerBy.ANNOTATION
    assert third.spec.trigger.id == "build/77"
    assert (
        third.spec.trigger.reason == f"retry 2, 2s (baseEjectionTime 1s x 2 rollbacks) after {SECOND} was rolled back"
    )
    assert (first.status.retry.at, second.status.retry.at) != (None, None)
    wait(lambda: released.rollout(FIRST).status.retry.at is None, what="for the first to say that it was tried again")
    assert released.rollout(FIRST).status.retry.sentence == f"tried again by {SECOND}"
    assert "retry 1, 1s" in released.event(SECOND, "Retrying")
    assert [one.name for one in released.rollouts()] == [FIRST, SECOND, THIRD]


def test_a_controller_that_was_restarted_still_tries_again(
    released: Any, counts: Any, backoff: Any, run_daemon: Callable[..., Any]
) -> None:
    backoff("3s")
    counts.broken["payment-v2"] = (1.0, 0.0)
    controller = run_daemon()
    released.deploy("v2")
    released.start("by-hand", "payment-v2", policy="again")
    rolled_back = released.reaches("by-hand", Phase.ROLLED_BACK)
    controller.stop()
    counts.broken.clear()

    controller.again()

    again = released.reaches(FIRST, Phase.SUCCEEDED)
    assert again.spec.trigger.by is TriggerBy.RETRY
    assert again.created >= rolled_back.status.retry.at.replace(microsecond=0)


def test_an_abort_of_what_was_rolled_back_calls_the_next_attempt_off(
    released: Any, counts: Any, backoff: Any, run_daemon: Callable[..., Any], wait: Callable[..., Any]
) -> None:
    backoff("2s")
    counts.broken["payment-v2"] = (1.0, 0.0)
    run_daemon()
    released.release("v2", policy="again")
    released.reaches(FIRST, Phase.ROLLED_BACK)

    released.patch_abort(FIRST)

    wait(lambda: released.rollout(FIRST).status.retry.at is None, what="for the retry to be called off")
    assert released.rollout(FIRST).status.retry.sentence == "not tried again: aborted by me: test"
    time.sleep(2.5)  # when it would have been due
    assert [one.name for one in released.rollouts()] == [FIRST]


def test_an_attempt_that_was_deleted_is_not_made_again(
    released: Any, counts: Any, backoff: Any, run_daemon: Callable[..., Any], wait: Callable[..., Any]
) -> None:
    backoff("1s")
    counts.broken["payment-v2"] = (1.0, 0.0)
    run_daemon()
    released.release("v2", policy="again")
    released.reaches(FIRST, Phase.ROLLED_BACK)
    released.reaches(SECOND, Phase.CHECKING, Phase.PROGRESSING, Phase.ROLLING_BACK, Phase.ROLLED_BACK)
    wait(lambda: released.rollout(FIRST).status.retry.at is None)

    released.gateway.delete(CANARYROLLOUT, released.namespace, SECOND)
    wait(lambda: [one.name for one in released.rollouts()] == [FIRST], what="for the second to go")

    time.sleep(2.5)  # longer than either pause
    assert [one.name for one in released.rollouts()] == [FIRST]
    assert released.weights() == {"v1": 100}
