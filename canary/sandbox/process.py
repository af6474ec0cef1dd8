"""One child process of the laptop cluster: start it, wait until it serves, end it.

Every real part (Envoy, Prometheus, the workloads, a real API server) runs under this one class, so that none outlives
the sandbox: a child gets its own process group, and on Linux the kernel kills it when the sandbox itself is killed
with SIGKILL. It must never signal anything but the process it started, and never by name.
"""

from __future__ import annotations

import contextlib
import errno
import http.client
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self

from canary.errors import SandboxError
from canary.sandbox import deathsignal

_LOG_LINES = 15
_POLL_SECONDS = 0.02

# The kernel sends the parent-death signal when the *thread* that forked ends, so every child is forked by one thread
# that lives as long as the process; otherwise a child started by a short-lived worker would die with that worker.
_spawner = ThreadPoolExecutor(max_workers=1, thread_name_prefix="sandbox-spawner")

# Loopback must never be asked through a proxy that the environment names.
_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def free_port(host: str = "127.0.0.1") -> int:
    """A TCP port of `host` that nobody listened on a moment ago; its user must bind it soon."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.bind((host, 0))
        port: int = probe.getsockname()[1]
        return port


def fetch(url: str, timeout_s: float = 1.0) -> bytes:
    """The body of a GET of `url`, past any proxy. Raises OSError (urllib's errors are) when it is not answered 2xx."""
    with _direct.open(url, timeout=timeout_s) as answer:
        body: bytes = answer.read()
        return body


def answers(url: str, timeout_s: float = 1.0) -> bool:
    """Whether a GET of `url` is answered with a 2xx within `timeout_s`; proxies of the environment are not used."""
    try:
        fetch(url, timeout_s)
    except (OSError, http.client.HTTPException):  # refused, too late, not 2xx; or whoever answers speaks no HTTP yet
        return False
    return True


def _dying_with_parent() -> list[str]:
    """What to put before a command so that the kernel kills it with this process; nothing where it cannot."""
    if sys.platform != "linux":
        return []
    return [sys.executable, "-I", "-S", deathsignal.__file__, str(os.getpid())]


class Child:
    """A program run as a child process, its output in one log file; `start` may be called again after it ended.

    As a context manager it starts on entry and stops on exit.
    """

    def __init__(
        self,
        name: str,
        argv: Sequence[str | Path],
        *,
        log: Path,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> None:
        """`name` is what errors call the program; `env` is added to this process's own environment."""
        self.name = name
        self.argv = [str(part) for part in argv]
        self.log = log
        self._env = {**os.environ, **env} if env else None
        self._cwd = cwd
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The process id of the last start; 0 before the first."""
        return self._process.pid if self._process else 0

    @property
    def exit_code(self) -> int | None:
        """The exit code, negative for a signal; None while it runs or before the first start."""
        return self._process.poll() if self._process else None

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> Self:
        """Start the program; the log is appended to. Raises SandboxError when it cannot be executed or already runs."""
        if self.is_running:
            raise SandboxError(f"{self.name} already runs (pid {self.pid}); stop it first")
        try:
            self.log.parent.mkdir(parents=True, exist_ok=True)
            if shutil.which(self.argv[0]) is None:
                raise FileNotFoundError(errno.ENOENT, "not there, or not a program", self.argv[0])
            self._process = _spawner.submit(self._spawn).result()
        except (OSError, subprocess.SubprocessError) as error:
            raise SandboxError(f"{self.name} cannot be started ({self.argv[0]}): {error}") from error
        return self

    def start_until(self, ready: str | Callable[[], bool], timeout_s: float = 15.0) -> Self:
        """Start, and return once it is ready as in `wait_ready`. Raises SandboxError, and then it does not run."""
        self.start()
        try:
            self.wait_ready(ready, timeout_s)
        except SandboxError:
            self.kill()
            raise
        return self

    def _spawn(self) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as output:
            return subprocess.Popen(
                [*_dying_with_parent(), *self.argv],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=self._env,
                cwd=self._cwd,
                process_group=0,  # Ctrl-C reaches the sandbox alone, which then ends its parts in order
            )

    def wait_ready(self, ready: str | Callable[[], bool], timeout_s: float = 15.0) -> None:
        """Return once `ready` (a URL that must answer 2xx, or a predicate) holds.

        Raises SandboxError with the last log lines when the program ends first or is not ready within `timeout_s`.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            if not self.is_running:
                raise SandboxError(f"{self.name} ended with exit code {self.exit_code} at its start{self._log_note()}")
            if answers(ready) if isinstance(ready, str) else ready():
                return
            if time.monotonic() >= deadline:
                raise SandboxError(f"{self.name} was not ready within {timeout_s:g} s{self._log_note()}")
            time.sleep(_POLL_SECONDS)

    def wait(self, timeout_s: float | None = None) -> int | None:
        """Wait until the program ends and return its exit code; None when it still runs after `timeout_s`."""
        if self._process is None:
            return None
        try:
            return self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return None

    def stop(self, timeout_s: float = 5.0) -> None:
        """End the program: SIGTERM, and SIGKILL to its process group after `timeout_s`. Does nothing if it ended."""
        if self._process is None or self._process.poll() is not None:
            return
        self._process.terminate()
        if self.wait(timeout_s) is None:
            self.kill()

    def kill(self) -> None:
        """SIGKILL its process group and reap it. Does nothing if it ended."""
        if self._process is None or self._process.poll() is not None:
            return
        # Not yet reaped, so the group id cannot have become somebody else's.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def log_tail(self, lines: int = _LOG_LINES) -> str:
        """The last lines of the log, empty when there is none."""
        try:
            with self.log.open(encoding="utf-8", errors="replace") as log:
                return "".join(deque(log, maxlen=lines)).rstrip()
        except FileNotFoundError:
            return ""

    def _log_note(self) -> str:
        tail = self.log_tail()
        return f"; the end of {self.log}:\n{tail}" if tail else f"; {self.log} is empty"

    def __enter__(self) -> Self:
        return self if self.is_running else self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()
