"""The sandbox's Prometheus: the real server, scraping what a cluster's own would scrape.

Its relabelling makes the sandbox's Envoy look as Istio's sidecars do: `istio_*` names, "unknown" for a destination that
was never picked, `namespace` and `pod` of the scraped target set here, where a pod cannot forge them. It must never
derive a metric that the proxies did not report.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import yaml

from canary.errors import SandboxError
from canary.sandbox.process import Child, free_port

CONTROLLER_METRICS = (
    "istio_requests_total"
    "|istio_request_duration_milliseconds_(bucket|sum|count)"
    "|envoy_cluster_outlier_detection_ejections_(active|enforced_total)"
    "|envoy_cluster_membership_(total|healthy)"
)
"""Regular expression over metric names: all that the controller reads of a proxy, and all that is stored."""

_ISTIO = "istio_(?:requests_total|request_duration_milliseconds_(?:bucket|sum|count))"
_CHECKOUT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class ScrapeTarget:
    """One target. `namespace` and `pod` become its labels, as Kubernetes service discovery sets them."""

    address: str
    """host:port"""
    namespace: str = "default"
    pod: str = "gateway-0"
    path: str = "/stats/prometheus"
    params: Mapping[str, str] = field(default_factory=dict)
    """Query parameters of the scrape."""
    job: str = "envoy-stats"
    """Targets of one job must agree on `path`, `params` and `keep`."""
    keep: str | None = CONTROLLER_METRICS
    """Regular expression over metric names; None stores everything the target exposes."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """More labels of the target, as service discovery may set them: `node` for a node exporter."""


def find_prometheus() -> Path:
    """The `prometheus` program: on PATH, or in the checkout's `.tools`. Raises SandboxError saying how to get it."""
    on_path = shutil.which("prometheus")
    if on_path:
        return Path(on_path)
    in_checkout = _CHECKOUT / ".tools" / "usr" / "bin" / "prometheus"
    if in_checkout.is_file():
        return in_checkout
    raise SandboxError(
        "no `prometheus` on PATH: install it (Debian and Ubuntu: `apt install prometheus`; macOS: `brew install "
        "prometheus`; or the archive from prometheus.io/download)"
    )


def scrape_config(targets: Sequence[ScrapeTarget], scrape_interval_s: float = 1.0) -> dict[str, Any]:
    """The content of prometheus.yml. Raises SandboxError when targets of one job contradict each other."""
    interval = f"{round(scrape_interval_s * 1000)}ms"
    jobs: dict[str, list[ScrapeTarget]] = {}
    for target in targets:
        jobs.setdefault(target.job, []).append(target)
    return {
        "global": {"scrape_interval": interval, "scrape_timeout": interval},
        "scrape_configs": [_job(name, members) for name, members in jobs.items()],
    }


def _job(name: str, targets: Sequence[ScrapeTarget]) -> dict[str, Any]:
    first = targets[0]
    if any((t.path, t.params, t.keep) != (first.path, first.params, first.keep) for t in targets):
        raise SandboxError(f"targets of the scrape job {name!r} differ in path, params or keep: give them other jobs")
    job: dict[str, Any] = {
        "job_name": name,
        "metrics_path": first.path,
        "static_configs": [
            {"targets": [t.address], "labels": {"namespace": t.namespace, "pod": t.pod, **t.labels}} for t in targets
        ],
        "metric_relabel_configs": _relabelings(first.keep),
    }
    if first.params:
        job["params"] = {key: [value] for key, value in first.params.items()}
    return job


def _relabelings(keep: str | None) -> list[dict[str, Any]]:
    """Envoy's names and empty labels to Istio's; then drop what nobody reads.

    Istio's stats filter writes "unknown" for a peer it does not know and "latest" for its revision.
    """
    rules: list[dict[str, Any]] = [
        {"source_labels": ["__name__"], "regex": "envoy_(istio_.*)", "target_label": "__name__", "replacement": "$1"}
    ]
    for label, absent in (
        ("destination_workload", "unknown"),
        ("destination_workload_namespace", "unknown"),
        ("destination_version", "unknown"),
        ("destination_canonical_service", "unknown"),
        ("destination_canonical_revision", "latest"),
        ("destination_service", "unknown"),
        ("destination_service_name", "unknown"),
        ("destination_service_namespace", "unknown"),
    ):
        rules.append(
            {
                "source_labels": ["__name__", label],
                "regex": f"{_ISTIO};",  # nothing after the separator: the label is empty or absent
                "target_label": label,
                "replacement": absent,
            }
        )
    if keep is not None:
        rules.append({"source_labels": ["__name__"], "regex": keep, "action": "keep"})
    return rules


class PrometheusServer:
    """A Prometheus on loopback with its configuration, data and log in `directory`.

    As a context manager it starts on entry and stops on exit. `stop`/`kill` followed by `start` is an outage on the
    same address; `restart(lose_data=True)` is a server that came back empty. Prometheus makes its first scrape about
    5 s after a start, whatever the interval: its target discovery hands over once in 5 s.
    """

    def __init__(
        self,
        directory: Path,
        targets: Sequence[ScrapeTarget],
        scrape_interval_s: float = 1.0,
        port: int | None = None,
        retention: str = "6h",
    ) -> None:
        """`port` defaults to a free one and stays the same over restarts. Raises SandboxError when there is no
        `prometheus` program or the targets contradict each other."""
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._directory = directory.resolve()
        self._data = self._directory / "data"
        self._config = self._directory / "prometheus.yml"
        self._targets = tuple(targets)
        self._scrape_interval_s = scrape_interval_s
        self._directory.mkdir(parents=True, exist_ok=True)
        self._write_config()
        self._child = Child(
            "prometheus",
            [
                find_prometheus(),
                f"--config.file={self._config}",
                f"--storage.tsdb.path={self._data}",
                f"--storage.tsdb.retention.time={retention}",
                f"--web.listen-address=127.0.0.1:{self.port}",
                "--log.level=warn",
            ],
            log=self._directory / "prometheus.log",
        )

    @property
    def pid(self) -> int:
        return self._child.pid

    @property
    def is_running(self) -> bool:
        return self._child.is_running

    def start(self, timeout_s: float = 30.0) -> Self:
        """Start and wait until it answers queries. Raises SandboxError with the end of its log."""
        self._child.start_until(f"{self.url}/-/ready", timeout_s)
        return self

    def stop(self, timeout_s: float = 10.0) -> None:
        """End it in order (SIGTERM): what was scraped is on disk."""
        self._child.stop(timeout_s)

    def kill(self) -> None:
        """End it as a crash would (SIGKILL)."""
        self._child.kill()

    def log_tail(self, lines: int = 15) -> str:
        """The last lines of its log."""
        return self._child.log_tail(lines)

    def restart(self, *, lose_data: bool = False) -> None:
        """Stop and start again on the same port; with `lose_data` its history is gone, as with a lost volume."""
        self.stop()
        if lose_data:
            shutil.rmtree(self._data, ignore_errors=True)
        self.start()

    def _write_config(self) -> None:
        config = scrape_config(self._targets, self._scrape_interval_s)
        self._config.write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")

    def __enter__(self) -> Self:
        return self if self.is_running else self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()
