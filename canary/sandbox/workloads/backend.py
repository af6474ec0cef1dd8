"""The process behind a sandbox Pod: an HTTP/1.1 server that fails, dawdles and crashes as its environment tells it.

Run by its path with `python -I -S` it imports the standard library only, so that a Pod is up in less than 0.1 s and
costs about 20 MB. It must never import the rest of canary, and never listen on anything but loopback.

    any path            200, or ERROR_CODE for a share of ERROR_RATE; header x-version says who answered
    GET  /healthz       200, or 503 while READY=false (not counted)
    GET  /__control     what it counted and how it behaves, as JSON
    POST /__control     changes the behaviour while it runs: {"error_rate": "5%", "latency_median": "20ms"}
"""

from __future__ import annotations

import argparse
import asyncio
import ipaddress
import json
import math
import os
import random
import re
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace

_UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_REASONS = {200: b"OK", 400: b"Bad Request", 404: b"Not Found", 411: b"Length Required", 431: b"Too Large"}
_MAX_HEAD = 64 * 1024
_MAX_BODY = 1024 * 1024
_FINISH_S = 5.0  # after SIGTERM, how long requests that have begun may take


def _share(text: str) -> float:
    value = float(text[:-1]) / 100 if text.endswith("%") else float(text)
    if not 0 <= value <= 1:
        raise ValueError
    return value


def _seconds(text: str) -> float:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(us|ms|s|m|h)", text)
    if match:
        return float(match[1]) * _UNITS[match[2]]
    if text == "0":
        return 0.0
    raise ValueError


def _factor(text: str) -> float:
    value = float(text)
    if not 0 <= value < math.inf:
        raise ValueError
    return value


def _error_code(text: str) -> int:
    code = int(text)
    if not 400 <= code <= 599:
        raise ValueError
    return code


def _truth(text: str) -> bool:
    return {"true": True, "false": False}[text.lower()]


_SHARE = (_share, "a share such as 5% or 0.05")
_DURATION = (_seconds, "a duration such as 20ms, 1.5s or 2m")
_FACTOR = (_factor, "a number, 0 or more")
_FIELDS: dict[str, tuple[Callable[[str], object], str]] = {
    "error_rate": _SHARE,
    "error_code": (_error_code, "an HTTP error status, 400-599"),
    "latency_median": _DURATION,
    "latency_sigma": _FACTOR,
    "latency_factor": _FACTOR,
    "slow_share": _SHARE,
    "slow_by": _DURATION,
    "start_delay": _DURATION,
    "ready": (_truth, "true or false"),
    "crash_after": _DURATION,
}
VARIABLES = tuple(name.upper() for name in _FIELDS)
"""The environment variables a container may set; everything else in its env is ignored."""


@dataclass(frozen=True)
class Behaviour:
    """What the server does to a request. The environment variable of a field is its name in capitals."""

    error_rate: float = 0.0
    """Share (0-1) of requests answered with `error_code`."""
    error_code: int = 503
    latency_median: float = 0.0
    """Seconds; 0 answers at once."""
    latency_sigma: float = 0.4
    """Sigma of the log-normal distribution around the median: 0.4 puts the P99 at 2.5 medians."""
    latency_factor: float = 1.0
    """Multiplies the whole latency: 3 makes every percentile three times as slow."""
    slow_share: float = 0.0
    """Share (0-1) of requests that take `slow_by` longer."""
    slow_by: float = 0.0
    """Seconds."""
    start_delay: float = 0.0
    """Seconds before it listens."""
    ready: bool = True
    """False: /healthz answers 503, the Pod never becomes ready."""
    crash_after: float = 0.0
    """Seconds after which the process exits with 1; 0 never."""

    @staticmethod
    def from_strings(given: Mapping[str, str], base: Behaviour | None = None) -> Behaviour:
        """Behaviour from `{field: text}` over `base`. Raises ValueError naming the field and what would be right."""
        changes: dict[str, object] = {}
        for name, text in given.items():
            if name not in _FIELDS:
                raise ValueError(f"{name}: unknown; known are {', '.join(_FIELDS)}")
            parse, expected = _FIELDS[name]
            try:
                changes[name] = parse(text.strip())
            except (ValueError, KeyError):
                raise ValueError(f"{name}: {text!r} must be {expected}") from None
        return replace(base or Behaviour(), **changes)  # type: ignore[arg-type]

    def latency(self) -> float:
        """Seconds this request shall take, drawn at random."""
        drawn = self.latency_median * math.exp(random.gauss(0.0, self.latency_sigma)) if self.latency_median else 0.0
        if self.slow_share and random.random() < self.slow_share:
            drawn += self.slow_by
        return drawn * self.latency_factor


@dataclass
class Server:
    """What all connections share."""

    version: str
    behaviour: Behaviour
    requests: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    started: float = field(default_factory=time.time)
    connections: set[Connection] = field(default_factory=set)
    is_stopping: bool = False

    def report(self) -> dict[str, object]:
        return {
            "version": self.version,
            "pid": os.getpid(),
            "started": self.started,
            "requests": self.requests,
            "statuses": {str(code): count for code, count in sorted(self.statuses.items())},
            "behaviour": asdict(self.behaviour),
        }

    def control(self, body: bytes) -> tuple[int, bytes]:
        """The answer to a request at /__control; a body changes the behaviour."""
        try:
            given = json.loads(body or b"{}")
            self.behaviour = Behaviour.from_strings({k.lower(): str(v) for k, v in given.items()}, self.behaviour)
        except (ValueError, AttributeError) as error:
            return 400, f'{error}; send an object such as {{"error_rate": "5%"}}\n'.encode()
        return 200, json.dumps(self.report()).encode() + b"\n"


class Connection(asyncio.Protocol):
    """One keep-alive connection: requests are answered one after the other, in order, as HTTP/1.1 wants."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.buffer = b""
        self.is_answering = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.server.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        self.server.connections.discard(self)

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        self._serve_buffer()

    def _serve_buffer(self) -> None:
        while self.buffer and not self.is_answering and not self.transport.is_closing() and self._take_request():
            pass

    def _take_request(self) -> bool:
        """Begin the next request if it is here whole."""
        end = self.buffer.find(b"\r\n\r\n")
        if end < 0:
            if len(self.buffer) > _MAX_HEAD:
                self._answer(431, b"request header too large\n", close=True)
            return False
        head = self.buffer[:end].lower() + b"\r\n"
        length, at = 0, head.find(b"\r\ncontent-length:")
        if at >= 0:
            digits = head[at + 17 : head.index(b"\r\n", at + 17)].strip()
            length = int(digits) if digits.isdigit() else _MAX_BODY + 1
        if length > _MAX_BODY or b"\r\ntransfer-encoding:" in head:
            self._answer(411, b"send a body with a content-length of at most 1 MiB\n", close=True)
            return False
        if len(self.buffer) < end + 4 + length:
            return False
        body = self.buffer[end + 4 : end + 4 + length]
        parts = self.buffer[:end].split(b" ", 2)
        self.buffer = self.buffer[end + 4 + length :]
        self.is_answering = True
        if len(parts) != 3:
            self._answer(400, b"not a request line\n", close=True)
            return False
        self._dispatch(parts[1], body, close=b"\r\nconnection: close\r\n" in head)
        return True

    def _dispatch(self, path: bytes, body: bytes, *, close: bool) -> None:
        server, behaviour = self.server, self.server.behaviour
        if path == b"/healthz":
            is_well = behaviour.ready and not server.is_stopping
            self._answer(200 if is_well else 503, b"ok\n" if is_well else b"not ready\n", close=close)
            return
        if path == b"/__control":
            self._answer(*server.control(body), close=close)
            return
        server.requests += 1
        code = behaviour.error_code if behaviour.error_rate and random.random() < behaviour.error_rate else 200
        server.statuses[code] += 1
        answer = f"{server.version}\n".encode()
        delay = behaviour.latency()
        if delay > 0:
            asyncio.get_running_loop().call_later(delay, self._answer_late, code, answer, close)
        else:
            self._answer(code, answer, close=close)

    def _answer_late(self, code: int, body: bytes, close: bool) -> None:
        self._answer(code, body, close=close)
        self._serve_buffer()

    def _answer(self, code: int, body: bytes, *, close: bool = False) -> None:
        self.is_answering = False
        if self.transport.is_closing():
            return
        close = close or self.server.is_stopping
        self.transport.write(
            b"HTTP/1.1 %d %s\r\ncontent-length: %d\r\nx-version: %s\r\n"
            % (code, _REASONS.get(code, b"Error"), len(body), self.server.version.encode())
            + (b"connection: close\r\n\r\n" if close else b"\r\n")
            + body
        )
        if close:
            self.transport.close()


async def serve(address: str, port: int, server: Server) -> None:
    """Serve until SIGTERM or SIGINT, then let requests that have begun end (at most `_FINISH_S`)."""
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    if server.behaviour.crash_after:
        loop.call_later(server.behaviour.crash_after, os._exit, 1)
    if server.behaviour.start_delay:
        await asyncio.wait({asyncio.ensure_future(stop.wait())}, timeout=server.behaviour.start_delay)
    if stop.is_set():
        return
    listener = await loop.create_server(lambda: Connection(server), address, port, backlog=1024)
    await stop.wait()
    server.is_stopping = True
    listener.close()
    deadline = loop.time() + _FINISH_S
    while any(c.is_answering for c in server.connections) and loop.time() < deadline:
        await asyncio.sleep(0.01)
    for connection in list(server.connections):
        connection.transport.close()


def main() -> int:
    parser = argparse.ArgumentParser(description="The HTTP server behind a sandbox Pod.")
    parser.add_argument("--address", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--version", required=True, help="what the header x-version says")
    options = parser.parse_args()
    if not ipaddress.ip_address(options.address).is_loopback:
        parser.error(f"--address {options.address}: only loopback addresses")
    try:
        behaviour = Behaviour.from_strings({n.lower(): os.environ[n] for n in VARIABLES if os.environ.get(n)})
    except ValueError as error:
        print(f"environment: {error}", file=sys.stderr)
        return 2
    try:
        asyncio.run(serve(options.address, options.port, Server(options.version, behaviour)))
    except OSError as error:
        print(f"cannot listen on {options.address}:{options.port}: {error.strerror}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
