"""The metrics source as the rest of the program sees it: tiles for evidence, recent counts for the fast abort.

One batch of queries serves all rollouts, whatever their number. What is settled, fresh or enough is the caller's to
say; a failure is raised, never answered with empty counts.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from typing import Any

from canary.telemetry import preflight
from canary.telemetry.breaker import BreakerState
from canary.telemetry.client import PrometheusClient
from canary.telemetry.preflight import SourceFacts
from canary.telemetry.queries import Scope, Workload, latency_query, status_query
from canary.telemetry.settings import SourceSettings
from canary.telemetry.tiles import Grid, StatusCounts, TileBatch, read_statuses, read_tiles

TILES_PER_QUERY = 500
"""A longer range is asked for in pieces: Prometheus refuses over 11,000 points, and 50 million samples at once."""


class PrometheusSource:
    """Prometheus, read in batches. Thread-safe.

    All methods raise TelemetryUnavailable (no answer, an HTTP error, or the breaker is open) and TelemetryAnswer (an
    answer that is not what was asked for, or not complete).
    """

    def __init__(
        self,
        settings: SourceSettings,
        *,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """`clock` is monotonic seconds (the breaker's), `wall` Unix seconds (the preflight's moment)."""
        self._settings = settings
        self._wall = wall
        self._client = PrometheusClient(settings, clock)
        self._facts: SourceFacts | None = None

    @property
    def queries_sent(self) -> int:
        """HTTP queries attempted so far."""
        return self._client.queries_sent

    @property
    def breaker_state(self) -> BreakerState:
        return self._client.breaker.state

    def close(self) -> None:
        self._client.close()

    def facts(self, *, refresh: bool = False) -> SourceFacts:
        """What the preflight found; kept once the request counter exists, and asked for again with `refresh`."""
        if self._facts is None or refresh or not self._facts.has_requests:
            now = self._wall()
            self._facts = preflight.inspect(lambda query: self._client.at(query, now), self._settings)
        return self._facts

    def tiles(
        self,
        workloads: Collection[Workload],
        bounds_ms: Collection[float],
        *,
        first_end: float,
        last_end: float,
        tile_s: float,
    ) -> TileBatch:
        """The tiles that end at `first_end`, + `tile_s`, ... `last_end` (Unix seconds, multiples of `tile_s`).

        Two queries, one when `bounds_ms` is empty. Raises ValueError for ends that are not multiples of the tile.
        """
        grid = Grid.spanning(first_end, last_end, tile_s)
        scope = self._scope(workloads)
        if not scope.workloads:
            return TileBatch({}, None, frozenset(), scope.reporter)
        statuses = self._over(status_query(scope, tile_s, with_newest=True), grid)
        latencies = self._over(latency_query(scope, tile_s, bounds_ms), grid) if bounds_ms else []
        return read_tiles(statuses, latencies, scope, grid, sorted(set(bounds_ms)))

    def recent(
        self, workloads: Collection[Workload], *, now: float, interval_s: float
    ) -> Mapping[Workload, StatusCounts]:
        """Requests in the `interval_s` seconds before `now` (Unix seconds) as far as they were scraped by then.

        One query. A workload without any series is absent.
        """
        scope = self._scope(workloads)
        if not scope.workloads:
            return {}
        return read_statuses(self._client.at(status_query(scope, interval_s, with_newest=False), now), scope)

    def _scope(self, workloads: Collection[Workload]) -> Scope:
        settings = self._settings
        reporter = self.facts().reporter if settings.reporter == "auto" else settings.reporter
        return Scope(frozenset(workloads), reporter, settings.arm_label, settings.trusted_namespaces)

    def _over(self, query: str, grid: Grid) -> list[Any]:
        return [
            row
            for piece in grid.pieces(TILES_PER_QUERY)
            for row in self._client.over(query, piece.end(0), piece.end(piece.count - 1), piece.step_ms / 1000)
        ]
