"""A revision that was rolled back is tried again by itself: when, by which object, and when not any more."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from canary.engine.intake import Candidate, Carrier
from canary.engine.retry import Retries, Service, pause_after, planned, retries, rollbacks_before
from canary.model.annotations import OptIn
from canary.model.policy import OutlierDetection, Policy
from canary.model.rollout import ArmStatus, Phase, RetryStatus, Rollout, RolloutSpec, RolloutStatus, Trigger, Wish
from canary.model.verdict import Outcome, Reason

NOON = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
DUE = NOON + timedelta(minutes=5)
STABLE = ArmStatus(deployment="payment-v1", subset="v1", label="version", value="v1", revision="hash1")
V1 = Carrier("payment-v1", "hash1", NOON)
BACKOFF = Policy.model_validate({"name": "quick", "strategy": {"weights": [100], "retry": "backoff"}})


def attempt(
    n: int = 1,
    phase: Phase = Phase.ROLLED_BACK,
    *,
    version: int = 2,
    revision: str = "",
    minute: int | None = None,
    name: str = "",
    by: str = "cli",
    due: datetime | None = None,
    pinned: bool = True,
    deleting: bool = False,
    **spec: Any,
) -> Rollout:
    """An attempt at payment-v<version>, made in minute n; `due` is when it is tried again."""
    revision = revision or f"hash{version}"
    return Rollout(
        namespace="shop",
        name=name or f"payment-v{version}-{revision}-{n}",
        uid=f"uid-{version}-{n}",
        resource_version="1",
        generation=1,
        created=NOON + timedelta(minutes=n if minute is None else minute),
        deleting=deleting,
        finalizers=(),
        spec=RolloutSpec(target=f"payment-v{version}", policy_name="quick", trigger=Trigger(by=by), **spec),
        status=RolloutStatus(
            phase=phase,
            target_revision=revision if pinned else None,
            stable=STABLE if pinned else None,
            retry=RetryStatus(at=due, sentence="retry 1, 30s after it was rolled back") if due else None,
        ),
    )


def service(carrier: Carrier | None = V1, *, asks: OptIn | None = None, **revisions: str) -> Service:
    candidates = [Candidate("payment-v2", "hash2", NOON, asks, asks.service or "payment")] if asks is not None else []
    return Service(carrier, candidates, {"payment-v2": "hash2"} | revisions)


def decide(*rollouts: Rollout, now: datetime = DUE, of: Service | None = None) -> Retries:
    return retries(rollouts, of or service(), now)


def test_a_pause_grows_with_each_rollback_and_is_capped_as_envoy_caps_an_ejection() -> None:
    usual = OutlierDetection()
    long = OutlierDetection(base_ejection_time=timedelta(minutes=10))

    assert [pause_after(usual, count).total_seconds() for count in (1, 2, 9, 10, 11, 10**30)] == [
        30, 60, 270, 300, 300, 300,
    ]  # fmt: skip
    assert pause_after(long, 1) == pause_after(long, 7) == timedelta(minutes=10)


@given(st.integers(1, 10**12), st.integers(1, 10**40))
def test_a_pause_is_never_shorter_than_the_one_before_nor_than_the_base(base_ms: int, rollbacks: int) -> None:
    thresholds = OutlierDetection(base_ejection_time=timedelta(milliseconds=min(base_ms, 31_536_000_000)))

    pause = pause_after(thresholds, rollbacks)

    assert thresholds.base_ejection_time <= pause <= max(thresholds.base_ejection_time, timedelta(minutes=5))
    assert pause >= pause_after(thresholds, max(1, rollbacks - 1))


def test_the_plan_says_when_and_why() -> None:
    first, twelfth = planned(BACKOFF, "payment-v2-hash2-1", 1, NOON), planned(BACKOFF, "payment-v2-hash2-12", 12, NOON)

    assert first is not None
    assert first.at == NOON + timedelta(seconds=30)
    assert first.sentence == (
        "retry 1, 30s (baseEjectionTime 30s x 1 rollback) after payment-v2-hash2-1 was rolled back"
    )
    assert twelfth is not None
    assert "5m (baseEjectionTime 30s x 12 rollbacks, at most 5m)" in twelfth.sentence


def test_a_policy_that_does_not_say_so_tries_nothing_again() -> None:
    assert planned(Policy.model_validate({"name": "x", "strategy": {"weights": [100]}}), "a", 1, NOON) is None


def test_rollbacks_of_this_revision_count_whoever_started_them() -> None:
    other_revision = attempt(1, revision="older")
    promoted, by_hand = attempt(2, Phase.SUCCEEDED), attempt(minute=3, name="by-hand", by="api")
    first, now = attempt(1), attempt(3, Phase.ROLLING_BACK, minute=9)

    assert rollbacks_before([other_revision, first, promoted, by_hand, now], now) == 2
    assert rollbacks_before([now], attempt(1, Phase.ROLLING_BACK)) == 0


def test_attempts_that_the_history_has_forgotten_count_too() -> None:
    now = attempt(12, Phase.ROLLING_BACK)

    assert rollbacks_before([attempt(11), now], now) == 11
    assert rollbacks_before([now], now) == 11


def test_before_it_is_due_there_is_nothing_but_to_wait() -> None:
    found = decide(attempt(due=DUE), now=DUE - timedelta(seconds=20))

    assert found == Retries(wait=timedelta(seconds=20))


def test_when_it_is_due_the_same_wishes_are_a_new_attempt_with_the_next_number() -> None:
    last = attempt(2, due=DUE, service="payment", route="primary", virtual_service="shop")

    found = decide(attempt(1), last)

    assert found.attempt is not None
    assert found.attempt["metadata"] == {"name": "payment-v2-hash2-3", "namespace": "shop"}
    spec = RolloutSpec.model_validate(found.attempt["spec"])
    assert (spec.target, spec.policy_name, spec.service, spec.route) == ("payment-v2", "quick", "payment", "primary")
    assert spec.virtual_service == "shop"
    assert spec.trigger.by == "retry"
    assert spec.trigger.reason == found.sentence == "retry 1, 30s after it was rolled back"


def test_a_pause_or_promotion_wished_for_the_old_attempt_is_not_wished_for_the_next() -> None:
    found = decide(attempt(due=DUE, paused=Wish(reason="lunch")))

    assert found.attempt is not None
    assert "paused" not in found.attempt["spec"]


def test_the_release_keeps_its_id() -> None:
    last = attempt(due=DUE)
    spec = last.spec.model_copy(update={"trigger": Trigger(by="cli", id="build/77")})

    found = decide(last.model_copy(update={"spec": spec}))

    assert found.attempt is not None
    assert found.attempt["spec"]["trigger"]["id"] == "build/77"


def test_what_was_started_by_annotation_is_tried_again_as_the_annotations_ask_now() -> None:
    asks = OptIn(policy="careful", service="payment", release_id="build/78")

    found = decide(attempt(due=DUE, by="annotation"), of=service(asks=asks))

    assert found.attempt is not None
    spec = RolloutSpec.model_validate(found.attempt["spec"])
    assert (spec.policy_name, spec.trigger.by, spec.trigger.id) == ("careful", "annotation", "build/78")
    assert spec.trigger.reason == "retry 1, 30s after it was rolled back"
    assert found.attempt["metadata"]["name"] == "payment-v2-hash2-2"


def test_an_attempt_of_another_name_is_followed_by_the_first_of_the_usual_ones() -> None:
    found = decide(attempt(name="by-hand", due=DUE))

    assert found.attempt is not None
    assert found.attempt["metadata"]["name"] == "payment-v2-hash2-1"


OVER: dict[str, tuple[Callable[[], list[Rollout]], Service, str]] = {
    "tried again": (
        lambda: [attempt(1, due=DUE), attempt(2, Phase.PROGRESSING)],
        service(),
        "tried again by payment-v2-hash2-2",
    ),
    "tried again, and aborted before it began": (
        lambda: [attempt(1, due=DUE), attempt(2, Phase.ABORTED, pinned=False)],
        service(),
        "tried again by payment-v2-hash2-2",
    ),
    "aborted": (
        lambda: [attempt(due=DUE, abort=Wish(actor="ann", reason="broken"))],
        service(),
        "not tried again: aborted by ann: broken",
    ),
    "a newer release has been tried": (
        lambda: [attempt(due=DUE), attempt(2, version=3)],
        service(),
        "not tried again: payment-v3-hash3-2 came after it",
    ),
    "a newer template": (
        lambda: [attempt(due=DUE)],
        service(**{"payment-v2": "hash2b"}),
        "not tried again: payment-v2 has a newer revision, hash2b",
    ),
    "another version carries the traffic": (
        lambda: [attempt(due=DUE)],
        service(Carrier("payment-v9", "hash9", NOON)),
        "not tried again: payment-v1 (revision hash1) does not carry the traffic any more",
    ),
    "stable was updated in place": (
        lambda: [attempt(due=DUE)],
        service(Carrier("payment-v1", "hash1b", NOON)),
        "not tried again: payment-v1 (revision hash1) does not carry the traffic any more",
    ),
    "the Deployment is gone": (
        lambda: [attempt(due=DUE)],
        Service(Carrier("payment-v1", "hash1", NOON), [], {}),
        "not tried again: Deployment payment-v2 is gone",
    ),
    "it does not opt in any more": (
        lambda: [attempt(due=DUE, by="annotation")],
        service(),
        "not tried again: payment-v2 does not ask for it any more (annotation canary.delivery/policy)",
    ),
}


@pytest.mark.parametrize("name", OVER)
@pytest.mark.parametrize("now", [NOON, DUE, DUE + timedelta(days=1)])
def test_a_retry_that_nobody_needs_any_more_is_called_off_with_the_reason(name: str, now: datetime) -> None:
    rollouts, there, sentence = OVER[name]

    found = decide(*rollouts(), now=now, of=there)

    assert (found.attempt, found.wait) == (None, None)
    assert found.settled == (("payment-v2-hash2-1", RetryStatus(sentence=sentence)),)


WAITS: dict[str, tuple[Callable[[], list[Rollout]], Service]] = {
    "another attempt is on the way": (
        lambda: [attempt(due=DUE), attempt(2, Phase.PENDING, version=3, pinned=False)],
        service(),
    ),
    "an older one is still going back": (
        lambda: [attempt(1, Phase.ROLLING_BACK, version=3), attempt(2, due=DUE)],
        service(),
    ),
    "nobody can tell who carries the traffic": (lambda: [attempt(due=DUE)], service(None)),
    "stable's ReplicaSet is being made": (lambda: [attempt(due=DUE)], service(Carrier("payment-v1", "", None))),
    "its own ReplicaSet is being made": (lambda: [attempt(due=DUE)], service(**{"payment-v2": ""})),
    "its record is being deleted": (lambda: [attempt(due=DUE, deleting=True)], service()),
}


@pytest.mark.parametrize("name", WAITS)
def test_what_may_pass_is_waited_for(name: str) -> None:
    rollouts, there = WAITS[name]

    assert decide(*rollouts(), of=there) == Retries()


@pytest.mark.parametrize("phase", [phase for phase in Phase if phase is not Phase.ROLLED_BACK])
def test_only_a_rollback_is_tried_again(phase: Phase) -> None:
    assert decide(attempt(phase=phase, due=DUE)) == Retries()


def test_made_once_even_if_the_new_attempt_is_deleted_again() -> None:
    made = decide(attempt(due=DUE)).attempt
    assert made is not None
    ((_, told),) = decide(attempt(due=DUE), attempt(2, Phase.PENDING, pinned=False)).settled

    settled = attempt()
    settled = settled.model_copy(update={"status": settled.status.model_copy(update={"retry": told})})

    assert decide(settled) == Retries()


def test_an_attempt_that_was_rolled_back_with_a_policy_that_says_backoff_has_its_plan_in_the_last_write(
    world: Callable[..., Any],
) -> None:
    release = world(retry="backoff").run_to_weight(25)

    release.say(Outcome.FAIL, Reason.ERROR_RATE, "5 % of requests fail.")
    release.run_to(Phase.ROLLED_BACK)

    retry = release.status.retry
    assert retry.at - release.status.phase_started_at == timedelta(seconds=30)
    assert "payment-v2-v2hash-1 was rolled back" in retry.sentence


@pytest.mark.parametrize("wish", ["abort", "delete"])
def test_an_abort_plans_nothing(world: Callable[..., Any], wish: str) -> None:
    release = world(retry="backoff").run_to_weight(25)

    if wish == "abort":
        release.wish(abort=Wish(actor="ann"))
    else:
        release.deleting = True
    release.run_to(Phase.ABORTED)

    assert release.status.retry is None


def test_a_rollback_for_want_of_a_verdict_is_one_too(world: Callable[..., Any]) -> None:
    release = world(retry="backoff", analysis={"onInconclusive": "rollback"}).run_to_weight(25)

    release.say(Outcome.HOLD, Reason.INCONCLUSIVE, "not sure.")

    assert release.run_to(Phase.ROLLED_BACK).status.retry.at is not None
