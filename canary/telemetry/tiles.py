"""Answers of Prometheus to counts per workload and tile. Pure.

Every row is checked: a number that is not a count, a label that is missing or a time off the grid raises
TelemetryAnswer. Rows of workloads nobody asked for (the selector matches namespaces and names separately) are passed
over; nothing else is ever dropped.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from types import MappingProxyType
from typing import Any

from canary.errors import TelemetryAnswer
from canary.model.policy import GrpcStatus
from canary.model.verdict import ArmCounts
from canary.telemetry.queries import (
    BOUND,
    CODE,
    GRPC_STATUS,
    NAMESPACE_LABEL,
    NEWEST,
    OPENING,
    TARGET_NAMESPACE,
    Scope,
    Workload,
)
from canary.telemetry.rows import Labels, Points, label, number, series_of, whole

Status = tuple[str, str]
"""(response_code, grpc_response_status); the latter is "" where the label is absent."""

NO_STATUSES: Mapping[Status, int] = MappingProxyType({})
NO_BOUNDS: Mapping[float, int] = MappingProxyType({})


Bounds = Collection[float] | Mapping[Workload, Collection[float]]
"""Bucket bounds (ms) that every workload's histogram must have, or those of each: layouts may differ."""


def bounds_of(bounds_ms: Bounds, workload: Workload) -> Collection[float]:
    return bounds_ms.get(workload, ()) if isinstance(bounds_ms, Mapping) else bounds_ms


@dataclass(frozen=True, slots=True)
class StatusCounts:
    """Requests of one workload by (response code, gRPC status)."""

    by_status: Mapping[Status, int]


@dataclass(frozen=True, slots=True)
class Tile:
    """What one workload did in (`start`, `end`], Unix seconds.

    `status` counts requests by (response code, gRPC status); `timed` is the latency histogram's own count without
    5xx; `slower` maps each bound asked for (ms) to how many of the timed took longer.
    """

    start: float
    end: float
    status: Mapping[Status, int] = field(default_factory=lambda: NO_STATUSES)
    timed: int = 0
    slower: Mapping[float, int] = field(default_factory=lambda: NO_BOUNDS)


@dataclass(frozen=True, slots=True)
class TileBatch:
    """All tiles asked for, of all workloads that have a series.

    A workload without any series is absent from `tiles` and `seen`; one with series has every tile of the range, those
    without requests with zero counts. `newest_ends` holds, per workload, the end of the newest tile in which it was
    scraped: the source is fresh for as long as this moves, not because old counters are still remembered.
    `newest_end` is the latest of them, None when no tile of the range has a sample. `openings` holds, by tile end and
    for the workloads it was asked for, when the earliest scrape was that a tile counts from (Unix seconds), 0 where
    that is not known.
    """

    tiles: Mapping[Workload, tuple[Tile, ...]]
    newest_end: float | None
    seen: frozenset[Workload]
    reporter: str
    newest_ends: Mapping[Workload, float] = field(default_factory=dict)
    openings: Mapping[Workload, Mapping[float, float]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Grid:
    """`count` tiles of `step_ms`, the first ending at `first_ms`; whole milliseconds, as Prometheus counts time."""

    first_ms: int
    step_ms: int
    count: int

    @classmethod
    def spanning(cls, first_end: float, last_end: float, tile_s: float) -> Grid:
        """Raises ValueError unless both ends are multiples of the tile and in order."""
        first_ms, last_ms, step_ms = (round(seconds * 1000) for seconds in (first_end, last_end, tile_s))
        if step_ms <= 0 or abs(step_ms - tile_s * 1000) > 1e-6:
            raise ValueError(f"a tile is a whole number of milliseconds, not {tile_s} s")
        if first_ms % step_ms or last_ms % step_ms or last_ms < first_ms:
            raise ValueError(f"tiles of {tile_s} s cannot end from {first_end} to {last_end}")
        return cls(first_ms, step_ms, (last_ms - first_ms) // step_ms + 1)

    def end(self, index: int) -> float:
        return (self.first_ms + index * self.step_ms) / 1000

    def start(self, index: int) -> float:
        return self.end(index - 1)

    def index(self, time_s: float) -> int:
        """Raises TelemetryAnswer for a time that is not the end of one of these tiles."""
        index, rest = divmod(round(time_s * 1000) - self.first_ms, self.step_ms)
        if rest or not 0 <= index < self.count:
            raise TelemetryAnswer(f"Prometheus answered for the time {time_s}, which was not asked for")
        return index

    def pieces(self, longest: int) -> Iterator[Grid]:
        for begin in range(0, self.count, longest):
            yield Grid(self.first_ms + begin * self.step_ms, self.step_ms, min(longest, self.count - begin))


@lru_cache(maxsize=64)
def _numbers(grpc_errors: tuple[GrpcStatus, ...]) -> frozenset[str]:
    """As the label carries them; few policies differ, and every tile of every rollout asks."""
    return frozenset(str(status.number) for status in grpc_errors)


def arm_counts(tile: Tile | StatusCounts, grpc_errors: Collection[GrpcStatus] = ()) -> ArmCounts:
    """Counts for the judge: errors are 5xx and the given gRPC statuses.

    Response code 0 (the client went away) says nothing about the server: such requests are left out altogether.
    """
    statuses = tile.status if isinstance(tile, Tile) else tile.by_status
    failed = _numbers(tuple(grpc_errors))
    requests = errors = 0
    for (code, grpc_status), count in statuses.items():
        if code == "0":
            continue
        requests += count
        if code.startswith("5") or grpc_status in failed:
            errors += count
    if isinstance(tile, Tile):
        return ArmCounts(requests, errors, tile.timed, tile.slower)
    return ArmCounts(requests, errors)


def read_statuses(rows: Sequence[Any], scope: Scope) -> Mapping[Workload, StatusCounts]:
    """The instant answer to `status_query`."""
    found: dict[Workload, dict[Status, int]] = defaultdict(dict)
    for workload, labels, points in _rows(rows, scope):
        for _, value in points:
            found[workload][_status(labels)] = whole(value, workload)
    return {workload: StatusCounts(counts) for workload, counts in found.items()}


def read_workloads(rows: Sequence[Any], scope: Scope) -> frozenset[Workload]:
    """Those asked about who are in an answer."""
    return frozenset(workload for workload, _, _ in _rows(rows, scope))


def read_tiles(
    status_rows: Sequence[Any], latency_rows: Sequence[Any], scope: Scope, grid: Grid, bounds_ms: Bounds
) -> TileBatch:
    """The range answers to `status_query` (with the newest samples, and perhaps openings) and `latency_query`."""
    statuses: dict[Workload, dict[int, dict[Status, int]]] = defaultdict(lambda: defaultdict(dict))
    newest: dict[Workload, int] = {}
    openings: dict[Workload, dict[float, float]] = defaultdict(dict)
    for workload, labels, points in _rows(status_rows, scope):
        per_tile = statuses[workload]
        for time_s, value in points:
            index = grid.index(time_s)
            if NEWEST in labels:
                if number(value, workload) > grid.start(index):
                    newest[workload] = max(index, newest.get(workload, index))
            elif OPENING in labels:
                opened = number(value, workload)
                openings[workload][grid.end(index)] = min(opened, openings[workload].get(grid.end(index), opened))
            else:
                per_tile[index][_status(labels)] = whole(value, workload)

    buckets: dict[Workload, dict[int, dict[float, int]]] = defaultdict(lambda: defaultdict(dict))
    for workload, bound, index, timed in bucket_counts(latency_rows, scope, grid):
        at_most = buckets[workload][index]
        at_most[bound] = at_most.get(bound, 0) + timed

    tiles = {
        workload: tuple(
            Tile(
                grid.start(index),
                grid.end(index),
                per_tile.get(index, NO_STATUSES),
                *_timed(buckets.get(workload, {}).get(index, {}), bounds_of(bounds_ms, workload), workload),
            )
            for index in range(grid.count)
        )
        for workload, per_tile in statuses.items()
    }
    ends = {workload: grid.end(index) for workload, index in newest.items()}
    return TileBatch(tiles, max(ends.values(), default=None), frozenset(tiles), scope.reporter, ends, openings)


def bucket_counts(latency_rows: Sequence[Any], scope: Scope, grid: Grid) -> Iterator[tuple[Workload, float, int, int]]:
    """(workload, bound in ms or infinity, index of the tile, requests that took at most that long).

    A bound that Prometheus holds under two names comes twice: the two add up.
    """
    for workload, labels, points in _rows(latency_rows, scope):
        bound = _bound(labels, workload)
        for time_s, value in points:
            yield workload, bound, grid.index(time_s), whole(value, workload)


def _timed(
    at_most: Mapping[float, int], bounds_ms: Collection[float], workload: Workload
) -> tuple[int, Mapping[float, int]]:
    """All timed requests, and how many were slower than each bound."""
    timed = at_most.get(math.inf, 0)
    missing = [bound for bound in bounds_ms if bound not in at_most]
    if timed and missing:
        raise TelemetryAnswer(
            f"the latency histogram of {workload} has no bucket le={missing[0]:g} (ms): "
            "a limit must be a bucket bound of this mesh"
        )
    return timed, {bound: max(0, timed - at_most.get(bound, 0)) for bound in bounds_ms}


def _rows(rows: Iterable[Any], scope: Scope) -> Iterator[tuple[Workload, Labels, Points]]:
    for labels, points in series_of(rows):
        workload = Workload(label(labels, NAMESPACE_LABEL), label(labels, scope.arm_label))
        if workload not in scope.workloads:
            continue
        if scope.matches_target_namespace and labels.get(TARGET_NAMESPACE) != workload.namespace:
            continue
        yield workload, labels, points


def _status(labels: Labels) -> Status:
    code = labels.get(CODE, "")
    if not (code.isascii() and code.isdigit()):
        raise TelemetryAnswer(f"Prometheus answered a request counter with {CODE}={code!r}")
    return code, labels.get(GRPC_STATUS, "")


def _bound(labels: Labels, workload: Workload) -> float:
    try:
        return float(labels[BOUND])
    except (KeyError, ValueError) as error:
        raise TelemetryAnswer(
            f"Prometheus answered a latency bucket of {workload} with {BOUND}={labels.get(BOUND)!r}"
        ) from error
