"""The judges of all running rollouts, and what feeds them: one batch of queries per tick, whatever their number."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import structlog

from canary.analysis.judge import Judge
from canary.analysis.share import ShareWatch
from canary.daemon import windows
from canary.errors import TelemetryAnswer, TelemetryError
from canary.model.policy import Policy
from canary.model.rollout import Rollout
from canary.model.verdict import ArmCounts, Outcome, SourceState, Verdict, Window
from canary.telemetry.queries import Workload
from canary.telemetry.source import PrometheusSource
from canary.telemetry.tiles import TileBatch, arm_counts

CATCH_UP_TILES = 20
"""Who is further behind than this (a restart, an outage) gets a query of his own, so that the batch stays short."""

LATE_TICKS, LATE_S = 2, 5.0
"""A tick that is later than this is no tick any more: what it fed is judged by its age."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Case:
    """A rollout that is being judged, and the policy it runs by."""

    rollout: Rollout
    policy: Policy

    @property
    def canary(self) -> Workload:
        assert self.rollout.status.canary is not None  # only pinned rollouts are judged
        return Workload(self.rollout.namespace, self.rollout.status.canary.deployment)

    @property
    def stable(self) -> Workload:
        assert self.rollout.status.stable is not None  # only pinned rollouts are judged
        return Workload(self.rollout.namespace, self.rollout.status.stable.deployment)

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
class _Track:
    judge: Judge
    source: SourceState
    next_end: float
    fed_at: float = 0.0
    """When the source was last asked for this rollout's tiles (Unix seconds)."""
    lock: threading.Lock = field(default_factory=threading.Lock)
    aborted: Verdict | None = None
    share: ShareWatch = field(default_factory=ShareWatch)


class Evidence:
    """Judges by rollout uid. Fed by one thread, asked by many."""

    def __init__(self, source: PrometheusSource) -> None:
        self._source = source
        self._tracks: dict[str, _Track] = {}
        self.tick_s = 1.0
        """Time between two ticks in seconds, as it is now."""

    def verdict(self, case: Case, now: float) -> Verdict | None:
        """The verdict as of `now` (Unix seconds), None before anything was asked about this rollout."""
        track = self._tracks.get(case.rollout.uid)
        if track is None:
            return None
        with track.lock:
            # Fresh is what was fresh when it was asked for: between two ticks every tile grows older by itself.
            is_ticking = now - track.fed_at <= LATE_TICKS * self.tick_s + LATE_S
            at = min(now, track.fed_at) if is_ticking else now
            return track.aborted or track.judge.verdict(at, track.source, case.judged_step)

    def share(self, case: Case) -> tuple[int | None, str]:
        """The canary's observed integer percent in its present step, and what is wrong with it ("" for nothing)."""
        track = self._tracks.get(case.rollout.uid)
        if track is None or track.share.step != case.judged_step or track.share.newest is None:
            return None, ""
        return round(100 * track.share.newest), track.share.problem

    def forget_all_but(self, uids: Iterable[str]) -> None:
        """Drop the judges of rollouts that have ended."""
        for uid in self._tracks.keys() - set(uids):
            del self._tracks[uid]

    def tick(self, cases: Iterable[Case], now: float, settle_s: float) -> str:
        """Feed every judge the tiles that have settled since the last tick. Returns why the source is away, or "".

        A source that does not answer is noted in every judge's state; nothing is raised.
        """
        problem = ""
        by_tile: dict[float, list[Case]] = defaultdict(list)
        for case in cases:
            by_tile[case.tile_s].append(case)
        for tile_s, group in by_tile.items():
            step = round(tile_s * 1000)
            last_end = (round((now - settle_s) * 1000) // step) * step / 1000
            tracked = [(case, track) for case in group if (track := self._track(case, tile_s, settle_s))]
            near = last_end - CATCH_UP_TILES * tile_s
            behind = [[pair] for pair in tracked if pair[1].next_end <= near]
            for pairs in ([pair for pair in tracked if pair[1].next_end > near], *behind):
                problem = self._feed(pairs, last_end, tile_s, now) or problem
        return problem

    def source_failed(self, cases: Iterable[Case], why: str) -> None:
        """The source did not answer at all: say so in every judge's state."""
        for case in cases:
            track = self._tracks.get(case.rollout.uid)
            if track is not None:
                with track.lock:
                    track.source = replace(track.source, available=False, detail=why)

    def look_for_disasters(self, cases: Iterable[Case], now: float) -> list[Case]:
        """The fast abort: one query per look-back in use. Returns the rollouts that must go back at once.

        Raises TelemetryUnavailable; an abort is never decided without an answer.
        """
        by_look_back: dict[float, list[Case]] = defaultdict(list)
        for case in cases:
            if case.rollout.uid in self._tracks:
                by_look_back[windows.look_back_s(case.policy, case.rollout.status, case.tile_s, now)].append(case)
        return [case for seconds, group in by_look_back.items() for case in self._disasters(group, seconds, now)]

    def _disasters(self, group: list[Case], interval_s: float, now: float) -> list[Case]:
        """Halved like `_feed` when somebody's series make the answer unusable: his fast abort rests, nobody else's."""
        workloads = {workload for case in group for workload in (case.canary, case.stable)}
        try:
            recent = self._source.recent(workloads, now=now, interval_s=interval_s)
        except TelemetryAnswer as error:
            if len(group) == 1:
                log.warning("no look for disasters", rollout=group[0].rollout.full_name, problem=str(error))
                return []
            half = len(group) // 2
            return [case for part in (group[:half], group[half:]) for case in self._disasters(part, interval_s, now)]
        aborted = []
        for case in group:
            track, errors = self._tracks[case.rollout.uid], case.policy.analysis.grpc_errors
            canary, stable = (
                arm_counts(recent[arm], errors) if arm in recent else ArmCounts() for arm in (case.canary, case.stable)
            )
            verdict = track.judge.abort(canary, stable)
            if verdict is not None and verdict.outcome is Outcome.FAIL and track.aborted is None:
                track.aborted = verdict
                aborted.append(case)
        return aborted

    def _track(self, case: Case, tile_s: float, settle_s: float) -> _Track | None:
        track = self._tracks.get(case.rollout.uid)
        if track is None:
            first = windows.first_tile_end(case.rollout.status, tile_s)
            if first is None:
                return None
            state = SourceState(available=True, tile_s=tile_s, settle_s=settle_s)
            track = self._tracks[case.rollout.uid] = _Track(Judge(case.policy), state, first)
        return track

    def _feed(self, pairs: list[tuple[Case, _Track]], last_end: float, tile_s: float, now: float) -> str:
        """Returns why the source is away, "" when it answered. An answer that cannot be used is halved until it is
        known whose counts are at fault: a limit that is no bucket bound must not blind everybody else."""
        if not pairs:
            return ""
        first_end = min(*(track.next_end for _, track in pairs), last_end)
        workloads = {workload for case, _ in pairs for workload in (case.canary, case.stable)}
        bounds = {bound for case, _ in pairs if (bound := case.policy.analysis.p99.max_ms) is not None}
        try:
            batch = self._source.tiles(workloads, bounds, first_end=first_end, last_end=last_end, tile_s=tile_s)
        except TelemetryAnswer as error:
            if len(pairs) > 1:
                half = len(pairs) // 2
                problems = [self._feed(part, last_end, tile_s, now) for part in (pairs[:half], pairs[half:])]
                return problems[0] or problems[1]
            self.source_failed([pairs[0][0]], str(error))
            return ""
        except TelemetryError as error:
            self.source_failed([case for case, _ in pairs], str(error))
            return str(error)
        for case, track in pairs:
            with track.lock:
                track.fed_at = now
                _absorb(case, track, batch, last_end, now)
        return ""


def _absorb(case: Case, track: _Track, batch: TileBatch, last_end: float, now: float) -> None:
    arms = (case.canary, case.stable)
    scraped = [batch.newest_ends[arm] for arm in arms if arm in batch.newest_ends]
    newest = max([*scraped, *([track.source.newest_tile_end] if track.source.newest_tile_end else [])], default=None)
    track.source = replace(
        track.source,
        available=True,
        detail="",
        newest_tile_end=newest,
        series_seen=any(arm in batch.seen for arm in arms),
    )
    tiles = [{tile.end: tile for tile in batch.tiles.get(arm, ())} for arm in arms]
    errors, tile_ms = case.policy.analysis.grpc_errors, round(case.tile_s * 1000)
    while track.next_end <= last_end:
        end = track.next_end
        track.next_end = (round(end * 1000) + tile_ms) / 1000
        start = (round(end * 1000) - tile_ms) / 1000
        canary, stable = (arm_counts(by_end[end], errors) if end in by_end else ArmCounts() for by_end in tiles)
        window = windows.window(case.policy, case.rollout.status, (start, end), canary, stable)
        if window is not None:
            _observe(case, track, window, now)


def _observe(case: Case, track: _Track, window: Window, now: float) -> None:
    try:
        track.judge.observe(window, now)
    except ValueError as error:
        # impossible counts are a fault of the source, not of the release: no evidence, but never silence
        log.error("a window was refused", rollout=case.rollout.full_name, error=str(error))
        return
    track.share.add(window)
