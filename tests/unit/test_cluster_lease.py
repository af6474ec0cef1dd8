"""The Lease: two that want it never write at the same time, and the cluster can see who lives."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from canary.cluster.gateway import Gateway
from canary.cluster.lease import MemberLease, controller_is_alive
from canary.errors import Ambiguous, ClusterError, Conflict, NotFound, NotOurs, Unavailable

START = datetime(2026, 1, 31, 8, 0, tzinfo=UTC)


class Clock:
    def __init__(self) -> None:
        self.seconds = 500.0

    def __call__(self) -> float:
        return self.seconds

    def now(self) -> datetime:
        return START + timedelta(seconds=self.seconds)


class Store:
    """The API server's side of one Lease."""

    def __init__(self) -> None:
        self.lease: dict[str, Any] | None = None
        self.version = 0

    def put(self, lease: dict[str, Any]) -> dict[str, Any]:
        self.version += 1
        self.lease = copy.deepcopy(lease)
        self.lease["metadata"]["resourceVersion"] = str(self.version)
        return copy.deepcopy(self.lease)


class Line(Gateway):
    """One member's connection to the store. `fault` is raised instead of sending, `unanswered` after it arrived."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self.store, self.clock = store, clock
        self.fault: ClusterError | None = None
        self.unanswered = False
        self.takes_seconds = 0.0

    def _sent(self) -> None:
        self.clock.seconds += self.takes_seconds
        if self.fault is not None:
            raise self.fault

    def _answer(self, lease: dict[str, Any]) -> dict[str, Any]:
        if self.unanswered:
            raise Ambiguous("cannot tell whether it happened")
        return lease

    def get(self, *_place: Any) -> dict[str, Any]:
        self._sent()
        if self.store.lease is None:
            raise NotFound("no such Lease", status=404)
        return copy.deepcopy(self.store.lease)

    def create(self, *asked: Any) -> dict[str, Any]:
        self._sent()
        if self.store.lease is not None:
            raise Conflict("already exists", status=409)
        return self._answer(self.store.put(asked[-1]))

    def replace(self, *asked: Any) -> dict[str, Any]:
        self._sent()
        if self.store.lease is None:
            raise NotFound("no such Lease", status=404)
        if asked[-1]["metadata"]["resourceVersion"] != self.store.lease["metadata"]["resourceVersion"]:
            raise Conflict("the object has been modified", status=409)
        return self._answer(self.store.put(asked[-1]))


def member(line: Line, identity: str, clock: Clock, on_acquired: Callable[[], None] | None = None) -> MemberLease:
    return MemberLease(line, "canary-system", identity, clock=clock, now=clock.now, on_acquired=on_acquired)


def may_write(lease: MemberLease) -> bool:
    try:
        lease.may_write("shop")
    except NotOurs:
        return False
    return True


def test_the_first_controller_creates_the_lease_and_may_write_until_eight_seconds_less_a_write() -> None:
    clock, store = Clock(), Store()
    lease = member(Line(store, clock), "a", clock)
    assert not may_write(lease)

    assert lease.cycle() == "took the Lease"

    assert store.lease is not None
    assert store.lease["spec"]["holderIdentity"] == "a"
    assert store.lease["spec"]["leaseDurationSeconds"] == 12
    clock.seconds += 5.4
    assert may_write(lease)
    clock.seconds += 0.2
    assert not may_write(lease)
    assert lease.is_held
    clock.seconds += 2.5
    assert not lease.is_held


def test_the_deadline_counts_from_before_the_renewal_was_sent() -> None:
    clock = Clock()
    line = Line(Store(), clock)
    lease = member(line, "a", clock)
    lease.cycle()

    line.takes_seconds = 1.5
    lease.cycle()

    assert lease.valid_until == clock.seconds - 1.5 + 8


def test_with_the_api_server_away_a_holder_stops_writing_by_itself_and_begins_again_after() -> None:
    clock, gained = Clock(), []
    line = Line(Store(), clock)
    lease = member(line, "a", clock, on_acquired=lambda: gained.append(clock.seconds))
    lease.cycle()

    line.fault = Unavailable("no answer")
    for _ in range(5):
        clock.seconds += 2
        lease.cycle()
    assert not may_write(lease)
    assert "no answer" in lease.sentence

    line.fault = None
    assert lease.cycle() == "took the Lease"
    assert may_write(lease)
    assert len(gained) == 2


def test_a_renewal_without_an_answer_does_not_extend_the_right_to_write() -> None:
    clock = Clock()
    line = Line(Store(), clock)
    lease = member(line, "a", clock)
    lease.cycle()
    until = lease.valid_until

    clock.seconds += 2
    line.unanswered = True
    lease.cycle()
    assert lease.valid_until == until

    line.unanswered = False
    assert lease.cycle() == "renewed the Lease"


def test_a_second_controller_stands_by_and_takes_over_twelve_seconds_after_the_first_died() -> None:
    clock, store = Clock(), Store()
    first, second = (member(Line(store, clock), identity, clock) for identity in "ab")
    first.cycle()
    for _ in range(10):
        clock.seconds += 2
        first.cycle()
        assert second.cycle() == "standing by: a holds the Lease"

    died_at = clock.seconds
    while second.cycle() != "took the Lease":
        assert not may_write(second)
        clock.seconds += 2
        assert clock.seconds - died_at < 15

    assert clock.seconds - died_at >= 12
    assert not may_write(first)
    assert may_write(second)
    assert store.lease is not None
    assert store.lease["spec"]["leaseTransitions"] == 1
    assert first.cycle() == "standing by: b holds the Lease"


def test_of_two_that_take_over_at_once_one_wins() -> None:
    clock, store = Clock(), Store()
    member(Line(store, clock), "dead", clock).cycle()
    second_line = Line(store, clock)
    second, third = member(second_line, "b", clock), member(Line(store, clock), "c", clock)
    second.cycle()
    third.cycle()
    clock.seconds += 13

    stale = copy.deepcopy(store.lease)
    third.cycle()
    second_line.get = lambda *_place: copy.deepcopy(stale)  # type: ignore[method-assign,assignment,return-value]
    second.cycle()

    assert may_write(third)
    assert not may_write(second)


def test_a_clean_stop_gives_the_lease_back_and_the_next_need_not_wait() -> None:
    clock, store = Clock(), Store()
    first, second = (member(Line(store, clock), identity, clock) for identity in "ab")
    first.cycle()
    second.cycle()

    first.drain()
    assert not may_write(first)
    assert first.cycle() == "renewed the Lease"
    first.stop(release=True)

    assert second.cycle() == "took the Lease"
    assert not first.is_held


def test_a_controller_that_shuts_down_takes_no_lease_it_does_not_hold() -> None:
    clock, store = Clock(), Store()
    first, second = (member(Line(store, clock), identity, clock) for identity in "ab")
    first.cycle()
    second.cycle()

    second.drain()
    clock.seconds += 60
    second.cycle()
    first.drain()
    first.cycle()

    assert not first.is_held
    assert not second.is_held


def test_a_stop_with_a_write_unanswered_keeps_the_lease_until_it_expires() -> None:
    clock, store = Clock(), Store()
    first, second = (member(Line(store, clock), identity, clock) for identity in "ab")
    first.cycle()

    first.stop(release=False)

    assert second.cycle() == "standing by: a holds the Lease"
    assert not may_write(first)


def test_a_restarted_process_of_the_same_pod_goes_on_at_once() -> None:
    clock, store = Clock(), Store()
    member(Line(store, clock), "canary-0", clock).cycle()

    assert member(Line(store, clock), "canary-0", clock).cycle() == "took the Lease"


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(seed=st.integers(0, 2**32), steps=st.integers(20, 150))
def test_whatever_fails_two_never_may_write_at_the_same_moment(seed: int, steps: int) -> None:
    rng = random.Random(seed)
    clock, store = Clock(), Store()
    lines = [Line(store, clock) for _ in range(3)]
    members = [member(line, name, clock) for line, name in zip(lines, "abc", strict=True)]

    for _ in range(steps):
        chosen = rng.randrange(3)
        line = lines[chosen]
        line.fault = Unavailable("no answer") if rng.random() < 0.3 else None
        line.unanswered = rng.random() < 0.3
        line.takes_seconds = rng.choice((0.0, 0.1, 1.4, 6.0))
        members[chosen].cycle()
        assert sum(one.is_held for one in members) <= 1
        clock.seconds += rng.choice((0.0, 0.5, 2.0, 7.0, 13.0))
        assert sum(one.is_held for one in members) <= 1


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
