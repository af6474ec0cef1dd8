"""The controller as the rendered Deployment starts it: its arguments, its environment, its account and nothing else."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from canary.sandbox.process import free_port
from canary.sandbox.realapi.server import RealApiServer
from tests.pages import page
from tests.real.deploy.rendering import CHART, PATIENCE_S, Object, Programs, container, of_kind, only, rollout

pytestmark = pytest.mark.slow

CRD = "customresourcedefinition/canaryrollouts.canary.delivery"


@dataclass(frozen=True)
class Replica:
    """One process that stands for a pod of the Deployment."""

    process: subprocess.Popen[bytes]
    port: int
    log: Path
    pod: str

    def ask(self, path: str) -> tuple[int, str]:
        """Status and body; 0 while nobody listens."""
        return page(f"http://127.0.0.1:{self.port}{path}")

    def said(self) -> str:
        return self.log.read_text()


def until(holds: Any, what: str, replica: Replica) -> Any:
    """What `holds` returns, once it is true."""
    deadline = time.monotonic() + PATIENCE_S
    while not (found := holds()):
        assert replica.process.poll() is None, replica.said()
        assert time.monotonic() < deadline, f"waited {PATIENCE_S:g} s {what}: {replica.ask('/readyz')} {replica.said()}"
        time.sleep(0.1)
    return found


def mounts(objects: list[Object], folder: Path) -> dict[str, Path]:
    """Where the container's ConfigMaps are on this machine, by the path they are mounted at."""
    configured = {one["metadata"]["name"]: one["data"] for one in of_kind(objects, "ConfigMap")}
    volumes = {one["name"]: one for one in only(objects, "Deployment")["spec"]["template"]["spec"]["volumes"]}
    found = {}
    for mount in container(objects)["volumeMounts"]:
        place = folder / mount["name"]
        place.mkdir()
        for name, text in configured[volumes[mount["name"]]["configMap"]["name"]].items():
            (place / name).write_text(text)
        found[mount["mountPath"]] = place
    return found


@contextlib.contextmanager
def replica(objects: list[Object], pod: Object, kubeconfig: Path, folder: Path) -> Iterator[Replica]:
    """The container's process. Only its kubeconfig is ours: a pod's token is where a test cannot put a file."""
    spec = container(objects)
    fields = {f"metadata.{name}": pod["metadata"][name] for name in ("name", "namespace", "uid")}
    told = {
        one["name"]: one["value"] if "value" in one else fields[one["valueFrom"]["fieldRef"]["fieldPath"]]
        for one in spec["env"]
    }
    there = mounts(objects, folder)
    told = {name: str(there[value]) if value in there else value for name, value in told.items()}
    (home := folder / "home").mkdir()
    machine = {"PATH": os.environ["PATH"], "HOME": str(home), "TMPDIR": str(home)}
    log = folder / "log"
    with log.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "canary.cli.app", *spec["args"]],
            env={**machine, **told, "CANARY_KUBECONFIG": str(kubeconfig)}, stdout=file, stderr=file, cwd=folder,
        )  # fmt: skip
    try:
        yield Replica(process, int(spec["ports"][0]["containerPort"]), log, pod["metadata"]["name"])
        assert list(home.iterdir()) == []  # the root file system is read-only, and nothing else is mounted to write to
    finally:
        if process.poll() is None:
            process.kill()
        process.wait(10)


def account(onto: Programs, server: RealApiServer, namespace: str, path: Path) -> tuple[Object, Path]:
    """A pod that the Deployment made, and a kubeconfig with its token, as the kubelet would mount it."""
    said = ("deployment/canary-controller", "--namespace", namespace, "--timeout=60s")
    onto.kubectl("wait", "--for=jsonpath={.status.updatedReplicas}=2", *said)
    deployment = json.loads(onto.kubectl("get", "deployment/canary-controller", "-n", namespace, "-o", "json"))
    (replicas,) = owned_by(deployment, onto, "replicasets", namespace)
    pod = owned_by(replicas, onto, "pods", namespace)[0]
    token = server.token(namespace, "canary", pod=(pod["metadata"]["name"], pod["metadata"]["uid"]))
    return pod, server.kubeconfig_for(token, path)


def owned_by(owner: Object, onto: Programs, plural: str, namespace: str) -> list[Object]:
    """Those that it made. Others may be there, of a release that was taken away a moment ago."""
    found = json.loads(onto.kubectl("get", plural, "-n", namespace, "-o", "json"))["items"]
    return [one for one in found if one["metadata"]["ownerReferences"][0]["uid"] == owner["metadata"]["uid"]]


@pytest.mark.parametrize("mode", ["cluster", "namespaced"])
def test_the_deployment_s_process_gets_ready_does_its_work_and_ends_in_time(
    request: pytest.FixtureRequest, onto: Programs, server: RealApiServer, tmp_path: Path, mode: str
) -> None:
    values = [f"--set=mode={mode}", f"--set=port={free_port()}", "--set=prometheus.url=http://127.0.0.1:9"]
    home = request.getfixturevalue("home" if mode == "cluster" else "alone")
    try:
        onto.helm("install", "canary", CHART, "--namespace", home, *values)
        objects = onto.template(*values, namespace=home)
        pod, kubeconfig = account(onto, server, home, tmp_path / "kubeconfig")
        with replica(objects, pod, kubeconfig, tmp_path) as running:
            works(onto, running, objects, home)
    finally:
        onto.helm("uninstall", "canary", "--namespace", home, "--ignore-not-found")
        onto.kubectl("delete", CRD, "--ignore-not-found")


def works(onto: Programs, running: Replica, objects: list[Object], home: str) -> None:
    spec = container(objects)
    ready, alive = spec["readinessProbe"]["httpGet"]["path"], spec["livenessProbe"]["httpGet"]["path"]
    until(lambda: running.ask(ready)[0] == 200, "to be ready", running)
    assert running.ask(alive) == (200, "ok\n")
    assert "canary_" in running.ask("/metrics")[1]
    until(lambda: pod_holds_a_lease(onto, home, running.pod), "for its Lease", running)

    onto.create(rollout(home))
    until(lambda: phase(onto, home) == "Pending", "for it to say what is missing", running)
    # as docs/install.md uninstalls: what has a finalizer goes while somebody runs who can take it away
    onto.kubectl("delete", "canaryrollouts", "--all", "--all-namespaces", "--timeout=60s")

    grace = only(objects, "Deployment")["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
    running.process.send_signal(signal.SIGTERM)
    assert running.process.wait(grace) == 0, running.said()
    assert '"event": "stopped"' in running.said()


def pod_holds_a_lease(onto: Programs, home: str, pod: str) -> bool:
    leases = json.loads(onto.kubectl("get", "leases", "-n", home, "-o", "json"))["items"]
    return any((one["spec"].get("holderIdentity") or "").startswith(pod) for one in leases)


def phase(onto: Programs, namespace: str) -> str:
    return onto.kubectl("get", "canaryrollout/payment-v2-abc-1", "-n", namespace, "-o", "jsonpath={.status.phase}")
