"""Many replicas in one thread: a store of Leases, a clock that is turned by hand, and connections that fail as told."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from canary.cluster.gateway import Gateway
from canary.cluster.lease import MemberLease
from canary.cluster.leases import Seen, State, seen_of_ours
from canary.cluster.ownership import Ownership
from canary.cluster.slots import ALPHABET, PACE_S, SLOTS
from canary.cluster.turnover import Turnover
from canary.errors import Ambiguous, ClusterError, Conflict, NotFound, NotOurs, Unavailable

START = datetime(2026, 1, 31, 8, 0, tzinfo=UTC)
NAMESPACES = ALPHABET[:SLOTS]
"""One namespace of each slot, by its number: "0" is in slot 0, "f" in slot 15."""

Object = dict[str, Any]


@dataclass
class Store:
    """The API server's side: Leases by name, and every change in order."""

    leases: dict[str, Object] = field(default_factory=dict)
    changes: list[tuple[str, Seen | None]] = field(default_factory=list)
    """What a watch tells: the name, and what is seen of the Lease after the change, None when it was deleted."""
    version: int = 0

    def get(self, name: str) -> Object:
        if name not in self.leases:
            raise NotFound(f"no Lease {name}", status=404)
        return copy.deepcopy(self.leases[name])

    def create(self, lease: Object) -> Object:
        if lease["metadata"]["name"] in self.leases:
            raise Conflict("already exists", status=409)
        return self._put(lease)

    def replace(self, lease: Object) -> Object:
        self._pinned(lease["metadata"]["name"], lease["metadata"]["resourceVersion"])
        return self._put(lease)

    def delete(self, name: str, version: str) -> None:
        self._pinned(name, version)
        del self.leases[name]
        self.version += 1
        self.changes.append((name, None))

    def _pinned(self, name: str, version: str) -> None:
        if self.get(name)["metadata"]["resourceVersion"] != version:
            raise Conflict("the object has been modified", status=409)

    def _put(self, lease: Object) -> Object:
        self.version += 1
        stored = copy.deepcopy(lease)
        stored["metadata"]["resourceVersion"] = str(self.version)
        self.leases[lease["metadata"]["name"]] = stored
        self.changes.append((lease["metadata"]["name"], seen_of_ours(stored)))
        return copy.deepcopy(stored)


class Line(Gateway):
    """One replica's connection. `down`: nothing arrives; `unanswered`: it arrives, and nobody hears the answer;
    `held`: a write arrives when `deliver` is called, long after it was given up."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.down = self.unanswered = self.held = False
        self.asked: list[tuple[str, str]] = []
        """(verb, name) of each request."""
        self.in_between: Callable[[], None] = lambda: None
        """Called before each request is carried out: what others do meanwhile."""
        self.before_the_answer: Callable[[], None] = lambda: None
        """Called between a write and its answer."""
        self._waiting: list[Callable[[], object]] = []

    def get(self, *place: Any) -> Object:
        self._sent("get", place[-1])
        return self.store.get(place[-1])

    def create(self, *place: Any, **_: Any) -> Object:
        made: Object = self._written("create", place[-1]["metadata"]["name"], lambda: self.store.create(place[-1]))
        return made

    def replace(self, *place: Any) -> Object:
        stored: Object = self._written("update", place[-2], lambda: self.store.replace(place[-1]))
        return stored

    def delete(self, *place: Any, resource_version: str | None = None, **_: Any) -> None:
        self._written("delete", place[-1], lambda: self.store.delete(place[-1], resource_version or ""))

    def deliver(self) -> None:
        """What was held in the network arrives."""
        waiting, self._waiting = self._waiting, []
        for write in waiting:
            try:
                write()
            except ClusterError:
                continue  # nobody hears the answer

    def _sent(self, verb: str, name: str) -> None:
        self.in_between()
        self.asked.append((verb, name))
        if self.down:
            raise Unavailable("no answer")

    def _written(self, verb: str, name: str, write: Callable[[], Any]) -> Any:
        self._sent(verb, name)
        if self.held:
            self._waiting.append(write)
            raise Ambiguous("cannot tell whether it happened")
        answer = write()
        self.before_the_answer()
        if self.unanswered:
            raise Ambiguous("cannot tell whether it happened")
        return answer


class AtOnce(Executor):
    """Does what it is given, there and then."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        done: Future[Any] = Future()
        done.set_result(fn(*args, **kwargs))
        return done


@dataclass
class Heard:
    """What a replica's owner was told, in order."""

    said: list[tuple[str, frozenset[int]]] = field(default_factory=list)
    refuses: ClusterError | None = None
    """Raised when a read is asked for."""

    def prepare(self, slots: Collection[int]) -> None:
        if self.refuses is not None:
            raise self.refuses
        self.said.append(("prepare", frozenset(slots)))

    def gained(self, slots: Collection[int]) -> None:
        self.said.append(("gained", frozenset(slots)))

    def leaving(self, slots: Collection[int]) -> None:
        self.said.append(("leaving", frozenset(slots)))

    def lost(self, slots: Collection[int]) -> None:
        self.said.append(("lost", frozenset(slots)))

    def told(self, what: str) -> frozenset[int]:
        return frozenset(slot for word, slots in self.said if word == what for slot in slots)


class Member:
    """A replica whose threads are the test's hands."""

    def __init__(self, world: World, identity: str, offset: float, pace: float) -> None:
        self.world, self.identity, self.offset = world, identity, offset
        self.line, self.hooks = Line(world.store), Heard()
        self.lease = MemberLease(self.line, "canary-system", identity, clock=self.clock, now=world.now)
        self.ownership = Ownership(self.lease, self.line, wake=lambda: None, clock=self.clock, now=world.now)
        self.turnover = Turnover(
            self.ownership, self.line, self.hooks, AtOnce(), clock=self.clock, now=world.now, pace_seconds=pace
        )
        self.told = 0
        """Changes of the store that its watch has brought."""
        self.lease.say(State.SERVING)

    def clock(self) -> float:
        return self.world.seconds + self.offset

    def watch(self, number: int | None = None) -> None:
        """Its watch brings the next changes, all there are when no number is given."""
        until = len(self.world.store.changes) if number is None else self.told + number
        for name, found in self.world.store.changes[self.told : until]:
            self.ownership.heard(name, found)
        self.told = min(until, len(self.world.store.changes))

    def relist(self) -> None:
        """Its watch broke off long ago: it hears how things are, and of nothing in between."""
        missed = {name for name, _ in self.world.store.changes[self.told :]}
        for name in sorted(missed):
            lease = self.world.store.leases.get(name)
            self.ownership.heard(name, None if lease is None else seen_of_ours(lease))
        self.told = len(self.world.store.changes)

    def turn(self) -> None:
        """Two seconds' work: renew, hear, cycle, and hear of that."""
        self.lease.cycle()
        self.watch()
        self.turnover.cycle()
        self.watch()

    def may_write(self, slot: int) -> bool:
        try:
            self.ownership.may_write(NAMESPACES[slot])
        except NotOurs:
            return False
        return True

    @property
    def owned(self) -> frozenset[int]:
        return self.ownership.owned


class World:
    """A cluster whose clock is turned by hand."""

    def __init__(self, pace: float = PACE_S) -> None:
        self.store, self.seconds, self.pace = Store(), 1000.0, pace
        self.members: list[Member] = []

    def now(self) -> datetime:
        return START + timedelta(seconds=self.seconds)

    def join(self, identity: str, offset: float = 0.0) -> Member:
        self.members.append(Member(self, identity, offset, self.pace))
        return self.members[-1]

    def pass_time(self, seconds: float, *members: Member) -> None:
        """So many seconds in which these (all when none is named) do their work."""
        for _ in range(round(seconds)):
            self.seconds += 1.0
            for member in members or self.members:
                member.turn()
            self.check()

    def owners(self, slot: int) -> list[str]:
        """Who would write for a slot at this very moment."""
        return [member.identity for member in self.members if member.may_write(slot)]

    def check(self) -> None:
        """Nobody writes for the same slot as anybody else."""
        for slot in range(SLOTS):
            assert len(self.owners(slot)) <= 1, f"slot {slot} has the owners {self.owners(slot)}"

    def holders(self) -> Iterator[str]:
        """The names on the slots' Leases."""
        for slot in range(SLOTS):
            yield str(self.store.get(f"canary-slot-{slot}")["spec"]["holderIdentity"])
