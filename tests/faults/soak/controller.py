"""The controller under test as a cluster runs it: started again when it ends, and ended when it hangs."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from canary.sandbox.process import Child, answers, fetch, free_port
from tests.faults.clock import CHECKOUT, JumpingClock

PROBE_S = 5.0
HANGS_AFTER = 6
"""Probes of /healthz in a row that may fail before a kubelet would end it."""

STARTS_WITHIN_S = 90.0
"""Before this only a probe that succeeded begins the count, as a startup probe would have it."""


class Controller:
    """`canary run`, and its kubelet. `restarts` counts why it was started again."""

    def __init__(self, options: Sequence[str], log: Path, clock: JumpingClock | None) -> None:
        self.log = log
        self.clock = clock
        self.restarts: Counter[str] = Counter()
        self._listen = f"127.0.0.1:{free_port()}"
        module = "tests.faults.clock" if clock else "canary.cli.app"
        argv = [sys.executable, "-m", module, "run", f"--listen={self._listen}", *options]
        environment = {**(clock.environment if clock else {}), "PYTHONPATH": str(CHECKOUT)}
        self._child = Child("canary", argv, log=log, env=environment, cwd=CHECKOUT)
        self._lock = threading.Lock()
        self._frozen = False
        self._failed = 0
        self._counts_from = 0.0
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._look_after, name="kubelet", daemon=True)

    def start(self) -> None:
        self._begin()
        self._thread.start()

    def _begin(self) -> None:
        self._child.start()
        self._failed, self._counts_from = 0, time.monotonic() + STARTS_WITHIN_S

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join(30)
        self.thaw()
        self._child.stop(20)

    def end(self) -> None:
        """SIGTERM, and start again when it has ended."""
        with self._lock:
            self._child.stop(30)
            self.restarts["ended" if self._child.exit_code == 0 else "did not end when told"] += 1
            self._begin()

    def kill(self) -> None:
        """SIGKILL, and start again at once."""
        with self._lock:
            self._child.kill()
            self._begin()
            self.restarts["killed"] += 1

    def freeze(self) -> None:
        """It gets no processor time any more, as when its machine is suspended."""
        with self._lock:
            if self._child.is_running and not self._frozen:
                self._frozen = True
                os.killpg(self._child.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        with self._lock:
            if self._frozen:
                self._frozen = False
                if self._child.is_running:
                    os.killpg(self._child.pid, signal.SIGCONT)

    @property
    def is_healthy(self) -> bool:
        return answers(f"http://{self._listen}/healthz", 3.0)

    def metric(self, name: str) -> float:
        """A figure of its own metrics without labels. Raises OSError when it does not answer, KeyError without one."""
        page = fetch(f"http://{self._listen}/metrics", 5.0).decode()
        figures = dict(line.rsplit(" ", 1) for line in page.splitlines() if line and not line.startswith("#"))
        return float(figures[name])

    def said(self) -> Iterator[dict[str, Any]]:
        """Its log, line by line; a line that is not JSON (a traceback of its start) as {"event": line}."""
        with self.log.open(encoding="utf-8", errors="replace") as log:
            for line in log:
                try:
                    found = json.loads(line)
                except ValueError:
                    found = {"event": line.rstrip(), "level": "error"}
                yield found if isinstance(found, dict) else {"event": line.rstrip(), "level": "error"}

    def _look_after(self) -> None:
        next_probe = time.monotonic() + PROBE_S
        while not self._stopping.wait(0.2):
            with self._lock:
                if not self._child.is_running:
                    self.restarts["ended by itself"] += 1
                    self._begin()
            if time.monotonic() < next_probe or self._frozen:
                continue
            self._probe()
            next_probe = time.monotonic() + PROBE_S

    def _probe(self) -> None:
        is_healthy, now = self.is_healthy, time.monotonic()
        with self._lock:
            if is_healthy:
                self._failed, self._counts_from = 0, now
            elif now >= self._counts_from:
                self._failed += 1
            if self._failed > HANGS_AFTER:
                self.restarts["hung"] += 1
                self._child.kill()
                self._begin()
