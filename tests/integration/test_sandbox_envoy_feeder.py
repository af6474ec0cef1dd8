"""The process tree of `python -m canary.sandbox.envoy` against an API server: what users' objects do to requests."""

import http.client
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from canary.cluster.gateway import Gateway
from canary.cluster.kinds import CRD, DESTINATIONRULE, POD, SERVICE, VIRTUALSERVICE, Kind
from canary.sandbox.process import Child, answers, free_port
from canary.sandbox.workloads import backend

Json = dict[str, Any]

HOST = "payment.default.svc.cluster.local"


def wait_for(condition: Callable[[], bool], what: str, timeout_s: float = 10.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() >= deadline:
            pytest.fail(f"no {what} within {timeout_s} s")
        time.sleep(0.002)


def crd(kind: Kind) -> Json:
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    version = {"name": kind.version, "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    return {
        "apiVersion": CRD.api_version,
        "kind": CRD.kind,
        "metadata": {"name": kind.resource},
        "spec": {
            "group": kind.group,
            "names": {"plural": kind.plural, "singular": kind.kind.lower(), "kind": kind.kind},
            "scope": "Namespaced",
            "versions": [version],
        },
    }


def to(subset: str, weight: int) -> Json:
    return {"destination": {"host": "payment", "subset": subset}, "weight": weight}


class Cluster:
    """An API server with a Service, subsets, a route to v1, and a ready pod with a real process for each version."""

    def __init__(self, kubeconfig: Path, directory: Path) -> None:
        self.kubeconfig = kubeconfig
        self.directory = directory
        self.gateway = Gateway.connect(str(kubeconfig))
        self.backends: list[Child] = []
        for kind in (VIRTUALSERVICE, DESTINATIONRULE):
            self.gateway.create(CRD, None, crd(kind))
        self.create(SERVICE, {"selector": {"app": "payment"}, "ports": [{"port": 80, "targetPort": "http"}]})
        self.create(DESTINATIONRULE, {"host": "payment", "subsets": [self.subset("v1")]})
        self.create(VIRTUALSERVICE, {"hosts": ["payment"], "http": [{"route": [to("v1", 100)]}]})
        self.start_pod("v1")

    @staticmethod
    def subset(version: str) -> Json:
        return {"name": version, "labels": {"version": version}}

    def create(self, kind: Kind, spec: Json, name: str = "payment", **labels: str) -> None:
        meta = {"name": name, "namespace": "default", "labels": labels}
        body = {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": meta, "spec": spec}
        self.gateway.create(kind, "default", body)

    def start_pod(self, version: str) -> None:
        name, port = f"payment-{version}", free_port()
        program = [sys.executable, "-I", "-S", str(backend.__file__), "--port", str(port), "--version", version]
        process = Child(name, program, log=self.directory / f"{name}.log").start()
        self.backends.append(process)
        process.wait_ready(f"http://127.0.0.1:{port}/healthz")
        container = {"name": "app", "image": "sandbox", "ports": [{"name": "http", "containerPort": port}]}
        self.create(POD, {"containers": [container]}, name, app="payment", version=version)
        self.patch(
            POD, {"status": {"podIP": "127.0.0.1", "conditions": [{"type": "Ready", "status": "True"}]}}, name, "status"
        )

    def patch(self, kind: Kind, body: Json, name: str = "payment", subresource: str | None = None) -> None:
        self.gateway.patch(kind, "default", name, body, patch_type="merge", subresource=subresource)

    def close(self) -> None:
        self.gateway.close()
        for process in self.backends:
            process.stop()


@pytest.fixture
def cluster(start_apiserver: Callable[..., Any], tmp_path: Path) -> Iterator[Cluster]:
    cluster = Cluster(start_apiserver().kubeconfig, tmp_path)
    yield cluster
    cluster.close()


class Mesh:
    """The process under test."""

    def __init__(self, cluster: Cluster) -> None:
        self.port, self.admin = free_port(), f"http://127.0.0.1:{free_port()}"
        self.child = Child(
            "mesh",
            [
                *(sys.executable, "-m", "canary.sandbox.envoy", "--kubeconfig", str(cluster.kubeconfig)),
                *("--dir", cluster.directory / "mesh", "--listen", f"127.0.0.1:{self.port}"),
                *("--admin", self.admin.removeprefix("http://")),
            ],
            log=cluster.directory / "mesh.log",
        ).start()
        self.child.wait_ready(f"{self.admin}/ready", timeout_s=30)

    def version(self) -> str:
        """Which version answers a request; `503` and the like when none does."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("GET", "/", headers={"Host": HOST})
            response = connection.getresponse()
            response.read()
            return response.headers.get("x-version") or str(response.status)
        finally:
            connection.close()


@pytest.fixture
def mesh(cluster: Cluster) -> Iterator[Mesh]:
    mesh = Mesh(cluster)
    yield mesh
    mesh.child.stop()


@pytest.mark.slow
def test_requests_follow_what_is_written_to_the_cluster(cluster: Cluster, mesh: Mesh) -> None:
    assert mesh.version() == "v1"

    cluster.start_pod("v2")
    cluster.patch(DESTINATIONRULE, {"spec": {"subsets": [cluster.subset("v1"), cluster.subset("v2")]}})
    cluster.patch(VIRTUALSERVICE, {"spec": {"http": [{"route": [to("v1", 0), to("v2", 100)]}]}})
    wait_for(lambda: mesh.version() == "v2", "answer of v2")

    delays = []
    for old, new in [("v2", "v1"), ("v1", "v2")] * 5:
        written = time.monotonic()
        cluster.patch(VIRTUALSERVICE, {"spec": {"http": [{"route": [to(old, 0), to(new, 100)]}]}})
        wait_for(lambda new=new: mesh.version() == new, f"answer of {new}")  # type: ignore[misc]
        delays.append(time.monotonic() - written)
    print(f"from the patch to the first request on it: {sorted(delays)[5] * 1e3:.1f} ms (median)")
    assert sorted(delays)[5] < 0.5

    cluster.patch(POD, {"status": {"conditions": [{"type": "Ready", "status": "False"}]}}, "payment-v2", "status")
    wait_for(lambda: mesh.version() == "503", "answer without a ready pod")

    cluster.gateway.delete(VIRTUALSERVICE, "default", "payment")
    wait_for(lambda: mesh.version() == "v1", "answer of the whole service")


@pytest.mark.slow
def test_sigterm_ends_the_whole_tree_in_order(mesh: Mesh) -> None:
    mesh.child.stop()

    assert mesh.child.exit_code == 0
    assert not answers(f"{mesh.admin}/ready")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has a parent-death signal")
def test_envoy_does_not_outlive_a_feeder_that_was_killed(mesh: Mesh) -> None:
    os.kill(mesh.child.pid, signal.SIGKILL)

    wait_for(lambda: not answers(f"{mesh.admin}/ready"), "end of Envoy")


@pytest.mark.slow
def test_an_api_server_that_is_away_takes_no_request_with_it(
    start_apiserver: Callable[..., Any], tmp_path: Path
) -> None:
    apiserver = start_apiserver()
    with closing(Cluster(apiserver.kubeconfig, tmp_path)) as cluster:
        mesh = Mesh(cluster)
        with mesh.child:
            apiserver.process.kill()
            apiserver.process.wait()

            assert [mesh.version() for _ in range(20)] == ["v1"] * 20
            assert mesh.child.is_running
        assert mesh.child.exit_code == 0
