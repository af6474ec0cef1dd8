"""The judges of all running rollouts: who is judged, what is asked for them at each tick, and what they say.

One batch of questions per tick, whatever the number of rollouts. What is asked for one rollout alone (its baseline, the
tiles since its beginning after a restart) is rationed, so that the looks for disasters of all others go on meanwhile.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

import structlog

from canary.analysis.judge import Judge
from canary.analysis.record import Recorder
from canary.daemon import windows
from canary.daemon.baselines import history_ends, read_baselines
from canary.daemon.disasters import Disasters
from canary.daemon.feeding import Feeder, Pair, Reach
from canary.daemon.losses import what_was_lost
from canary.daemon.metrics import Metrics
from canary.daemon.surroundings import Exported, Surroundings
from canary.daemon.tracks import Case, Track
from canary.errors import TelemetryAnswer, TelemetryError, TelemetryUnusable
from canary.model.verdict import SourceState, Verdict
from canary.telemetry.preflight import SHORTEST_SETTLE_S
from canary.telemetry.source import PrometheusSource

CATCH_UP_TILES = 20
"""Who is further behind than this, and than two ticks (a restart, an outage), is not in the batch: it stays short."""

TILES_AT_ONCE = 2000
"""Tiles of all rollouts together that are asked for at once to catch up."""

ALONE_S = 1.0
"""How long one tick may spend on questions that serve one rollout only (seconds), after those that serve all."""

BASELINES_AT_ONCE = 40
"""Rollouts whose pasts are asked for together: sixty tiles of twenty buckets each are 50,000 figures."""

ABOUT_A_TICK = 0.9

log = structlog.get_logger(__name__)


class Evidence:
    """Judges by rollout uid. Fed by one thread, asked by many."""

    def __init__(
        self,
        source: PrometheusSource,
        metrics: Metrics | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`clock` is monotonic seconds."""
        self._source = source
        self._metrics = metrics or Metrics()
        self._clock = clock
        self._tracks: dict[str, Track] = {}
        self._surroundings = Surroundings(source, self._metrics, clock)
        self._feeder = Feeder(source, self._surroundings, self._metrics, clock)
        self._disasters = Disasters(source, self._surroundings)
        self._settle_s = SHORTEST_SETTLE_S
        self.tick_s = 1.0
        """Time between two ticks in seconds, as it is now."""
        self.news: frozenset[str] = frozenset()
        """Whose judge the last tick had anything new for, by uid."""

    @property
    def under_judgement(self) -> int:
        """How many rollouts there are judges for."""
        return len(self._tracks)

    def exports(self, exported: Exported) -> None:
        """What the source has besides the versions' counts; nothing else is asked for."""
        self._surroundings.exported = exported

    def verdict(self, case: Case, now: float) -> Verdict | None:
        """The verdict as of `now` (Unix seconds), None before anything was asked about this rollout."""
        track = self._tracks.get(case.rollout.uid)
        if track is None:
            return None
        self._note_lateness(track, now)
        return track.verdict(case, now, self.tick_s)

    def _note_lateness(self, track: Track, now: float) -> None:
        """Only of a track's first look at something new: one worker at a time looks at a rollout."""
        settled_at, track.settled_at = track.settled_at, None
        if settled_at is None:
            return
        self._metrics.verdict_lateness.observe(max(0.0, now - settled_at))
        if track.decided_at is not None:
            self._metrics.interval_lateness.observe(max(0.0, now - track.decided_at - self.tick_s))
        track.decided_at = now

    def share(self, case: Case) -> tuple[float | None, str]:
        """The canary's observed percent in its present step, and what is wrong with it ("" for nothing)."""
        track = self._tracks.get(case.rollout.uid)
        if track is None or track.share.step != case.judged_step or track.share.newest is None:
            return None, ""
        return 100 * track.share.newest, track.share.problem

    def recorder(self, uid: str) -> Recorder | None:
        """What is kept of one rollout's judging, None before it has begun."""
        track = self._tracks.get(uid)
        return track.recorder if track else None

    def forget_all_but(self, uids: Iterable[str]) -> None:
        """Drop the judges of rollouts that have ended."""
        for uid in self._tracks.keys() - set(uids):
            del self._tracks[uid]
            self._surroundings.forget(uid)
            self._disasters.forget(uid)

    @property
    def is_behind(self) -> bool:
        """The last tick could not ask everything that it should have: the next one should not wait for its time."""
        return self._feeder.is_behind

    def tick(self, cases: Iterable[Case], now: float, settle_s: float) -> str:
        """Feed every judge the tiles that have settled since the last tick. Returns why the source is away, or "".

        A source that does not answer is noted in every judge's state; nothing is raised.
        """
        problem, news = "", set[str]()
        self._feeder.is_behind, self._settle_s = False, settle_s
        by_tile: dict[float, list[Case]] = defaultdict(list)
        for case in cases:
            by_tile[case.tile_s].append(case)
        for tile_s, group in by_tile.items():
            step = round(tile_s * 1000)
            last_end = (round((now - settle_s) * 1000) // step) * step / 1000
            reach = Reach(last_end, tile_s, settle_s, now)
            tracked = [(case, track) for case in group if (track := self._track(case))]
            judged = [pair for pair in tracked if pair[1].baseline is not None]
            waiting = [pair for pair in tracked if pair[1].baseline is None and pair[1].aborted is None]
            with self._counted("tick"):
                problem = self._feed(judged, reach) or problem
            with self._counted("begin"):
                problem = problem or self._feed(self._begin(waiting, reach), reach)
            for case, track in tracked:
                if track.fed_at == now or problem:
                    news.add(case.rollout.uid)
                if track.lost is None and track.baseline is not None and track.next_end > last_end:
                    self._note_losses(case, track, now)
        self.news = frozenset(news)
        return problem

    def source_failed(self, cases: Iterable[Case], why: str) -> None:
        """The source did not answer at all: say so in every judge's state."""
        for case in cases:
            track = self._tracks.get(case.rollout.uid)
            if track is not None:
                track.is_away(why)

    def look_for_disasters(self, cases: Iterable[Case], now: float) -> list[Case]:
        """The fast abort: one query per look-back in use, and one for the ejections. Returns the rollouts that must go
        back at once. Raises TelemetryUnavailable; an abort is never decided without an answer.
        """
        tracked = [(case, track) for case in cases if (track := self._track(case))]
        with self._counted("look"):
            return self._disasters.look(tracked, now)

    @contextmanager
    def _counted(self, purpose: str) -> Iterator[None]:
        """Count the questions that are asked inside."""
        before = self._source.queries_sent
        try:
            yield
        finally:
            self._metrics.expressions.labels(purpose=purpose).inc(self._source.queries_sent - before)

    def _track(self, case: Case) -> Track | None:
        track = self._tracks.get(case.rollout.uid)
        if track is None:
            first = windows.first_tile_end(case.rollout.status, case.tile_s)
            if first is None:
                return None
            state = SourceState(available=True, tile_s=case.tile_s, settle_s=self._settle_s)
            track = self._tracks[case.rollout.uid] = Track(Judge(case.policy), state, first)
        return track

    def _feed(self, pairs: Sequence[Pair], reach: Reach) -> str:
        """All who are near in one batch, then who is far behind, some after the others while there is time.

        Returns why the source is away, "" when it answered.
        """
        near = reach.last_end - max(CATCH_UP_TILES * reach.tile_s, 2 * self.tick_s)
        together = [pair for pair in pairs if self._is_due(pair, near, reach)]
        problem = self._feeder.feed([pair for pair in together if not pair[1].is_apart], reach)
        until = self._clock() + ALONE_S
        behind = [pair for pair in pairs if pair[1].next_end <= near and not pair[1].is_apart]
        for some in (*_at_once(behind, reach), *([pair] for pair in pairs if pair[1].is_apart)):
            if problem or self._must_wait(until):
                break
            problem = self._feeder.feed(some, reach)
        return problem

    def _is_due(self, pair: Pair, near: float, reach: Reach) -> bool:
        """Not far behind, and with a new tile; or last asked for a tick ago, to know whether it is fresh."""
        _, track = pair
        has_news = track.next_end <= reach.last_end
        return track.next_end > near and (has_news or reach.now - track.fed_at >= ABOUT_A_TICK * self.tick_s)

    def _begin(self, waiting: Sequence[Pair], reach: Reach) -> list[Pair]:
        """Read the baselines of rollouts that have none, while there is time. Returns who can be judged now."""
        begun: list[Pair] = []
        until = self._clock() + ALONE_S
        by_ends: dict[tuple[float, float], list[Pair]] = defaultdict(list)
        for case, track in waiting:
            ends = history_ends(case)
            # its last tile may still fill up
            if ends is not None and ends[1] <= reach.now - reach.settle_s and track.pause.is_over(self._clock()):
                by_ends[ends].append((case, track))
        for ends, group in sorted(by_ends.items(), key=lambda item: item[0]):
            for first in range(0, len(group), BASELINES_AT_ONCE):
                if self._must_wait(until):
                    return begun
                begun += self._begin_together(group[first : first + BASELINES_AT_ONCE], ends)
        return begun

    def _begin_together(self, pairs: Sequence[Pair], ends: tuple[float, float]) -> list[Pair]:
        """Those of them who can be judged now. Halved when somebody's series make the answer unusable."""
        try:
            baselines = read_baselines(self._source, [case for case, _ in pairs], ends)
        except TelemetryUnusable as error:
            return self._not_begun(pairs, error)
        except TelemetryAnswer as error:
            if len(pairs) > 1:
                half = len(pairs) // 2
                return [*self._begin_together(pairs[:half], ends), *self._begin_together(pairs[half:], ends)]
            return self._not_begun(pairs, error)
        except TelemetryError as error:
            return self._not_begun(pairs, error)
        for case, track in pairs:
            baseline = baselines[case.rollout.uid]
            track.begin(case, baseline)
            log.info("baseline", rollout=case.rollout.full_name, history_s=baseline.history_s,
                     errors_phi=round(baseline.errors_phi, 2), bounds_ms=sorted(baseline.latency_phi))  # fmt: skip
        return list(pairs)

    def _not_begun(self, pairs: Sequence[Pair], error: TelemetryError) -> list[Pair]:
        """The batch says whether the source is away: this may be too much for it, or wrong for one rollout only."""
        for case, track in pairs:
            track.pause.failed(self._clock())
            track.is_away(f"stable's figures from before the rollout cannot be read: {error}")
            self._metrics.baseline_failures.inc()
            log.warning("no baseline", rollout=case.rollout.full_name, problem=str(error))
        return []

    def _note_losses(self, case: Case, track: Track, now: float) -> None:
        """Once it has caught up for the first time: is all there that was judged before this process began?"""
        track.lost = what_was_lost(case, track, now)
        if track.lost:
            self._metrics.losses.inc()
            log.warning("evidence lost", rollout=case.rollout.full_name, problem=track.lost)

    def _must_wait(self, until: float) -> bool:
        """Whether questions for one rollout alone have had their time in this tick; then the next one comes soon."""
        is_over = self._clock() > until
        self._feeder.is_behind = self._feeder.is_behind or is_over
        return is_over


def _at_once(behind: Sequence[Pair], reach: Reach) -> Iterator[list[Pair]]:
    """Those who are about as far behind together, as many as `TILES_AT_ONCE` allows and always one at least."""
    group: list[Pair] = []
    tiles = 0.0
    for pair in sorted(behind, key=lambda pair: pair[1].next_end):
        if not group:
            tiles = (reach.last_end - pair[1].next_end) / reach.tile_s + 1
        elif (len(group) + 1) * tiles > TILES_AT_ONCE:
            yield group
            group, tiles = [], (reach.last_end - pair[1].next_end) / reach.tile_s + 1
        group.append(pair)
    if group:
        yield group
