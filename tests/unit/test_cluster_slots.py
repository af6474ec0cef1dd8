"""What one replica takes and gives, from a picture of all."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from canary.cluster.slots import (
    PACE_S,
    PATIENCE_S,
    SILENCE_S,
    SLOTS,
    Peer,
    Picture,
    Slot,
    plan,
    quota,
    slot_of,
)

LIVE, DEAD = Peer(1.0, is_serving=True), Peer(SILENCE_S, is_serving=True)


def picture(
    holders: list[str],
    me: str = "a",
    *,
    serving: bool = True,
    free_s: float = 0.0,
    since_given: float = 99.0,
    living: str = "",
    **peers: Peer,
) -> Picture:
    """Sixteen slots with these holders; what names us is held by us. `living` are the names of more peers."""
    slots = tuple(Slot("1" if holder else "", holder) for holder in holders)
    held = frozenset(number for number, holder in enumerate(holders) if holder == me)
    others = {who: peer for who, peer in {**dict.fromkeys(living, LIVE), **peers}.items() if who != me}
    return Picture(me, serving, held, slots, others, dict.fromkeys(range(SLOTS), free_s), since_given)


@pytest.mark.parametrize(
    ("namespace", "slot"), [("0", 0), ("a", 10), ("shop", (28 + 17 + 24 + 25) % 16), ("a-1", 47 % 16)]
)
def test_a_namespaces_slot_follows_from_its_letters(namespace: str, slot: int) -> None:
    assert slot_of(namespace) == slot


@given(st.from_regex(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", fullmatch=True))
def test_every_namespace_has_a_slot(namespace: str) -> None:
    assert 0 <= slot_of(namespace) < SLOTS


@pytest.mark.parametrize(("members", "most"), [(0, 16), (1, 16), (2, 8), (3, 6), (5, 4), (16, 1), (40, 1)])
def test_the_quota_is_an_even_share_rounded_up(members: int, most: int) -> None:
    assert quota(members) == most


def test_the_only_replica_takes_everything_at_once() -> None:
    assert plan(picture([""] * SLOTS)).take == tuple(range(SLOTS))


def test_replicas_that_begin_together_ask_for_different_slots() -> None:
    plans = {me: plan(picture([""] * SLOTS, me, a=LIVE, b=LIVE, c=LIVE)).take for me in "abc"}

    assert Counter(slot for takes in plans.values() for slot in takes) == Counter(range(SLOTS))
    assert sorted(map(len, plans.values())) == [5, 5, 6]


def test_who_does_not_know_the_cluster_yet_or_is_leaving_takes_nothing_and_has_no_share() -> None:
    joining = Peer(1.0, is_serving=False)

    assert plan(picture([""] * SLOTS, serving=False)).take == ()
    assert len(plan(picture([""] * SLOTS, b=joining)).take) == SLOTS


def test_the_slots_of_the_dead_are_shared_out_and_those_of_the_living_left_alone() -> None:
    holders = ["b"] * 8 + ["c"] * 8

    assert len(plan(picture(holders, b=DEAD, c=LIVE)).take) == 8
    assert plan(picture(holders, b=LIVE, c=LIVE)).take == ()


def test_a_free_slot_that_its_taker_leaves_is_taken_by_anybody() -> None:
    holders = ["a"] * 8 + ["b"] * 7 + [""]

    assert plan(picture(holders, b=LIVE)).take == ()
    assert plan(picture(holders, b=LIVE, free_s=PATIENCE_S)).take == (15,)


def test_what_names_us_from_an_earlier_life_is_won_again_before_it_is_used() -> None:
    seen = picture(["a"] * SLOTS)
    afresh = Picture("a", is_serving=True, held=frozenset(), slots=seen.slots, peers={}, free_s={}, since_given_s=0.0)

    assert plan(afresh).take == tuple(range(SLOTS))


def test_one_slot_at_a_time_goes_to_a_newcomer_and_half_a_minute_apart() -> None:
    alone = ["a"] * SLOTS

    assert plan(picture(alone, b=LIVE)).give == 15
    waiting = plan(picture(alone, b=LIVE, since_given=PACE_S - 1))
    assert waiting.give is None
    assert waiting.again_s == 1
    assert plan(picture(["a"] * 8 + ["b"] * 8, b=LIVE)).give is None


def test_nothing_is_given_while_something_is_free() -> None:
    assert plan(picture(["a"] * 15 + [""], b=LIVE)).give is None


def test_the_fifth_of_five_gets_its_share_although_nobody_is_over_quota() -> None:
    holders = [who for who in "abcd" for _ in range(4)]
    givers = [
        me for me in "abcd" if plan(picture(holders, me, a=LIVE, b=LIVE, c=LIVE, d=LIVE, e=LIVE)).give is not None
    ]

    assert len(givers) == 1


def test_shares_differ_by_one_at_most() -> None:
    holders = ["a"] * 6 + ["b"] * 6 + ["c"] * 4

    assert [me for me in "abc" if plan(picture(holders, me, living="abc")).give is not None] == ["b"]
    assert not [me for me in "abc" if plan(picture([*"aaaaaabbbbbccccc"], me, living="abc")).give is not None]


def test_who_waits_for_a_death_looks_again_when_it_is_certain() -> None:
    assert plan(picture(["a"] * 8 + ["b"] * 8, b=Peer(11.5, is_serving=True))).again_s == pytest.approx(0.5)
