"""Sees every write of one controller on its way through the proxy, and kills the controller at one of them.

It keeps what took effect, in order, as the API server answered it: the controller's own word counts for nothing here.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import orjson

from tests.faults.asked import Asked
from tests.faults.crash.points import Point, Side
from tests.faults.proxy import Answer, Dropped, Forward

Object = dict[str, Any]


@dataclass(frozen=True)
class Effect:
    """A write that took effect, and the object after it ({} after a delete that left nothing)."""

    at: float
    """Epoch seconds."""
    asked: Asked
    document: Object


Choose = Callable[[Asked], "Side | None"]
"""Whether the controller is killed at a write, and on which side of it. Asked once for each write."""


def once(point: Point | None) -> Choose:
    """At this one."""
    was_there = False

    def choose(asked: Asked) -> Side | None:
        nonlocal was_there
        if was_there or point is None or not point.is_at(asked):
            return None
        was_there = True
        return point.side

    return choose


def relentlessly(resources: frozenset[str]) -> Choose:
    """At every write to these resources: at the first try before it arrives, at the second before its answer does.

    The second try is by a new controller that found things as the first one had, so it is the same write again.
    """
    tries: Counter[str] = Counter()

    def choose(asked: Asked) -> Side | None:
        if asked.resource not in resources:
            return None
        tries[asked.path] += 1
        return Side.BEFORE if tries[asked.path] % 2 else Side.AFTER

    return choose


class Witness:
    """The only hook of a run's proxy. `kill` ends the controller at once, from any thread."""

    def __init__(self, choose: Choose, kill: Callable[[], None], on_effect: Callable[[], None] = lambda: None) -> None:
        """`on_effect` is called after each write that took effect, before its answer goes on."""
        self.effects: list[Effect] = []
        self.asked: list[Asked] = []
        """Every write that was asked for, before anything became of it."""
        self.kills: list[tuple[Side, Asked]] = []
        self._choose, self._kill, self._on_effect = choose, kill, on_effect
        self.is_open = True
        """False from the kill until open(): what comes then is from a process that is dead."""
        self._under_way = 0

    async def hook(self, asked: Asked, forward: Forward) -> Answer:
        if not self.is_open:
            raise Dropped
        if not asked.is_write:
            return await forward()
        self.asked.append(asked)
        side = self._choose(asked)
        if side is Side.BEFORE:
            self._end(side, asked)
            raise Dropped
        self._under_way += 1
        try:
            answer = await forward()
            if 200 <= answer.status < 300:
                self.effects.append(Effect(time.time(), asked, _document(answer)))
                self._on_effect()
        finally:
            self._under_way -= 1
        if side is Side.AFTER:
            self._end(side, asked)
        if not self.is_open:
            raise Dropped
        return answer

    @property
    def is_idle(self) -> bool:
        """No write is under way: what the dead process sent has been answered."""
        return self._under_way == 0

    def open(self) -> None:
        """The next process may write."""
        self.is_open = True

    def latest(self, resource: str, name: str) -> Object | None:
        """An object as the last write to it left it, None before there was one."""
        return next(
            (
                effect.document
                for effect in reversed(list(self.effects))
                if effect.asked.resource == resource and effect.asked.name == name
            ),
            None,
        )

    def _end(self, side: Side, asked: Asked) -> None:
        # in this order: whoever looks after the controller must never find it dead and not know why
        self.kills.append((side, asked))
        self.is_open = False
        self._kill()


def _document(answer: Answer) -> Object:
    assert isinstance(answer.body, bytes)
    found = orjson.loads(answer.body)
    return found if isinstance(found, dict) else {}
