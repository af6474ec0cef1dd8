"""What a record holds: windows, verdicts, fast aborts, sums per step, and the life of the judge that they belong to.

Frozen values only. How they are written is `lines`', how many of them are kept is `record`'s.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from canary.model.verdict import ArmCounts, Baseline, Ejections, SourceState, Verdict, Window


@dataclass(frozen=True, slots=True)
class Seen:
    """A settled window, and when the judge was given it (Unix seconds)."""

    window: Window
    now: float


@dataclass(frozen=True, slots=True)
class Judged:
    """A verdict, with all that `Judge.verdict` was asked with: `at` (Unix seconds), `source`, `step`.

    `after` is the end of the newest window that the judge had seen, None when it had seen none.
    """

    at: float
    step: int | None
    source: SourceState
    after: float | None
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Aborted:
    """A fast abort, with the counts of the outlier interval that ended at `at`; `after` as in `Judged`."""

    at: float
    canary: ArmCounts
    stable: ArmCounts
    ejections: Ejections | None
    after: float | None
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class StepSum:
    """What was counted in one step: sums over its windows, from `start` to `end` (Unix seconds)."""

    step: int
    weight: int
    start: float
    end: float
    windows: int
    canary: ArmCounts
    stable: ArmCounts
    unattributed: ArmCounts

    @classmethod
    def of(cls, window: Window) -> StepSum:
        return cls(
            window.step, window.weight, window.start, window.end, 1, window.canary, window.stable, window.unattributed
        )

    def __add__(self, later: StepSum) -> StepSum:
        return StepSum(
            self.step,
            later.weight,
            self.start,
            later.end,
            self.windows + later.windows,
            self.canary + later.canary,
            self.stable + later.stable,
            self.unattributed + later.unattributed,
        )


def step_sums(sums: Iterable[StepSum]) -> tuple[StepSum, ...]:
    """Neighbours of one step added up, in their order."""
    found: list[StepSum] = []
    for one in sums:
        if found and found[-1].step == one.step:
            found[-1] += one
        else:
            found.append(one)
    return tuple(found)


@dataclass(frozen=True, slots=True)
class Base:
    """In place of windows that gave way: the judge's state after the last of them, which ended at `upto`."""

    upto: float
    windows: int
    state: dict[str, Any]
    steps: tuple[StepSum, ...]


@dataclass(frozen=True, slots=True)
class Life:
    """All that one judge was given and said. A restarted controller whose windows come out the same goes on with it.

    `lost` counts the verdicts that gave way.
    """

    baseline: Baseline
    settle_s: float
    base: Base | None = None
    entries: tuple[Judged | Aborted, ...] = ()
    windows: tuple[Seen, ...] = ()
    lost: int = 0

    @property
    def upto(self) -> float | None:
        """Up to when its windows gave way, None when all are here."""
        return self.base.upto if self.base else None

    @property
    def last_end(self) -> float | None:
        """The end of the newest window it was given."""
        return self.windows[-1].window.end if self.windows else self.upto

    @property
    def steps(self) -> tuple[StepSum, ...]:
        """What was counted in each step, in their order."""
        base = self.base.steps if self.base else ()
        return step_sums((*base, *(StepSum.of(seen.window) for seen in self.windows)))
