"""The transition table: which signal in which phase leads where, and what is done about it.

Data only. A pair that is not listed leaves the rollout as it is; there is no other way to change a phase, so an
illegal transition cannot be written. The picture in docs/engine.md is drawn from this table (`picture.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

from canary.model.rollout import Phase


class Signal(StrEnum):
    """What an observation amounts to. Listed by priority: the first that holds and has a rule is the one."""

    DELETED = "object deleted"
    ABORT = "abort wished"
    TARGET_GONE = "target gone"
    SUPERSEDED = "superseded"
    BROKEN_STATUS = "cannot be carried out"
    ROLLBACK_MARK = "route says: rolled back"
    FAIL = "verdict fail"
    STABLE_CHANGED = "stable changed"
    DRIFT_ABORT = "weights moved by others, policy: abort"
    FINDING = "bad input"
    RESOLVED = "resolved"
    NOT_READY = "not ready in time"
    READY = "ready"
    UNPREPARED = "subsets missing"
    ROUTE_LOST = "route lost"
    SUBSET_LOST = "canary's subset lost"
    PROMOTE_FULL = "full promotion wished"
    UNREACHED = "weight not set yet"
    DRIFT = "weights moved by others"
    REACHED = "weight set"
    STABLE_SUBSET_LOST = "stable's subset lost"
    PAUSE = "pause"
    RESUME = "resume"
    RESUME_BAKE = "resume the bake"
    INCONCLUSIVE_ROLLBACK = "not decided in time, policy: roll back"
    ADVANCE = "step passed"
    BAKE = "last step passed"
    HAND_OVER = "bake over, stable still has its share"
    FINISH = "bake over"
    UNCLEAN = "leftovers"
    ENDED_ROLLED_BACK = "clean after a verdict"
    ENDED_ABORTED = "clean after an abort"
    ENDED_SUPERSEDED = "clean, superseded"
    ENDED_FAILED = "clean, cannot go on"
    CLOCK_STOP = "blind, or not at its weight"
    CLOCK_START = "sees again"


class Effect(StrEnum):
    """What is done about a signal; `effects.py` has one function for each."""

    STALL = "say what is wrong and wait"
    PIN = "pin revision, route and policy"
    PREPARE = "make the subsets"
    RESTORE = "put the subsets back, stop the clock"
    BEGIN = "ask for the first step"
    SHIFT = "set the weight on the route"
    START_CLOCK = "start the step's clock"
    STOP_CLOCK = "stop the step's clock"
    DRIFT = "hold, set the weight again with back-off"
    PAUSE = "wait for a person"
    RESUME = "go on where it was"
    ADVANCE = "ask for the next step"
    JUMP = "ask for 100 %"
    HAND_OVER = "ask for the share kept on stable"
    ROLL_BACK = "all traffic back, the route first"
    CLEAN = "take away what was added"
    END = "end"
    FORGET = "let the object go"


@dataclass(frozen=True, slots=True)
class Rule:
    """The phase a signal leads to (often the same one), and what is done."""

    to: Phase
    effect: Effect


def _table() -> Mapping[tuple[Phase, Signal], Rule]:
    rules: dict[tuple[Phase, Signal], Rule] = {}

    def on(phase: Phase, effect: Effect, to: Phase, *signals: Signal) -> None:
        for signal in signals:
            assert (phase, signal) not in rules, f"two rules for {phase} on {signal}"
            rules[phase, signal] = Rule(to, effect)

    pending, checking, progressing, paused = Phase.PENDING, Phase.CHECKING, Phase.PROGRESSING, Phase.PAUSED
    promoting, back = Phase.PROMOTING, Phase.ROLLING_BACK

    on(pending, Effect.END, Phase.ABORTED, Signal.DELETED, Signal.ABORT)
    on(pending, Effect.END, Phase.SUPERSEDED, Signal.SUPERSEDED)
    on(pending, Effect.STALL, pending, Signal.FINDING)
    on(pending, Effect.PIN, checking, Signal.RESOLVED)

    for phase in (checking, progressing, paused, promoting):
        on(phase, Effect.ROLL_BACK, back, Signal.DELETED, Signal.ABORT, Signal.TARGET_GONE, Signal.SUPERSEDED)
        on(phase, Effect.ROLL_BACK, back, Signal.BROKEN_STATUS, Signal.ROLLBACK_MARK, Signal.STABLE_CHANGED)

    on(checking, Effect.STALL, checking, Signal.FINDING)
    on(checking, Effect.ROLL_BACK, back, Signal.NOT_READY)
    on(checking, Effect.PREPARE, checking, Signal.UNPREPARED)
    on(checking, Effect.BEGIN, progressing, Signal.READY)

    for phase in (progressing, paused, promoting):
        on(phase, Effect.ROLL_BACK, back, Signal.FAIL, Signal.DRIFT_ABORT, Signal.INCONCLUSIVE_ROLLBACK)
        on(phase, Effect.ROLL_BACK, back, Signal.ROUTE_LOST, Signal.SUBSET_LOST)
        on(phase, Effect.RESTORE, phase, Signal.STABLE_SUBSET_LOST)
        on(phase, Effect.SHIFT, phase, Signal.UNREACHED)
        on(phase, Effect.DRIFT, phase, Signal.DRIFT)
        on(phase, Effect.START_CLOCK, phase, Signal.REACHED)
    for phase in (progressing, promoting):
        on(phase, Effect.PAUSE, paused, Signal.PAUSE)
        on(phase, Effect.STOP_CLOCK, phase, Signal.CLOCK_STOP)
        on(phase, Effect.START_CLOCK, phase, Signal.CLOCK_START)

    on(progressing, Effect.JUMP, promoting, Signal.PROMOTE_FULL)
    on(progressing, Effect.ADVANCE, progressing, Signal.ADVANCE)
    on(progressing, Effect.ADVANCE, promoting, Signal.BAKE)

    on(paused, Effect.JUMP, promoting, Signal.PROMOTE_FULL)
    on(paused, Effect.RESUME, progressing, Signal.RESUME)
    on(paused, Effect.RESUME, promoting, Signal.RESUME_BAKE)
    on(paused, Effect.ADVANCE, progressing, Signal.ADVANCE)
    on(paused, Effect.ADVANCE, promoting, Signal.BAKE)
    on(paused, Effect.HAND_OVER, paused, Signal.HAND_OVER)
    on(paused, Effect.CLEAN, paused, Signal.UNCLEAN)
    on(paused, Effect.END, Phase.SUCCEEDED, Signal.FINISH)

    on(promoting, Effect.JUMP, promoting, Signal.PROMOTE_FULL)
    on(promoting, Effect.HAND_OVER, promoting, Signal.HAND_OVER)
    on(promoting, Effect.CLEAN, promoting, Signal.UNCLEAN)
    on(promoting, Effect.END, Phase.SUCCEEDED, Signal.FINISH)

    on(back, Effect.SHIFT, back, Signal.UNREACHED)
    on(back, Effect.RESTORE, back, Signal.STABLE_SUBSET_LOST)
    on(back, Effect.START_CLOCK, back, Signal.REACHED)
    on(back, Effect.CLEAN, back, Signal.UNCLEAN)
    on(back, Effect.END, Phase.ROLLED_BACK, Signal.ENDED_ROLLED_BACK)
    on(back, Effect.END, Phase.ABORTED, Signal.ENDED_ABORTED)
    on(back, Effect.END, Phase.SUPERSEDED, Signal.ENDED_SUPERSEDED)
    on(back, Effect.END, Phase.FAILED, Signal.ENDED_FAILED)

    for phase in Phase:
        if phase.is_terminal:
            on(phase, Effect.FORGET, phase, Signal.DELETED)
    return MappingProxyType(rules)


TABLE = _table()
