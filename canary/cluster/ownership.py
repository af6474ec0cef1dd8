"""Which slots this replica owns, and the seams that ask it before each look and each write.

A slot is owned by our own answered write to its Lease, for as long as nobody changed that Lease since and our member
Lease is valid (lease.py). Taking and giving is turnover.py's work; nothing here begins anything by itself, and no lock
is held while anything is sent.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from enum import Enum, auto

from canary.cluster.gateway import Gateway
from canary.cluster.kinds import EVENT, LEASE
from canary.cluster.lease import MemberLease
from canary.cluster.leases import Seen, State, member_in, seen, slot_in, slot_name
from canary.cluster.peers import Peers
from canary.cluster.slots import SLOTS, Picture, Slot, slot_of
from canary.cluster.timestamps import utc_now
from canary.cluster.transport import Request
from canary.cluster.writes import Writes
from canary.errors import ClusterError, Conflict, Forbidden, NotFound, NotOurs, PreconditionLost

FENCE = "canary-fence"
"""Part of the name of the ValidatingAdmissionPolicy that refuses writes of who does not hold the slot (fence.yaml)."""


class Phase(Enum):
    """How far a slot has come with us."""

    TAKEN = auto()
    """Won, but what its former owner wrote last is still being read."""
    READY = auto()
    LEAVING = auto()
    """Not looked at any more; what is left to write is written."""
    CLOSED = auto()
    """Nothing is begun any more; given back when every answer has come."""


@dataclass(slots=True)
class Held:
    """A slot won by a write of ours, whose answer was `seen`, in one life of our member Lease."""

    seen: Seen
    life: int
    phase: Phase = Phase.TAKEN


class Ownership:
    """What one replica holds. Safe for several threads."""

    def __init__(
        self,
        lease: MemberLease,
        gateway: Gateway,
        *,
        wake: Callable[[], None],
        clock: Callable[[], float],
        now: Callable[[], datetime] = utc_now,
        write_timeout_seconds: float = 2.5,
    ) -> None:
        """`wake` is called when something is worth a cycle at once; `gateway` is the Leases' own."""
        self.lease = lease
        self.writes = Writes(clock)
        self.peers = Peers()
        self.without_owner: frozenset[int] = frozenset(range(SLOTS))
        """Slots that nobody living holds, as far as was known at the last cycle."""
        self._gateway, self._wake, self._clock, self._now = gateway, wake, clock, now
        self._write_timeout = write_timeout_seconds
        self._lock = threading.Lock()
        self._seen: dict[int, Seen] = {}
        self._held: dict[int, Held] = {}
        self._lost: set[int] = set()
        self._doubted: set[int] = set()
        self._free_since: dict[int, float] = {}

    # the seams

    def owns(self, namespace: str) -> bool:
        """Whether this replica drives the rollouts of a namespace now."""
        return slot_of(namespace) in self.owned

    @property
    def owned(self) -> frozenset[int]:
        """The slots that are driven here now."""
        return self.held(Phase.READY) if self.lease.is_held else frozenset()

    def may_write(self, namespace: str | None) -> None:
        """Raise NotOurs unless a write begun now must be over before anybody else may own the namespace's slot."""
        me, lease = self.lease.identity, self.lease
        if namespace is not None:
            slot = slot_of(namespace)
            if slot in self.held(Phase.CLOSED):
                raise NotOurs(f"this controller ({me}) gives slot {slot} up and begins no more writes in {namespace}")
            if slot not in self.held(Phase.READY, Phase.LEAVING):
                raise NotOurs(f"this controller ({me}) does not hold slot {slot}, which namespace {namespace} is in")
        if not lease.may_begin(self._write_timeout):
            raise NotOurs(f"this controller ({me}) did not renew Lease {lease.namespace}/{lease.name} in time")

    @contextmanager
    def under_way(self, request: Request) -> Iterator[None]:
        """Around each write, its permission included. An answer that contradicts our ownership becomes NotOurs."""
        if request.namespace is None or request.kind is EVENT:  # an Event that comes late harms nobody
            yield
            return
        slot = slot_of(request.namespace)
        with self.writes.under_way(slot):
            try:
                yield
            except Forbidden as error:
                if FENCE not in error.policy:
                    raise
                self._drop(slot)
                raise NotOurs(str(error)) from error
            except (Conflict, PreconditionLost) as error:
                if not self.confirm(slot):
                    raise NotOurs(f"{error}; slot {slot} is somebody else's now") from error
                raise

    # what is heard

    def heard(self, name: str, found: Seen | None) -> None:
        """A Lease of our namespace as it is now, None when it is gone. Returns at once."""
        slot, peer = slot_in(name), member_in(name)
        is_news = False
        with self._lock:
            if slot is not None:
                is_news = self._saw(slot, found)
            elif peer is not None and peer != self.lease.identity:
                is_news = self.peers.heard(peer, found, self._clock(), self._now())
        if is_news:
            self._wake()

    def _saw(self, slot: int, found: Seen | None) -> bool:
        before, held = self._seen.get(slot), self._held.get(slot)
        if found is None:
            self._seen.pop(slot, None)
        elif before is not None and not found.is_newer_than(before):
            return False
        else:
            self._seen[slot] = found
        if (
            held is not None
            and held.life != self.lease.life
            and found is not None
            and found.holder == self.lease.identity
        ):
            return True  # being won again: whether anybody had it in between is told by what that was decided on
        if held is not None and (found is None or found.is_newer_than(held.seen)):
            del self._held[slot]
            self._lost.add(slot)
        return True

    def _drop(self, slot: int) -> None:
        """The API server says that it is not ours: at once; its Lease is read again by the next cycle."""
        with self._lock:
            if self._held.pop(slot, None) is not None:
                self._lost.add(slot)
            self._doubted.add(slot)
        self._wake()

    def confirm(self, slot: int) -> bool:
        """Read the slot's Lease itself: is it still ours? Where nobody answers the deadline goes on to decide."""
        name = slot_name(slot)
        try:
            self.heard(name, seen(self._gateway.get(LEASE, self.lease.namespace, name)))
        except NotFound:
            self.heard(name, None)
        except ClusterError:
            return True
        with self._lock:
            return slot in self._held

    # for the cycle

    def held(self, *phases: Phase) -> frozenset[int]:
        """The slots of this life in one of these phases; of all phases when none is named."""
        life = self.lease.life
        with self._lock:
            return frozenset(
                slot for slot, held in self._held.items() if held.life == life and (not phases or held.phase in phases)
            )

    def sight(self, slot: int) -> Seen | None:
        """The slot's Lease as it was last seen."""
        with self._lock:
            return self._seen.get(slot)

    def won(self, slot: int, before: Seen | None, after: Seen, life: int) -> None:
        """Our write of the Lease, decided on `before`, was answered by `after`."""
        with self._lock:
            former = self._held.pop(slot, None)
            if former is not None and (before is None or former.seen.version != before.version):
                self._lost.add(slot)  # somebody had it in between: what is known of it is worth nothing
            newest = self._seen.get(slot)
            if newest is None or not newest.is_newer_than(after):
                self._seen[slot] = after
                self._held[slot] = Held(after, life)

    def advance(self, slots: Collection[int], phase: Phase) -> frozenset[int]:
        """Move those that are held to a later phase; returns which were."""
        life = self.lease.life
        with self._lock:
            moved = [
                slot
                for slot in slots
                if (held := self._held.get(slot)) and held.life == life and held.phase.value < phase.value
            ]
            for slot in moved:
                self._held[slot].phase = phase
        return frozenset(moved)

    def gave(self, slot: int, after: Seen) -> None:
        """Our write that gives the slot back was answered."""
        self.heard(slot_name(slot), after)

    def take_lost(self) -> frozenset[int]:
        """What was lost since this was last asked."""
        with self._lock:
            lost, self._lost = self._lost, set()
        return frozenset(lost)

    def take_doubted(self) -> frozenset[int]:
        """Slots whose Lease should be read again."""
        with self._lock:
            doubted, self._doubted = self._doubted, set()
        return frozenset(doubted)

    def pictured(self, since_given_s: float, pace_s: float) -> Picture:
        """All that is known now, to decide on."""
        at = self._clock()
        held = self.held() if self.lease.is_held else frozenset()
        with self._lock:
            sights = [self._seen.get(slot) for slot in range(SLOTS)]
            slots = tuple(Slot(found.version, found.holder) if found else Slot() for found in sights)
            peers = self.peers.pictured(at, {slot.holder for slot in slots} - {"", self.lease.identity})
        is_serving = self.lease.state is State.SERVING
        picture = Picture(self.lease.identity, is_serving, held, slots, peers, {}, since_given_s, pace_s)
        self.without_owner = frozenset(picture.free)
        self._free_since = {slot: self._free_since.get(slot, at) for slot in picture.free}
        return replace(picture, free_s={slot: at - since for slot, since in self._free_since.items()})

    def leavings(self) -> list[tuple[str, str]]:
        """(identity, version) of member Leases for this replica to take away: for the first by name of those alive."""
        at = self._clock()
        with self._lock:
            holders = {found.holder for found in self._seen.values()}
            peers = self.peers.pictured(at, holders - {"", self.lease.identity})
            if any(who < self.lease.identity for who, peer in peers.items() if peer.is_serving and not peer.is_dead):
                return []
            return self.peers.leavings(at, self._now(), holders)
