"""The member Lease: a right to write that ends by itself, and a sign of life that the whole cluster can see."""

from __future__ import annotations

from typing import Any

import pytest

from canary.cluster.leases import (
    State,
    controller_is_alive,
    identity_of_process,
    member_in,
    owner_of_member,
    slot_in,
)
from canary.errors import Forbidden
from tests.leases import START, Member, World


def joined(world: World, identity: str = "a") -> Member:
    member = world.join(identity)
    assert member.lease.cycle() == "joined"
    return member


def test_a_member_creates_its_lease_and_may_write_until_eight_seconds_less_a_write() -> None:
    world = World()
    member = joined(world)

    spec = world.store.get("canary-member-a")["spec"]
    assert (spec["holderIdentity"], spec["leaseDurationSeconds"]) == ("a", 12)
    world.seconds += 5.4
    assert member.lease.may_begin(2.5)
    world.seconds += 0.2
    assert not member.lease.may_begin(2.5)
    assert member.lease.is_held
    world.seconds += 2.5
    assert not member.lease.is_held


def test_the_deadline_counts_from_before_the_renewal_was_sent() -> None:
    world = World()
    member = joined(world)

    def takes_time() -> None:
        world.seconds += 1.5

    member.line.in_between = takes_time
    sent_at = world.seconds
    assert member.lease.cycle() == "renewed the Lease"

    assert member.lease.valid_until == sent_at + 8


def test_a_steady_member_asks_one_thing_every_two_seconds() -> None:
    world = World()
    member = joined(world)
    member.line.asked.clear()

    for _ in range(30):
        world.seconds += 2
        assert member.lease.cycle() == "renewed the Lease"

    assert member.line.asked == [("update", "canary-member-a")] * 30


def test_with_the_api_server_away_a_member_stops_by_itself_and_begins_another_life_after() -> None:
    world = World()
    member = joined(world)

    member.line.down = True
    for _ in range(5):
        world.seconds += 2
        member.lease.cycle()
    assert not member.lease.is_held
    assert "no answer" in member.lease.sentence

    member.line.down = False
    assert member.lease.cycle() == "joined"
    assert member.lease.life == 2


def test_a_renewal_without_an_answer_does_not_extend_the_right_to_write_and_is_found_again() -> None:
    world = World()
    member = joined(world)
    until = member.lease.valid_until

    world.seconds += 2
    member.line.unanswered = True
    member.lease.cycle()
    assert member.lease.valid_until == until

    member.line.unanswered = False
    assert member.lease.cycle() == "renewed the Lease"
    assert member.lease.valid_until > until


def test_a_lease_that_somebody_deletes_is_made_again() -> None:
    world = World()
    member = joined(world)
    world.store.delete("canary-member-a", world.store.get("canary-member-a")["metadata"]["resourceVersion"])

    member.lease.cycle()
    assert member.lease.cycle() == "renewed the Lease"
    assert world.store.get("canary-member-a")["spec"]["holderIdentity"] == "a"


def test_the_next_container_of_a_pod_goes_on_at_once_and_the_one_before_stands_by() -> None:
    world = World()
    before = joined(world)

    after = joined(world)
    before.lease.cycle()

    assert before.lease.cycle() == "another process renews the Lease of a: this one stands by"
    assert not before.lease.is_held
    assert after.lease.cycle() == "renewed the Lease"
    before.lease.cycle()
    world.seconds += 13  # the other one ended
    assert before.lease.cycle() == "joined"


def test_what_a_replica_says_of_itself_is_on_its_lease() -> None:
    world = World()
    member = joined(world)

    member.lease.say(State.DRAINING)
    member.lease.cycle()

    assert world.store.get("canary-member-a")["metadata"]["annotations"]["canary.delivery/state"] == "draining"


def test_an_end_in_order_takes_the_lease_away() -> None:
    world = World()
    member = joined(world)

    member.lease.stop(end=True)

    assert "canary-member-a" not in world.store.leases
    assert not member.lease.is_held


def test_where_a_lease_may_not_be_deleted_it_is_left_without_a_holder() -> None:
    world = World()
    member = joined(world)

    def refuse(*_: Any, **__: Any) -> None:
        raise Forbidden("no", status=403)

    member.line.delete = refuse  # type: ignore[method-assign]
    member.lease.stop(end=True)

    assert world.store.get("canary-member-a")["spec"]["holderIdentity"] == ""


def test_a_missing_right_is_said_until_it_is_there() -> None:
    world = World()
    member = joined(world)

    def refuse() -> None:
        raise Forbidden("cannot update leases: forbidden", status=403)

    member.line.in_between = refuse
    member.lease.cycle()
    assert member.lease.problem == "cannot update leases: forbidden"

    member.line.in_between = lambda: None
    member.lease.cycle()
    assert member.lease.problem == ""


def lease_of(holder: str, renewed: str | None, duration: int | None = 12) -> dict[str, Any]:
    return {"spec": {"holderIdentity": holder, "renewTime": renewed, "leaseDurationSeconds": duration}}


@pytest.mark.parametrize(
    ("lease", "alive"),
    [
        (lease_of("a", "2026-01-31T07:59:58.000000Z"), True),
        (lease_of("a", "2026-01-31T07:59:40.000000Z"), True),
        (lease_of("a", "2026-01-31T07:59:30.000000Z"), False),
        (lease_of("a", "2026-01-31T08:00:05.000000Z"), True),
        (lease_of("", "2026-01-31T07:59:58.000000Z"), False),
        (lease_of("a", None), False),
        (lease_of("a", "yesterday"), False),
        (lease_of("a", "2026-01-31T07:59:58.000000Z", None), True),
        ({}, False),
    ],
)
def test_a_controller_is_alive_when_its_lease_is_held_and_fresh(lease: dict[str, Any], alive: bool) -> None:
    assert controller_is_alive(lease, START) is alive


def test_in_a_pod_the_identity_is_the_pods_name_and_elsewhere_nobody_elses() -> None:
    assert identity_of_process({"POD_NAME": "canary-7c9d-x2x4z"}) == "canary-7c9d-x2x4z"
    assert identity_of_process({}) != identity_of_process({})


def test_only_a_pod_of_the_leases_own_namespace_can_be_its_owner() -> None:
    told = {"POD_NAME": "canary-x", "POD_UID": "u-1", "POD_NAMESPACE": "canary-system"}

    assert owner_of_member(told, "canary-system") == {
        "apiVersion": "v1",
        "kind": "Pod",
        "name": "canary-x",
        "uid": "u-1",
    }
    assert owner_of_member(told, "elsewhere") == {}
    assert owner_of_member({"POD_NAME": "canary-x"}, "canary-system") == {}


@pytest.mark.parametrize("name", ["canary-slot-16", "canary-slot-01", "canary-slot-", "slot-1", "canary-slot--1"])
def test_other_names_are_no_slots(name: str) -> None:
    assert slot_in(name) is None


def test_names_say_what_a_lease_is_of() -> None:
    assert slot_in("canary-slot-0") == 0
    assert slot_in("canary-slot-15") == 15
    assert member_in("canary-member-a") == "a"
    assert member_in("canary-member-") is None
    assert member_in("kube-controller-manager") is None
