"""One replica's slots: what it takes, prepares, keeps through a lapse and gives back, and what its seams answer."""

from __future__ import annotations

import itertools

import pytest

from canary.cluster.kinds import CONFIGMAP, EVENT, VIRTUALSERVICE
from canary.cluster.leases import State, slot_document
from canary.cluster.ownership import Phase
from canary.cluster.slots import SLOTS
from canary.cluster.transport import Request
from canary.errors import Ambiguous, Conflict, Forbidden, NotOurs, Unavailable
from tests.leases import NAMESPACES, Member, World

ALL = frozenset(range(SLOTS))


def alone(world: World) -> Member:
    """The only replica, with all slots."""
    member = world.join("a")
    member.turn()
    assert member.owned == ALL
    return member


def write(slot: int) -> Request:
    return Request("patch", VIRTUALSERVICE, NAMESPACES[slot], "payment", body=b"[]")


def test_a_cold_start_takes_every_slot_in_one_cycle_and_reads_before_it_uses_them() -> None:
    world = World()
    member = alone(world)

    assert member.hooks.said == [("prepare", ALL), ("gained", ALL)]
    assert len(member.line.asked) == 2 + SLOTS  # its own Lease, and one write for each slot
    assert member.turnover.takes == {"new": SLOTS}


def test_slots_that_could_not_be_read_are_not_used_and_read_again() -> None:
    world = World()
    member = world.join("a")
    member.hooks.refuses = Unavailable("cannot list canaryrollouts")
    member.turn()
    assert member.owned == frozenset()
    assert not member.may_write(3)

    member.hooks.refuses = None
    member.turn()
    assert member.owned == ALL


def test_a_crash_is_taken_over_between_twelve_and_thirteen_seconds_after() -> None:
    world = World()
    first = alone(world)
    second = world.join("b")
    world.pass_time(20)
    died = world.seconds

    while second.owned != ALL:
        world.pass_time(1, second)

    assert 12 <= world.seconds - died <= 13
    assert second.turnover.takes["dead"] == SLOTS - second.turnover.takes["free"]
    assert first.owned == frozenset()


def test_a_watch_that_lags_is_no_death() -> None:
    world = World()
    alone(world)
    second = world.join("b")
    second.turn()

    for _ in range(20):  # the first one renews all the time, and the second hears nothing of it
        world.seconds += 1
        world.members[0].lease.cycle()
        second.lease.cycle()
        second.turnover.cycle()

    assert second.owned == frozenset()
    assert ("get", "canary-member-a") in second.line.asked
    assert world.members[0].owned == ALL


def test_a_lapse_in_which_nobody_took_anything_costs_no_memory() -> None:
    world = World()
    member = alone(world)

    member.line.down = True
    world.pass_time(10)
    assert member.owned == frozenset()
    member.line.down = False
    world.pass_time(1)

    assert member.owned == ALL
    assert member.hooks.told("lost") == frozenset()
    assert member.turnover.takes["own"] == SLOTS


def test_what_somebody_else_had_meanwhile_is_forgotten_first() -> None:
    world = World()
    member = alone(world)
    member.line.down = True
    other = world.join("b")
    world.pass_time(15)
    assert other.owned == ALL

    member.line.down = False
    world.pass_time(1)

    assert member.hooks.told("lost") == ALL


def test_a_claim_whose_answer_was_lost_is_won_again_before_it_is_used() -> None:
    world = World()
    member = world.join("a")
    member.lease.cycle()
    member.watch()
    member.line.unanswered = True
    member.turnover.cycle()
    assert list(world.holders()) == ["a"] * SLOTS
    assert member.owned == frozenset()

    member.line.unanswered = False
    member.turn()
    assert member.owned == ALL


def test_a_slot_lease_that_anybody_touches_is_not_ours_until_it_is_won_again() -> None:
    world = World()
    member = alone(world)
    lease = world.store.get("canary-slot-3")
    lease["metadata"]["labels"]["touched"] = "yes"
    world.store.replace(lease)

    member.watch()
    assert member.owned == ALL - {3}
    member.turn()
    assert member.owned == ALL


def test_a_slot_lease_that_somebody_deletes_is_made_again() -> None:
    world = World()
    member = alone(world)
    world.store.delete("canary-slot-3", world.store.get("canary-slot-3")["metadata"]["resourceVersion"])

    member.watch()
    assert not member.may_write(3)
    member.turn()
    assert member.owned == ALL


def test_a_slot_that_somebody_takes_before_our_answer_comes_is_not_ours() -> None:
    world = World()
    member = world.join("a")
    member.lease.cycle()
    member.watch()

    def taken_at_once() -> None:
        found = world.store.changes[-1]
        if found[0] == "canary-slot-3" and found[1] is not None and found[1].holder == "a":
            world.store.replace(slot_document("canary-system", 3, found[1], "b", world.now()))
        member.watch()

    member.line.before_the_answer = taken_at_once
    member.turnover.cycle()

    assert member.owned == ALL - {3}


def test_what_another_process_of_our_name_had_meanwhile_is_forgotten_too() -> None:
    world = World()
    member = alone(world)
    member.line.down = True
    world.pass_time(9)
    world.store.replace(slot_document("canary-system", 3, member.ownership.sight(3), "a", world.now()))

    member.line.down = False
    world.pass_time(1)

    assert member.owned == ALL
    assert member.hooks.told("lost") == {3}


def test_the_lease_of_a_dead_pod_may_be_collected_while_it_is_waited_for() -> None:
    world = World()
    alone(world)
    second = world.join("b")
    world.pass_time(20)
    died = world.seconds
    world.pass_time(5, second)
    world.store.delete("canary-member-a", world.store.get("canary-member-a")["metadata"]["resourceVersion"])

    while second.owned != ALL:
        world.pass_time(1, second)

    assert 12 <= world.seconds - died <= 13


def test_a_refusal_by_the_fence_drops_the_slot_at_once_and_reads_its_lease() -> None:
    world = World()
    member = alone(world)
    denied = Forbidden("slot 3 is held by b", status=403, policy="canary-fence")

    with pytest.raises(NotOurs), member.ownership.under_way(write(3)):
        raise denied

    assert not member.may_write(3)
    member.line.asked.clear()
    member.turn()
    assert ("get", "canary-slot-3") in member.line.asked
    assert member.owned == ALL  # it was the API server's own watch that was behind


def test_another_refusal_takes_no_slot_away() -> None:
    world = World()
    member = alone(world)

    with pytest.raises(Forbidden), member.ownership.under_way(write(3)):
        raise Forbidden("virtualservices is forbidden", status=403, verb="patch")

    assert member.owned == ALL


def test_a_conflict_reads_the_slot_before_anything_is_decided_again() -> None:
    world = World()
    member = alone(world)
    with pytest.raises(Conflict), member.ownership.under_way(write(3)):
        raise Conflict("modified", status=409)
    assert member.owned == ALL

    seen = member.ownership.sight(3)
    world.store.replace(slot_document("canary-system", 3, seen, "b", world.now()))
    with pytest.raises(NotOurs), member.ownership.under_way(write(3)):
        raise Conflict("modified", status=409)
    assert not member.may_write(3)


def test_a_replica_that_leaves_gives_everything_back_and_the_next_need_not_wait() -> None:
    world = World()
    first = alone(world)
    second = world.join("b")
    second.turn()

    first.lease.say(State.DRAINING)
    first.lease.cycle()
    assert first.turnover.leave(0.0)
    assert not any(first.may_write(slot) for slot in ALL)
    second.turn()

    assert second.owned == ALL
    assert first.hooks.told("lost") == ALL


def test_a_slot_with_an_unanswered_write_is_not_given_back() -> None:
    world = World()
    member = alone(world)
    with pytest.raises(Ambiguous), member.ownership.under_way(write(3)):
        raise Ambiguous("cannot tell whether it happened")

    assert not member.turnover.leave(0.0)

    assert list(world.holders()) == ["", "", "", "a"] + [""] * 12
    assert not member.may_write(3)


def test_a_write_under_way_keeps_its_slot_and_no_other() -> None:
    world = World()
    member = alone(world)

    with member.ownership.under_way(write(5)):
        assert not member.turnover.leave(0.0)
    assert list(world.holders())[5] == "a"
    assert list(world.holders())[4] == ""
    assert member.turnover.leave(0.0)
    assert list(world.holders())[5] == ""


def test_an_event_that_nobody_answered_holds_nothing_up() -> None:
    world = World()
    member = alone(world)
    event = Request("create", EVENT, NAMESPACES[3], body=b"{}")
    with pytest.raises(Ambiguous), member.ownership.under_way(event):
        raise Ambiguous("cannot tell whether it happened")

    assert member.turnover.leave(0.0)


def test_a_newcomer_gets_its_share_one_slot_at_a_time_half_a_minute_apart() -> None:
    world = World()
    first = alone(world)
    second = world.join("b")
    shares = []
    for _ in range(31 * 8):
        world.pass_time(1)
        shares.append(len(second.owned))

    moved = [at for at, (before, after) in enumerate(itertools.pairwise(shares)) if after > before]
    assert [after - before for before, after in itertools.pairwise(moved)] == [30] * (len(moved) - 1)
    assert (len(first.owned), len(second.owned)) == (8, 8)
    assert ("leaving", frozenset({15})) in first.hooks.said


def test_a_slot_that_moves_is_written_for_to_the_end_and_then_not_any_more() -> None:
    world = World()
    member = alone(world)
    slot = next(iter(member.ownership.advance([7], Phase.LEAVING)))

    assert not member.ownership.owns(NAMESPACES[slot])
    assert member.may_write(slot)
    member.ownership.advance([7], Phase.CLOSED)
    with pytest.raises(NotOurs, match="gives slot 7 up"):
        member.ownership.may_write(NAMESPACES[slot])


def test_the_slots_of_a_namespace_that_is_not_ours_are_said_by_number() -> None:
    world = World()
    member = world.join("a")

    with pytest.raises(NotOurs, match="does not hold slot 10, which namespace a is in"):
        member.ownership.may_write("a")


def test_the_leavings_of_processes_that_ended_long_ago_are_taken_away() -> None:
    world = World()
    gone = world.join("gone")
    gone.lease.cycle()
    world.members.remove(gone)
    world.seconds += 7200
    member = alone(world)

    world.pass_time(80)

    assert "canary-member-gone" not in world.store.leases
    assert member.owned == ALL


def test_a_slot_nobody_holds_is_counted_until_somebody_does() -> None:
    world = World()
    member = world.join("a")
    assert member.ownership.without_owner == ALL

    member.turn()
    member.turn()
    assert member.ownership.without_owner == frozenset()


def test_a_steady_replica_asks_for_nothing_but_its_renewal() -> None:
    world = World()
    member = alone(world)
    member.line.asked.clear()

    world.pass_time(30)

    assert {name for _, name in member.line.asked} == {"canary-member-a"}


def test_a_write_to_a_configmap_counts_like_any_other() -> None:
    world = World()
    member = alone(world)

    with member.ownership.under_way(Request("create", CONFIGMAP, NAMESPACES[2], body=b"{}")):
        assert not member.ownership.writes.are_answered(2)
    assert member.ownership.writes.are_answered(2)
