"""A question that fails is asked again, but ever less often: each may take its whole time limit, and others wait."""

from __future__ import annotations

from dataclasses import dataclass

LONGEST_PAUSE_S = 60.0
LONGER_EACH_TIME_S = 5.0


@dataclass(slots=True)
class Pause:
    """How often in a row one question failed, and until when it is left out (monotonic seconds).

    After the first failure it is asked again at once, that is at the next tick.
    """

    failures: int = 0
    until: float = 0.0

    def failed(self, now: float) -> None:
        self.until = now + min(self.failures * LONGER_EACH_TIME_S, LONGEST_PAUSE_S)
        self.failures += 1

    def is_over(self, now: float) -> bool:
        return now >= self.until
