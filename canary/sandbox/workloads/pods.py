"""Pod -> process, for every Pod on a node of the sandbox or on none: the sandbox's stand-in for a kubelet.

A Pod on any other node belongs to somebody's real kubelet and is left alone. A deleted Pod begins its drain with its
DELETED event where the API server does not wait for a kubelet, else with its deletionTimestamp, and then leaves the API
server when its process has ended. The image is never pulled: whatever its name, the process is `backend.py`, and the
container's env says how it behaves.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

from canary.cluster.gateway import Gateway
from canary.cluster.kinds import POD
from canary.cluster.reflector import Change, Reflector
from canary.sandbox.workloads.addresses import Addresses
from canary.sandbox.workloads.nodes import NODE, is_ours
from canary.sandbox.workloads.ownership import is_being_deleted
from canary.sandbox.workloads.podprocess import PodProcess, Surroundings
from canary.sandbox.workloads.replicasets import is_active

DRAIN_S = 1.5
"""How long the mesh has to take an endpoint away: a watch event and an Envoy update take some 10 ms."""


class PodRunner:
    """Runs the processes of all Pods (of one namespace, or of all for None) between start() and stop()."""

    def __init__(
        self,
        gateway: Gateway,
        logs: Path,
        *,
        namespace: str | None = None,
        drain_s: float = DRAIN_S,
        schedules: bool = False,
    ) -> None:
        """`schedules`: give each Pod its node first, as a scheduler does where Pods come without."""
        self._around = Surroundings(gateway, Addresses(), logs, drain_s, schedules)
        self._lock = threading.Lock()
        self._processes: dict[str, PodProcess] = {}
        self._is_stopping = False
        self._pods: Reflector[dict[str, Any]] = Reflector(
            gateway, POD, namespace, project=lambda pod: pod, on_change=self._changed
        )

    def start(self, timeout_seconds: float = 30.0) -> bool:
        """Begin; False when the API server did not answer within the time (it goes on trying)."""
        self._pods.start()
        return self._pods.wait_synced(timeout_seconds)

    def stop(self) -> None:
        """End all processes at once, without draining: whoever stops the runner stops the sandbox."""
        self._pods.stop()
        with self._lock:
            self._is_stopping = True
            processes = list(self._processes.values())
        for process in processes:
            process.end(drain=False)
        for process in processes:
            process.join()

    def _changed(self, change: Change[dict[str, Any]]) -> None:
        old, new = change.old, change.new
        if old is not None and (new is None or old["metadata"]["uid"] != new["metadata"]["uid"]):
            self._end(old["metadata"]["uid"])
        if new is not None and is_being_deleted(new):
            self._end(new["metadata"]["uid"])
        elif new is not None and is_active(new) and is_ours(new["spec"].get("nodeName") or NODE):
            self._begin(new)

    def _begin(self, pod: dict[str, Any]) -> None:
        with self._lock:
            if self._is_stopping or pod["metadata"]["uid"] in self._processes:
                return
            process = PodProcess(pod, self._around, self._forget)
            self._processes[process.uid] = process
        process.start()

    def _end(self, uid: str) -> None:
        with self._lock:
            process = self._processes.get(uid)
        if process is not None:
            process.end()

    def _forget(self, uid: str) -> None:
        with self._lock:
            self._processes.pop(uid, None)
