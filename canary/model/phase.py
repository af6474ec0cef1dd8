"""The phases of a rollout, in a module of their own: `canary status` needs the words but not the models."""

from __future__ import annotations

from enum import StrEnum


class Phase(StrEnum):
    PENDING = "Pending"
    CHECKING = "Checking"
    PROGRESSING = "Progressing"
    PAUSED = "Paused"
    PROMOTING = "Promoting"
    SUCCEEDED = "Succeeded"
    ROLLING_BACK = "RollingBack"
    ROLLED_BACK = "RolledBack"
    ABORTED = "Aborted"
    SUPERSEDED = "Superseded"
    FAILED = "Failed"

    @property
    def is_terminal(self) -> bool:
        return self in TERMINAL

    @property
    def divides_traffic(self) -> bool:
        """The canary is on the route and judged, whether the step's clock runs or a person is waited for."""
        return self in DIVIDING


TERMINAL = frozenset({Phase.SUCCEEDED, Phase.ROLLED_BACK, Phase.ABORTED, Phase.SUPERSEDED, Phase.FAILED})
DIVIDING = frozenset({Phase.PROGRESSING, Phase.PAUSED, Phase.PROMOTING})
