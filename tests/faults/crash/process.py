"""`canary run` as a process that can be killed and started again some hundred times within minutes.

Starting a Python program and importing the official client costs more processor time than a whole rollout here. So the
program is forked from a process that has imported everything and done nothing: each controller is a process of its
own, and its command line is read as always.
"""

from __future__ import annotations

import contextlib
import ctypes
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path

_PR_SET_PDEATHSIG = 1  # <linux/prctl.h>
_STOP_S = 60.0
_POLL_S = 0.02

_FORKS = threading.Lock()
"""multiprocessing asks after all its children whenever one is started, and an exit code can be read only once."""


def _context() -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.faults.crash.preload"])
    return context


def _canary(argv: Sequence[str], log: str) -> None:
    """What the console script does; the log is the process's own, and it dies with the tests."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    with open(log, "ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    sys.argv = ["canary", *argv]
    from canary.cli.app import main

    main()


class Controller:
    """One controller, dead or alive. Its log is one file for all its lives."""

    def __init__(self, argv: Sequence[str], log: Path) -> None:
        self.log = log
        self._argv = [*argv]
        self._process: ForkServerProcess | None = None

    def start(self) -> None:
        self.reap()
        with _FORKS:
            self._process = _context().Process(target=_canary, args=(self._argv, str(self.log)), daemon=True)
            self._process.start()

    def kill(self) -> None:
        """SIGKILL, and nothing awaited: safe on an event loop. Never to a process that is known to have ended."""
        with _FORKS:
            process = self._process
            if process is not None and process.pid is not None and process.exitcode is None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process.pid, signal.SIGKILL)

    def reap(self) -> None:
        """Wait until the killed one is gone."""
        if self._process is not None:
            assert self._exit_code() is not None
            self._process = None

    def stop(self) -> int | None:
        """SIGTERM and its exit code; what does not end in time is killed and gives None."""
        if self._process is None:
            return None
        self._process.terminate()
        code = self._exit_code()
        if code is None:
            self.kill()
        else:
            self._process = None
        return code

    @property
    def is_alive(self) -> bool:
        with _FORKS:
            return self._process is not None and self._process.is_alive()

    def _exit_code(self) -> int | None:
        """Once it has ended; None when it has not within a minute."""
        assert self._process is not None
        deadline = time.monotonic() + _STOP_S
        while time.monotonic() < deadline:
            with _FORKS:
                code = self._process.exitcode
            if code is not None:
                return code
            time.sleep(_POLL_S)
        return None


class Program:
    """One controller as a program started anew each time, which takes a second; otherwise as `Controller`."""

    def __init__(self, argv: Sequence[str], log: Path) -> None:
        self._argv, self._log = [sys.executable, "-m", "canary.cli.app", *argv], log
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.reap()
        with self._log.open("ab") as file:
            self._process = subprocess.Popen(self._argv, stdout=file, stderr=file)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()

    def reap(self) -> None:
        if self._process is not None:
            self._process.wait(_STOP_S)
            self._process = None
