"""Verdicts on real requests: a sandbox with real Envoy, Prometheus and controller, and services to release in it.

What disturbs a service from outside (a node that loses processor time, a number that an administrator watches) is said
by exporters of the test's own, which Prometheus scrapes like any other.
"""

from __future__ import annotations

import contextlib
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from canary.model.phase import Phase
from canary.model.rollout import Rollout
from canary.sandbox import example
from canary.sandbox.callers import Callers
from canary.sandbox.cluster import Sandbox, Settings
from canary.sandbox.load import FollowedTally, Request, Tally
from canary.sandbox.node_exporter import NodeExporter, write_cpu_times
from canary.sandbox.prometheus import ScrapeTarget
from canary.shipped import shipped

POLICIES = Path(__file__).with_name("policies.yaml")
WRITE_S = 0.1


class Page:
    """A page of metrics on loopback; `text` is asked at each scrape."""

    def __init__(self, text: Callable[[], str]) -> None:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("content-type", "text/plain; version=0.0.4")
                self.end_headers()
                with contextlib.suppress(ConnectionError):  # a scrape that was given up
                    self.wfile.write(text().encode())

            def log_message(self, *_: Any) -> None:
                """A scrape a second is not news."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        self.address = f"127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class Node:
    """A node with a real exporter, whose processor waits, or is stolen from: its times are written down for it."""

    def __init__(self, name: str, directory: Path) -> None:
        self.name, self.stolen_share = name, 0.0
        """Of the processor time, 0-1, from now on."""
        self._procfs, self._ending = directory / name, threading.Event()
        self._times = {"idle": 1000.0, "steal": 1.0}
        write_cpu_times(self._procfs, self._times)
        self._exporter = NodeExporter(self._procfs, procfs=self._procfs).start()
        self.target = ScrapeTarget(
            self._exporter.address,
            "monitoring",
            f"exporter-{name}",
            path="/metrics",
            job="node",
            keep=None,
            labels={"node": name},
        )
        self._thread = threading.Thread(target=self._go_on, daemon=True)
        self._thread.start()

    def _go_on(self) -> None:
        at = time.monotonic()
        while not self._ending.wait(WRITE_S):
            passed, at = time.monotonic() - at, time.monotonic()
            self._times["steal"] += self.stolen_share * passed
            self._times["idle"] += (1 - self.stolen_share) * passed
            write_cpu_times(self._procfs, self._times)

    def close(self) -> None:
        self._ending.set()
        self._thread.join()
        self._exporter.stop()


@dataclass
class Gauges:
    """Numbers of the users' own, by series."""

    values: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.page = Page(lambda: "".join(f"{series} {value}\n" for series, value in self.values.items()))
        self.target = ScrapeTarget(self.page.address, "monitoring", "shop", path="/metrics", job="shop", keep=None)


class Service:
    """One service: its callers, its versions, and what became of each request."""

    def __init__(self, sandbox: Sandbox, name: str) -> None:
        self.sandbox, self.name = sandbox, name
        self._callers: Callers | None = None
        self._load: FollowedTally | None = None
        self.requests: list[Request] = []

    def open(
        self,
        rate: float,
        behaviour: Mapping[str, str],
        *,
        node: str | None = None,
        outlier_detection: Mapping[str, Any] | None = None,
    ) -> None:
        """Its first version, and callers at `rate` per second whose proxy ejects pods by `outlier_detection`."""
        record = self.sandbox.directory / f"{self.name}.txt"
        host = example.host_of(self.name)
        self._callers = Callers(self.sandbox.url, rate, self.sandbox.logs / f"{self.name}.log", record, host)
        self._load = Tally.follow(record)
        service, rule, route = example.mesh(self.name)
        del route["spec"]["http"][0]["timeout"]  # a machine that stands still for two seconds is no version's error
        if outlier_detection is not None:
            rule["spec"]["trafficPolicy"] = {"outlierDetection": dict(outlier_detection)}
        for obj in (service, rule, route):
            self.sandbox.apply(obj)
        self.release(behaviour, "steady", "v1", node=node)
        self.sandbox.wait_available(self.target("v1"))
        self._callers.start()

    def close(self) -> None:
        if self._callers is not None:
            self._callers.stop()

    def target(self, version: str) -> str:
        return example.deployment_name(version, self.name)

    def release(
        self, behaviour: Mapping[str, str], policy: str, version: str = "v2", *, node: str | None = None
    ) -> None:
        """Deploy a version with its annotation, one pod of it."""
        self.sandbox.apply(
            example.deployment(version, behaviour, policy=policy, replicas=1, node=node, service=self.name)
        )

    def wait(self, until: Callable[[Rollout], bool], timeout_s: float, version: str = "v2") -> Rollout:
        return self.sandbox.wait_rollout(self.target(version), until, timeout_s)

    def wait_end(self, timeout_s: float, version: str = "v2") -> Rollout:
        """Once its rollout has ended, or waits for a person."""
        return self.wait(
            lambda one: one.status.phase.is_terminal or one.status.phase is Phase.PAUSED, timeout_s, version
        )

    def seen(self) -> Tally:
        """What became of every request so far."""
        assert self._load is not None
        self.requests += self._load.refresh()
        return Tally.of(self.requests)

    def wait_requests(self, count: int, timeout_s: float = 60.0) -> None:
        """Until its first version has a past that the verdict can learn from."""
        deadline = time.monotonic() + timeout_s
        while (requests := self.seen().requests) < count:
            assert time.monotonic() < deadline, f"{requests} requests within {timeout_s:g} s, not {count}"
            time.sleep(0.2)


@dataclass
class Shop:
    """A sandbox without callers of its own, two nodes, numbers of the users' own, and the services opened in it."""

    sandbox: Sandbox
    nodes: dict[str, Node]
    gauges: Gauges
    services: list[Service] = field(default_factory=list)

    def service(self, name: str) -> Service:
        self.services.append(Service(self.sandbox, name))
        return self.services[-1]


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """One for each file; its services share it."""
    policies = tmp_path_factory.mktemp("policies")
    shutil.copy(shipped("policies") / "demo.yaml", policies)  # by which the sandbox's own service opts in
    for name, policy in yaml.safe_load(POLICIES.read_text()).items():
        (policies / f"{name}.yaml").write_text(yaml.safe_dump({"name": name} | policy))
    with ExitStack() as stack:
        procfs = tmp_path_factory.mktemp("proc")
        nodes = {}
        for name in ("sandbox", "sandbox-b"):
            nodes[name] = Node(name, procfs)
            stack.callback(nodes[name].close)
        gauges = Gauges()
        stack.callback(gauges.page.close)
        settings = Settings(
            rate=0.0,
            policies=policies,
            targets=(*(node.target for node in nodes.values()), gauges.target),
        )
        sandbox = stack.enter_context(Sandbox(tmp_path_factory.mktemp("sandbox"), settings).start())
        opened = Shop(sandbox, nodes, gauges)
        yield opened
        for service in opened.services:
            service.close()
        print(f"the end of the controller's log\n{sandbox.controller.log_tail(40)}")
