"""The callers of the example service: the load generator as a process, and the record of what became of each request.

It must never send to anything but the sandbox's own Envoy.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from canary.sandbox.example import DEBUG_HEADER, HOST
from canary.sandbox.load import Request, probe
from canary.sandbox.process import Child

LONGEST_S = 3600.0
"""A run of the load generator; whoever wants more starts it again."""

_REQUEST_TIMEOUT_S = 5.0


class Callers:
    """Steady load on a service (`host`) through Envoy at `url`, `rate` requests per second.

    Without a `record` file what becomes of the requests is not written down.
    """

    def __init__(self, url: str, rate: float, log: Path, record: Path | None = None, host: str = HOST) -> None:
        self.url, self.rate, self.host = url, rate, host
        self.record = record
        self._child = Child(
            "load",
            [
                *(sys.executable, "-m", "canary.sandbox.load"),
                *("--url", f"{url}/", "--host", host),
                *("--rate", f"{rate:g}", "--duration", f"{LONGEST_S:g}", "--timeout", f"{_REQUEST_TIMEOUT_S:g}"),
                *("--out", record or os.devnull),
            ],
            log=log,
        )

    @property
    def pid(self) -> int:
        return self._child.pid

    @property
    def is_running(self) -> bool:
        return self._child.is_running

    def log_tail(self, lines: int = 15) -> str:
        return self._child.log_tail(lines)

    def start(self) -> None:
        """Begin to send. A second start appends to the record."""
        self._child.start()

    def stop(self) -> None:
        """Send nothing more; requests under way are answered first, and the record is complete."""
        self._child.stop(_REQUEST_TIMEOUT_S + 5.0)

    def debug_request(self) -> Request:
        """One request with the debug header, and what came of it."""
        return probe(f"{self.url}/", self.host, DEBUG_HEADER)
