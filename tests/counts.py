"""A metrics source that counts what it is told: the daemon's side of Prometheus without Prometheus."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from unittest import mock

from canary.daemon import windows
from canary.errors import TelemetryUnavailable
from canary.model.policy import GrpcStatus
from canary.model.verdict import ArmCounts
from canary.telemetry.preflight import SourceFacts
from canary.telemetry.queries import ServiceName, Workload
from canary.telemetry.tiles import Bounds, StatusCounts, Tile, TileBatch, bounds_of


@contextmanager
def counted() -> Iterator[Counts]:
    """What every controller of this process counts; it needs no time to arrive."""
    source = Counts()
    with (
        mock.patch("canary.daemon.run.PrometheusSource", return_value=source),
        mock.patch.object(windows, "PROPAGATION_S", 0.1),
    ):
        yield source


@dataclass
class Counts:
    """A metrics source: per tile every workload has the same requests, all good unless told otherwise.

    What a tile counted is a function of its end, so who asks later gets the same answer.
    """

    per_second: int = 500
    broken: dict[str, tuple[float, float]] = field(default_factory=dict)
    """Workload name -> (share of failed requests, since when in Unix seconds)."""
    away: str = ""
    blocking: str = ""
    queries_sent: int = 0
    asked: list[tuple[str, int]] = field(default_factory=list)
    """(what, how many workloads) of each question but the preflight's."""

    def server_now(self) -> float | None:
        """It has no clock of its own."""

    def facts(self, *, refresh: bool = False) -> SourceFacts:
        del refresh
        self._answer("facts", 0)
        return SourceFacts(0.2, 0.0, "source", up_joined=True, blocking=self.blocking)

    def tiles(
        self, workloads: Collection[Workload], bounds_ms: Bounds, *, first_end: float, last_end: float,
        tile_s: float, openings_of: Collection[Workload] = (),
    ) -> TileBatch:  # fmt: skip
        del openings_of
        self._answer("tiles", len(workloads))
        count = round((last_end - first_end) / tile_s) + 1
        ends = [round(first_end + index * tile_s, 3) for index in range(count)]
        tiles = {
            one: tuple(self._tile(one, end, tile_s, bounds_of(bounds_ms, one)) for end in ends) for one in workloads
        }
        return TileBatch(tiles, last_end, frozenset(workloads), "source", dict.fromkeys(workloads, last_end))

    def histories(
        self, workloads: Collection[Workload], *, first_end: float, last_end: float, tile_s: float
    ) -> Mapping[Workload, tuple[Tile, ...]]:
        self._answer("history", len(workloads))
        ends = [round(first_end + i * tile_s, 3) for i in range(round((last_end - first_end) / tile_s) + 1)]
        return {one: tuple(self._tile(one, end, tile_s, (500.0,)) for end in ends) for one in workloads}

    def unattributed(
        self, services: Collection[ServiceName], *, first_end: float, last_end: float, tile_s: float
    ) -> Mapping[ServiceName, Mapping[float, ArmCounts]]:
        del first_end, last_end, tile_s
        self._answer("unattributed", len(services))
        return {}

    def failing(
        self, workloads: Collection[Workload], grpc_errors: Collection[GrpcStatus], *, now: float, interval_s: float
    ) -> frozenset[Workload]:
        del grpc_errors
        self._answer("failing", len(workloads))
        return frozenset(one for one in workloads if ("503", "") in self._statuses(one, now, interval_s))

    def recent(
        self, workloads: Collection[Workload], *, now: float, interval_s: float
    ) -> Mapping[Workload, StatusCounts]:
        self._answer("recent", len(workloads))
        return {one: StatusCounts(self._statuses(one, now, interval_s)) for one in workloads}

    def close(self) -> None:
        """Nothing is open."""

    def _answer(self, what: str, workloads: int) -> None:
        self.queries_sent += 1
        if what != "facts":
            self.asked.append((what, workloads))
        if self.away:
            raise TelemetryUnavailable(self.away)

    def _tile(self, workload: Workload, end: float, tile_s: float, bounds_ms: Collection[float]) -> Tile:
        status = self._statuses(workload, end, tile_s)
        timed = status.get(("200", ""), 0)
        return Tile(round(end - tile_s, 3), end, status, timed, dict.fromkeys(bounds_ms, 0))

    def _statuses(self, workload: Workload, end: float, length_s: float) -> dict[tuple[str, str], int]:
        requests = round(self.per_second * length_s)
        share, since = self.broken.get(workload.name, (0.0, 0.0))
        errors = round(share * self.per_second * max(0.0, min(length_s, end - since)))
        return {("200", ""): requests - errors} | ({("503", ""): errors} if errors else {})
