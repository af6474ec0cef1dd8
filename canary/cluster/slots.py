"""Which replica drives which namespaces: sixteen slots, and what one replica does about them, decided from a picture.

Pure: no clock, no request. The number of replicas is no part of a namespace's slot, so nothing is handed over when
replicas come and go but names on Leases (availability.md). Everybody decides for himself; that two never own the same
slot is kept by the resourceVersion of its Lease, not by this module.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

SLOTS = 16
ALPHABET = "0123456789abcdefghijklmnopqrstuvwxyz-"
"""What the name of a namespace is made of. The fence in the API server computes the same sum in CEL (fence.yaml)."""

SILENCE_S = 12.0
"""A peer is dead when its member Lease did not change for so long on our own clock."""

PACE_S = 30.0
"""Between two slots that one replica gives up to share more evenly: each move makes its rollouts wait a little."""

PATIENCE_S = 4.0
"""A free slot that was due to somebody else is taken by anybody after this: whoever it was due to has not come."""


@lru_cache(maxsize=4096)  # asked for every rollout at every tick
def slot_of(namespace: str) -> int:
    """The slot of a namespace, 0-15."""
    return sum(ALPHABET.find(char) for char in namespace) % SLOTS


def quota(members: int) -> int:
    """The most slots one of so many members keeps when others could have them."""
    return -(-SLOTS // max(members, 1))


@dataclass(frozen=True, slots=True)
class Slot:
    """A slot's Lease as it was last seen."""

    version: str = ""
    """resourceVersion, "" where there is no such Lease."""
    holder: str = ""


@dataclass(frozen=True, slots=True)
class Peer:
    """Another replica, as its member Lease shows it."""

    silent_s: float
    """Since its Lease changed, or since it was missed for the first time."""
    is_serving: bool
    """It takes slots: it knows the cluster, and is not on its way out."""

    @property
    def is_dead(self) -> bool:
        return self.silent_s >= SILENCE_S


@dataclass(frozen=True, slots=True)
class Picture:
    """All that one replica knows when it decides. Seconds are of its own clock."""

    me: str
    is_serving: bool
    held: frozenset[int]
    """Won by our own answered write in this life; a slot that only names us is not held."""
    slots: tuple[Slot, ...]
    peers: Mapping[str, Peer]
    """By identity; everybody who holds a slot is among them."""
    free_s: Mapping[int, float]
    """How long each slot without a living owner has been so."""
    since_given_s: float
    pace_s: float = PACE_S

    def is_free(self, slot: int) -> bool:
        """Whether nobody who lives holds it. A slot that names us and that we do not hold is left from an earlier
        life: nobody else may have it, and it still has to be won."""
        holder = self.slots[slot].holder
        return slot not in self.held and (holder in ("", self.me) or self.peers[holder].is_dead)

    @property
    def free(self) -> tuple[int, ...]:
        return tuple(slot for slot in range(SLOTS) if self.is_free(slot))


@dataclass(frozen=True, slots=True)
class Plan:
    take: tuple[int, ...] = ()
    give: int | None = None
    again_s: float = SILENCE_S
    """When to look again although nothing was heard."""


def plan(picture: Picture) -> Plan:
    """What to take or give up now.

    Free slots go, one after the other, to whoever has fewest; everybody computes the same from the same picture, so
    they rarely ask for the same one. With nothing free, whoever has most gives one up when somebody has two fewer.
    """
    if not picture.is_serving:
        return Plan()
    free = picture.free
    shares = _shares(picture, free)
    take = []
    for slot in free:
        taker = min(shares, key=lambda who: (shares[who], who))
        shares[taker] += 1
        if picture.me in (taker, picture.slots[slot].holder) or picture.free_s.get(slot, 0.0) >= PATIENCE_S:
            take.append(slot)
    give = None if free else _give(picture, shares)
    return Plan(tuple(take), give, _again_s(picture, frozenset(take)))


def _shares(picture: Picture, free: tuple[int, ...]) -> dict[str, int]:
    """Slots held now, by everybody who takes slots."""
    shares = {who: 0 for who, peer in picture.peers.items() if peer.is_serving and not peer.is_dead}
    shares[picture.me] = 0
    for number, slot in enumerate(picture.slots):
        holder = picture.me if number in picture.held else slot.holder
        if number not in free and holder in shares:
            shares[holder] += 1
    return shares


def _give(picture: Picture, shares: Mapping[str, int]) -> int | None:
    mine, fewest = shares[picture.me], min(shares.values())
    has_most = picture.me == max(shares, key=lambda who: (shares[who], who))
    is_uneven = mine > quota(len(shares)) or mine - fewest >= 2
    if not picture.held or not has_most or not is_uneven or picture.since_given_s < picture.pace_s:
        return None
    return max(picture.held)


def _again_s(picture: Picture, taken: frozenset[int]) -> float:
    """Until the next moment at which time alone changes the plan."""
    waits = [SILENCE_S]
    waits += [SILENCE_S - peer.silent_s for peer in picture.peers.values() if not peer.is_dead]
    waits += [PATIENCE_S - seconds for slot, seconds in picture.free_s.items() if slot not in taken]
    waits.append(picture.pace_s - picture.since_given_s)
    return min((wait for wait in waits if wait > 0), default=SILENCE_S)
