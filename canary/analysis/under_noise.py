"""Latency under noise that is not the canary's fault: stolen processor time on its nodes, a control plane that lags.

Noisy windows are no evidence about latency. So that a person can see what the noise hides, a second copy of the latency
witnesses takes them in: while that one would convict, the rollout holds as `noisy`, with the cause. Errors are judged
as ever: no noise explains them away.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Protocol

from canary.analysis import comparison
from canary.analysis.counts import MINUTE_S
from canary.analysis.witness import Finding, Witness
from canary.model.verdict import Reason, Window


class LatencyWitness(Witness, Protocol):
    """One that noise may silence."""

    def skip(self, window: Window) -> None:
        """Take note of a window that is no evidence."""


class LatencyUnderNoise:
    """The latency witnesses, fed with quiet windows only, and their copy that hears the noise while there is some."""

    def __init__(self, witnesses: Sequence[LatencyWitness]) -> None:
        self.quiet = tuple(witnesses)
        self._hearing: tuple[LatencyWitness, ...] | None = None
        self._noise = ""
        self._noisy_until = -math.inf

    def observe(self, window: Window) -> None:
        """The copy lasts for a minute after the last noisy window: requests under way then were slow too."""
        if window.noise:
            self._noise, self._noisy_until = window.noise, window.end + MINUTE_S
            if self._hearing is None:
                self._hearing = self.begun()
        elif window.end > self._noisy_until:
            self._hearing = None
        for witness in self.quiet:
            if window.noise:
                witness.skip(window)
            else:
                witness.observe(window)
        for witness in self._hearing or ():
            witness.observe(window)

    def begun(self) -> tuple[LatencyWitness, ...]:
        """The copy that hears the noise, as it is before the first noisy window."""
        return copy.deepcopy(self.quiet)

    @property
    def heard(self) -> tuple[LatencyWitness, ...]:
        """Those that have seen the newest window, noisy or not."""
        return self._hearing or self.quiet

    def noisy(self) -> Finding | None:
        """What would convict if the noise were believed, and why it is not."""
        for witness in self._hearing or ():
            found = witness.breach()
            if found is not None:
                return Finding(Reason.NOISY, comparison.noisy(self._noise, found.text))
        return None
