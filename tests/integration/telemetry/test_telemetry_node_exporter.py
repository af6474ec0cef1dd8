"""Stolen CPU time as a real node exporter tells it to a real Prometheus."""

import platform
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from canary.analysis.noise import noise_of
from canary.errors import SandboxError
from canary.sandbox.node_exporter import NodeExporter, find_node_exporter, write_cpu_times
from canary.sandbox.process import fetch
from canary.sandbox.prometheus import PrometheusServer, ScrapeTarget
from canary.telemetry import PrometheusSource, SourceSettings

try:
    find_node_exporter()
except SandboxError as missing:
    pytest.skip(f"NOT TESTED, stolen CPU time: {missing}", allow_module_level=True)
if sys.platform != "linux":
    pytest.skip("NOT TESTED, stolen CPU time: only Linux counts it", allow_module_level=True)

pytestmark = pytest.mark.slow

Steal = dict[str, dict[float, float]]


def target(exporter: NodeExporter, **labels: str) -> ScrapeTarget:
    return ScrapeTarget(exporter.address, path="/metrics", job="node", keep=None, labels=labels)


def steal_within(source: PrometheusSource, *nodes: str) -> Steal:
    """Of the last ten seconds, in tiles of one."""
    end = float(int(time.time()) - 1)
    found = source.steal(nodes, first_end=end - 9, last_end=end, tile_s=1.0)
    return {node: dict(by_end) for node, by_end in found.items()}


def poll(look: Callable[[], Steal], is_enough: Callable[[Steal], bool], timeout_s: float = 40.0) -> Steal:
    deadline = time.monotonic() + timeout_s
    while not is_enough(found := look()):
        assert time.monotonic() < deadline, f"not within {timeout_s} s: {found}"
        time.sleep(0.1)
    return found


def test_this_machine_is_found_by_its_own_name_and_loses_a_share_of_its_time(tmp_path: Path) -> None:
    with (
        NodeExporter(tmp_path) as exporter,
        PrometheusServer(tmp_path, [target(exporter)], scrape_interval_s=0.5) as prometheus,
    ):
        source = PrometheusSource(SourceSettings(prometheus.url, reporter="source"))
        node = platform.node()
        found = poll(lambda: steal_within(source, node, "another-node"), lambda found: len(found.get(node, {})) >= 3)
        source.close()

    assert found.keys() == {node}
    assert all(0 <= share <= 1 for share in found[node].values())


def test_a_node_that_loses_a_quarter_of_its_time_is_told_from_one_that_does_not(tmp_path: Path) -> None:
    stolen = {"node-a": 0.23, "node-b": 0.01}
    passed = 0

    def look() -> Steal:
        nonlocal passed
        passed += 100
        for node, share in stolen.items():
            times = {"steal": passed * share, "user": passed * 0.5, "idle": passed * (0.5 - share)}
            write_cpu_times(tmp_path / node / "proc", times, cpus=2)
        return steal_within(source, *stolen)

    with ExitStack() as running:
        targets = []
        for node in stolen:
            write_cpu_times(tmp_path / node / "proc", {}, cpus=2)
            exporter = running.enter_context(NodeExporter(tmp_path / node, procfs=tmp_path / node / "proc"))
            targets.append(target(exporter, node=node))
        prometheus = running.enter_context(PrometheusServer(tmp_path / "prometheus", targets, scrape_interval_s=0.5))
        source = PrometheusSource(SourceSettings(prometheus.url, reporter="source"))
        running.callback(source.close)
        found = poll(look, lambda found: all(len(found.get(node, {})) >= 3 for node in stolen))

    for node, share in stolen.items():
        assert list(found[node].values()) == pytest.approx([share] * len(found[node]))
    canary, stable = (list(found[node].values())[-1:] for node in stolen)
    assert noise_of(canary, stable, "") == "CPU steal on the canary's nodes 23 % against 1 % on stable's"
    assert noise_of(stable, canary, "") == ""


def test_the_exporter_reads_the_machine_that_is_written_down(tmp_path: Path) -> None:
    write_cpu_times(tmp_path / "proc", {"steal": 12.34, "idle": 100}, cpus=3)
    with NodeExporter(tmp_path, procfs=tmp_path / "proc") as exporter:
        text = fetch(f"http://{exporter.address}/metrics").decode()
        write_cpu_times(tmp_path / "proc", {"steal": 20, "idle": 100}, cpus=3)
        later = fetch(f"http://{exporter.address}/metrics").decode()

    assert text.count('mode="steal"} 12.34\n') == 3
    assert later.count('mode="steal"} 20\n') == 3
    assert f'nodename="{platform.node()}"' in text
    assert not exporter.is_running
    with pytest.raises(ValueError, match="no mode of a CPU: stolen; there are user, nice"):
        write_cpu_times(tmp_path / "proc", {"stolen": 1.0})
