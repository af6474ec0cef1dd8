"""The metrics source as the rest of the program sees it: tiles for evidence, recent counts for the fast abort, and what
disturbs both.

One batch of queries serves all rollouts, whatever their number. What is settled, fresh or enough is the caller's to
say; a failure is raised, never answered with empty counts.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from typing import Any

from canary.errors import TelemetryAnswer
from canary.model.policy import GrpcStatus
from canary.model.verdict import ArmCounts
from canary.telemetry import preflight
from canary.telemetry.breaker import BreakerState
from canary.telemetry.client import PrometheusClient
from canary.telemetry.controlplane import control_plane_query, read_control_plane
from canary.telemetry.history import read_histories
from canary.telemetry.metric import read_metric
from canary.telemetry.outliers import ejections_query, read_ejections
from canary.telemetry.preflight import SourceFacts
from canary.telemetry.queries import (
    Scope,
    ServiceName,
    SubsetName,
    Workload,
    failing_query,
    latency_query,
    opening_query,
    status_query,
)
from canary.telemetry.settings import SourceSettings
from canary.telemetry.steal import Exporters, exporters_query, read_exporters, read_steal, steal_query
from canary.telemetry.tiles import (
    Bounds,
    Grid,
    StatusCounts,
    Tile,
    TileBatch,
    bounds_of,
    read_statuses,
    read_tiles,
    read_workloads,
)
from canary.telemetry.unattributed import read_unattributed, unattributed_query

TILES_PER_QUERY = 500
"""A longer range is asked for in pieces: Prometheus refuses over 11,000 points, and 50 million samples at once."""

EXPORTERS_S = 60.0
"""How long it is believed which exporter measures which node: machines come and go more slowly."""
MISSING_EXPORTER_S = 5.0
"""How soon it is asked again who measures a node that nobody measured."""


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
        self._clock = clock
        self._wall = wall
        # Three breakers: what only helps, or is somebody's own query, may be too slow or wrong, and must not shut
        # everybody off from the counts.
        self._client = PrometheusClient(settings, clock)
        self._helping = PrometheusClient(settings, clock)
        self._for_metrics = PrometheusClient(settings, clock, refused=TelemetryAnswer)
        self._facts: SourceFacts | None = None
        self._exporters: tuple[frozenset[str], float, Exporters] = (frozenset(), 0.0, Exporters({}))
        """Of which nodes they were asked for, and until when that counts."""

    @property
    def queries_sent(self) -> int:
        """HTTP queries attempted so far."""
        return sum(client.queries_sent for client in self._clients)

    @property
    def _clients(self) -> tuple[PrometheusClient, ...]:
        return self._client, self._helping, self._for_metrics

    @property
    def breaker_state(self) -> BreakerState:
        return self._client.breaker.state

    def server_now(self) -> float | None:
        """What Prometheus' clock shows now (Unix seconds, to a second); None while it never answered."""
        return self._client.server_now()

    def close(self) -> None:
        for client in self._clients:
            client.close()

    def facts(self, *, refresh: bool = False) -> SourceFacts:
        """What the preflight found; kept once the request counter exists, and asked for again with `refresh`."""
        if self._facts is None or refresh or not self._facts.has_requests:
            now = self._wall()
            self._facts = preflight.inspect(lambda query: self._client.at(query, now), self._settings)
        return self._facts

    def tiles(
        self,
        workloads: Collection[Workload],
        bounds_ms: Bounds,
        *,
        first_end: float,
        last_end: float,
        tile_s: float,
        openings_of: Collection[Workload] = (),
    ) -> TileBatch:
        """The tiles that end at `first_end`, + `tile_s`, ... `last_end` (Unix seconds, multiples of `tile_s`).

        Two queries, one when there are no bounds. `openings_of` are those of the workloads for which the answer tells
        which scrapes their tiles count from. Raises ValueError for ends that are not multiples of the tile.
        """
        grid = Grid.spanning(first_end, last_end, tile_s)
        scope = self._scope(workloads)
        if not scope.workloads:
            return TileBatch({}, None, frozenset(), scope.reporter)
        query = status_query(scope, tile_s, with_newest=True)
        if openings_of:
            query = f"{query}\nor {opening_query(self._scope(openings_of), tile_s)}"
        statuses = self._over(query, grid)
        every = {bound for workload in scope.workloads for bound in bounds_of(bounds_ms, workload)}
        latencies = self._over(latency_query(scope, tile_s, every), grid) if every else []
        return read_tiles(statuses, latencies, scope, grid, bounds_ms)

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

    def failing(
        self, workloads: Collection[Workload], grpc_errors: Collection[GrpcStatus], *, now: float, interval_s: float
    ) -> frozenset[Workload]:
        """Whoever has failed requests (5xx, and these gRPC statuses) in what `recent` counts; perhaps others, too.

        One query, and of few series: where nothing fails there are hardly any.
        """
        scope = self._scope(workloads)
        if not scope.workloads:
            return frozenset()
        query = failing_query(scope, interval_s, sorted({status.number for status in grpc_errors}))
        return read_workloads(self._client.at(query, now), scope)

    def history(self, workload: Workload, *, first_end: float, last_end: float, tile_s: float) -> tuple[Tile, ...]:
        """The tiles of one workload as `histories` gives them; empty when it has no series."""
        return self.histories([workload], first_end=first_end, last_end=last_end, tile_s=tile_s).get(workload, ())

    def histories(
        self, workloads: Collection[Workload], *, first_end: float, last_end: float, tile_s: float
    ) -> Mapping[Workload, tuple[Tile, ...]]:
        """The tiles of these workloads as `tiles` gives them, `slower` at every bucket bound that each histogram has.

        Two queries; a workload without series is absent. Raises ValueError for ends that are not multiples of the tile.
        """
        grid = Grid.spanning(first_end, last_end, tile_s)
        scope = self._scope(workloads)
        if not scope.workloads:
            return {}
        statuses = self._over(status_query(scope, tile_s, with_newest=True), grid)
        latencies = self._over(latency_query(scope, tile_s, None), grid)
        return read_histories(statuses, latencies, scope, grid)

    def unattributed(
        self, services: Collection[ServiceName], *, first_end: float, last_end: float, tile_s: float
    ) -> Mapping[ServiceName, Mapping[float, ArmCounts]]:
        """Requests that reached no version, by service and tile end; errors are those that failed for want of a host.

        One query, none where called pods report: what did not reach them they cannot count. A service without such a
        series is absent. Response code 0 (the client went away) and requests without a route (NR) are left out.
        """
        grid, reporter = Grid.spanning(first_end, last_end, tile_s), self._reporter
        if not services or reporter == "destination":
            return {}
        query = unattributed_query(services, reporter, self._settings.trusted_namespaces, tile_s)
        return read_unattributed(self._over(query, grid), services, grid)

    def ejections(
        self, subsets: Collection[SubsetName], *, first_end: float, last_end: float, tile_s: float
    ) -> Mapping[SubsetName, Mapping[float, tuple[int, int]]]:
        """(ejected, members) of each subset at each tile's end, as its worst caller sees it: the largest share ejected.

        One query. Absent where the callers' proxies do not export it. Where called pods report, only callers in the
        subset's own namespace are believed; else those in the trusted namespaces.
        """
        grid, reporter = Grid.spanning(first_end, last_end, tile_s), self._reporter
        if not subsets:
            return {}
        own_only = reporter == "destination"
        believed = {subset.namespace for subset in subsets} if own_only else self._settings.trusted_namespaces
        query = ejections_query(subsets, believed, own_namespace_only=own_only)
        rows = self._over(query, grid, self._helping)
        return read_ejections(rows, subsets, grid, own_namespace_only=own_only)

    def steal(
        self, nodes: Collection[str], *, first_end: float, last_end: float, tile_s: float
    ) -> Mapping[str, Mapping[float, float]]:
        """Share (0-1) of CPU time stolen from each node in each tile, by tile end.

        In a tile without two scrapes of its exporter: between its last two, at most 150 s back. A node without an
        exporter is absent. One query, and once a minute another: which exporters there are.
        """
        grid = Grid.spanning(first_end, last_end, tile_s)
        if not nodes:
            return {}
        exporters = self._exporters_of(frozenset(nodes), first_end, last_end)
        if not exporters.nodes:
            return {}
        return read_steal(self._over(steal_query(exporters, tile_s), grid, self._helping), exporters, grid)

    def _exporters_of(self, nodes: frozenset[str], first_end: float, last_end: float) -> Exporters:
        asked, until, known = self._exporters
        now, is_recent = self._clock(), last_end - first_end <= EXPORTERS_S
        if is_recent and now < until and nodes <= asked:
            return known
        found = read_exporters(self._helping.at(exporters_query(nodes, last_end - first_end), last_end), nodes)
        if is_recent:
            are_all_there = nodes <= frozenset().union(*found.nodes.values())
            # one that is not scraped yet will be soon: a minute without its noise would be a minute of wrong evidence
            self._exporters = (nodes, now + (EXPORTERS_S if are_all_there else MISSING_EXPORTER_S), found)
        return found

    def control_plane(self, *, first_end: float, last_end: float, tile_s: float) -> Mapping[float, str]:
        """What is wrong with the control plane, in words, by tile end; only ends at which something is.

        One query over the last two minutes before each end (a longer tile: over the tile). Nothing where istiod is not
        scraped.
        """
        grid = Grid.spanning(first_end, last_end, tile_s)
        query = control_plane_query(self._settings.control_plane_namespace, tile_s)
        return read_control_plane(self._over(query, grid, self._helping), grid)

    def metric(self, query: str, *, first_end: float, last_end: float, tile_s: float) -> Mapping[float, float]:
        """The value of any PromQL (a scalar, or a vector of one series) at each tile's end; infinite ones, too.

        Ends without a value, or with NaN, are absent. TelemetryAnswer also when Prometheus refuses the query, or when
        it answers several series at one end.
        """
        grid = Grid.spanning(first_end, last_end, tile_s)
        return read_metric(self._over(query, grid, self._for_metrics), grid)

    @property
    def _reporter(self) -> str:
        return self.facts().reporter if self._settings.reporter == "auto" else self._settings.reporter

    def _scope(self, workloads: Collection[Workload]) -> Scope:
        settings = self._settings
        return Scope(frozenset(workloads), self._reporter, settings.arm_label, settings.trusted_namespaces)

    def _over(self, query: str, grid: Grid, client: PrometheusClient | None = None) -> list[Any]:
        ask = (client or self._client).over
        return [
            row
            for piece in grid.pieces(TILES_PER_QUERY)
            for row in ask(query, piece.end(0), piece.end(piece.count - 1), piece.step_ms / 1000)
        ]
