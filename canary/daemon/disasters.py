"""The fast abort's questions: what failed just now, without waiting for tiles. One query per look-back in use.

It needs neither a baseline nor a window, so it works from the canary's first request on. An abort is never decided
without an answer.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping

import structlog

from canary.daemon import windows
from canary.daemon.surroundings import Surroundings
from canary.daemon.tracks import Case, Track
from canary.errors import TelemetryAnswer, TelemetryUnusable
from canary.model.verdict import ArmCounts
from canary.telemetry.source import PrometheusSource
from canary.telemetry.tiles import arm_counts

log = structlog.get_logger(__name__)


class Disasters:
    """Looks for them. Used by the telemetry thread only."""

    def __init__(self, source: PrometheusSource, surroundings: Surroundings) -> None:
        self._source = source
        self._surroundings = surroundings
        self._resting: set[str] = set()

    def forget(self, uid: str) -> None:
        """A rollout has ended."""
        self._resting.discard(uid)

    def look(self, tracked: Iterable[tuple[Case, Track]], now: float) -> list[Case]:
        """The rollouts that must go back at once. Raises TelemetryUnavailable and TelemetryUnusable."""
        pairs = [(case, track) for case, track in tracked if track.aborted is None]
        if not pairs:
            return []
        by_look_back: dict[float, list[tuple[Case, Track]]] = defaultdict(list)
        for case, track in pairs:
            seconds = windows.look_back_s(case.policy, case.rollout.status, case.tile_s, now)
            by_look_back[seconds].append((case, track))
        counts: dict[str, tuple[ArmCounts, ArmCounts]] = {}
        for seconds, group in by_look_back.items():
            counts |= self._counts([case for case, _ in group], seconds, now)
        ejected = self._surroundings.ejected_now([case for case, _ in pairs if _may_be_ejected(case, counts)], now)
        return [
            case
            for case, track in pairs
            if case.rollout.uid in counts
            and track.abort(case, *counts[case.rollout.uid], ejected.get(case.rollout.uid), now)
        ]

    def _counts(self, group: list[Case], interval_s: float, now: float) -> Mapping[str, tuple[ArmCounts, ArmCounts]]:
        """(canary, stable) by uid. Halved when somebody's series make the answer unusable: his fast abort rests,
        nobody else's."""
        workloads = {workload for case in group for workload in case.arms}
        try:
            recent = self._source.recent(workloads, now=now, interval_s=interval_s)
        except TelemetryUnusable:
            raise
        except TelemetryAnswer as error:
            if len(group) == 1:
                self._rests(group[0], str(error))
                return {}
            half = len(group) // 2
            return {**self._counts(group[:half], interval_s, now), **self._counts(group[half:], interval_s, now)}
        found = {}
        for case in group:
            self._resting.discard(case.rollout.uid)
            canary, stable = (
                arm_counts(recent[arm], case.policy.analysis.grpc_errors) if arm in recent else ArmCounts()
                for arm in case.arms
            )
            found[case.rollout.uid] = canary, stable
        return found

    def _rests(self, case: Case, why: str) -> None:
        if case.rollout.uid not in self._resting:  # said once: it is looked at several times a second
            self._resting.add(case.rollout.uid)
            log.warning("no look for disasters", rollout=case.rollout.full_name, problem=why)


def _may_be_ejected(case: Case, counts: Mapping[str, tuple[ArmCounts, ArmCounts]]) -> bool:
    """Whether it is worth asking: Envoy ejects a host for its errors, and one that has none left gets no request."""
    canary, _ = counts.get(case.rollout.uid, (ArmCounts(requests=1), None))
    return canary.errors > 0 or canary.requests == 0
