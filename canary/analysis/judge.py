"""Windows of counts and a policy in, a verdict out. Pure: no clock, no I/O, and the same windows give the same verdict.

What wins, in this order: the fast abort (asked for separately, it does not wait for tiles), a broken absolute limit,
the reasons to hold, the pass. Evidence that has reached its limit is final for the attempt: the bound on false
rollbacks counts every look, so a later dip takes nothing back, nor does a metrics source that has gone away since.

A pass asks for fresh data, requests (`minRequests` of this step; one at 100 %, where nothing but the canary is left;
`match.minRequests`, which may be none, in the header stage), this step's counts within the limits, and no evidence near
a breach. That the step's time is over is the engine's to say. Missing data is never a pass.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from canary.analysis import sentence
from canary.analysis.abort import fast_abort
from canary.analysis.absolute import AbsoluteLimit, objectives_of
from canary.analysis.counts import LastMinute, check_window
from canary.model.policy import Policy
from canary.model.verdict import ArmCounts, Baseline, Ejections, Evidence, Outcome, Reason, SourceState, Verdict, Window

HEADER_STEP = 0
FULL_WEIGHT = 100
NOTHING_KNOWN = Baseline()
PASSES_BELOW = 5.0
"""A step does not end while E is at or above this: the evidence is still growing."""
ROUTING_FAULT_AT = 50
"""Canary requests expected and not seen: by chance e^-50."""


@dataclass(slots=True)
class _StepSoFar:
    """Sums over the windows of one step; `canary` and `stable` leave out the warm-up and incidents of the service."""

    step: int
    weight: int
    canary: ArmCounts = field(default_factory=ArmCounts)
    stable: ArmCounts = field(default_factory=ArmCounts)
    warming: ArmCounts = field(default_factory=ArmCounts)
    stable_requests: int = 0
    nobody_came: bool = True
    """Not one canary request, in whatever window."""
    expected_hundredths: int = 0
    """Canary requests that the weight promised since the last one that came, times 100 (kept whole)."""

    def add(self, window: Window, *, in_incident: bool) -> None:
        self.weight = window.weight
        self.stable_requests += window.stable.requests
        if not window.warm:
            self.warming += window.canary
        elif not in_incident:
            self.canary += window.canary
            self.stable += window.stable
        if window.canary.requests:
            self.expected_hundredths = 0
            self.nobody_came = False
        else:
            self.expected_hundredths += window.weight * window.stable.requests


class Judge:
    """Judges one attempt of one rollout, window by window.

    The work per window and the state kept do not grow with the length of the rollout (the last minute of windows, a
    few sums, eleven stakes per process). After a restart, observing the same windows again gives the same state, bit
    for bit.
    """

    def __init__(self, policy: Policy, baseline: Baseline = NOTHING_KNOWN) -> None:
        alpha = policy.analysis.alpha
        self._policy = policy
        self._limits = tuple(
            AbsoluteLimit(
                objective, alpha, baseline.errors_phi if objective.slower_than_ms is None else baseline.p99_phi
            )
            for objective in objectives_of(policy)
        )
        self._minute = LastMinute(figures=2)
        self._step: _StepSoFar | None = None
        self._last: Window | None = None
        self._cold_since: float | None = None
        self._failed: Verdict | None = None

    def observe(self, window: Window, now: float) -> Verdict:
        """Take in the next settled window; the verdict of the evidence so far, without asking how fresh it is.

        `now` is Unix seconds. Raises ValueError, and changes nothing, if the window is impossible, not over yet, or
        not after all windows before it in time and step.
        """
        self._check(window, now)
        if self._step is None or self._step.step != window.step:
            self._step = _StepSoFar(window.step, window.weight)
        self._last = window
        self._minute.add(window, window.canary.requests, window.stable.requests)
        if window.warm:
            self._cold_since = None
            for limit in self._limits:
                limit.observe(window)
        elif self._cold_since is None:
            self._cold_since = window.start
        self._step.add(window, in_incident=any(limit.is_service_incident for limit in self._limits))
        broken = [limit for limit in self._limits if limit.is_breached and not limit.stable_breaches]
        if broken and self._failed is None:
            self._failed = self._fail(broken)
        return self._failed or self._hold_or_pass(self._step, now)

    def verdict(self, now: float, source: SourceState, step: int | None = None) -> Verdict:
        """The verdict as of `now`: whether there is anything fresh to judge, then the evidence.

        `step` is the step that the rollout is in (default: that of the newest window): windows of an earlier one do
        not speak for it. A limit already broken stays broken, whatever the source does.
        """
        if self._failed is not None:
            return self._failed
        state = self._data_state(now, source, step)
        if state is not None:
            return self._hold(*state)
        assert self._step is not None
        return self._hold_or_pass(self._step, now)

    def abort(self, canary: ArmCounts, stable: ArmCounts, ejections: Ejections | None = None) -> Verdict | None:
        """The fast abort on the counts of the outlier `interval` that ends now; keeps nothing. See `fast_abort`."""
        return fast_abort(self._policy.outlier_detection, canary, stable, ejections)

    def _check(self, window: Window, now: float) -> None:
        check_window(window)
        for limit in self._limits:
            limit.objective.count(window.canary)
            limit.objective.count(window.stable)
        if not window.end <= now:
            raise ValueError(f"the window ends at {window.end}, after now ({now}): only settled windows are judged")
        if self._last is not None and (window.start < self._last.end or window.step < self._last.step):
            raise ValueError(
                f"the window from {window.start} at step {window.step} does not follow the one that ended at "
                f"{self._last.end} at step {self._last.step}"
            )

    def _data_state(self, now: float, source: SourceState, step: int | None) -> tuple[Reason, str] | None:
        if not source.available:
            return Reason.UNAVAILABLE, sentence.unavailable(source)
        if not source.series_seen:
            return Reason.NO_DATA, sentence.no_series()
        if source.newest_tile_end is None or not math.isfinite(source.newest_tile_end):
            return Reason.NO_DATA, sentence.no_window()
        fresh_s = source.settle_s + 2 * source.tile_s
        if not source.is_fresh(now):
            return Reason.STALE, sentence.stale(now - source.newest_tile_end, fresh_s)
        if self._step is None or self._last is None or step not in (None, self._step.step):
            return Reason.NO_DATA, sentence.no_window()
        if not now - self._last.end <= fresh_s:
            return Reason.STALE, sentence.stale(now - self._last.end, fresh_s)
        return None

    def _hold_or_pass(self, so_far: _StepSoFar, now: float) -> Verdict:
        reason = (
            self._traffic_state(so_far)
            or self._warm_up(so_far, now)
            or self._incident()
            or self._near_failing()
            or self._too_few(so_far)
            or self._over_limit(so_far)
        )
        if reason is not None:
            return self._hold(*reason)
        if so_far.step == HEADER_STEP and so_far.nobody_came:
            text = sentence.nobody_came(so_far.stable)
        else:
            limits = self._policy.analysis
            text = sentence.healthy(
                so_far.canary, so_far.stable, max_errors=limits.error_rate.max, p99_ms=limits.p99.max_ms
            )
        return Verdict(Outcome.PASS, Reason.HEALTHY, text, self._evidence)

    def _traffic_state(self, so_far: _StepSoFar) -> tuple[Reason, str] | None:
        if so_far.step == HEADER_STEP:
            need = self._needed(so_far)
            if need and so_far.nobody_came:
                return Reason.NO_TRAFFIC, sentence.no_header_traffic(need, so_far.stable)
            return None
        if not any(self._minute.sums):
            return Reason.NO_TRAFFIC, sentence.no_traffic(self._minute.span_s)
        if so_far.expected_hundredths >= 100 * ROUTING_FAULT_AT:
            text = sentence.no_canary_traffic(so_far.expected_hundredths / 100, so_far.weight, so_far.stable_requests)
            return Reason.NO_CANARY_TRAFFIC, text
        return None

    def _warm_up(self, so_far: _StepSoFar, now: float) -> tuple[Reason, str] | None:
        if self._cold_since is None or (so_far.step == HEADER_STEP and so_far.nobody_came):
            return None
        left_s = self._cold_since + self._policy.analysis.warmup.total_seconds() - now
        return Reason.WARMING_UP, sentence.warming_up(left_s, so_far.warming)

    def _incident(self) -> tuple[Reason, str] | None:
        for limit in self._limits:
            if limit.is_service_incident:
                text = sentence.incident(limit.last_minute, limit.objective.slower_than_ms)
                return Reason.SERVICE_INCIDENT, text
        return None

    def _near_failing(self) -> tuple[Reason, str] | None:
        for limit in self._limits:
            if limit.e_value >= PASSES_BELOW:
                return self._undecided(limit)
        return None

    def _over_limit(self, so_far: _StepSoFar) -> tuple[Reason, str] | None:
        """This step's plain counts are over a limit. In the header stage debug users are too few to say."""
        for limit in self._limits:
            total, bad = limit.judged_in_step
            if so_far.step != HEADER_STEP and bad > limit.objective.bound * total:
                return self._undecided(limit)
        return None

    def _undecided(self, limit: AbsoluteLimit) -> tuple[Reason, str]:
        text = sentence.undecided(limit.evidence, limit.objective.slower_than_ms, limit.judged_in_step, PASSES_BELOW)
        return Reason.INCONCLUSIVE, text

    def _too_few(self, so_far: _StepSoFar) -> tuple[Reason, str] | None:
        need = self._needed(so_far)
        rule = "match.minRequests" if so_far.step == HEADER_STEP else "minRequests"
        counted = [(so_far.canary.requests, "canary requests")]
        counted += [
            (limit.objective.count(so_far.canary)[0], "timed canary requests")
            for limit in self._limits
            if limit.objective.slower_than_ms is not None
        ]
        for have, what in counted:
            if have < need:
                text = sentence.too_few(f"{have:,} of the {need:,} {what}", rule, so_far.canary, so_far.stable)
                return Reason.INCONCLUSIVE, text
        return None

    def _needed(self, so_far: _StepSoFar) -> int:
        if so_far.step == HEADER_STEP:
            return self._policy.strategy.match.min_requests if self._policy.strategy.match else 0
        return 1 if so_far.weight == FULL_WEIGHT else self._policy.analysis.min_requests

    def _fail(self, broken: list[AbsoluteLimit]) -> Verdict:
        parts = [
            sentence.breach(limit.evidence, limit.objective.slower_than_ms, limit.judged_in_step) for limit in broken
        ]
        return Verdict(Outcome.FAIL, broken[0].objective.reason, "; ".join(parts) + ".", self._evidence)

    def _hold(self, reason: Reason, text: str) -> Verdict:
        return Verdict(Outcome.HOLD, reason, text, self._evidence)

    @property
    def _evidence(self) -> tuple[Evidence, ...]:
        return tuple(limit.evidence for limit in self._limits)
