"""What became of each rollout, as anybody who watches the API server would see it; read past every fault."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from canary.cluster.gateway import Gateway
from canary.cluster.kinds import CANARYROLLOUT
from canary.cluster.reflector import Change, Reflector
from canary.model.rollout import Phase, Rollout

Object = dict[str, Any]


@dataclass
class Life:
    """One rollout so far. Times are monotonic seconds."""

    rollout: Rollout
    begun: float
    changed: float
    highest_weight: int = 0
    held_for: set[str] = field(default_factory=set)
    """Reasons for which it said that it stalls."""
    paused_for: set[str] = field(default_factory=set)
    longest_silence_s: float = 0.0
    """The longest time in which nothing changed and nothing said why."""

    @property
    def is_over(self) -> bool:
        return self.rollout.status.phase.is_terminal

    @property
    def stalls_because(self) -> str:
        """The reason in its condition Stalled, "" when it does not stall."""
        found = [one for one in self.rollout.status.conditions if one.type == "Stalled" and one.status == "True"]
        return found[0].reason if found else ""

    @property
    def says_why(self) -> bool:
        """Whether it says that it waits, and for what."""
        return bool(self.stalls_because) or self.rollout.status.phase is Phase.PAUSED

    def sees(self, rollout: Rollout, now: float) -> None:
        if _moving(rollout) != _moving(self.rollout):
            self.passes(now)
            self.changed = now
        self.rollout = rollout
        self.highest_weight = max(self.highest_weight, rollout.status.weight.configured or 0)
        if self.stalls_because:
            self.held_for.add(self.stalls_because)
        if rollout.status.paused_for is not None:
            self.paused_for.add(rollout.status.paused_for.value)

    def passes(self, now: float) -> None:
        """Time goes by."""
        if not self.is_over and not self.says_why:
            self.longest_silence_s = max(self.longest_silence_s, now - self.changed)


def _moving(rollout: Rollout) -> tuple[object, ...]:
    """What changes when something happens; figures move by themselves."""
    status = rollout.status
    return status.phase, status.step, status.weight.desired, status.weight.configured, status.resumed_at, status.message


class Lives:
    """All rollouts there were, by (namespace, name)."""

    def __init__(self, gateway: Gateway, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._lives: dict[tuple[str, str], Life] = {}
        self._reflector: Reflector[Object] = Reflector(gateway, CANARYROLLOUT, project=dict, on_change=self._heard)

    def start(self) -> None:
        self._reflector.start()

    def stop(self) -> None:
        self._reflector.stop()

    def of(self, namespace: str, target: str) -> Life | None:
        """The attempt at a Deployment; there is one, as nobody tries twice here."""
        with self._lock:
            lives = (life for (space, _), life in self._lives.items() if space == namespace)
            return next((life for life in lives if life.rollout.spec.target == target), None)

    def all(self) -> list[Life]:
        now = self._clock()
        with self._lock:
            for life in self._lives.values():
                life.passes(now)
            return list(self._lives.values())

    def _heard(self, change: Change[Object]) -> None:
        if change.new is None:
            return  # it was pruned: what became of it is known
        rollout, now = Rollout.parse(change.new), self._clock()
        with self._lock:
            life = self._lives.setdefault(change.key, Life(rollout, now, now))
            life.sees(rollout, now)
