"""What a Pod's spec asks of its process, and what the Pod's status says of it. No I/O."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from canary.cluster.timestamps import format_time
from canary.sandbox.workloads.addresses import Endpoint
from canary.sandbox.workloads.backend import VARIABLES
from canary.sandbox.workloads.ownership import Object

DEFAULT_PORT = 8080
_PROXY = "istio-proxy"


@dataclass(frozen=True)
class Ended:
    """How the process ended the last time."""

    exit_code: int
    started: datetime
    finished: datetime
    message: str
    """The end of its log."""

    def state(self) -> dict[str, Any]:
        terminated = {
            "exitCode": self.exit_code if self.exit_code >= 0 else 128 - self.exit_code,
            "reason": "Completed" if self.exit_code == 0 else "Error",
            "message": self.message,
            "startedAt": format_time(self.started),
            "finishedAt": format_time(self.finished),
        }
        return {"terminated": terminated}


@dataclass(frozen=True)
class Process:
    """A Pod's process as its runner sees it."""

    endpoint: Endpoint
    began: datetime
    """When the runner took the Pod."""
    running_since: datetime | None = None
    is_ready: bool = False
    restarts: int = 0
    ended: Ended | None = None
    waits: Mapping[str, str] = field(default_factory=lambda: {"reason": "ContainerCreating"})
    """Why it does not run: reason and message."""


def container_of(pod: Object) -> Mapping[str, Any]:
    """The container whose env and port the process takes: the first that is not the mesh's proxy."""
    containers: list[Mapping[str, Any]] = pod["spec"]["containers"]
    return next((c for c in containers if c["name"] != _PROXY), containers[0])


def port_of(pod: Object) -> int:
    """The first containerPort; 8080 where none is declared."""
    ports = container_of(pod).get("ports") or [{}]
    return int(ports[0].get("containerPort", DEFAULT_PORT))


def environment_of(pod: Object) -> dict[str, str]:
    """The fault variables of the container; all of them, empty where not set, so that none comes from our own."""
    given = {e["name"]: e.get("value") or "" for e in container_of(pod).get("env") or ()}
    return {name: str(given.get(name, "")) for name in VARIABLES}


def version_of(pod: Object) -> str:
    """What the process says in x-version: the label `version`, else the Pod's name."""
    return str((pod["metadata"].get("labels") or {}).get("version") or pod["metadata"]["name"])


def pod_status(pod: Object, process: Process, now: datetime) -> dict[str, Any]:
    """The whole status; condition times are kept from the Pod's own status while a condition says the same."""
    known = {c["type"]: c for c in (pod.get("status") or {}).get("conditions") or ()}
    ready = ("True", None) if process.is_ready else ("False", "ContainersNotReady")
    said = {
        "PodScheduled": ("True", None),
        "Initialized": ("True", None),
        "ContainersReady": ready,
        "Ready": ready,
    }
    conditions = []
    for type_, (status, reason) in said.items():
        before = known.get(type_)
        since = before["lastTransitionTime"] if before and before["status"] == status else format_time(now)
        condition = {"type": type_, "status": status, "lastProbeTime": None, "lastTransitionTime": since}
        conditions.append(condition | ({"reason": reason} if reason else {}))
    has_run = process.running_since is not None or process.ended is not None
    return {
        "phase": "Running" if has_run else "Pending",
        "podIP": process.endpoint.address,
        "podIPs": [{"ip": process.endpoint.address}],
        "hostIP": "127.0.0.1",
        "startTime": format_time(process.began),
        "conditions": conditions,
        "containerStatuses": [_container_status(pod, c, process) for c in pod["spec"]["containers"]],
    }


def _container_status(pod: Object, container: Mapping[str, Any], process: Process) -> dict[str, Any]:
    if process.running_since is not None:
        state: dict[str, Any] = {"running": {"startedAt": format_time(process.running_since)}}
    else:
        state = {"waiting": dict(process.waits)}
    identity = f"{pod['metadata']['uid']}/{container['name']}/{process.restarts}"
    return {
        "name": container["name"],
        "image": container.get("image", ""),
        "imageID": "",
        "containerID": f"process://{hashlib.sha256(identity.encode()).hexdigest()}",
        "ready": process.is_ready,
        "started": process.running_since is not None,
        "restartCount": process.restarts,
        "state": state,
        "lastState": process.ended.state() if process.ended else {},
    }
