"""Windows of counts and a policy in, a verdict out. Pure: no clock, no I/O, and the same windows give the same verdict.

What wins, in this order: the fast abort (asked for separately, it does not wait for tiles), worse than stable, over an
absolute limit, the harm budget, the policy's own metrics, the reasons to hold, the pass. Evidence that has reached its
limit is final for the attempt: the bound on false rollbacks counts every look, so a later dip takes nothing back, nor
does a metrics source that has gone away since.

A pass asks for fresh data, requests (`minRequests` of this step; one at 100 %, where nothing but the canary is left;
`match.minRequests`, which may be none, in the header stage), this step's counts within the limits, no evidence near
a breach, and evidence of health. That the step's time is over is the engine's to say. Missing data is never a pass.
"""

from __future__ import annotations

import math

from canary.analysis import sentence
from canary.analysis.abort import fast_abort
from canary.analysis.counts import LastMinute, check_window
from canary.analysis.step import StepSoFar
from canary.analysis.witness import HEADER_STEP, Finding, is_compared
from canary.analysis.witnesses import Witnesses
from canary.model.policy import Policy
from canary.model.verdict import ArmCounts, Baseline, Ejections, Outcome, Reason, SourceState, Verdict, Window

NOTHING_KNOWN = Baseline()


class Judge:
    """Judges one attempt of one rollout, window by window.

    The work per window and the state kept do not grow with the length of the rollout (the last minute of windows, a
    few sums, about ten stakes per process). After a restart, observing the same windows again gives the same state, bit
    for bit; `canary.analysis.state` writes it down.
    """

    def __init__(self, policy: Policy, baseline: Baseline = NOTHING_KNOWN) -> None:
        self.policy = policy
        self._witnesses = Witnesses(policy, baseline)
        self._minute = LastMinute(figures=2)
        self._step: StepSoFar | None = None
        self._last: Window | None = None
        self._cold_since: float | None = None
        self._failed: Verdict | None = None
        self.bounds = self._witnesses.bounds
        """The bucket bounds (ms) at which every window must count the slower requests of both arms."""

    def observe(self, window: Window, now: float) -> Verdict:
        """`take_in` the next window; the verdict of the evidence so far, without asking how fresh it is."""
        so_far = self.take_in(window, now)
        return self._failed or self._hold_or_pass(so_far, now)

    def take_in(self, window: Window, now: float) -> StepSoFar:
        """Take in the next settled window; returns its step so far. To say what it means is half of the work, and is
        left to whoever asks.

        `now` is Unix seconds. Raises ValueError, and changes nothing, if the window is impossible, not over yet, or
        not after all windows before it in time and step.
        """
        self._check(window, now)
        if self._step is None or self._step.step != window.step:
            self._step = StepSoFar(window.step, window.weight)
        self._last = window
        self._minute.add(window, window.canary.requests, window.stable.requests)
        if window.warm:
            self._cold_since = None
            self._witnesses.observe(window)
        elif self._cold_since is None:
            self._cold_since = window.start
        self._step.add(window, in_incident=self._witnesses.is_service_incident)
        if self._failed is None:
            self._failed = self._failure()
        return self._step

    def verdict(self, now: float, source: SourceState, step: int | None = None) -> Verdict:
        """The verdict as of `now`: whether there is anything fresh to judge, then the evidence.

        `step` is the step that the rollout is in (default: that of the newest window): windows of an earlier one do
        not speak for it. A limit already broken stays broken, whatever the source does.
        """
        if self._failed is not None:
            return self._failed
        state = self._data_state(now, source, step)
        if state is not None:
            return self._hold(state)
        assert self._step is not None
        return self._hold_or_pass(self._step, now)

    def abort(self, canary: ArmCounts, stable: ArmCounts, ejections: Ejections | None = None) -> Verdict | None:
        """The fast abort on the counts of the outlier `interval` that ends now; keeps nothing. See `fast_abort`."""
        return fast_abort(self.policy.outlier_detection, canary, stable, ejections)

    def _check(self, window: Window, now: float) -> None:
        check_window(window)
        self._witnesses.check(window)
        if not window.end <= now:
            raise ValueError(f"the window ends at {window.end}, after now ({now}): only settled windows are judged")
        if self._last is not None and (window.start < self._last.end or window.step < self._last.step):
            raise ValueError(
                f"the window from {window.start} at step {window.step} does not follow the one that ended at "
                f"{self._last.end} at step {self._last.step}"
            )

    def _data_state(self, now: float, source: SourceState, step: int | None) -> Finding | None:
        if not source.available:
            return Finding(Reason.UNAVAILABLE, sentence.unavailable(source))
        if not source.series_seen:
            return Finding(Reason.NO_DATA, sentence.no_series())
        if source.newest_tile_end is None or not math.isfinite(source.newest_tile_end):
            return Finding(Reason.NO_DATA, sentence.no_window())
        fresh_s = source.settle_s + 2 * source.tile_s
        if not source.is_fresh(now):
            return Finding(Reason.STALE, sentence.stale(now - source.newest_tile_end, fresh_s))
        if self._step is None or self._last is None or step not in (None, self._step.step):
            return Finding(Reason.NO_DATA, sentence.no_window())
        if not now - self._last.end <= fresh_s:
            return Finding(Reason.STALE, sentence.stale(now - self._last.end, fresh_s))
        return None

    def _hold_or_pass(self, so_far: StepSoFar, now: float) -> Verdict:
        heard, policy = self._witnesses, self.policy
        has_p99 = any(limit.objective.slower_than_ms is not None for limit in heard.limits)
        doubt = (
            so_far.traffic(policy, self._minute.sums, self._minute.span_s)
            or so_far.warm_up(policy, self._cold_since, now)
            or heard.noisy_or_incident()
            or heard.near_breach()
            or so_far.too_few(policy, timed=has_p99)
            or heard.over_limit()
            or heard.not_yet_healthy()
        )
        if doubt is not None:
            return self._hold(doubt)
        if so_far.step == HEADER_STEP and so_far.nobody_came:
            text = sentence.nobody_came(so_far.stable)
        else:
            text = sentence.healthy(
                so_far.canary,
                so_far.stable,
                max_errors=policy.analysis.error_rate.max,
                p99_ms=policy.analysis.p99.max_ms,
                remarks=heard.remarks if is_compared(so_far.step, so_far.weight) else (),
            )
        return Verdict(Outcome.PASS, Reason.HEALTHY, text, heard.evidence)

    def _failure(self) -> Verdict | None:
        found = list(self._witnesses.breaches())
        if not found:
            return None
        text = "; ".join(finding.text for finding in found) + "."
        return Verdict(Outcome.FAIL, found[0].reason, text, self._witnesses.evidence)

    def _hold(self, doubt: Finding) -> Verdict:
        return Verdict(Outcome.HOLD, doubt.reason, doubt.text, self._witnesses.evidence)
