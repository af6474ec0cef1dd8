"""Requests of the service that reached no version at all: no healthy host (UH), no cluster (NC), overflow (UO).

They are in nobody's series: when Envoy has ejected every host of the canary, the canary's own figures are empty while
its share of the requests fails. Their share of the service's requests is held against what it was before the rollout.
"""

from __future__ import annotations

from canary.analysis import comparison
from canary.analysis.absolute import BoundedShare
from canary.analysis.witness import PASSES_BELOW, Finding
from canary.model.verdict import Evidence, Reason, Window

ALPHA = 0.001


class Unattributed:
    """H0 "no more requests fail without reaching a version than `bound`, a share (0-1) of all of the service's"."""

    def __init__(self, bound: float) -> None:
        """Raises ValueError for a bound outside of (0, 0.97)."""
        self._bound = bound
        self._share = BoundedShare(bound, ALPHA)
        self._total = self._failed = 0

    def observe(self, window: Window) -> None:
        """Windows in which Envoy has ejected hosts of stable are left out: nobody knows whose requests failed."""
        if window.ejections is not None and window.ejections.stable:
            return
        failed = window.unattributed.errors
        total = window.canary.requests + window.stable.requests + window.unattributed.requests
        self._share.observe(window.step, total, failed, window.start)
        self._total += total
        self._failed += failed

    def breach(self) -> Finding | None:
        if not self._share.mixture.has_decided:
            return None
        return Finding(Reason.UNATTRIBUTED, comparison.unattributed(self.evidence[0]))

    def doubt(self) -> Finding | None:
        if self._share.mixture.e_value < PASSES_BELOW:
            return None
        return Finding(Reason.INCONCLUSIVE, f"undecided: {comparison.unattributed(self.evidence[0])}.")

    @property
    def evidence(self) -> tuple[Evidence, ...]:
        """Of the service's requests, under `canary`; stable has no part in it."""
        mixture = self._share.mixture
        return (Evidence("unattributed", self._total, self._failed, 0, 0, self._bound, mixture.e_value, mixture.limit),)
