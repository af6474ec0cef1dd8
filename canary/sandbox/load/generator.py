"""Sends requests at their rate and writes down what became of each.

It must never wait for an answer before the next request is due, and never send a request twice.
"""

from __future__ import annotations

import asyncio
import json
import random
import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from canary.sandbox.load.tally import CONNECT, FORMAT, RESET, TIMEOUT, Request
from canary.sandbox.load.target import Target, flags_of

_TICK_S = 0.002  # requests due within the same tick leave together
_FLUSH_S = 0.1
_SWEEP_S = 0.25
_FINISH_S = 2.0  # after SIGTERM, how long requests under way may take


class _Connection(asyncio.Protocol):
    """One keep-alive connection with at most one request under way."""

    __slots__ = ("buffer", "is_probe", "load", "started", "transport")

    def __init__(self, load: Load) -> None:
        self.load = load
        self.buffer = b""
        self.started = 0.0  # loop time; 0 while idle
        self.is_probe = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.load.open_connections += 1

    def send(self, request: bytes, is_probe: bool) -> None:
        self.started, self.is_probe = self.load.loop.time(), is_probe
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        self.buffer = self.buffer + data if self.buffer else data
        end = self.buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        head = self.buffer[: end + 2].lower()
        length = _header(head, b"content-length")
        if length:
            if len(self.buffer) < end + 4 + int(length):
                return
        elif _header(head, b"transfer-encoding") != b"chunked":
            return  # its end is the end of the connection
        elif not self.buffer.endswith(b"0\r\n\r\n"):
            return
        self._answered(head, end, keep=_header(head, b"connection") != b"close")

    def _answered(self, head: bytes, end: int, *, keep: bool) -> None:
        status, version = int(head[9:12]), _header(head, b"x-version").decode("latin-1").replace(" ", "_")
        said = _header(head, b"x-envoy-response-flags").decode("latin-1").upper()
        flags = flags_of(status, version, said, self.buffer[end + 4 :]) if said or status >= 400 else ""
        self.buffer = b""
        self.load.ended(self, status, version, flags)
        if keep and not self.transport.is_closing():
            self.load.idle[self] = None
        else:
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self.load.idle.pop(self, None)
        self.load.open_connections -= 1
        if self.started:
            end = self.buffer.find(b"\r\n\r\n")
            head = self.buffer[: end + 2].lower()
            if exc is None and end > 0 and not _header(head, b"content-length"):
                self._answered(head, end, keep=False)
            else:
                self.load.ended(self, 0, "", RESET)


def _header(head: bytes, name: bytes) -> bytes:
    """A header's value from a lower-cased head, empty when it is not there."""
    at = head.find(b"\r\n" + name + b":")
    if at < 0:
        return b""
    at += len(name) + 3
    return head[at : head.index(b"\r\n", at)].strip()


@dataclass
class Arrivals:
    """One stream of requests, evenly spaced or Poisson, and when its next one is due (loop time)."""

    request: bytes
    rate: float
    is_poisson: bool = False
    is_probe: bool = False
    due: float = 0.0

    def advance(self) -> None:
        self.due += random.expovariate(self.rate) if self.is_poisson else 1.0 / self.rate


@dataclass
class Load:
    """One run. `run()` returns when the last request was answered or given up, and the file is complete."""

    target: Target
    streams: Sequence[Arrivals]
    out: Path
    duration_s: float
    count: int
    timeout_s: float = 10.0
    max_connections: int = 1024
    idle: dict[_Connection, None] = field(default_factory=dict)
    open_connections: int = 0

    async def run(self) -> None:
        self.loop = asyncio.get_running_loop()
        self._rows: list[str] = []
        self._busy: dict[_Connection, None] = {}
        self._opening: set[asyncio.Task[None]] = set()
        self._sent, self._skipped, self._late_max = 0, 0, 0.0
        self._epoch = time.time() - self.loop.time()
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            self.loop.add_signal_handler(number, stop.set)
        begin, cpu = self.loop.time(), time.process_time()
        for stream in self.streams:
            stream.due = begin
        with self.out.open("ab", buffering=0) as record:
            self._record = record
            run = {"format": FORMAT, "address": f"{self.target.address}:{self.target.port}", "host": self.target.host}
            self._write(run | {"rate": self.streams[0].rate, "duration_s": self.duration_s})
            await self._send_all(stop, begin + self.duration_s)
            await self._finish(_FINISH_S if stop.is_set() else self.timeout_s)
            ending = {
                "sent": self._sent,
                "skipped": self._skipped,
                "unanswered": len(self._busy) + len(self._opening),
                "late_max_ms": round(self._late_max * 1e3, 3),
                "cpu_s": round(time.process_time() - cpu, 3),
                "wall_s": round(self.loop.time() - begin, 3),
            }
            self._write({"ending": ending})

    async def _send_all(self, stop: asyncio.Event, until: float) -> None:
        flush_at = sweep_at = 0.0
        while (now := self.loop.time()) < until and self._sent < self.count and not stop.is_set():
            for stream in self.streams:
                while stream.due <= now and stream.due < until and self._sent < self.count:
                    self._late_max = max(self._late_max, now - stream.due)
                    self._send(stream)
                    stream.advance()
            if now >= flush_at:
                self._flush()
                flush_at = now + _FLUSH_S
            if now >= sweep_at:
                self._sweep(now)
                sweep_at = now + _SWEEP_S
            await asyncio.sleep(max(min(min(s.due for s in self.streams) - now, _FLUSH_S), _TICK_S))

    def _send(self, stream: Arrivals) -> None:
        connection = self._idle_connection()
        if connection is not None:
            self._sent += 1
            self._busy[connection] = None
            connection.send(stream.request, stream.is_probe)
        elif self.open_connections + len(self._opening) >= self.max_connections:
            self._skipped += 1
        else:
            self._sent += 1
            task = self.loop.create_task(self._open(stream))
            self._opening.add(task)
            task.add_done_callback(self._opening.discard)

    def _idle_connection(self) -> _Connection | None:
        while self.idle:
            connection, _ = self.idle.popitem()
            if not connection.transport.is_closing():
                return connection
        return None

    async def _open(self, stream: Arrivals) -> None:
        began = self.loop.time()
        try:
            connecting = self.loop.create_connection(lambda: _Connection(self), self.target.address, self.target.port)
            _, connection = await asyncio.wait_for(connecting, self.timeout_s)
            if connection.transport.is_closing():
                raise ConnectionResetError  # closed as soon as it was open
        except OSError:  # refused, or no answer within the time
            row = Request(began + self._epoch, self.loop.time() - began, 0, "", CONNECT, stream.is_probe)
            self._rows.append(row.line())
            return
        self._busy[connection] = None
        connection.send(stream.request, stream.is_probe)

    def ended(self, connection: _Connection, status: int, version: str, flags: str) -> None:
        """A request ended, with a response or (status 0) without."""
        start, connection.started = connection.started, 0.0
        self._busy.pop(connection, None)
        row = Request(start + self._epoch, self.loop.time() - start, status, version, flags, connection.is_probe)
        self._rows.append(row.line())

    def _sweep(self, now: float) -> None:
        for connection in [c for c in self._busy if now - c.started > self.timeout_s]:
            self.ended(connection, 0, "", TIMEOUT)
            connection.transport.abort()

    async def _finish(self, within_s: float) -> None:
        deadline = self.loop.time() + within_s + _SWEEP_S
        while (self._busy or self._opening) and self.loop.time() < deadline:
            await asyncio.sleep(0.02)
            self._sweep(self.loop.time())
        self._flush()
        for task in self._opening:
            task.cancel()
        for connection in [*self.idle, *self._busy]:
            connection.transport.abort()

    def _flush(self) -> None:
        if self._rows:
            rows, self._rows = self._rows, []
            self._record.write("".join(rows).encode())

    def _write(self, said: Mapping[str, object]) -> None:
        self._record.write(json.dumps(said).encode() + b"\n")
