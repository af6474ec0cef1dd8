"""What a window carries besides the two versions' counts: requests that reached no version, ejected hosts, noise, and
the policy's own metrics.

One question of each kind for all rollouts together (the policy's own metrics apart), and none for what the source does
not have. None of it may keep the counts from being judged: a question that fails leaves its part empty, is said and
counted once, and is asked again later. What a window carried is what was recorded.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import TypeVar

import structlog

from canary.analysis.noise import noise_of
from canary.daemon.metrics import Metrics
from canary.daemon.pauses import Pause
from canary.daemon.tracks import Case
from canary.errors import TelemetryError
from canary.model.placeholders import fill
from canary.model.verdict import ArmCounts, Ejections, Window
from canary.telemetry.queries import ServiceName, SubsetName
from canary.telemetry.source import PrometheusSource

NOW_S = 0.1
"""Ejections are gauges: as of now is as of the last tenth of a second."""

NOTHING = ArmCounts()

K = TypeVar("K")
V = TypeVar("V")

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Exported:
    """What the source has, as far as the preflight found it."""

    ejections: bool = False
    steal: bool = False
    control_plane: bool = False


@dataclass(frozen=True, slots=True)
class Around:
    """One tick's answers, by whom they are about and by tile end (Unix seconds). `own` are one policy's own metrics."""

    unattributed: Mapping[ServiceName, Mapping[float, ArmCounts]] = field(default_factory=dict)
    ejections: Mapping[SubsetName, Mapping[float, tuple[int, int]]] = field(default_factory=dict)
    steal: Mapping[str, Mapping[float, float]] = field(default_factory=dict)
    control_plane: Mapping[float, str] = field(default_factory=dict)
    own: Mapping[str, Mapping[float, float]] = field(default_factory=dict)

    def put_on(self, window: Window, case: Case) -> Window:
        """The window with all that is known of its time."""
        end = window.end
        canary_steal, stable_steal = (
            [self.steal[node][end] for node in sorted(nodes) if end in self.steal.get(node, {})]
            for nodes in (case.canary_nodes, case.stable_nodes)
        )
        own = {name: values[end] for name, values in self.own.items() if end in values}
        return Window(
            window.start,
            end,
            window.step,
            window.weight,
            window.canary,
            window.stable,
            self.unattributed.get(case.service, {}).get(end, NOTHING),
            _ejections(case, self.ejections, end),
            window.warm,
            noise_of(canary_steal, stable_steal, self.control_plane.get(end, "")),
            own,
        )


class Surroundings:
    """Asks, and remembers what fails. Used by the telemetry thread only."""

    def __init__(self, source: PrometheusSource, metrics: Metrics, clock: Callable[[], float]) -> None:
        """`clock` is monotonic seconds."""
        self._source = source
        self._metrics = metrics
        self._clock = clock
        self._failing: dict[tuple[str, str, str], Pause] = {}
        self.exported = Exported()

    def forget(self, uid: str) -> None:
        """A rollout has ended."""
        for key in [key for key in self._failing if key[1] == uid]:
            del self._failing[key]

    def ask(self, cases: Collection[Case], *, first_end: float, last_end: float, tile_s: float) -> Around:
        """At most four questions about the tiles that end from `first_end` to `last_end` (Unix seconds)."""
        over = {"first_end": first_end, "last_end": last_end, "tile_s": tile_s}
        services = {case.service for case in cases if case.service.name}
        subsets = {subset for case in cases for subset in case.subsets} if self.exported.ejections else ()
        nodes = frozenset[str]().union(*(case.canary_nodes | case.stable_nodes for case in cases))
        return Around(
            self._of(services, "unattributed", lambda: self._source.unattributed(services, **over)),
            self._of(subsets, "ejections", lambda: self._source.ejections(subsets, **over)),
            self._of(
                nodes if self.exported.steal else (), "steal", lambda: self._source.steal(nodes, **over)
            ),
            self._of(
                cases if self.exported.control_plane else (),
                "control_plane",
                lambda: self._source.control_plane(**over),
            ),
        )  # fmt: skip

    def own_metrics(self, case: Case, *, first_end: float, last_end: float) -> Mapping[str, Mapping[float, float]]:
        """The policy's own metrics by name: one question for each."""
        tile_s = case.tile_s

        def ask(query: str) -> Mapping[float, float]:
            names = {"namespace": case.rollout.namespace, "service": case.service.name,
                     "canary": case.canary.name, "stable": case.stable.name}  # fmt: skip
            text = fill(query, tile=timedelta(seconds=tile_s), **names)
            return self._source.metric(text, first_end=first_end, last_end=last_end, tile_s=tile_s)

        return {
            metric.name: self._of([case], "metric", partial(ask, metric.query), (case.rollout.uid, metric.name))
            for metric in case.policy.analysis.metrics
        }

    def ejected_now(self, cases: Collection[Case], now: float) -> Mapping[str, Ejections]:
        """The ejections that callers see now, by uid; one question, none where they are not exported."""
        if not self.exported.ejections or not cases:
            return {}
        subsets = {subset for case in cases for subset in case.subsets}
        end = math.floor(now * 10) / 10
        found = self._of(
            subsets, "ejections", lambda: self._source.ejections(subsets, first_end=end, last_end=end, tile_s=NOW_S)
        )
        seen = {case.rollout.uid: _ejections(case, found, end) for case in cases}
        return {uid: ejections for uid, ejections in seen.items() if ejections is not None}

    def _of(
        self,
        subjects: Collection[object],
        what: str,
        ask: Callable[[], Mapping[K, V]],
        about: tuple[str, str] = ("", ""),
    ) -> Mapping[K, V]:
        """The answer; empty when there is nobody to ask about, or when it fails. `about` is (uid, name) of a metric."""
        key, now = (what, *about), self._clock()
        failing = self._failing.get(key)
        if not subjects or (failing and not failing.is_over(now)):
            return {}
        try:
            answer = ask()
        except (TelemetryError, ValueError) as error:  # a name that cannot stand in a query is a ValueError
            if failing is None:
                failing = self._failing[key] = Pause()
                log.warning("judged without", what=what, metric=about[1], problem=str(error))
            failing.failed(self._clock())
            self._metrics.left_out.labels(what=what).inc()
            return {}
        if failing is not None:
            del self._failing[key]
            log.info("judged with again", what=what, metric=about[1])
        return answer


def _ejections(
    case: Case, answers: Mapping[SubsetName, Mapping[float, tuple[int, int]]], end: float
) -> Ejections | None:
    """Both versions' ejections at a tile's end, None where nothing is exported about either."""
    canary, stable = (answers.get(subset, {}).get(end) for subset in case.subsets)
    if canary is None and stable is None:
        return None
    return Ejections(*(canary or (0, 0)), *(stable or (0, 0)))
