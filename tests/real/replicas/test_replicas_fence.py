"""The fence alone: which writes it compares with the slot's Lease, and whose it leaves alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from canary.cluster.gateway import Gateway
from canary.cluster.kinds import (
    CANARYROLLOUT,
    CONFIGMAP,
    DESTINATIONRULE,
    EVENT,
    LEASE,
    NAMESPACE,
    VIRTUALSERVICE,
    Kind,
)
from canary.cluster.leases import seen, slot_document, slot_name
from canary.cluster.slots import SLOTS, slot_of
from canary.cluster.timestamps import utc_now
from canary.errors import Forbidden, NotFound
from tests.shop import until

if TYPE_CHECKING:
    from .conftest import Stage

HOME, ACCOUNT = "canary-system", "canary"
Object = dict[str, Any]

OBJECTS: dict[Kind, Object] = {
    VIRTUALSERVICE: {"spec": {"hosts": ["payment"], "http": [{"route": [{"destination": {"host": "payment"}}]}]}},
    DESTINATIONRULE: {"spec": {"host": "payment"}},
    CANARYROLLOUT: {"spec": {"target": "payment-v2", "policyName": "standard"}},
    CONFIGMAP: {"data": {"x": "1"}},
}
"""What the controller writes in the namespaces that it serves."""


@pytest.fixture(scope="module")
def replica(stage: Stage, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Gateway]]:
    """(pod, its connection)."""
    pod = f"fenced-{uuid4().hex[:6]}"
    kubeconfig = stage.account(pod, tmp_path_factory.mktemp("fenced"))
    with closing(Gateway.connect(str(kubeconfig), write_timeout_seconds=30.0)) as gateway:
        yield pod, gateway


@pytest.fixture(scope="module")
def unbound(stage: Stage, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """The controller's account with a token that is bound to no pod."""
    path = tmp_path_factory.mktemp("unbound") / "kubeconfig"
    stage.server.kubeconfig_for(stage.server.token(HOME, ACCOUNT), path)
    with closing(Gateway.connect(str(path), write_timeout_seconds=30.0)) as gateway:
        yield gateway


@pytest.fixture
def held_by(stage: Stage) -> Callable[[str, str], None]:
    """`held_by(pod, namespace)`: the slot's Lease names this pod from now on, also where admission looks."""

    def name(pod: str, namespace: str) -> None:
        slot = slot_of(namespace)
        try:
            before = seen(stage.gateway.get(LEASE, HOME, slot_name(slot)))
        except NotFound:
            stage.gateway.create(LEASE, HOME, slot_document(HOME, slot, None, pod, utc_now()))
        else:
            stage.gateway.replace(LEASE, HOME, slot_name(slot), slot_document(HOME, slot, before, pod, utc_now()))

    return name


def named(kind: Kind, name: str) -> Object:
    return {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": {"name": name}, **OBJECTS[kind]}


def is_allowed(write: Callable[[], object]) -> bool:
    try:
        write()
    except Forbidden as error:
        if error.policy != "canary-fence":
            raise
        return False
    return True


@pytest.mark.parametrize("kind", OBJECTS, ids=lambda kind: kind.plural)
def test_only_the_holder_of_the_slot_creates_changes_and_deletes(
    stage: Stage, replica: tuple[str, Gateway], held_by: Callable[[str, str], None], kind: Kind
) -> None:
    pod, gateway = replica
    space = f"fenced-{uuid4().hex[:8]}"
    stage.gateway.create(NAMESPACE, None, {"metadata": {"name": space}})
    label = {"metadata": {"labels": {"a": "b"}}}

    held_by("somebody-else", space)
    stage.gateway.create(kind, space, named(kind, "theirs"))
    until(lambda: not is_allowed(lambda: gateway.create(kind, space, named(kind, f"n-{uuid4().hex[:6]}"))), 30)
    with pytest.raises(
        Forbidden, match=rf"slot {slot_of(space)} of namespace {space} is held by somebody-else, not by {pod}"
    ):
        gateway.patch(kind, space, "theirs", label, patch_type="merge")
    with pytest.raises(Forbidden):
        gateway.delete(kind, space, "theirs")
    if kind is CANARYROLLOUT:
        with pytest.raises(Forbidden):
            gateway.patch(
                kind, space, "theirs", {"status": {"phase": "Pending"}}, patch_type="merge", subresource="status"
            )

    held_by(pod, space)
    until(lambda: is_allowed(lambda: gateway.create(kind, space, named(kind, "mine"))), 30)
    gateway.patch(kind, space, "theirs", label, patch_type="merge")
    gateway.delete(kind, space, "theirs")

    held_by("", space)
    until(lambda: not is_allowed(lambda: gateway.patch(kind, space, "mine", label, patch_type="merge")), 30)
    stage.gateway.delete(kind, space, "mine")  # it is our account only that is asked
    stage.gateway.delete(NAMESPACE, None, space)


def test_events_leases_and_frozen_policies_are_in_no_slot(stage: Stage, replica: tuple[str, Gateway]) -> None:
    pod, gateway = replica

    gateway.create(CONFIGMAP, HOME, {"metadata": {"name": f"canary-policy-{uuid4().hex}"}})
    about = {"kind": "Pod", "name": pod, "namespace": HOME}
    gateway.create(
        EVENT, HOME, {"metadata": {"name": pod}, "involvedObject": about, "reason": "Test", "type": "Normal"}
    )
    gateway.create(LEASE, HOME, {"metadata": {"name": f"canary-member-{pod}"}, "spec": {"holderIdentity": pod}})


def test_a_token_of_no_pod_is_nobodys_even_where_nobody_holds_the_slot(
    unbound: Gateway, held_by: Callable[[str, str], None]
) -> None:
    held_by("", "default")

    with pytest.raises(Forbidden, match="not bound to a pod"):
        unbound.create(CONFIGMAP, "default", {"metadata": {"name": "unbound"}})


@pytest.mark.parametrize("namespace", ["a", "payment-9", "x0-1-2", f"team-{'z' * 40}", "0"])
def test_the_fence_counts_slots_as_we_do(
    stage: Stage, replica: tuple[str, Gateway], held_by: Callable[[str, str], None], namespace: str
) -> None:
    """Every other slot is ours: the one that is not is the one that refuses."""
    pod, gateway = replica
    stage.gateway.create(NAMESPACE, None, {"metadata": {"name": namespace}})
    for other in "0123456789abcdef":
        held_by("somebody-else" if slot_of(other) == slot_of(namespace) else pod, other)

    until(
        lambda: not is_allowed(lambda: gateway.create(CONFIGMAP, namespace, {"metadata": {"generateName": "a-"}})), 30
    )
    for other in "0123456789abcdef":
        held_by(pod if slot_of(other) == slot_of(namespace) else "somebody-else", other)
    until(lambda: is_allowed(lambda: gateway.create(CONFIGMAP, namespace, {"metadata": {"generateName": "b-"}})), 30)
    assert len({slot_of(other) for other in "0123456789abcdef"}) == SLOTS
    stage.gateway.delete(NAMESPACE, None, namespace)
