"""One Pod's process from start to end, on a thread of its own: start, probe, restart, drain, stop.

The order at the end is what keeps requests: the Pod is no longer ready (or is gone), the mesh takes its endpoint away,
the process goes on serving for the drain, and only then it is told to end. A Pod that the API server still holds then
is taken away. It must never signal a process that it did not start.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from canary.cluster.backoff import Backoff
from canary.cluster.gateway import Gateway
from canary.cluster.kinds import POD
from canary.cluster.timestamps import utc_now
from canary.errors import ClusterError, Conflict, NotFound, SandboxError
from canary.sandbox.process import Child, answers
from canary.sandbox.workloads import backend
from canary.sandbox.workloads.addresses import PORT_ANNOTATION, Addresses
from canary.sandbox.workloads.nodes import node_of
from canary.sandbox.workloads.podstatus import (
    Ended,
    Process,
    environment_of,
    pod_status,
    port_of,
    version_of,
)

_TICK_S = 0.2  # how late the end of a process may be noticed
_PROBE_S = 1.0
_FIRST_PROBES_S = 0.05  # while it starts
_STARTING_S = 5.0
_FAILURES = 3  # probes in a row that make a ready Pod unready, Kubernetes' failureThreshold
_STEADY_S = 10.0  # a process that ran this long has left its crash loop
_GRACE_S = 30
_LAST_LINES = 3

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Surroundings:
    """What the processes of one runner share."""

    gateway: Gateway
    addresses: Addresses
    logs: Path
    """The folder of the processes' logs."""
    drain_s: float
    """Seconds for which a process serves on after its Pod left the mesh."""
    schedules: bool = False
    """Whether a Pod without a node is given one."""


class PodProcess:
    """Runs the process of `pod` until `end()`; `on_end(uid)` is called when it is over."""

    def __init__(self, pod: dict[str, Any], around: Surroundings, on_end: Callable[[str], None]) -> None:
        metadata = pod["metadata"]
        self.uid: str = metadata["uid"]
        self._namespace, self._name = metadata["namespace"], metadata["name"]
        self._thread = threading.Thread(target=self._until_its_end, name=f"pod-{self._name}", daemon=True)
        self._pod, self._around, self._on_end = pod, around, on_end
        self._ending = threading.Event()
        self._drain_s = around.drain_s
        self._is_reported, self._is_gone, self._is_deleted = False, False, False
        self._backoff = Backoff(base_seconds=1.0, cap_seconds=30.0, floor_share=1.0)

    def start(self) -> None:
        self._thread.start()

    def join(self) -> None:
        """Wait until the process has ended."""
        self._thread.join()

    def end(self, *, drain: bool = True) -> None:
        """Ask it to end, as its Pod is deleted; returns at once. Without `drain` its runner ends, and nothing waits."""
        self._is_deleted = drain
        if not drain:
            self._drain_s = 0.0
        self._ending.set()

    def _until_its_end(self) -> None:
        try:
            self._run()
        except Exception:  # the Pod stays as it is in the API, the log says why; the others go on
            log.exception("pod %s/%s", self._namespace, self._name)
        finally:
            self._on_end(self.uid)

    def _run(self) -> None:
        if self._around.schedules and not self._pod["spec"].get("nodeName"):
            self._bind()
        endpoint = self._around.addresses.take(port_of(self._pod))
        before = (self._pod.get("status") or {}).get("containerStatuses") or ()
        restarts = before[0]["restartCount"] + 1 if before else 0  # an earlier runner had it
        self._process = Process(endpoint, utc_now(), restarts=restarts)
        child = Child(
            f"pod {self._namespace}/{self._name}",
            [
                *(sys.executable, "-I", "-S", backend.__file__, "--version", version_of(self._pod)),
                *("--address", endpoint.address, "--port", str(endpoint.port)),
            ],
            log=self._around.logs / f"{self._namespace}_{self._name}.log",
            env=environment_of(self._pod),
        )
        if endpoint.port != port_of(self._pod):
            self._write({"metadata": {"annotations": {PORT_ANNOTATION: str(endpoint.port)}}})
        try:
            self._keep_running(child)
            self._say(is_ready=False)
            self._drain(child)
        finally:
            child.stop(self._pod["spec"].get("terminationGracePeriodSeconds", _GRACE_S))
        if self._is_deleted and not self._is_gone:
            self._take_away()

    def _bind(self) -> None:
        """Say which node it is on, as a scheduler does; tried again until the API server has heard it."""
        target = {"apiVersion": "v1", "kind": "Node", "name": node_of(self._pod["spec"])}
        metadata = {"name": self._name, "uid": self.uid}
        binding = {"apiVersion": "v1", "kind": "Binding", "metadata": metadata, "target": target}
        tries = 0
        while not self._ending.is_set():
            try:
                self._around.gateway.create(POD, self._namespace, binding, subresource="binding")
            except (NotFound, Conflict):  # it is gone, or is bound already
                return
            except ClusterError as error:
                log.warning("%s", error)
                tries += 1
                self._ending.wait(self._backoff.delay(tries))
            else:
                return

    def _take_away(self) -> None:
        """A deleted Pod stays where the API server waits for a kubelet's word that its process has ended."""
        try:
            self._around.gateway.delete(POD, self._namespace, self._name, uid=self.uid, grace_seconds=0)
        except (NotFound, Conflict):  # it was faster, or another has its name
            return
        except ClusterError as error:
            log.warning("pod %s/%s stays in the API: %s", self._namespace, self._name, error)

    def _keep_running(self, child: Child) -> None:
        crashes = 0
        while not self._ending.is_set():
            started, began = utc_now(), time.monotonic()
            try:
                child.start()
            except SandboxError as error:
                crashes += 1
                self._say(waits={"reason": "RunContainerError", "message": str(error)})
                self._wait(self._backoff.delay(crashes))
                continue
            self._say(running_since=started)
            self._watch(child)
            if self._ending.is_set():
                return
            crashes = 1 if time.monotonic() - began > _STEADY_S else crashes + 1
            delay = self._backoff.delay(crashes)
            self._say(
                running_since=None,
                is_ready=False,
                ended=Ended(child.exit_code or 0, started, utc_now(), child.log_tail(_LAST_LINES)),
                waits={"reason": "CrashLoopBackOff", "message": f"back-off {delay:.0f}s restarting failed container"},
            )
            self._wait(delay)
            self._process = replace(self._process, restarts=self._process.restarts + 1)

    def _watch(self, child: Child) -> None:
        """Probe until the process ends or is to end."""
        url = f"http://{self._process.endpoint.address}:{self._process.endpoint.port}/healthz"
        began = time.monotonic()
        failures, probe_at = 0, began
        while child.is_running and not self._ending.is_set():
            now = time.monotonic()
            is_starting = not self._process.is_ready and now - began < _STARTING_S
            if now >= probe_at:
                failures = 0 if answers(url) else failures + 1
                self._say(is_ready=failures == 0 or (self._process.is_ready and failures < _FAILURES))
                probe_at = now + (_FIRST_PROBES_S if is_starting else _PROBE_S)
            self._ending.wait(_FIRST_PROBES_S if is_starting else _TICK_S)

    def _drain(self, child: Child) -> None:
        deadline = time.monotonic() + self._drain_s
        while child.is_running and time.monotonic() < deadline and self._drain_s:
            time.sleep(_FIRST_PROBES_S)

    def _wait(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not self._ending.is_set() and (left := deadline - time.monotonic()) > 0:
            self._say()
            self._ending.wait(min(left, _PROBE_S))

    def _say(self, **changes: Any) -> None:
        """Change what is known of the process, and report it where it differs or was not heard the last time."""
        process = replace(self._process, **changes)
        if process == self._process and self._is_reported:
            return
        self._process = process
        status = pod_status(self._pod, process, utc_now())
        self._is_reported = self._write({"status": status}, subresource="status")
        if self._is_reported:
            self._pod = {**self._pod, "status": status}

    def _write(self, body: dict[str, Any], subresource: str | None = None) -> bool:
        """Patch this very Pod, not another of its name. True when there is nothing more to do about it."""
        if self._is_gone:
            return True
        body = {**body, "metadata": {**body.get("metadata", {}), "uid": self.uid}}
        try:
            self._around.gateway.patch(
                POD, self._namespace, self._name, body, patch_type="merge", subresource=subresource
            )
        except NotFound:  # its event is on its way
            self._is_gone = True
        except ClusterError as error:
            log.warning("%s", error)
            return False
        return True
