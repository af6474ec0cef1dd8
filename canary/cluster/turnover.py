"""Taking slots and giving them back, one cycle after the other: what slots.py decided becomes writes to Leases.

Taking is a write pinned to the resourceVersion that was decided on, so of several who try one succeeds; then what the
former owner wrote last is read, and only then the slot is used. Giving back waits for every answer. A slot whose owner
is silent is taken only after its member Lease was read once more, past our watch: a watch that lags is no death.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from concurrent.futures import Executor
from datetime import datetime
from typing import Protocol

from canary.cluster.gateway import Gateway
from canary.cluster.kinds import LEASE
from canary.cluster.lease import NEVER
from canary.cluster.leases import Seen, member_name, seen, slot_document, slot_name
from canary.cluster.ownership import Ownership, Phase
from canary.cluster.slots import PACE_S, plan
from canary.cluster.timestamps import utc_now
from canary.errors import ClusterError, Conflict, Forbidden, NotFound

SOON_S = 0.5
"""Until something that did not succeed is tried again."""

SWEEP_S = 60.0

log = logging.getLogger(__name__)


class Hooks(Protocol):
    """What comes with a slot. Called on the thread that runs the cycles; only `prepare` may raise a ClusterError."""

    def prepare(self, slots: Collection[int]) -> None:
        """Read what the former owner may have written last; the slots are not used before it returns."""

    def gained(self, slots: Collection[int]) -> None:
        """They may be driven now: look at everything in them."""

    def leaving(self, slots: Collection[int]) -> None:
        """They are given up and no longer looked at: write what is left to write, within a second."""

    def lost(self, slots: Collection[int]) -> None:
        """They are somebody else's, or soon will be: forget what is known of them, write nothing."""


class Turnover:
    """The cycles of one replica, run by one thread.

    `takes` counts slots won by what they were before: `new`, `free`, `dead` (their owner was) or `own` (left from an
    earlier life of ours).
    """

    def __init__(
        self,
        ownership: Ownership,
        gateway: Gateway,
        hooks: Hooks,
        executor: Executor,
        *,
        clock: Callable[[], float],
        now: Callable[[], datetime] = utc_now,
        pace_seconds: float = PACE_S,
    ) -> None:
        """`gateway` is the Leases' own; `executor` sends the writes of several slots side by side."""
        self.takes: Counter[str] = Counter()
        self.problem = ""
        """The right that is missing, "" when none is."""
        self._ownership, self._gateway, self._hooks, self._executor = ownership, gateway, hooks, executor
        self._lease = ownership.lease
        self._clock, self._now, self._pace = clock, now, pace_seconds
        self._given_at = self._swept_at = NEVER
        self._may_sweep = True

    def cycle(self) -> float:
        """Do what is due; seconds until the next cycle, if nothing is heard before. Never raises a ClusterError."""
        again = SOON_S
        try:
            self._tell_lost()
            again = self._cycle() if self._lease.is_held else SOON_S
            self.problem = ""
        except Forbidden as error:
            self.problem = str(error)
            log.warning("slots: %s", error)
        except ClusterError as error:
            log.info("slots: %s", error)
        self._tell_lost()
        return again

    def leave(self, timeout_seconds: float) -> bool:
        """Begin no more writes, and give back every slot whose writes were all answered; whether that were all."""
        self._ownership.advance(self._ownership.held(), Phase.CLOSED)
        until = self._clock() + timeout_seconds
        is_last = False
        while self._ownership.held():
            try:
                self._give_back()
            except ClusterError as error:
                log.warning("slots: %s", error)
            if is_last:
                break
            left = until - self._clock()
            is_last = left <= 0 or not self._ownership.writes.wait_for_one(left)
        return not self._ownership.held()

    def _cycle(self) -> float:
        for slot in self._ownership.take_doubted():
            self._ownership.confirm(slot)
        wanted = plan(self._ownership.pictured(self._clock() - self._given_at, self._pace))
        self._take(wanted.take)
        self._prepare()
        if wanted.give is not None:
            self._given_at = self._clock()
            left = self._ownership.advance([wanted.give], Phase.LEAVING)
            self._hooks.leaving(left)
            self._ownership.advance(left, Phase.CLOSED)
        self._give_back()
        self._sweep()
        held = self._ownership.held()
        is_done = held == self._ownership.held(Phase.READY) and held.issuperset(wanted.take)
        return min(wanted.again_s, SWEEP_S) if is_done else SOON_S

    def _take(self, slots: Iterable[int]) -> None:
        is_dead: dict[str, bool] = {}
        takes = []
        for slot in slots:
            before = self._ownership.sight(slot)
            holder = before.holder if before else ""
            if holder not in ("", self._lease.identity):
                is_dead[holder] = is_dead[holder] if holder in is_dead else self._is_dead(holder)
                if not is_dead[holder]:
                    continue
            takes.append((slot, before, self._lease.life))
        refused = [error for error in self._executor.map(self._take_one, takes) if error is not None]
        for error in refused:
            if isinstance(error, Forbidden):
                raise error
            log.info("slots: %s", error)

    def _take_one(self, wish: tuple[int, Seen | None, int]) -> ClusterError | None:
        slot, before, life = wish
        name, me = slot_name(slot), self._lease.identity
        document = slot_document(self._lease.namespace, slot, before, me, self._now())
        try:
            if before is None:
                answer = self._gateway.create(LEASE, self._lease.namespace, document)
            else:
                answer = self._gateway.replace(LEASE, self._lease.namespace, name, document)
        except ClusterError as error:  # a Conflict: somebody else has it; no answer: the watch will tell
            return error
        self._ownership.won(slot, before, seen(answer), life)
        self.takes[_kind(before, me)] += 1
        return None

    def _is_dead(self, identity: str) -> bool:
        """Whether its Lease is still the one that has been silent for so long: our watch may be behind."""
        name = member_name(identity)
        try:
            found = seen(self._gateway.get(LEASE, self._lease.namespace, name))
        except NotFound:
            return True
        if found.version == self._ownership.peers.version(identity):
            return True
        self._ownership.heard(name, found)
        return False

    def _prepare(self) -> None:
        taken = self._ownership.held(Phase.TAKEN)
        if not taken:
            return
        self._tell_lost()
        self._hooks.prepare(taken)
        ready = self._ownership.advance(taken & self._ownership.held(Phase.TAKEN), Phase.READY)
        if ready:
            log.info("slots taken: %s", ", ".join(str(slot) for slot in sorted(ready)))
            self._hooks.gained(ready)

    def _give_back(self) -> None:
        """Write nobody's name on the Leases of slots that nothing of ours is under way for."""
        closed = [
            (slot, self._ownership.sight(slot))
            for slot in self._ownership.held(Phase.CLOSED)
            if self._ownership.writes.are_answered(slot)
        ]
        if not closed or not self._lease.is_held:
            return
        for error in self._executor.map(self._give_one, closed):
            if error is not None:
                raise error
        log.info("slots given back: %s", ", ".join(str(slot) for slot, _ in sorted(closed, key=lambda one: one[0])))
        self._tell_lost()

    def _give_one(self, one: tuple[int, Seen | None]) -> ClusterError | None:
        slot, before = one
        document = slot_document(self._lease.namespace, slot, before, "", self._now())
        try:
            answer = self._gateway.replace(LEASE, self._lease.namespace, slot_name(slot), document)
        except (Conflict, NotFound):
            self._ownership.confirm(slot)  # changed by somebody: seen as such, it is not ours any more
            return None
        except ClusterError as error:
            return error
        self._ownership.gave(slot, seen(answer))
        return None

    def _tell_lost(self) -> None:
        lost = self._ownership.take_lost()
        if lost:
            log.info("slots lost: %s", ", ".join(str(slot) for slot in sorted(lost)))
            self._hooks.lost(lost)

    def _sweep(self) -> None:
        """Now and then one of us takes away the member Leases of processes that are long gone, pods' aside."""
        at = self._clock()
        if not self._may_sweep or at - self._swept_at < SWEEP_S:
            return
        self._swept_at = at
        for identity, version in self._ownership.leavings():
            try:
                self._gateway.delete(LEASE, self._lease.namespace, member_name(identity), resource_version=version)
            except (Conflict, NotFound):
                continue
            except Forbidden:
                self._may_sweep = False
                log.info("member Leases of ended controllers stay: they may not be deleted")
                return


def _kind(before: Seen | None, me: str) -> str:
    if before is None:
        return "new"
    if not before.holder:
        return "free"
    return "own" if before.holder == me else "dead"
