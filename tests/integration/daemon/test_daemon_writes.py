"""What is written, in which order, on what it was decided; and what no write may change."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from canary.cluster.kinds import CANARYROLLOUT, CONFIGMAP, DEPLOYMENT, DESTINATIONRULE, VIRTUALSERVICE
from canary.errors import NotFound
from canary.model.rollout import FINALIZER, Phase

pytestmark = pytest.mark.slow

ATTEMPT = "payment-v2-v2a-1"


def policy_map(shop: Any, controller: Any) -> tuple[str, dict[str, Any]]:
    """(name, ConfigMap) of the attempt's frozen policy."""
    name = f"canary-policy-{shop.rollout(ATTEMPT).status.policy.digest}"
    return name, shop.gateway.get(CONFIGMAP, controller.own_namespace, name)


def test_every_write_to_route_and_rollout_is_pinned_to_what_it_was_decided_on(
    released: Any, controller: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[tuple[str, Any]] = []
    patch = controller.daemon.gateway.patch

    def noted(kind: Any, namespace: Any, name: Any, body: Any, **more: Any) -> Any:
        sent.append((kind.plural, body))
        return patch(kind, namespace, name, body, **more)

    monkeypatch.setattr(controller.daemon.gateway, "patch", noted)
    released.release("v2")
    released.reaches(ATTEMPT, Phase.SUCCEEDED)

    kinds = {plural for plural, _ in sent if plural not in ("events", "configmaps")}
    assert kinds == {"virtualservices", "destinationrules", "canaryrollouts"}
    for plural, body in sent:
        if plural in ("virtualservices", "destinationrules"):
            pins = [operation for operation in body if operation["path"] == "/metadata/resourceVersion"]
            assert [pin["op"] for pin in pins] == ["replace"], body
        elif plural in ("canaryrollouts", "configmaps"):
            assert body["metadata"]["resourceVersion"]


def test_somebody_who_edits_the_virtual_service_all_the_time_neither_loses_an_edit_nor_stops_the_rollout(
    released: Any, controller: Any
) -> None:
    enough = threading.Event()
    edits = 0

    def edit() -> None:
        nonlocal edits
        while not enough.wait(0.01):
            edits += 1
            body = {"metadata": {"annotations": {"team/edit": str(edits)}}}
            released.patch(VIRTUALSERVICE, "payment", body)

    editor = threading.Thread(target=edit)
    editor.start()
    try:
        released.release("v2")
        released.reaches(ATTEMPT, Phase.SUCCEEDED)
    finally:
        enough.set()
        editor.join()

    assert released.get(VIRTUALSERVICE)["metadata"]["annotations"]["team/edit"] == str(edits)
    assert released.weights() == {"v1": 0, "v2": 100}


def test_an_edit_between_look_and_write_is_decided_again_at_once(
    released: Any, controller: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    patch, edited = controller.daemon.gateway.patch, []

    def just_before(kind: Any, namespace: Any, name: Any, body: Any, **more: Any) -> Any:
        if kind is VIRTUALSERVICE and not edited:
            edited.append(released.patch(VIRTUALSERVICE, "payment", {"metadata": {"annotations": {"team/edit": "x"}}}))
        return patch(kind, namespace, name, body, **more)

    monkeypatch.setattr(controller.daemon.gateway, "patch", just_before)
    released.release("v2")
    released.reaches(ATTEMPT, Phase.SUCCEEDED)

    route_writes = [status for verb, plural, status in controller.writes if plural == "virtualservices"]
    assert route_writes[:2] == [409, 200]
    assert "canary_decided_again_total 1.0" in controller.metrics()
    assert "canary_reconcile_errors_total{" not in controller.metrics()


def test_what_users_wrote_stays_byte_for_byte_through_a_promotion(released: Any, controller: Any) -> None:
    http = released.get(VIRTUALSERVICE)["spec"]["http"]
    debug = {
        "name": "reports", "match": [{"uri": {"prefix": "/reports"}}],
        "route": [{"destination": {"host": "reports", "subset": "x"}}],
        "corsPolicy": {"allowOrigins": [{"exact": "*"}]},
    }  # fmt: skip
    policy = {"trafficPolicy": {"connectionPool": {"http": {"maxRetries": 7}}}}
    written = released.patch(VIRTUALSERVICE, "payment", {
        "metadata": {"labels": {"team": "pay"}},
        "spec": {"http": [debug, {**http[0], "retries": {"attempts": 3}}]}})  # fmt: skip
    released.patch(DESTINATIONRULE, "payment", {"spec": policy})
    released.release("v2")

    released.reaches(ATTEMPT, Phase.SUCCEEDED)

    after = released.get(VIRTUALSERVICE)
    first, primary = after["spec"]["http"]
    assert first == debug
    assert json.dumps(first) == json.dumps(written["spec"]["http"][0])  # a real API server sorts what it is given
    assert {key: primary[key] for key in primary if key != "route"} == {
        "name": "primary", "timeout": "2s", "retries": {"attempts": 3}}  # fmt: skip
    assert after["metadata"]["labels"] == {"team": "pay"}
    rule = released.get(DESTINATIONRULE)["spec"]
    assert rule["trafficPolicy"] == policy["trafficPolicy"]
    assert rule["subsets"][0] == {"name": "v1", "labels": {"version": "v1"}}


def test_a_rollback_moves_the_traffic_before_it_says_so(
    released: Any, counts: Any, controller: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = released.get(VIRTUALSERVICE)["spec"], released.get(DESTINATIONRULE)["spec"]
    released.release("v2", policy="slow")
    released.reaches(ATTEMPT, Phase.PROGRESSING)
    released.until_judged(ATTEMPT)
    patch, sent = controller.daemon.gateway.patch, []

    def noted(kind: Any, namespace: Any, name: Any, body: Any, **more: Any) -> Any:
        sent.append(body.get("status", {}).get("phase") if kind is CANARYROLLOUT else kind.kind)
        return patch(kind, namespace, name, body, **more)

    monkeypatch.setattr(controller.daemon.gateway, "patch", noted)
    counts.broken["payment-v2"] = (1.0, time.time())
    rolled_back = released.reaches(ATTEMPT, Phase.ROLLED_BACK)

    assert [what for what in sent if what in ("VirtualService", "RollingBack")][:2] == ["VirtualService", "RollingBack"]
    assert "ROLLBACK at 50 %" in rolled_back.status.message
    assert (released.get(VIRTUALSERVICE)["spec"], released.get(DESTINATIONRULE)["spec"]) == before
    assert "canary.delivery/rollback" not in json.dumps(released.get(VIRTUALSERVICE)["metadata"])


def test_the_first_write_of_an_abort_is_the_route(released: Any, controller: Any) -> None:
    released.release("v2", policy="slow")
    released.reaches(ATTEMPT, Phase.PROGRESSING)
    released.until_judged(ATTEMPT)
    controller.ticks(2)
    so_far = len(controller.writes)

    released.patch(CANARYROLLOUT, ATTEMPT, {"spec": {"abort": {"reason": "no", "actor": "me"}}})
    released.reaches(ATTEMPT, Phase.ABORTED)

    assert controller.writes[so_far : so_far + 2] == [
        ("patch", "virtualservices", 200), ("patch", "canaryrollouts", 200)]  # fmt: skip


def test_a_rollout_runs_by_the_policy_it_began_with(released: Any, controller: Any, policies: Any) -> None:
    released.release("v2", policy="slow")
    released.reaches(ATTEMPT, Phase.PROGRESSING)
    name, frozen = policy_map(released, controller)

    text = (policies / "slow.yaml").read_text()
    (policies / "slow.yaml").write_text(text.replace("weights: [50, 100]", "weights: [7, 100]"))
    controller.wait_for_policy("slow", 7)
    controller.ticks(3)

    assert frozen["immutable"] is True
    assert frozen["metadata"]["namespace"] == controller.own_namespace
    assert released.weights() == {"v1": 50, "v2": 50}
    assert released.rollout(ATTEMPT).status.policy.digest in name
    with pytest.raises(NotFound):
        released.gateway.get(CONFIGMAP, released.namespace, name)


def test_the_policy_copy_in_a_status_is_for_display_only(released: Any, controller: Any) -> None:
    released.release("v2", policy="slow")
    released.reaches(ATTEMPT, Phase.PROGRESSING)

    forged = {"name": "slow", "strategy": {"weights": [100], "hold": "0s"}, "analysis": {"minRequests": 0}}
    released.patch(CANARYROLLOUT, ATTEMPT, {"status": {"policy": {"resolved": forged}}}, "status")
    controller.ticks(5)
    controller.stop()
    controller.again()
    controller.ticks(5)

    rollout = released.rollout(ATTEMPT)
    assert (rollout.status.phase, rollout.status.step.index) == (Phase.PROGRESSING, 1)
    assert released.weights() == {"v1": 50, "v2": 50}


def test_a_frozen_policy_that_is_not_what_its_name_says_ends_the_rollout_with_the_traffic_back(
    released: Any, controller: Any
) -> None:
    released.release("v2", policy="slow")
    released.reaches(ATTEMPT, Phase.PROGRESSING)
    name, frozen = policy_map(released, controller)
    controller.stop()
    data = frozen["data"]["policy.json"].replace('"max":"5%"', '"max":"50%"')
    assert data != frozen["data"]["policy.json"]
    released.gateway.delete(CONFIGMAP, controller.own_namespace, name)
    tampered = {**frozen, "metadata": {"name": name}, "data": {"policy.json": data}}
    released.gateway.create(CONFIGMAP, controller.own_namespace, tampered)

    controller.again()

    ended = released.reaches(ATTEMPT, Phase.FAILED)
    assert "frozen policy" in ended.status.message
    assert released.weights() == {"v1": 100}


def test_a_forged_copy_of_a_policy_is_named_before_anything_begins(released: Any, controller: Any) -> None:
    before = released.written()
    name = f"canary-policy-{controller.daemon.folder.get('quick').digest}"
    forged = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"policy.json": "{}"}}
    released.gateway.create(CONFIGMAP, controller.own_namespace, forged)
    released.release("v2")

    stuck = released.stalled(ATTEMPT, "PolicyForged")

    assert f"{controller.own_namespace}/{name}" in stuck.status.message
    assert released.written() == before
    released.gateway.delete(CONFIGMAP, controller.own_namespace, name)
    controller.minute_passes()
    released.reaches(ATTEMPT, Phase.SUCCEEDED)


def test_the_finalizer_is_there_for_as_long_as_traffic_may_be_moved(
    released: Any, controller: Any, wait: Callable[..., Any]
) -> None:
    released.release("v2", policy="slow")
    running = released.reaches(ATTEMPT, Phase.PROGRESSING)
    assert running.finalizers == (FINALIZER,)

    released.patch(CANARYROLLOUT, ATTEMPT, {"spec": {"promote": {"full": True, "actor": "me"}}})

    released.reaches(ATTEMPT, Phase.SUCCEEDED)
    wait(lambda: released.rollout(ATTEMPT).finalizers == (), what="for the finalizer to go")


def test_deleting_a_running_rollout_takes_the_traffic_back_first(
    released: Any, controller: Any, wait: Callable[..., Any]
) -> None:
    before = released.get(VIRTUALSERVICE)["spec"]
    released.start("by-hand", "payment-v2", policy="slow")
    released.deploy("v2")
    released.reaches("by-hand", Phase.PROGRESSING)

    released.gateway.delete(CANARYROLLOUT, released.namespace, "by-hand")

    wait(lambda: released.rollouts() == [], what="for the object to go")
    assert released.get(VIRTUALSERVICE)["spec"] == before


def test_deleting_a_rollout_whose_route_is_gone_does_not_hang(
    released: Any, controller: Any, wait: Callable[..., Any]
) -> None:
    released.start("by-hand", "payment-v2", policy="slow")
    released.deploy("v2")
    released.reaches("by-hand", Phase.PROGRESSING)

    released.gateway.delete(VIRTUALSERVICE, released.namespace, "payment")
    released.gateway.delete(CANARYROLLOUT, released.namespace, "by-hand")

    wait(lambda: released.rollouts() == [], what="for the object to go")


def test_a_deployment_is_never_written(released: Any, controller: Any) -> None:
    made = released.release("v2")
    before = released.get(DEPLOYMENT, "payment-v2")
    released.reaches(ATTEMPT, Phase.SUCCEEDED)

    assert released.get(DEPLOYMENT, "payment-v2") == before
    assert made["metadata"]["uid"] == before["metadata"]["uid"]
    assert {plural for _, plural, _ in controller.writes} == {
        "canaryrollouts", "configmaps", "virtualservices", "destinationrules"}  # fmt: skip
