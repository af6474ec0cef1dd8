"""One tick's tiles on their way to the judges: asked for in one batch, cut into windows, put into the judges.

An answer that cannot be used is halved until it is known whose counts are at fault: a histogram without the bound that
its policy asks for must not blind everybody else. Nothing is fed from half an answer.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import structlog

from canary.daemon import windows
from canary.daemon.metrics import Metrics
from canary.daemon.surroundings import Around, Surroundings
from canary.daemon.tracks import Case, Track
from canary.errors import TelemetryAnswer, TelemetryUnavailable, TelemetryUnusable
from canary.model.verdict import ArmCounts, Window
from canary.telemetry.source import PrometheusSource
from canary.telemetry.tiles import TileBatch, arm_counts

OWN_METRICS_S = 1.0
"""How long one tick may spend on the policies' own metrics (seconds)."""

log = structlog.get_logger(__name__)

Pair = tuple[Case, Track]


@dataclass(frozen=True, slots=True)
class Reach:
    """How far a tick goes: up to the newest settled tile. Unix seconds and seconds."""

    last_end: float
    tile_s: float
    settle_s: float
    now: float


class Feeder:
    """Feeds judges that have their baseline. Used by the telemetry thread only."""

    def __init__(
        self, source: PrometheusSource, surroundings: Surroundings, metrics: Metrics, clock: Callable[[], float]
    ) -> None:
        """`clock` is monotonic seconds."""
        self._source = source
        self._surroundings = surroundings
        self._metrics = metrics
        self._clock = clock
        self.is_behind = False
        """Somebody's own questions had to wait: the next tick should not wait for its time."""

    def feed(self, pairs: Sequence[Pair], reach: Reach) -> str:
        """Feed all tiles that have settled since the last time. Returns why the source is away, "" when it answered."""
        if not pairs:
            return ""
        first_end = min(*(track.next_end for _, track in pairs), reach.last_end)
        try:
            batch = self._tiles(pairs, first_end, reach)
        except (TelemetryUnavailable, TelemetryUnusable) as error:
            for _, track in pairs:
                track.is_away(str(error))
            return str(error)
        except TelemetryAnswer as error:
            if len(pairs) > 1:
                half = len(pairs) // 2
                problems = [self.feed(part, reach) for part in (pairs[:half], pairs[half:])]
                return problems[0] or problems[1]
            pairs[0][1].is_away(str(error))
            pairs[0][1].is_apart = True
            return ""
        due = [case for case, track in pairs if track.next_end <= reach.last_end]
        around = Around()
        if due:
            around = self._surroundings.ask(due, first_end=first_end, last_end=reach.last_end, tile_s=reach.tile_s)
        # whoever has metrics of his own comes last, who waited longest first: nobody waits for another's answers
        until = self._clock() + OWN_METRICS_S
        for case, track in sorted(pairs, key=lambda pair: (bool(pair[0].policy.analysis.metrics), pair[1].next_end)):
            own: Mapping[str, Mapping[float, float]] = {}
            if case.policy.analysis.metrics and track.next_end <= reach.last_end:
                if self._clock() > until:
                    self.is_behind = True
                    continue
                own = self._surroundings.own_metrics(case, first_end=track.next_end, last_end=reach.last_end)
            try:
                self._absorb(case, track, batch, replace(around, own=own), reach)
            except Exception:
                # one rollout whose figures we stumble over must not keep the others from being judged, nor go on with
                # half of its windows: it is logged whole and begun again
                log.exception("figures could not be judged", rollout=case.rollout.full_name)
                self._metrics.source_failures.inc()
                track.start_over(case, self._clock())
        return ""

    def _tiles(self, pairs: Sequence[Pair], first_end: float, reach: Reach) -> TileBatch:
        return self._source.tiles(
            {workload for case, _ in pairs for workload in case.arms},
            {workload: track.judge.bounds for case, track in pairs for workload in case.arms},
            first_end=first_end,
            last_end=reach.last_end,
            tile_s=reach.tile_s,
            openings_of={
                workload
                for case, track in pairs
                if any(_depends_on_its_scrapes(case, tile) for tile in _due(case, track, reach))
                for workload in case.arms
            },
        )

    def _absorb(self, case: Case, track: Track, batch: TileBatch, around: Around, reach: Reach) -> None:
        with track.lock:
            track.fed_at, track.is_apart = reach.now, False
            _note_state(case, track, batch, reach)
            if track.next_end <= reach.last_end:
                track.settled_at = reach.last_end + reach.settle_s
            for window in self._windows(case, track, batch, reach):
                is_evidence = track.observe(case, around.put_on(window, case), reach.now)
                self._metrics.tiles.labels(use="evidence" if is_evidence else "refused").inc()
                self._metrics.evidence_age.observe(max(0.0, reach.now - window.end))

    def _windows(self, case: Case, track: Track, batch: TileBatch, reach: Reach) -> list[Window]:
        """The windows of the tiles that have not been fed yet; they count as fed from here on."""
        tiles = [{tile.end: tile for tile in batch.tiles.get(arm, ())} for arm in case.arms]
        errors, bounds = case.policy.analysis.grpc_errors, sorted(track.judge.bounds)
        found = []
        for start, end in _due(case, track, reach):
            canary, stable = (
                _at_bounds(arm_counts(by_end[end], errors) if end in by_end else ArmCounts(), bounds)
                for by_end in tiles
            )
            counted_from = None
            if _depends_on_its_scrapes(case, (start, end)):
                openings = [batch.openings[arm][end] for arm in case.arms if end in batch.openings.get(arm, {})]
                counted_from = min(openings, default=None)
            window = windows.window(case.policy, case.rollout.status, (start, end), (canary, stable), counted_from)
            if window is not None:
                found.append(window)
            else:
                self._metrics.tiles.labels(use="none").inc()
        track.next_end = max(track.next_end, (round(reach.last_end * 1000) + round(case.tile_s * 1000)) / 1000)
        return found


def _due(case: Case, track: Track, reach: Reach) -> list[tuple[float, float]]:
    """Start and end of the tiles that have settled and were not fed yet."""
    tile_ms = round(case.tile_s * 1000)
    ends = range(round(track.next_end * 1000), round(reach.last_end * 1000) + 1, tile_ms)
    return [((end - tile_ms) / 1000, end / 1000) for end in ends]


def _depends_on_its_scrapes(case: Case, tile: tuple[float, float]) -> bool:
    return windows.depends_on_its_scrapes(case.rollout.status.weight_changes, *tile)


def _note_state(case: Case, track: Track, batch: TileBatch, reach: Reach) -> None:
    """What this answer says about the source. To be called under the track's lock."""
    scraped = [batch.newest_ends[arm] for arm in case.arms if arm in batch.newest_ends]
    known = track.source.newest_tile_end
    track.source = replace(
        track.source,
        available=True,
        detail="",
        settle_s=reach.settle_s,
        newest_tile_end=max([*scraped, *([known] if known else [])], default=None),
        # once there were series, their absence is the source's (its data was lost), and their age says so
        series_seen=track.source.series_seen or any(arm in batch.seen for arm in case.arms),
    )


def _at_bounds(counts: ArmCounts, bounds: Collection[float]) -> ArmCounts:
    """With these bounds and no others: the batch holds those of every rollout, and who else is there must not be seen
    in this one's windows."""
    slower = {bound: counts.slower[bound] for bound in bounds if bound in counts.slower}
    return ArmCounts(counts.requests, counts.errors, counts.timed, slower if counts.timed else dict.fromkeys(bounds, 0))
