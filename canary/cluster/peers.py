"""When each other replica gave its last sign of life, on our own clock.

A sign of life is a change of its member Lease that we heard of. Clocks of two machines are compared for one thing only:
whether a Lease seen for the first time is an old one's leavings, which has no share. Never for who is dead.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta

from canary.cluster.leases import ALIVE_SLACK, Seen, State
from canary.cluster.slots import SILENCE_S, Peer

LEAVINGS_S = 3600.0
"""A member Lease that nobody renewed for so long may be taken away."""


@dataclass(slots=True)
class _Known:
    seen: Seen | None
    since: float
    has_moved: bool
    """It changed since we first saw it, or its renewal was recent then."""


class Peers:
    """Not safe for several threads: its owner locks."""

    def __init__(self) -> None:
        self._known: dict[str, _Known] = {}

    def heard(self, identity: str, seen: Seen | None, at: float, now: datetime) -> bool:
        """A member Lease as it is now, None when it is gone, which is no sign of life. Whether shares may change."""
        known = self._known.get(identity)
        if seen is None:
            if known is not None:
                known.seen = None
            return known is not None
        if known is None or known.seen is None:
            fresh = seen.renewed is not None and now <= seen.renewed + timedelta(seconds=SILENCE_S) + ALIVE_SLACK
            moved = fresh or (known is not None and known.has_moved)
            self._known[identity] = _Known(seen, at, moved)
            return True
        if not seen.is_newer_than(known.seen):
            return False  # what a live read had told before the watch did
        is_news = not known.has_moved or (seen.state, seen.holder) != (known.seen.state, known.seen.holder)
        known.seen, known.since, known.has_moved = seen, at, True
        return is_news

    def version(self, identity: str) -> str:
        """Of its member Lease, "" where none is known."""
        known = self._known.get(identity)
        return known.seen.version if known and known.seen else ""

    def pictured(self, at: float, holders: Collection[str]) -> dict[str, Peer]:
        """Everybody, with who holds a slot and was never heard of: missed from now on."""
        for holder in holders:
            self._known.setdefault(holder, _Known(None, at, has_moved=False))
        for identity in [who for who, known in self._known.items() if known.seen is None and who not in holders]:
            if at - self._known[identity].since > LEAVINGS_S:
                del self._known[identity]
        return {who: Peer(at - known.since, _takes_slots(known)) for who, known in self._known.items()}

    def leavings(self, at: float, now: datetime, holders: Collection[str]) -> list[tuple[str, str]]:
        """(identity, version) of member Leases that are dead for long, hold nothing, and that nobody else removes."""
        return [
            (who, known.seen.version)
            for who, known in self._known.items()
            if known.seen is not None
            and who not in holders
            and not known.seen.is_owned
            and at - known.since >= SILENCE_S
            and (known.seen.renewed is None or (now - known.seen.renewed).total_seconds() > LEAVINGS_S)
        ]


def _takes_slots(known: _Known) -> bool:
    found = known.seen
    return found is not None and found.state == State.SERVING and bool(found.holder) and known.has_moved
