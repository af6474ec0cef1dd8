"""Whether the requests follow the weights: the mesh acknowledges no write, so the observed share is the only proof.

Pure. Never a verdict: who bypasses the route is a fault of the set-up, not of the release.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from canary.model.verdict import Window

ENOUGH_IN_A_TILE = 20
"""Below so many requests in a tile its share says nothing."""

ENOUGH_IN_A_STEP = 100
DEVIATIONS = 5.0
"""Standard deviations of a binomial share; a healthy mesh exceeds them in fewer than one of a million looks."""

SLACK = 0.02
"""Shares off by less are not worth a word: retries, and keep-alive connections, move them a little."""


@dataclass(slots=True)
class ShareWatch:
    """The canary's share of both versions' requests, step by step."""

    step: int = -1
    weight: int = 0
    canary: int = 0
    total: int = 0
    newest: float | None = None
    """The share (0-1) in the newest tile with enough requests."""

    def add(self, window: Window) -> None:
        """Take in a window; windows of another step begin the count again."""
        if (window.step, window.weight) != (self.step, self.weight):
            self.step, self.weight, self.canary, self.total, self.newest = window.step, window.weight, 0, 0, None
        requests = window.canary.requests + window.stable.requests
        self.canary += window.canary.requests
        self.total += requests
        if requests >= ENOUGH_IN_A_TILE:
            self.newest = window.canary.requests / requests

    @property
    def problem(self) -> str:
        """One sentence when the requests of this step do not follow its weight, "" when they do or are too few.

        Without figures, which change with every tile: the observed weight stands beside it in the status.
        """
        if not 0 < self.weight < 100 or self.total < ENOUGH_IN_A_STEP:
            return ""
        expected = self.weight / 100
        spread = DEVIATIONS * math.sqrt(expected * (1 - expected) / self.total)
        if abs(self.canary / self.total - expected) <= spread + SLACK:
            return ""
        return (
            f"the requests do not follow the weight of {self.weight} %: do some callers bypass this VirtualService "
            "(a gateway it does not name, a proxy that was not updated, no sidecar)?"
        )
