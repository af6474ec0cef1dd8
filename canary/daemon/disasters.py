"""The fast abort's questions: what failed just now, without waiting for tiles. One query per look-back in use.

It needs neither a baseline nor a window, so it works from the canary's first request on. An abort is never decided
without an answer.

Asked first is only what failed, of everybody: where all is well that is nearly nothing, however many they are. Only who
failed, or was silent, is looked at closely then.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

import structlog

from canary.daemon import windows
from canary.daemon.surroundings import Surroundings
from canary.daemon.tracks import Case, Track
from canary.errors import TelemetryAnswer, TelemetryUnusable
from canary.model.verdict import ArmCounts
from canary.telemetry.queries import Workload
from canary.telemetry.source import PrometheusSource
from canary.telemetry.tiles import StatusCounts, arm_counts

Arms = tuple[ArmCounts, ArmCounts]
"""Canary and stable."""

T = TypeVar("T")

NO_COUNTS = ArmCounts()

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
        counts: dict[str, Arms] = {}
        for seconds, group in by_look_back.items():
            counts |= self._counts(self._suspects(group, seconds, now), seconds, now)
        ejected = self._surroundings.ejected_now([case for case, _ in pairs if _may_be_ejected(case, counts)], now)
        return [
            case
            for case, track in pairs
            if case.rollout.uid in counts
            and track.abort(case, *counts[case.rollout.uid], ejected.get(case.rollout.uid), now)
        ]

    def _suspects(self, group: list[tuple[Case, Track]], interval_s: float, now: float) -> list[Case]:
        """Whose canary failed a request, or had none when its newest window was taken in: nobody else can be ejected,
        or fail nearly totally."""
        grpc_errors = {status for case, _ in group for status in case.policy.analysis.grpc_errors}
        silent = {case.rollout.uid for case, track in group if track.is_silent}

        def failing(cases: list[Case]) -> frozenset[Workload]:
            canaries = {case.canary for case in cases}
            return self._source.failing(canaries, grpc_errors, now=now, interval_s=interval_s)

        return [
            case
            for cases, found in self._answers([case for case, _ in group], failing)
            for case in cases
            if case.canary in found or case.rollout.uid in silent
        ]

    def _counts(self, group: list[Case], interval_s: float, now: float) -> Mapping[str, Arms]:
        """(canary, stable) by uid."""

        def recent(cases: list[Case]) -> Mapping[Workload, StatusCounts]:
            workloads = {workload for case in cases for workload in case.arms}
            return self._source.recent(workloads, now=now, interval_s=interval_s)

        found = {}
        for cases, answer in self._answers(group, recent):
            for case in cases:
                canary, stable = (
                    arm_counts(answer[arm], case.policy.analysis.grpc_errors) if arm in answer else NO_COUNTS
                    for arm in case.arms
                )
                found[case.rollout.uid] = canary, stable
        return found

    def _answers(self, group: list[Case], ask: Callable[[list[Case]], T]) -> list[tuple[list[Case], T]]:
        """Each answer with whom it is about. Halved when somebody's series make it unusable: his fast abort rests,
        nobody else's."""
        if not group:
            return []
        try:
            answer = ask(group)
        except TelemetryUnusable:
            raise
        except TelemetryAnswer as error:
            if len(group) == 1:
                self._rests(group[0], str(error))
                return []
            half = len(group) // 2
            return [*self._answers(group[:half], ask), *self._answers(group[half:], ask)]
        self._resting.difference_update(case.rollout.uid for case in group)
        return [(group, answer)]

    def _rests(self, case: Case, why: str) -> None:
        if case.rollout.uid not in self._resting:  # said once: it is looked at several times a second
            self._resting.add(case.rollout.uid)
            log.warning("no look for disasters", rollout=case.rollout.full_name, problem=why)


def _may_be_ejected(case: Case, counts: Mapping[str, Arms]) -> bool:
    """Whether it is worth asking: Envoy ejects a host for its errors, and one that has none left gets no request."""
    canary, _ = counts.get(case.rollout.uid, (ArmCounts(requests=1), None))
    return canary.errors > 0 or canary.requests == 0
