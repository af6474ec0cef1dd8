"""Everything that testifies in one rollout, as its policy asks for it: who is heard, and in which order.

The order is that of the verdict's sentence: worse than stable, over an absolute limit, the harm budget, then what
carries less weight. Nothing here decides; `judge` does.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from canary.analysis import comparison
from canary.analysis.absolute import AbsoluteLimit, BoundedShare, objectives_of
from canary.analysis.errors import ErrorsVsStable
from canary.analysis.frozen import FrozenBound
from canary.analysis.health import Health
from canary.analysis.latency import LatencyVsStable
from canary.analysis.own_metrics import OwnMetric
from canary.analysis.unattributed import Unattributed
from canary.analysis.under_noise import LatencyUnderNoise
from canary.analysis.witness import Finding, Witness
from canary.model.policy import Policy
from canary.model.verdict import Baseline, Evidence, Window


class Witnesses:
    """The witnesses of one rollout. Windows of the warm-up never get here."""

    def __init__(self, policy: Policy, baseline: Baseline) -> None:
        analysis, alpha = policy.analysis, policy.analysis.alpha
        errors, latency = analysis.error_rate.tolerance, analysis.p99.tolerance
        lost = baseline.unattributed_bound
        self._errors = (ErrorsVsStable(errors, alpha, baseline, analysis.harm_budget),) if errors else ()
        self._health = (Health(baseline.errors_phi),) if errors else ()
        self._latency = (LatencyVsStable(latency, alpha, baseline),) if latency and baseline.latency_phi else ()
        self.limits = tuple(
            AbsoluteLimit(limit, alpha, baseline.errors_phi if limit.slower_than_ms is None else baseline.p99_phi)
            for limit in objectives_of(policy)
        )
        timed = (*self._latency, *(limit for limit in self.limits if limit.objective.slower_than_ms is not None))
        self._error_limits = tuple(limit for limit in self.limits if limit.objective.slower_than_ms is None)
        self._under_noise = LatencyUnderNoise(timed)
        self._not_compared = (
            (comparison.latency_not_compared(baseline.history_s),) if latency and not self._latency else ()
        )
        self._frozen = (FrozenBound(errors, alpha, baseline.errors_phi),) if errors and analysis.frozen_bound else ()
        self._unattributed = (Unattributed(lost),) if lost is not None and 0 < lost < BoundedShare.HIGHEST_BET else ()
        self._metrics = tuple(OwnMetric(metric) for metric in analysis.metrics)
        self._quiet = (
            *self._errors,
            *self._health,
            *self._error_limits,
            *self._frozen,
            *self._unattributed,
            *self._metrics,
        )

    def check(self, window: Window) -> None:
        """Raise ValueError unless both arms were counted at every bound that is judged."""
        for limit in self.limits:
            limit.objective.count(window.canary)
            limit.objective.count(window.stable)
        for latency in self._latency:
            latency.check(window)

    def observe(self, window: Window) -> None:
        for witness in self._quiet:
            witness.observe(window)
        self._under_noise.observe(window)

    def breaches(self) -> Iterator[Finding]:
        """Why the release fails, the weightiest reason first; empty while it does not."""
        for witness in (*self._errors, *self._latency, *self.limits):
            yield from _found(witness.breach())
        for errors in self._errors:
            yield from _found(errors.harm_breach())
        for other in (*self._frozen, *self._unattributed, *self._metrics):
            yield from _found(other.breach())

    def noisy_or_incident(self) -> Finding | None:
        """What is wrong around the canary, and not with it."""
        return self._under_noise.noisy() or next(
            (found for limit in self._heard_limits if (found := limit.incident())), None
        )

    @property
    def is_service_incident(self) -> bool:
        """Both versions are over a limit now."""
        return any(limit.is_service_incident for limit in self._heard_limits)

    @property
    def _heard_limits(self) -> tuple[AbsoluteLimit, ...]:
        """The absolute limits, that of P99 with what noise may have hidden: an incident is one, noisy or not."""
        timed = (witness for witness in self._under_noise.heard if isinstance(witness, AbsoluteLimit))
        return (*self._error_limits, *timed)

    def near_breach(self) -> Finding | None:
        """Evidence that is still growing, or missing altogether."""
        heard = (*self._errors, *self._latency, *self.limits, *self._frozen, *self._unattributed, *self._metrics)
        return _first(heard)

    def over_limit(self) -> Finding | None:
        """The counts of this step alone are over an absolute limit."""
        return next((found for limit in self.limits if (found := limit.over_limit())), None)

    def not_yet_healthy(self) -> Finding | None:
        """Too little evidence that the canary is well."""
        return _first(self._health)

    @property
    def remarks(self) -> list[str]:
        """What a pass says besides its counts, where canary and stable are compared."""
        return [*(comparison.healthy_enough(one.evidence[0]) for one in self._health), *self._not_compared]

    @property
    def evidence(self) -> tuple[Evidence, ...]:
        heard = (*self._errors, *self._latency, *self.limits, *self._frozen, *self._unattributed, *self._health)
        return tuple(entry for witness in heard for entry in witness.evidence)

    @property
    def bounds(self) -> frozenset[float]:
        """The bucket bounds (ms) at which every window must count the slower requests of both arms."""
        limits = {bound for limit in self.limits if (bound := limit.objective.slower_than_ms) is not None}
        return frozenset(limits.union(*(latency.bounds for latency in self._latency)))


def _found(finding: Finding | None) -> tuple[Finding, ...]:
    return () if finding is None else (finding,)


def _first(witnesses: Iterable[Witness]) -> Finding | None:
    """The first doubt that any of them has."""
    return next((found for witness in witnesses if (found := witness.doubt()) is not None), None)
