"""Foreign hands: what others do to a service's objects while it is being released, and what becomes of the release."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest

from canary.cluster.gateway import Gateway
from canary.cluster.kinds import (
    CANARYROLLOUT,
    CONFIGMAP,
    DEPLOYMENT,
    DESTINATIONRULE,
    VIRTUALSERVICE,
)
from canary.engine import ending, hold_effects
from canary.errors import Conflict, NotFound
from canary.model.rollout import Cause, Phase

SLOW = """\
name: quick
strategy: {weights: [40, 100], hold: 1m, bake: 200ms}
analysis: {warmup: 0s, minRequests: 5, errorRate: {max: 5%}, p99: {max: 500ms}}
"""


@pytest.fixture
def slow(released: Any, controller: Any, policies: Any, wait: Any) -> Any:
    """A release with 40 % of the traffic, and in no hurry."""
    (policies / "quick.yaml").write_text(SLOW)
    controller.wait_for_policy("quick", 40)
    released.release("v2")
    wait(released.rollouts, 20, "for the rollout")
    name = released.rollouts()[0].name
    wait(
        lambda: released.weights() == {"v1": 60, "v2": 40} and _clock_runs(released, name),
        20,
        "for its share of the traffic",
    )
    return released


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a minute is half a second, and a minute is one."""
    monkeypatch.setattr(hold_effects, "REASSERT_FIRST", timedelta(seconds=0.5))
    monkeypatch.setattr(ending, "ROUTE_LOST_AFTER", timedelta(seconds=1))


@pytest.fixture
def gitops(kubeconfig: Any) -> Iterator[Gateway]:
    """A tool that applies what lies in Git, under a name of its own."""
    gateway = Gateway.connect(str(kubeconfig), field_manager="argocd-controller", write_timeout_seconds=10)
    yield gateway
    gateway.close()


def _clock_runs(shop: Any, name: str) -> bool:
    return shop.rollout(name).status.resumed_at is not None


def only(shop: Any) -> Any:
    (rollout,) = shop.rollouts()
    return rollout


def in_git(shop: Any) -> dict[str, Any]:
    """The VirtualService as its owner wrote it."""
    destination = {"host": "payment", "subset": "v1"}
    http = [{"name": "primary", "route": [{"destination": destination, "weight": 100}], "timeout": "2s"}]
    return {
        "apiVersion": VIRTUALSERVICE.api_version, "kind": "VirtualService",
        "metadata": {"name": "payment", "namespace": shop.namespace}, "spec": {"hosts": ["payment"], "http": http},
    }  # fmt: skip


def set_weights(shop: Any, gateway: Gateway, stable: int, canary: int) -> None:
    """Somebody edits the two weights, and nothing else."""
    body = [
        {"op": "replace", "path": f"/spec/http/0/route/{position}/weight", "value": weight}
        for position, weight in enumerate((stable, canary))
    ]
    gateway.patch(VIRTUALSERVICE, shop.namespace, "payment", body, patch_type="json")


def test_weights_edited_by_somebody_are_held_named_and_set_again(
    slow: Any, gitops: Gateway, soon: None, wait: Callable[..., Any]
) -> None:
    set_weights(slow, gitops, 80, 20)

    held = slow.stalled(only(slow).name, "Drift")
    assert held.status.message.startswith("HOLD: somebody else set the canary's weight to 20 %")
    assert "argocd-controller at 20" in held.status.message, "who, and when"
    assert "unverified" in held.status.message
    assert "argocd-controller" in slow.event("payment-v2", "Drift")
    wait(lambda: slow.weights() == {"v1": 60, "v2": 40}, 20, "for the weight to be set again")
    wait(lambda: not slow.is_stalled(only(slow).name), 20, "for the release to go on")


def test_a_policy_with_on_drift_abort_gives_the_traffic_back(
    released: Any, controller: Any, policies: Any, gitops: Gateway, wait: Callable[..., Any]
) -> None:
    (policies / "quick.yaml").write_text(SLOW + "onDrift: abort\n")
    controller.wait_for_policy("quick", 40)
    released.release("v2")
    wait(lambda: released.weights() == {"v1": 60, "v2": 40} and only(released).status.verdict, 20, "for its share")

    set_weights(released, gitops, 80, 20)

    ended = released.reaches(only(released).name, Phase.ABORTED)
    assert "argocd-controller" in ended.status.message
    assert released.weights() == {"v1": 100}


def test_gitops_that_applies_without_force_is_told_who_owns_the_routes(slow: Any, gitops: Gateway) -> None:
    with pytest.raises(Conflict, match="canary"):
        gitops.patch(VIRTUALSERVICE, slow.namespace, "payment", in_git(slow), patch_type="apply")

    assert slow.weights() == {"v1": 60, "v2": 40}
    assert only(slow).status.drift is None


@pytest.mark.parametrize("how", ["with force", "client-side"])
def test_gitops_that_sets_the_weights_back_again_and_again_holds_the_release_and_is_not_fought(
    slow: Any, gitops: Gateway, soon: None, wait: Callable[..., Any], how: str
) -> None:
    def reapply() -> None:
        if how == "with force":
            gitops.patch(VIRTUALSERVICE, slow.namespace, "payment", in_git(slow), patch_type="apply", force=True)
        else:
            body = {"spec": in_git(slow)["spec"]}
            gitops.patch(VIRTUALSERVICE, slow.namespace, "payment", body, patch_type="merge")

    waits = []
    for _ in range(4):
        reapply()
        assert slow.weights() == {"v1": 100}
        drift = wait(lambda: only(slow).status.drift, 20, "for the drift to be seen")
        waits.append(drift.next_try - drift.since if not drift.reasserted else None)
        assert "argocd-controller" in only(slow).status.message
        wait(lambda: slow.weights().get("v2") == 40 and not only(slow).status.drift, 40, "for the weight")

    assert only(slow).status.phase is Phase.PROGRESSING
    growing = [one for one in waits if one]
    assert growing == sorted(growing)
    assert growing[-1] > growing[0], "each time it waits longer: no fight"
    slow.patch_abort(only(slow).name)
    slow.reaches(only(slow).name, Phase.ABORTED)
    assert slow.weights() == {"v1": 100}


def test_a_deleted_route_is_waited_for_and_then_the_release_fails(slow: Any, soon: None) -> None:
    slow.gateway.delete(VIRTUALSERVICE, slow.namespace, "payment")

    ended = slow.reaches(only(slow).name, Phase.FAILED)

    assert ended.status.cause.reason is Cause.ROUTE_LOST
    assert f"VirtualService {slow.namespace}/payment" in ended.status.message
    assert "finalizers" not in slow.get(CANARYROLLOUT, ended.name)["metadata"]


def test_a_route_that_is_made_again_in_time_gets_its_weights_back(
    slow: Any, monkeypatch: pytest.MonkeyPatch, wait: Callable[..., Any]
) -> None:
    monkeypatch.setattr(hold_effects, "REASSERT_FIRST", timedelta(seconds=0.5))
    slow.gateway.delete(VIRTUALSERVICE, slow.namespace, "payment")
    slow.stalled(only(slow).name, "RouteGone")

    slow.virtual_service()

    wait(lambda: slow.weights() == {"v1": 60, "v2": 40}, 20, "for the weights")
    assert only(slow).status.phase is Phase.PROGRESSING


def test_a_canary_subset_that_is_taken_out_ends_the_release_with_its_name_on_it(slow: Any, gitops: Gateway) -> None:
    stable = [{"name": "v1", "labels": {"version": "v1"}}]
    gitops.patch(DESTINATIONRULE, slow.namespace, "payment", {"spec": {"subsets": stable}}, patch_type="merge")

    ended = slow.reaches(only(slow).name, Phase.FAILED)

    assert ended.status.cause.reason is Cause.SUBSET_LOST
    assert "the canary's subset v2 is gone" in ended.status.message
    assert "argocd-controller at 20" in ended.status.message
    assert slow.weights() == {"v1": 100}


@pytest.mark.parametrize("what", ["the subset", "the whole rule"])
def test_stables_subset_that_is_taken_out_is_put_back_at_once(
    slow: Any, gitops: Gateway, wait: Callable[..., Any], what: str
) -> None:
    if what == "the subset":
        body = {"spec": {"subsets": [{"name": "v2", "labels": {"version": "v2"}}]}}
        gitops.patch(DESTINATIONRULE, slow.namespace, "payment", body, patch_type="merge")
    else:
        gitops.delete(DESTINATIONRULE, slow.namespace, "payment")

    def subsets() -> set[str]:
        with contextlib.suppress(NotFound):
            return {subset["name"] for subset in slow.rule_now()["spec"]["subsets"]}
        return set()

    wait(lambda: subsets() == {"v1", "v2"}, 20, "for both subsets")
    assert "stable's subset v1 is gone" in slow.event("payment-v2", "SubsetLost")
    wait(lambda: _clock_runs(slow, only(slow).name), 20, "for the release to go on")
    assert slow.weights() == {"v1": 60, "v2": 40}


def test_a_deleted_canary_gives_the_traffic_back(slow: Any) -> None:
    slow.gateway.delete(DEPLOYMENT, slow.namespace, "payment-v2")

    ended = slow.reaches(only(slow).name, Phase.FAILED)

    assert ended.status.cause.reason is Cause.TARGET_GONE
    assert ended.status.message == "Deployment payment-v2 is gone"
    assert slow.weights() == {"v1": 100}


def test_a_deleted_rollout_gives_the_traffic_back_before_it_goes(slow: Any, wait: Callable[..., Any]) -> None:
    deleted = only(slow)
    slow.gateway.delete(CANARYROLLOUT, slow.namespace, deleted.name)

    wait(lambda: slow.weights() == {"v1": 100}, 20, "for the traffic")
    wait(lambda: not any(one.uid == deleted.uid for one in slow.rollouts()), 20, "for the object to go")


def test_a_policy_that_is_deleted_changes_nothing_for_who_runs_by_it(
    slow: Any, controller: Any, policies: Any, wait: Callable[..., Any]
) -> None:
    (policies / "quick.yaml").unlink()
    wait(lambda: controller.daemon.folder.get("quick") is None, 20, "for the folder to be read again")
    controller.minute_passes()
    controller.ticks(2)

    assert only(slow).status.phase is Phase.PROGRESSING
    assert slow.weights() == {"v1": 60, "v2": 40}


def test_a_frozen_policy_that_is_deleted_is_missed_after_a_restart_and_the_traffic_goes_back(
    slow: Any, controller: Any
) -> None:
    digest = only(slow).status.policy.digest
    controller.stop()
    slow.gateway.delete(CONFIGMAP, controller.own_namespace, f"canary-policy-{digest}")
    controller.again()

    ended = slow.reaches(only(slow).name, Phase.FAILED)

    assert ended.status.message == "the frozen policy or the pinned route of this rollout is gone"
    assert slow.weights() == {"v1": 100}
