"""What an effect works on and what it gives back, and the status with its line of history."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from canary.engine.actions import Action
from canary.engine.look import Look
from canary.engine.table import Signal
from canary.model.rollout import HistoryEntry, Phase, RolloutStatus
from canary.model.text import plain


@dataclass(frozen=True)
class Case(Look):
    """A look in which a signal was recognised: why, and the phase its rule leads to."""

    signal: Signal
    to: Phase
    why: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """A new status, with what comes before and after it is written."""

    status: RolloutStatus
    before: tuple[Action, ...] = ()
    after: tuple[Action, ...] = ()


def updated(status: RolloutStatus, **changes: Any) -> RolloutStatus:
    return status.model_copy(update=changes)


def moved(case: Case, why: str, **changes: Any) -> RolloutStatus:
    """The status in another phase, or on another step, with a line of history."""
    status = updated(case.status, phase=case.to, message=plain(why, 2048), phase_started_at=case.now, **changes)
    return remember(status, case.now, why)


def remember(status: RolloutStatus, now: datetime, why: str) -> RolloutStatus:
    """One more line of history, for what the status says now."""
    entry = HistoryEntry(
        at=now,
        phase=status.phase,
        step=status.step.index if status.step else None,
        weight=status.weight.desired,
        sentence=plain(why, 300),
    )
    return updated(status, history=(*status.history, entry))
