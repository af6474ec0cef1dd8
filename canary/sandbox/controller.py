"""The controller of the sandbox: `canary run` as a process of its own, as a user starts it.

It is given a kubeconfig and addresses, nothing else: it must never know that it runs in a sandbox.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from canary.sandbox.process import Child, free_port

OWN_NAMESPACE = "canary-system"
_READY_SECONDS = 30.0


class Controller:
    """`canary run` for all namespaces of a cluster. `kill` and `start` are a crash and a restart."""

    def __init__(
        self, kubeconfig: Path, prometheus_url: str, policies: Path, *, log: Path, options: Sequence[str], scratch: Path
    ) -> None:
        """`options` are added to the command line, such as ("--tick", "500ms"); `scratch` is for temporary files."""
        self.listen = f"127.0.0.1:{free_port()}"
        self.arguments = [
            "run",
            *("--kubeconfig", str(kubeconfig)),
            "--all-namespaces",
            *("--policies", str(policies)),
            *("--prometheus", prometheus_url),
            *("--own-namespace", OWN_NAMESPACE),
            *options,
        ]
        """What follows `canary`, without the address to listen on."""
        argv = [sys.executable, "-m", "canary.cli.app", *self.arguments, "--listen", self.listen]
        self._child = Child("controller", argv, log=log, env={"TMPDIR": str(scratch)})

    @property
    def url(self) -> str:
        """Where /healthz, /readyz and /metrics are."""
        return f"http://{self.listen}"

    @property
    def pid(self) -> int:
        return self._child.pid

    @property
    def is_running(self) -> bool:
        return self._child.is_running

    @property
    def exit_code(self) -> int | None:
        """Of the last start; None while it runs."""
        return self._child.exit_code

    def start(self) -> None:
        """Start and wait until it is ready. Raises SandboxError with the end of its log."""
        self._child.start_until(f"{self.url}/readyz", _READY_SECONDS)

    def stop(self) -> None:
        """End it in order (SIGTERM)."""
        self._child.stop(10.0)

    def kill(self) -> None:
        """End it as a crash would (SIGKILL)."""
        self._child.kill()

    def log_tail(self, lines: int = 15) -> str:
        return self._child.log_tail(lines)
