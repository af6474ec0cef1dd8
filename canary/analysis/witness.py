"""What the judge asks of each thing that it looks at: does it convict, does it leave a doubt, what are its numbers.

A witness keeps one kind of evidence over one rollout. It sees windows after the warm-up only, in order, and never
decides what becomes of the rollout: the judge does, in the order of its witnesses.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from canary.model.verdict import Evidence, Reason, Window

HEADER_STEP = 0
FULL_WEIGHT = 100
PASSES_BELOW = 5.0
"""A step does not end while E is at or above this: the evidence is still growing."""


def is_compared(step: int, weight: int) -> bool:
    """Whether canary and stable are compared: debug users are no random sample, and at 100 % no stable is left."""
    return step != HEADER_STEP and weight < FULL_WEIGHT


@dataclass(frozen=True, slots=True)
class Finding:
    """Why in a word, and why in a sentence (without its full stop where several are joined)."""

    reason: Reason
    text: str


class Witness(Protocol):
    """One kind of evidence over one rollout. Work per window and state do not grow with the rollout's length."""

    def observe(self, window: Window) -> None:
        """Take in the next window after the warm-up. Counts were checked before."""

    def breach(self) -> Finding | None:
        """Why the release fails by this evidence, None when it does not. Its text has no full stop."""

    def doubt(self) -> Finding | None:
        """Why a step should not end yet by this evidence, None when it may. Its text is a whole sentence."""

    @property
    def evidence(self) -> tuple[Evidence, ...]:
        """The numbers, as of the newest window."""
