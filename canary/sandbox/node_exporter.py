"""The sandbox's node exporter: the real program, about this machine or about one whose CPU time is written down.

A sandbox has no hypervisor that steals, so a file of ours may stand in for the kernel's /proc/stat; the program that
reads and exports it is always the real one.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from canary.errors import SandboxError
from canary.sandbox.process import Child, free_port

_PROGRAMS = ("node_exporter", "prometheus-node-exporter")
"""As the project and Homebrew call it, and as Debian does."""
_CHECKOUT = Path(__file__).resolve().parents[2]

_MODES = ("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal")
"""The columns of /proc/stat (proc(5)), in their order; two more for guests follow."""
_TICKS_PER_SECOND = 100


def find_node_exporter() -> Path:
    """The node exporter: on PATH, or in the checkout's `.tools`. Raises SandboxError saying how to get it."""
    for name in _PROGRAMS:
        if on_path := shutil.which(name):
            return Path(on_path)
    in_checkout = _CHECKOUT / ".tools" / "usr" / "bin" / _PROGRAMS[1]
    if in_checkout.is_file():
        return in_checkout
    raise SandboxError(
        "no node exporter on PATH: install it (Debian and Ubuntu: `apt install prometheus-node-exporter`; macOS: `brew "
        "install node_exporter`; or the archive from prometheus.io/download)"
    )


def write_cpu_times(procfs: Path, seconds: Mapping[str, float], cpus: int = 1) -> None:
    """Write `procfs/stat` as the kernel would: each of `cpus` has spent `seconds` in each mode since its start, 0 in
    those not named. Whoever reads it meanwhile sees the old or the new one. Raises ValueError for an unknown mode."""
    if unknown := seconds.keys() - set(_MODES):
        raise ValueError(f"no mode of a CPU: {', '.join(sorted(unknown))}; there are {', '.join(_MODES)}")
    ticks = [round(seconds.get(mode, 0.0) * _TICKS_PER_SECOND) for mode in _MODES]
    lines = [("cpu", [cpus * count for count in ticks]), *((f"cpu{number}", ticks) for number in range(cpus))]
    text = "".join(f"{name} {' '.join(map(str, [*counts, 0, 0]))}\n" for name, counts in lines)
    procfs.mkdir(parents=True, exist_ok=True)
    fresh = procfs / "stat.new"
    fresh.write_text(f"{text}btime 1\nprocesses 1\nprocs_running 1\nprocs_blocked 0\n", encoding="ascii")
    fresh.replace(procfs / "stat")


class NodeExporter:
    """A node exporter on loopback with its log in `directory`: CPU time and the kernel's name, nothing else.

    As a context manager it starts on entry and stops on exit.
    """

    def __init__(self, directory: Path, *, procfs: Path | None = None, port: int | None = None) -> None:
        """`procfs` stands in for /proc (see `write_cpu_times`; on Linux only); `port` defaults to a free one. Raises
        SandboxError when there is no such program."""
        self.port = port or free_port()
        self.address = f"127.0.0.1:{self.port}"
        """host:port to scrape, under /metrics."""
        self._child = Child(
            "node exporter",
            [
                find_node_exporter(),
                "--collector.disable-defaults",
                "--collector.cpu",
                "--collector.uname",
                f"--web.listen-address={self.address}",
                "--log.level=warn",
                *([f"--path.procfs={procfs}"] if procfs else []),
            ],
            log=directory / "node-exporter.log",
        )

    @property
    def pid(self) -> int:
        return self._child.pid

    @property
    def is_running(self) -> bool:
        return self._child.is_running

    def start(self, timeout_s: float = 15.0) -> Self:
        """Start and wait until it can be scraped. Raises SandboxError with the end of its log."""
        self._child.start_until(f"http://{self.address}/metrics", timeout_s)
        return self

    def stop(self, timeout_s: float = 5.0) -> None:
        self._child.stop(timeout_s)

    def __enter__(self) -> Self:
        return self if self.is_running else self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()
