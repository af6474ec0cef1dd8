"""What became of each request of a load run: the record file, and the counts a person or a test reads from it.

The file is written by `canary.sandbox.load` and may be read while it grows. It is text: one JSON object that says what
the run was, then one line per request

    <start: epoch seconds> <latency: ms> <status> <version> <flags> <1 for a header probe, else 0>

with `-` for nothing, and at the end one JSON object with what the generator knows of itself. This module must never
touch the network.
"""

from __future__ import annotations

import json
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from canary.errors import InputError

FORMAT = "canary-load/1"

CONNECT, RESET, TIMEOUT = "connect", "reset", "timeout"
"""Flags of a request without a response: never connected, connection closed before the whole response, no answer."""

_ROUTING_LOSSES = frozenset({"NC", "NR", "UF", "UC"})
"""Envoy's flags for: no such cluster, no route, upstream connection failed, upstream closed the connection."""


@dataclass(frozen=True, slots=True)
class Request:
    """One request and what came of it."""

    start: float
    """Epoch seconds at which it was written to the socket."""
    latency: float
    """Seconds until the whole response, or until it was given up."""
    status: int
    """HTTP status; 0 without a response."""
    version: str = ""
    """The header x-version: which version answered. Empty when Envoy answered itself, or nobody."""
    flags: str = ""
    """Envoy's response flags, comma-separated, or one of `connect`, `reset`, `timeout`."""
    is_probe: bool = False
    """Sent with the debug header, which chooses the version: no caller's request."""

    @property
    def end(self) -> float:
        return self.start + self.latency

    @property
    def is_bad(self) -> bool:
        """What a caller sees as an error: no response or a 5xx."""
        return self.status == 0 or self.status >= 500

    @property
    def is_lost(self) -> bool:
        """Lost on the way, not failed by a backend: no response, or flags NC, NR, UF, UC."""
        return self.status == 0 or not _ROUTING_LOSSES.isdisjoint(self.flags.split(","))

    def line(self) -> str:
        return (
            f"{self.start:.6f} {self.latency * 1e3:.3f} {self.status} {self.version or '-'} {self.flags or '-'} "
            f"{self.is_probe:d}\n"
        )

    @staticmethod
    def from_line(line: str) -> Request:
        """Raises InputError for a line that is not one of ours."""
        try:
            start, latency, status, version, flags, probe = line.split()
            return Request(
                float(start),
                float(latency) / 1e3,
                int(status),
                "" if version == "-" else version,
                "" if flags == "-" else flags,
                probe == "1",
            )
        except ValueError:
            raise InputError(f"not a line of a load record ({FORMAT}): {line[:80]!r}") from None


@dataclass
class VersionTally:
    """What one version answered (or, under the empty name, what no version answered)."""

    requests: int = 0
    errors: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    first: float = 0.0
    """Start of the first request, epoch seconds; 0 before any."""
    last: float = 0.0
    """Start of the last request."""
    first_bad: float | None = None
    """Epoch seconds at which the first bad response was complete."""
    latencies: array[float] = field(default_factory=lambda: array("f"), repr=False)
    """Seconds, of requests with a response."""

    def add(self, request: Request) -> None:
        self.requests += 1
        self.statuses[request.status] += 1
        self.first = min(self.first or request.start, request.start)
        self.last = max(self.last, request.start)
        if request.is_bad:
            self.errors += 1
            self.first_bad = request.end if self.first_bad is None else min(self.first_bad, request.end)
        if request.status:
            self.latencies.append(request.latency)

    @property
    def error_share(self) -> float:
        return self.errors / self.requests if self.requests else 0.0

    def percentile(self, share: float) -> float:
        """Seconds within which `share` (0-1) of the responses came, by nearest rank; 0 without responses."""
        if not self.latencies:
            return 0.0
        ordered = sorted(self.latencies)
        return ordered[min(int(share * len(ordered)), len(ordered) - 1)]


_LOST_KEPT = 100


@dataclass
class Tally:
    """Counts over requests. Probes are counted apart and are in no other figure, except that a lost one is lost."""

    versions: dict[str, VersionTally] = field(default_factory=dict)
    probes: dict[str, VersionTally] = field(default_factory=dict)
    requests: int = 0
    errors: int = 0
    lost: int = 0
    lost_examples: list[Request] = field(default_factory=list)
    """The first hundred of the lost, to say when and how."""
    first_bad: float | None = None
    """Epoch seconds at which the first bad response to a caller was complete, whoever answered."""
    run: Mapping[str, Any] = field(default_factory=dict)
    """What the run was: url, host, rate, duration_s."""
    ending: Mapping[str, Any] = field(default_factory=dict)
    """What the generator said at its end (sent, skipped, unanswered, late_max_ms, cpu_s, wall_s); empty until then."""

    def add(self, request: Request) -> None:
        if request.is_lost:
            self.lost += 1
            if len(self.lost_examples) < _LOST_KEPT:
                self.lost_examples.append(request)
        if request.is_probe:
            self.probes.setdefault(request.version, VersionTally()).add(request)
            return
        self.versions.setdefault(request.version, VersionTally()).add(request)
        self.requests += 1
        if request.is_bad:
            self.errors += 1
            self.first_bad = request.end if self.first_bad is None else min(self.first_bad, request.end)

    def version(self, name: str) -> VersionTally:
        """The tally of one version; an empty one if it never answered."""
        return self.versions.get(name) or VersionTally()

    @classmethod
    def of(cls, requests: Iterable[Request]) -> Tally:
        """Counts over a selection: `Tally.of(r for r in read(path) if since <= r.start < until)`."""
        tally = cls()
        for request in requests:
            tally.add(request)
        return tally

    @classmethod
    def read(cls, path: Path) -> Tally:
        """Counts over a whole file. Raises InputError when it is not a load record."""
        tally = cls.follow(path)
        tally.refresh()
        return tally

    @staticmethod
    def follow(path: Path) -> FollowedTally:
        """Counts over a file that is still being written: call `refresh()` as often as you like."""
        return FollowedTally(path=path)


@dataclass
class FollowedTally(Tally):
    """A tally that reads only what is new. The file need not exist yet."""

    path: Path = Path()
    _offset: int = 0

    def refresh(self) -> list[Request]:
        """Read what was appended since the last call and return it. Raises InputError for a file of another kind."""
        fresh: list[Request] = []
        try:
            with self.path.open("rb") as source:
                source.seek(self._offset)
                appended = source.read()
        except FileNotFoundError:
            return fresh
        whole = appended[: appended.rfind(b"\n") + 1]  # the last line may be half written
        self._offset += len(whole)
        for line in whole.decode().splitlines():
            if line.startswith("{"):
                self._describe(json.loads(line))
            else:
                request = Request.from_line(line)
                self.add(request)
                fresh.append(request)
        return fresh

    def _describe(self, said: Mapping[str, Any]) -> None:
        if "ending" in said:
            self.ending = said["ending"]
        elif said.get("format") == FORMAT:
            self.run = said
        else:
            raise InputError(f"{self.path}: not a load record ({FORMAT})")


def read(path: Path) -> Iterator[Request]:
    """The requests of a record file, in the order in which they ended. Raises InputError, FileNotFoundError."""
    with path.open(encoding="utf-8") as source:
        for line in source:
            if not line.startswith("{") and line.endswith("\n"):
                yield Request.from_line(line)
