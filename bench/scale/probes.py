"""What can be read off the running processes: processor time, memory, and their own counters."""

from __future__ import annotations

import os
import time
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from bench.scale.stage import Stage, prometheus_of
from canary.errors import SandboxError
from canary.sandbox.process import fetch

_TICKS = os.sysconf("SC_CLK_TCK")
Series = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def cpu_seconds(pid: int) -> float:
    """User and system time of a process and its threads so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def memory_mb(pid: int) -> tuple[float, float]:
    """Resident memory of a process now, and the most it ever was."""
    lines = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":" in line)
    now, most = (int(lines[name].split()[0]) / 1024 for name in ("VmRSS", "VmHWM"))
    return now, most


def pid_of(program: str, directory: Path) -> int:
    """The process of that program that was started for this folder. Raises SandboxError when there is none."""
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                argv = (folder / "cmdline").read_bytes().split(b"\0")
            except OSError:  # it has ended meanwhile
                continue
            if Path(argv[0].decode(errors="replace")).name == program and str(directory).encode() in b" ".join(argv):
                return int(folder.name)
    raise SandboxError(f"no {program} runs for {directory}")


def series(text: str) -> Series:
    """Every sample of a text exposition."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def total(of: Series, name: str, by: str = "", **labels: str) -> dict[str, float]:
    """Sums of the samples of a name with these labels, by one label ("" for all together)."""
    found: dict[str, float] = defaultdict(float)
    for (sample, pairs), value in of.items():
        if sample == name:
            known = dict(pairs)
            if all(known.get(key) == wanted for key, wanted in labels.items()):
                found[known.get(by, "")] += value
    return dict(found)


def quantile(before: Series, after: Series, histogram: str, share: float) -> float | None:
    """A quantile of what a histogram counted between two readings, as Prometheus interpolates it; None for nothing."""
    counted = {
        float(bound): value - total(before, f"{histogram}_bucket", "le").get(bound, 0.0)
        for bound, value in total(after, f"{histogram}_bucket", "le").items()
    }
    rank, below, at = share * counted.get(float("inf"), 0.0), 0.0, 0.0
    if not rank:
        return None
    for bound, cumulative in sorted(counted.items()):
        if cumulative >= rank:
            return at if bound == float("inf") else at + (bound - at) * (rank - below) / (cumulative - below)
        below, at = cumulative, bound
    return at


@dataclass(frozen=True)
class Reading:
    """All of it at one moment."""

    at: float
    cpu: Mapping[str, float]
    apiserver: Series
    controller: Series = field(default_factory=dict)
    prometheus: Series = field(default_factory=dict)


class Probes:
    """Reads a stage's processes. The reading itself costs the API server some milliseconds, the same at every phase."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._etcd = pid_of("etcd", stage.server.directory)

    def read(self) -> Reading:
        stage, prometheus = self._stage, prometheus_of(self._stage)
        pids = {
            "apiserver": stage.server.pid,
            "etcd": self._etcd,
            "prometheus": prometheus.pid,
            "exporter": stage.exporter.pid,
        }
        if stage.controller is not None:
            pids["controller"] = stage.controller.pid
        cpu = {name: cpu_seconds(pid) for name, pid in pids.items()}
        own = series(fetch(f"{prometheus.url}/metrics", timeout_s=20).decode())
        return Reading(time.monotonic(), cpu, self._apiserver(), self.controller(), own)

    def controller(self) -> Series:
        """The controller's own metrics; none before its start."""
        if self._stage.controller is None:
            return {}
        return series(fetch(f"http://{self._stage.listen}/metrics", timeout_s=20).decode())

    def _apiserver(self) -> Series:
        """Only its counters of requests: the whole page has tens of thousands of lines."""
        page = self._stage.server.kubectl("get", "--raw", "/metrics")
        lines = [line for line in page.splitlines() if line.startswith("apiserver_request_total{")]
        return series("\n".join([*lines, ""]))
