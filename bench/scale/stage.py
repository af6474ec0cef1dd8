"""The bench's cluster: a real API server with everybody's objects, the exporter, a real Prometheus, the controller.

It starts, fills and ends; what is measured is another module's business.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import yaml

from bench.scale import objects
from bench.scale.shape import CANARY, MESH_NAMESPACE, STABLE, Service, namespaces, services
from canary.cluster.gateway import Gateway
from canary.cluster.kinds import (
    CANARYROLLOUT,
    CRD,
    DEPLOYMENT,
    DESTINATIONRULE,
    NAMESPACE,
    POD,
    REPLICASET,
    SERVICE,
    VIRTUALSERVICE,
    Kind,
)
from canary.errors import SandboxError
from canary.sandbox.controller import OWN_NAMESPACE
from canary.sandbox.process import Child, fetch, free_port
from canary.sandbox.prometheus import PrometheusServer, ScrapeTarget
from canary.sandbox.realapi.server import RealApiServer
from canary.shipped import shipped

POLICY = "scale"
HANDS = 12
"""Requests under way at a time while the cluster is filled."""
_STARTS_WITHIN_S = 120.0

T = TypeVar("T")


def policy(hold_s: float) -> dict[str, Any]:
    """Twenty weights, five percent at a time."""
    return {
        "name": POLICY,
        "strategy": {"weights": list(range(5, 101, 5)), "hold": f"{hold_s:g}s"},
        "analysis": {
            "warmup": "0s",
            "minRequests": 50,
            "errorRate": {"max": "1%", "vsStable": "default"},
            "p99": {"max": "500ms", "vsStable": "default"},
            "maxWait": "30m",
        },
        "outlierDetection": {"consecutive5xxErrors": 5, "interval": "10s"},
    }


class Stage:
    """Everything but the controller runs from entry on; nothing does after exit."""

    def __init__(self, directory: Path, count: int, *, scrape_s: float, hold_s: float, core: int | None) -> None:
        self.count, self.scrape_s, self.core = count, scrape_s, core
        self.directory = directory
        self.server = RealApiServer(directory / "kubernetes")
        self._ports = directory / "ports.json"
        argv = [sys.executable, "-m", "bench.scale.exporter", "--services", str(count)]
        argv += ["--kubeconfig", str(self.server.kubeconfig), "--ports", str(self._ports)]
        self.exporter = Child("exporter", argv, log=directory / "exporter.log")
        self.prometheus: PrometheusServer | None = None
        self.listen = f"127.0.0.1:{free_port()}"
        self.log = directory / "canary.log"
        self.controller: Child | None = None
        self._stack = ExitStack()
        policies = directory / "policies"
        policies.mkdir(parents=True)
        (policies / f"{POLICY}.yaml").write_text(yaml.safe_dump(policy(hold_s)))

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.enter_context(self.server)
            self.gateway = Gateway.connect(str(self.server.kubeconfig), timeout_seconds=30, write_timeout_seconds=20)
            stack.callback(self.gateway.close)
            self._define()
            self.exporter.start_until(self._ports.exists, _STARTS_WITHIN_S)
            stack.callback(self.exporter.stop)
            self.prometheus = PrometheusServer(self.directory / "prometheus", self._targets(), self.scrape_s)
            stack.enter_context(self.prometheus)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stack.close()

    def _define(self) -> None:
        """Our definitions and Istio's, until they are served; then the namespaces."""
        istio = Path(shipped("deploy")).parent / "canary" / "sandbox" / "istio_crds.yaml"
        for file in (Path(shipped("deploy")) / "crd.yaml", istio):
            for document in yaml.safe_load_all(file.read_text()):
                self.gateway.create(CRD, None, document)
        for kind in (CANARYROLLOUT, VIRTUALSERVICE, DESTINATIONRULE):
            name = f"crd/{kind.resource}"
            self.server.kubectl("wait", "--for=condition=Established", name, "--timeout=30s")
        for name in (OWN_NAMESPACE, MESH_NAMESPACE, *namespaces(self.count)):
            self.gateway.create(NAMESPACE, None, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})

    def _targets(self) -> list[ScrapeTarget]:
        ports = json.loads(self._ports.read_text())
        found = [
            ScrapeTarget(
                f"127.0.0.1:{port}", MESH_NAMESPACE, f"gateway-{number}", "/metrics", job="gateways", keep=None
            )
            for number, port in enumerate(ports["gateways"])
        ]
        address = f"127.0.0.1:{ports['nodes']}"
        return [*found, ScrapeTarget(address, MESH_NAMESPACE, "nodes", "/metrics", job="nodes", keep=None)]

    def told(self) -> dict[str, Any]:
        """What the exporter knows of routes and of errors."""
        port = json.loads(self._ports.read_text())["told"]
        document: dict[str, Any] = json.loads(fetch(f"http://127.0.0.1:{port}/", timeout_s=20))
        return document

    def fill(self, version: str, whose: Iterable[Service]) -> None:
        """A version of each of these services; with the stable one also its Service and its route."""
        in_parallel(lambda service: self._fill(service, version), whose)

    def _fill(self, service: Service, version: str) -> None:
        create = self._create
        made = create(DEPLOYMENT, objects.deployment(service, version, POLICY))
        owner = create(REPLICASET, objects.replicaset(service, version, made))
        pod = create(POD, objects.pod(service, version, owner))
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        self._status(POD, pod, objects.pod_status(now))
        self._status(DEPLOYMENT, made, objects.deployment_status(made))
        if version == STABLE:
            for kind, document in zip((SERVICE, DESTINATIONRULE, VIRTUALSERVICE), objects.mesh(service), strict=True):
                create(kind, document)

    def _create(self, kind: Kind, document: dict[str, Any]) -> dict[str, Any]:
        return self.gateway.create(kind, document["metadata"]["namespace"], document)

    def _status(self, kind: Kind, made: dict[str, Any], status: dict[str, Any]) -> None:
        meta = made["metadata"]
        self.gateway.patch(kind, meta["namespace"], meta["name"], status, patch_type="merge", subresource="status")

    def start_controller(self, options: Iterable[str]) -> Child:
        """`canary run` for all namespaces, on one core where that can be said."""
        assert self.prometheus is not None
        argv = [
            *(["taskset", "-c", str(self.core)] if self.core is not None and shutil.which("taskset") else []),
            *(sys.executable, "-m", "canary.cli.app", "run", "--all-namespaces"),
            *("--kubeconfig", str(self.server.kubeconfig), "--own-namespace", OWN_NAMESPACE),
            *("--policies", str(self.directory / "policies"), "--prometheus", self.prometheus.url),
            *("--listen", self.listen, *options),
        ]
        self.controller = Child("controller", argv, log=self.log)
        self._stack.callback(self.controller.stop, 15.0)
        self.controller.start_until(f"http://{self.listen}/readyz", _STARTS_WITHIN_S)
        return self.controller

    def rollouts(self) -> dict[str, dict[str, Any]]:
        """Status by service, of the newest attempt at each canary."""
        items, _ = self.gateway.list(CANARYROLLOUT)
        return {str(item["spec"]["target"]).removesuffix(f"-{CANARY}"): item.get("status", {}) for item in items}


def in_parallel(work: Callable[[T], None], items: Iterable[T]) -> None:
    """All of them, several at a time. Raises the first error."""
    with ThreadPoolExecutor(HANDS) as hands:
        for _ in hands.map(work, items):
            pass


def healthy(count: int, bad: Iterable[Service]) -> list[Service]:
    """Everyone whose release is fine."""
    failing = set(bad)
    return [service for service in services(count) if service not in failing]


def prometheus_of(stage: Stage) -> PrometheusServer:
    """The running Prometheus. Raises SandboxError where there is none."""
    if stage.prometheus is None:
        raise SandboxError("the bench's Prometheus was not started")
    return stage.prometheus
