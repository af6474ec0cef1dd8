"""CanaryRollout objects: read strictly, written back the same, and only wishes that make sense."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import ValidationError

from canary.model.phase import TERMINAL, Phase
from canary.model.rollout import Cause, PromoteWish, Rollout, RolloutSpec, RolloutStatus, TriggerBy
from canary.model.route import Arm

STATUS: dict[str, Any] = {
    "observedGeneration": 3,
    "phase": "Progressing",
    "message": "step 2 of 5",
    "service": "payment",
    "step": {"index": 2, "of": 5},
    "weight": {"desired": 25, "configured": 25, "observed": 24},
    "phaseStartedAt": "2026-01-31T08:00:00.000000Z",
    "stepElapsed": "1m30s",
    "resumedAt": "2026-01-31T08:05:00.250000Z",
    "targetRevision": "6d4b75cb6d",
    "stable": {"deployment": "payment-v1", "subset": "v1", "label": "version", "value": "v1", "revision": ""},
    "canary": {"deployment": "payment-v2", "subset": "v2", "label": "version", "value": "v2", "revision": "6d4b75cb6d"},
    "route": {"virtualService": "payment", "http": "primary", "host": "payment", "port": 80},
    "policy": {"name": "standard", "digest": "0123456789abcdef", "resolved": {"name": "standard"}},
    "tile": "5s",
    "verdict": {
        "outcome": "pass",
        "reason": "healthy",
        "sentence": "no breach",
        "at": "2026-01-31T08:05:30.000000Z",
        "evidence": [
            {
                "metric": "errorRate",
                "canary": [412, 0],
                "stable": [3700, 2],
                "bound": 0.01,
                "eValue": 1.5,
                "limit": 200.0,
            }
        ],
    },
    "pausedFor": "PauseAt",
    "cause": {"reason": "Verdict", "sentence": "too many errors"},
    "drift": {
        "since": "2026-01-31T08:05:30.000000Z",
        "manager": "kubectl",
        "reasserted": 1,
        "nextTry": "2026-01-31T08:06:30.000000Z",
    },
    "weightChanges": [
        {"step": 1, "weight": 10, "asked": "2026-01-31T08:00:00.000000Z", "reached": "2026-01-31T08:00:00.100000Z"}
    ],
    "history": [
        {"at": "2026-01-31T08:00:00.000000Z", "phase": "Progressing", "step": 1, "weight": 10, "sentence": "10 %"}
    ],
    "historyDropped": 2,
    "retry": {"at": "2026-01-31T08:05:00.000000Z", "sentence": "retry 1, 30s after it was rolled back"},
    "conditions": [
        {
            "type": "Ready",
            "status": "False",
            "reason": "Progressing",
            "message": "step 2 of 5",
            "lastTransitionTime": "2026-01-31T08:00:00.000000Z",
            "observedGeneration": 3,
        }
    ],
}


def document(**changes: Any) -> dict[str, Any]:
    return {
        "apiVersion": "canary.delivery/v1alpha1",
        "kind": "CanaryRollout",
        "metadata": {
            "namespace": "shop",
            "name": "payment-v2-6d4b75cb6d-1",
            "uid": "u-1",
            "resourceVersion": "17",
            "generation": 3,
            "creationTimestamp": "2026-01-31T08:00:00Z",
        },
        "spec": {"target": "payment-v2", "policyName": "standard"},
        **changes,
    }


def test_a_rollout_nobody_has_looked_at_yet_is_pending() -> None:
    rollout = Rollout.parse(document())

    assert rollout.status.phase is Phase.PENDING
    assert rollout.spec.trigger.by is TriggerBy.API
    assert rollout.full_name == "shop/payment-v2-6d4b75cb6d-1"
    assert rollout.created == datetime(2026, 1, 31, 8, tzinfo=UTC)
    assert not rollout.deleting


def test_deletion_and_finalizers_are_seen() -> None:
    metadata = document()["metadata"] | {
        "deletionTimestamp": "2026-01-31T09:00:00Z",
        "finalizers": ["canary.delivery/route-back"],
    }

    rollout = Rollout.parse(document(metadata=metadata))

    assert rollout.deleting
    assert rollout.finalizers == ("canary.delivery/route-back",)


def test_every_field_of_a_status_survives_reading_and_writing() -> None:
    assert RolloutStatus.model_validate(STATUS).document() == STATUS


def test_the_example_above_has_every_field_there_is() -> None:
    assert set(STATUS) == {field.alias for field in RolloutStatus.model_fields.values()}


def test_the_step_clock_is_read_to_the_millisecond() -> None:
    status = Rollout.parse(document(status=STATUS)).status

    assert status.step_elapsed == timedelta(seconds=90)
    assert status.resumed_at == datetime(2026, 1, 31, 8, 5, 0, 250000, tzinfo=UTC)


def test_the_route_is_pinned_once_both_versions_are_known() -> None:
    status = Rollout.parse(document(status=STATUS)).status

    route = status.pinned_route("shop")

    assert route is not None
    assert (route.virtual_service, route.http_name, route.port) == ("payment", "primary", 80)
    assert route.stable == Arm("payment-v1", "v1", "version", "v1")
    assert RolloutStatus().pinned_route("shop") is None


@pytest.mark.parametrize(
    "spec",
    [
        {},
        {"target": "payment-v2"},
        {"target": "payment-v2", "policyName": "standard", "weights": [100]},
        {"target": "other/payment-v2", "policyName": "standard"},
        {"target": "payment-v2", "policyName": "standard", "service": "payment.other"},
        {"target": "payment-v2", "policyName": "standard", "trigger": {"by": "magic"}},
        {"target": "payment-v2", "policyName": "standard", "trigger": {"user": "a\x1b[31m"}},
        {"target": "payment-v2", "policyName": "standard", "trigger": {"id": "::set-output name=a"}},
        {"target": "payment-v2", "policyName": "standard", "abort": {"reason": "a\nb"}},
        {"target": "payment-v2", "policyName": "standard", "abort": {"reason": "x" * 257}},
        {"target": "payment-v2", "policyName": "standard", "promote": {}},
        {"target": "payment-v2", "policyName": "standard", "promote": {"full": False}},
        {"target": "payment-v2", "policyName": "standard", "promote": {"step": 1, "full": True}},
        {"target": "payment-v2", "policyName": "standard", "promote": {"step": -1}},
    ],
)
def test_a_spec_that_the_controller_could_not_carry_out_is_refused(spec: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        RolloutSpec.model_validate(spec)


@pytest.mark.parametrize("wish", [{"step": 0}, {"step": 3, "reason": "looks good"}, {"full": True, "actor": "alice"}])
def test_promote_names_a_step_or_asks_for_everything(wish: dict[str, Any]) -> None:
    assert PromoteWish.model_validate(wish).document() == {"reason": "", "actor": "", **wish}


def test_five_phases_are_the_end() -> None:
    assert {phase for phase in Phase if phase.is_terminal} == TERMINAL
    assert len(TERMINAL) == 5


@pytest.mark.parametrize(
    ("cause", "phase"),
    [
        (Cause.VERDICT, Phase.ROLLED_BACK),
        (Cause.INCONCLUSIVE, Phase.ROLLED_BACK),
        (Cause.ABORT, Phase.ABORTED),
        (Cause.DELETED, Phase.ABORTED),
        (Cause.DRIFT, Phase.ABORTED),
        (Cause.SUPERSEDED, Phase.SUPERSEDED),
        (Cause.TARGET_GONE, Phase.FAILED),
        (Cause.STABLE_CHANGED, Phase.FAILED),
        (Cause.NOT_READY, Phase.FAILED),
        (Cause.ROUTE_LOST, Phase.FAILED),
    ],
)
def test_what_sent_the_traffic_back_decides_how_a_rollout_ends(cause: Cause, phase: Phase) -> None:
    assert cause.ends_in is phase


def test_every_cause_ends_in_a_terminal_phase() -> None:
    assert all(cause.ends_in.is_terminal for cause in Cause)
