"""Where a controller is killed: at which write, and on which side of it. Pure."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from tests.faults.asked import Asked

SAMPLED = frozenset({"events", "leases"})
"""Written all the time, and nothing follows from one of them: each kind of write is tried once, not each write."""


class Side(StrEnum):
    BEFORE = "before"
    """The write never reaches the API server."""
    AFTER = "after"
    """The write took effect, and its answer never reaches the controller."""


@dataclass(frozen=True, order=True)
class Point:
    """The n-th write of a kind, counted from the first start of the controller."""

    verb: str
    resource: str
    subresource: str
    nth: int
    side: Side

    @property
    def write(self) -> str:
        """`patch canaryrollouts/status`."""
        return f"{self.verb} {self.resource}" + (f"/{self.subresource}" if self.subresource else "")

    def is_at(self, asked: Asked) -> bool:
        return (asked.verb, asked.resource, asked.subresource, asked.nth) == (
            self.verb,
            self.resource,
            self.subresource,
            self.nth,
        )

    def __str__(self) -> str:
        return f"{self.side} {self.write} #{self.nth}"


def points_of(writes: Iterable[Asked]) -> list[Point]:
    """Both sides of every write that an uninterrupted run made; of Events and Leases one of each kind of write."""
    found: list[Point] = []
    sampled: dict[tuple[str, ...], list[Asked]] = {}
    for asked in writes:
        if asked.resource in SAMPLED:
            sampled.setdefault((*asked.kind_of_request, _family(asked)), []).append(asked)
        else:
            found += _both_sides(asked)
    for several in sampled.values():
        # the second where there is one: what comes first has no predecessor to be confused with
        found += _both_sides(several[min(1, len(several) - 1)])
    return found


def _family(asked: Asked) -> str:
    """What a Lease is for: `canary-member-…` is a sign of life, `canary-slot-…` says who serves some namespaces."""
    return "-".join(asked.name.split("-")[:2]) if asked.resource == "leases" else ""


def _both_sides(asked: Asked) -> list[Point]:
    return [Point(asked.verb, asked.resource, asked.subresource, asked.nth, side) for side in Side]


def sample(points: Sequence[Point], size: int, seed: int) -> list[Point]:
    """So many of them, from all kinds of writes in turn, the same for the same seed."""
    chance = random.Random(seed)
    by_write: dict[str, list[Point]] = {}
    for point in sorted(points):
        by_write.setdefault(point.write, []).append(point)
    piles = list(by_write.values())
    for pile in piles:
        chance.shuffle(pile)
    chance.shuffle(piles)
    chosen: list[Point] = []
    while len(chosen) < min(size, len(points)):
        chosen += [pile.pop() for pile in piles if pile][: size - len(chosen)]
    return chosen
