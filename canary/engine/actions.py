"""What `step` asks for, carried out in order; the first failure ends the list, and the rollout is looked at again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from canary.model.rollout import RolloutStatus


@dataclass(frozen=True, slots=True)
class WriteStatus:
    """Write this status; `evidence_only` marks one that says nothing new but fresher numbers."""

    status: RolloutStatus
    evidence_only: bool = False


@dataclass(frozen=True, slots=True)
class Shift:
    """Set the canary's weight (integer percent), with the header route or without, in one write."""

    weight: int
    header: bool
    mark: str = ""


@dataclass(frozen=True, slots=True)
class FreezePolicy:
    """Keep the resolved policy as our own immutable copy before anything runs by it."""


@dataclass(frozen=True, slots=True)
class Prepare:
    """Make what must exist before traffic can move (subsets)."""


@dataclass(frozen=True, slots=True)
class CleanUp:
    """Take away what was added and is no longer used; after a promotion the new version's own things stay."""

    promoted: bool


@dataclass(frozen=True, slots=True)
class SetFinalizer:
    present: bool


@dataclass(frozen=True, slots=True)
class Announce:
    """A Kubernetes Event on the rollout and its target."""

    type: Literal["Normal", "Warning"]
    reason: str
    sentence: str


Action = WriteStatus | Shift | FreezePolicy | Prepare | CleanUp | SetFinalizer | Announce


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do, the sentence of why, and when to look again although nothing happened (seconds, None: no need)."""

    actions: tuple[Action, ...]
    sentence: str
    look_again_s: float | None = None
