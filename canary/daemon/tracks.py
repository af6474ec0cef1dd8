"""One rollout under judgement: what it asks, its judge, and how far that has come. No questions are asked here.

A track's figures change on the telemetry thread and are read by the workers, so everything that belongs together is
done under its lock. A judge must never observe anything before it has its baseline.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field, replace

import structlog

from canary.analysis.judge import Judge
from canary.analysis.record import Recorder
from canary.analysis.share import ShareWatch
from canary.daemon import windows
from canary.daemon.pauses import Pause
from canary.model.policy import Policy
from canary.model.rollout import Rollout
from canary.model.verdict import ArmCounts, Baseline, Ejections, Outcome, SourceState, Verdict, Window
from canary.telemetry.queries import ServiceName, SubsetName, Workload

LATE_TICKS, LATE_S = 2, 5.0
"""A tick that is later than this is no tick any more: what it fed is judged by its age."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Case:
    """A rollout that is being judged, the policy it runs by, and the nodes that its versions' pods are on."""

    rollout: Rollout
    policy: Policy
    canary_nodes: frozenset[str] = frozenset()
    stable_nodes: frozenset[str] = frozenset()

    @property
    def canary(self) -> Workload:
        assert self.rollout.status.canary is not None  # only pinned rollouts are judged
        return Workload(self.rollout.namespace, self.rollout.status.canary.deployment)

    @property
    def stable(self) -> Workload:
        assert self.rollout.status.stable is not None  # only pinned rollouts are judged
        return Workload(self.rollout.namespace, self.rollout.status.stable.deployment)

    @property
    def arms(self) -> tuple[Workload, Workload]:
        return self.canary, self.stable

    @property
    def service(self) -> ServiceName:
        return ServiceName(self.rollout.namespace, self.rollout.status.service or "")

    @property
    def subsets(self) -> tuple[SubsetName, SubsetName]:
        """The canary's and stable's subset, as callers' proxies name them."""
        assert self.rollout.status.canary is not None  # only pinned rollouts are judged
        assert self.rollout.status.stable is not None
        service = self.service
        return (
            SubsetName(service.namespace, service.name, self.rollout.status.canary.subset),
            SubsetName(service.namespace, service.name, self.rollout.status.stable.subset),
        )

    @property
    def tile_s(self) -> float:
        tile = self.rollout.status.tile
        assert tile is not None  # pinned together with the policy
        return tile.total_seconds()

    @property
    def judged_step(self) -> int:
        step = self.rollout.status.step
        return min(step.index if step else 0, self.policy.strategy.last_step)


@dataclass(slots=True)
class Track:
    """The judge of one rollout and what it has been fed. Times are Unix seconds."""

    judge: Judge
    """Without its baseline it only stands in: it has observed nothing, so all it can do is hold, or abort."""
    source: SourceState
    next_end: float
    """The end of the next tile to be fed."""
    baseline: Baseline | None = None
    recorder: Recorder | None = None
    """What is kept of all this for people; from the baseline, or an abort before it, on."""
    fed_at: float = 0.0
    """When the source was last asked for this rollout's tiles."""
    settled_at: float | None = None
    """When the newest tile fed had settled; None once a look has decided by it."""
    decided_at: float | None = None
    """When a look last decided by a new tile."""
    lock: threading.Lock = field(default_factory=threading.Lock)
    aborted: Verdict | None = None
    share: ShareWatch = field(default_factory=ShareWatch)
    is_silent: bool = True
    """Its canary had no request in the newest window, or there is none yet."""
    is_apart: bool = False
    """Its counts made an answer unusable: it is asked for alone from then on, and spoils nobody's batch any more."""
    pause: Pause = field(default_factory=Pause)
    """Between two attempts at reading its baseline."""
    lost: str | None = None
    """What was judged before a restart and is no longer to be had, "" for nothing, None while that is not known."""

    def begin(self, case: Case, baseline: Baseline) -> None:
        """Now that stable's past is known, judging begins."""
        with self.lock:
            if self.aborted is None:
                self.judge, self.baseline = Judge(case.policy, baseline), baseline
                self.recorder = self._new_recorder(case, baseline)

    def start_over(self, case: Case, now: float) -> None:
        """Forget all windows and begin again from the baseline, after a pause; `now` is monotonic seconds."""
        first = windows.first_tile_end(case.rollout.status, case.tile_s)
        assert first is not None  # it has been fed
        self.pause.failed(now)
        self.is_away("its figures could not be judged, which is a fault of canary's: see the controller's log")
        with self.lock:
            self.judge, self.baseline, self.next_end, self.share = Judge(case.policy), None, first, ShareWatch()

    def is_away(self, why: str) -> None:
        """The source did not answer, or not for this rollout."""
        with self.lock:
            self.source = replace(self.source, available=False, detail=why)

    def observe(self, case: Case, window: Window, now: float) -> bool:
        """Take in a window; whether it could be one. To be called under the lock."""
        try:
            self.judge.take_in(window, now)
        except ValueError as error:
            # impossible counts are a fault of the source, not of the release: no evidence, but never silence
            log.error("a window was refused", rollout=case.rollout.full_name, error=str(error))
            return False
        assert self.recorder is not None  # it came with the baseline
        self.recorder.window(window, now)
        self.share.add(window)
        self.is_silent = not window.canary.requests
        return True

    def abort(self, case: Case, canary: ArmCounts, stable: ArmCounts, ejections: Ejections | None, now: float) -> bool:
        """Whether these counts of the last interval end it, for the first time."""
        with self.lock:
            try:
                verdict = self.judge.abort(canary, stable, ejections)
            except ValueError as error:
                log.error("counts were refused", rollout=case.rollout.full_name, error=str(error))
                return False
            if verdict is None or verdict.outcome is not Outcome.FAIL or self.aborted is not None:
                return False
            self.aborted = verdict
            self.recorder = self.recorder or self._new_recorder(case, Baseline())
            self.recorder.abort(now, canary, stable, ejections, verdict)
            return True

    def verdict(self, case: Case, now: float, tick_s: float) -> Verdict | None:
        """The verdict as of `now`, None before anything was asked; `tick_s` is the time between two ticks."""
        with self.lock:
            if self.aborted is None and self.baseline is None and self.source.available:
                return None
            # Fresh is what was fresh when it was asked for: between two ticks every tile grows older by itself.
            is_ticking = now - self.fed_at <= LATE_TICKS * tick_s + LATE_S
            at = min(now, self.fed_at) if is_ticking else now
            verdict = self.aborted or self.judge.verdict(at, self.source, case.judged_step)
            if self.recorder is not None:
                self.recorder.verdict(at, case.judged_step, self.source, verdict)
            return replace(verdict, sentence=f"{verdict.sentence} {self.lost}") if self.lost else verdict

    def _new_recorder(self, case: Case, baseline: Baseline) -> Recorder:
        about = {"namespace": case.rollout.namespace, "name": case.rollout.name, "uid": case.rollout.uid}
        return Recorder(case.policy, baseline, tile_s=self.source.tile_s, settle_s=self.source.settle_s, about=about)
