"""The laptop cluster put together: API server, workloads, Envoy, Prometheus, controller and callers, as processes.

`Sandbox` starts them in order, holds the example service, and ends all of them whatever happened. It reaches the
cluster as any client does; it must never touch the user's own kubeconfig, nor reach into one of its parts.
"""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from canary.cluster.gateway import Gateway
from canary.cluster.kinds import CANARYROLLOUT, DEPLOYMENT, DESTINATIONRULE, NAMESPACE, SERVICE, VIRTUALSERVICE
from canary.errors import NotFound, SandboxError
from canary.model.annotations import POLICY as POLICY_ANNOTATION
from canary.model.rollout import Rollout
from canary.sandbox import example
from canary.sandbox.callers import Callers
from canary.sandbox.controller import OWN_NAMESPACE, Controller
from canary.sandbox.definitions import all_definitions, install
from canary.sandbox.envoy.server import find_envoy
from canary.sandbox.parts import Part, last_words
from canary.sandbox.process import Child, fetch, free_port
from canary.sandbox.prometheus import PrometheusServer, ScrapeTarget
from canary.sandbox.realapi.account import controller_account
from canary.sandbox.realapi.server import Options, RealApiServer
from canary.shipped import shipped

Json = dict[str, Any]
Say = Callable[[str], None]

_KINDS = {kind.kind: kind for kind in (DEPLOYMENT, SERVICE, VIRTUALSERVICE, DESTINATIONRULE, NAMESPACE)}
_START_SECONDS = 30.0
_POLL_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class Settings:
    """What a sandbox shall be. A port of 0 is a free one."""

    rate: float = 300.0
    """Requests per second of the callers; 0 for none."""
    scrape_interval_s: float = 1.0
    port: int = 0
    """Where Envoy takes the callers' requests."""
    prometheus_port: int = 0
    controller: bool = True
    controller_options: tuple[str, ...] = ()
    """More of `canary run`'s options."""
    policies: Path = field(default_factory=lambda: shipped("policies"))
    record: bool = False
    """Write down what became of each request (45 bytes each)."""
    targets: tuple[ScrapeTarget, ...] = ()
    """What Prometheus shall scrape besides Envoy, such as a node exporter."""
    real: bool = False
    """A real kube-apiserver with Kubernetes' own controllers and Istio's own definitions, not the embedded one."""


def _silent(_sentence: str) -> None:
    return


class Sandbox:
    """A cluster on this machine. As a context manager it starts on entry; on exit nothing of it runs any more.

    `directory` gets its files: `kubeconfig`, `manifests/`, `logs/`, `load.txt`. It is the caller's to remove.
    """

    def __init__(self, directory: Path, settings: Settings | None = None) -> None:
        """Raises SandboxError when Envoy, Prometheus or a `real` Kubernetes is not there. Starts nothing yet."""
        find_envoy()
        self.directory = directory.resolve()
        self.settings = settings or Settings()
        self.kubeconfig = self.directory / "kubeconfig"
        self.manifests = self.directory / "manifests"
        self.logs = self.directory / "logs"
        scratch = self.directory / "tmp"  # a part that is killed must not leave a file elsewhere
        for folder in (self.manifests, self.logs, scratch):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)

        self.url = f"http://127.0.0.1:{self.settings.port or free_port()}"
        """Where callers send requests for `example.HOST`."""
        admin = f"127.0.0.1:{free_port()}"
        self.prometheus = PrometheusServer(
            self.directory / "prometheus",
            [ScrapeTarget(admin), *self.settings.targets],
            self.settings.scrape_interval_s,
            port=self.settings.prometheus_port or None,
        )

        def part(module: str, *arguments: str | Path) -> Child:
            argv = [sys.executable, "-m", f"canary.sandbox.{module}", "--kubeconfig", self.kubeconfig, *arguments]
            return Child(module, argv, log=self.logs / f"{module}.log", env={"TMPDIR": str(scratch)})

        self.apiserver: RealApiServer | Child = part("apiserver")
        runner: tuple[str, ...] = ()
        if self.settings.real:
            folder, options = self.directory / "apiserver", Options(controllers=True)
            self.apiserver = RealApiServer(folder, options, kubeconfig=self.kubeconfig, logs=self.logs)
            runner = ("--no-deployments", "--schedule")
        self.workloads = part("workloads", "--logs", self.logs / "pods", *runner)
        listen = self.url.removeprefix("http://")
        self.envoy = part("envoy", "--dir", self.directory / "envoy", "--listen", listen, "--admin", admin)
        self._envoy_ready = f"http://{admin}/ready"
        self._controllers_kubeconfig = self.directory / "controller" if self.settings.real else self.kubeconfig
        self.controller = Controller(
            self._controllers_kubeconfig,
            self.prometheus.url,
            self.settings.policies.resolve(),
            log=self.logs / "controller.log",
            options=self.settings.controller_options,
            scratch=scratch,
        )
        record = self.directory / "load.txt" if self.settings.record else None
        self.callers = Callers(self.url, self.settings.rate, self.logs / "load.log", record)
        self._gateway: Gateway | None = None

    @property
    def gateway(self) -> Gateway:
        """The API server, once it runs."""
        if self._gateway is None:
            raise SandboxError("the sandbox is not started")
        return self._gateway

    @property
    def vital(self) -> dict[str, Part]:
        """The parts that hold the cluster's state, or are the only way to it, by name."""
        return {part.name: part for part in (self.apiserver, self.workloads, self.envoy)}

    @property
    def replaceable(self) -> dict[str, Part]:
        """The parts that this sandbox has and that may die and be started again."""
        parts: dict[str, Part] = {"prometheus": self.prometheus}
        if self.settings.controller:
            parts["controller"] = self.controller
        if self.settings.rate:
            parts["load"] = self.callers
        return parts

    @property
    def pids(self) -> dict[str, int]:
        """The process id of each part that runs."""
        more = self.apiserver.pids if isinstance(self.apiserver, RealApiServer) else {}
        return more | {name: part.pid for name, part in (self.vital | self.replaceable).items() if part.is_running}

    def start(self, say: Say = _silent) -> Self:
        """Start every part and wait until all of them serve; `say` is told what is being waited for.

        Raises SandboxError or ClusterError, and then nothing runs.
        """
        try:
            # Its first scrape comes 5 s after its start, so it goes first, and nothing waits for it until the end.
            with ThreadPoolExecutor(max_workers=1) as starter:
                prometheus = starter.submit(self.prometheus.start)
                self._start_cluster(say)
                prometheus.result()
            if self.settings.rate:
                say("waiting for Prometheus to see the requests")
                self._wait_scraped()
            if self.settings.controller:
                say("starting the controller")
                self.controller.start()
        except BaseException:
            self.stop()
            raise
        return self

    def _start_cluster(self, say: Say) -> None:
        say("starting the API server")
        if isinstance(self.apiserver, RealApiServer):
            definitions = all_definitions(self.apiserver.assets.istio_crds)
            self.apiserver.start()
        else:
            definitions = all_definitions()
            self.apiserver.start_until(self.kubeconfig.exists, _START_SECONDS)
        self._gateway = Gateway.connect(
            str(self.kubeconfig), field_manager="canary-sandbox", write_timeout_seconds=_START_SECONDS
        )
        install(self._gateway, definitions)
        for name in (example.NAMESPACE, OWN_NAMESPACE):
            self.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
        if isinstance(self.apiserver, RealApiServer):
            controller_account(self.apiserver, [example.NAMESPACE], self._controllers_kubeconfig)
        say(f"starting the pods of {example.SERVICE}")
        for obj in example.mesh():
            self.apply(obj)
        self.apply(example.deployment(example.STABLE, policy="demo"))
        for file, text in example.manifests().items():
            (self.manifests / file).write_text(text, encoding="utf-8")
        self.workloads.start()
        self.wait_available(example.deployment_name(example.STABLE))
        say("starting Envoy")
        self.envoy.start_until(self._envoy_ready, _START_SECONDS)
        if self.settings.rate:
            self.callers.start()

    def _wait_scraped(self) -> None:
        """Until the callers' requests are in Prometheus: a controller that starts now finds its source complete."""
        query = f"{self.prometheus.url}/api/v1/query?query=istio_requests_total"
        deadline = time.monotonic() + _START_SECONDS
        while not json.loads(fetch(query))["data"]["result"]:
            if time.monotonic() >= deadline:
                raise SandboxError(f"Prometheus saw no request within {_START_SECONDS:g} s: look at {query}")
            time.sleep(_POLL_SECONDS)

    def stop(self) -> None:
        """End every part, whoever depends on others first. Safe to call at any time, also twice."""
        with contextlib.ExitStack() as stack:  # all of them, even if one cannot be ended
            # callbacks run in reverse: callers first, the API server last
            for part in (*self.vital.values(), self.prometheus, self.controller, self.callers):
                stack.callback(part.stop)
            if self._gateway is not None:
                stack.callback(self._gateway.close)
                self._gateway = None

    def apply(self, obj: Mapping[str, Any]) -> Json:
        """What `kubectl apply --server-side` does. Raises ClusterError."""
        metadata = obj["metadata"]
        return self.gateway.patch(
            _KINDS[obj["kind"]], metadata.get("namespace"), metadata["name"], obj, patch_type="apply", force=True
        )

    def annotate(self, deployment: str, annotations: Mapping[str, str | None]) -> None:
        """What `kubectl annotate deployment` does; None removes one. Raises ClusterError."""
        body = {"metadata": {"annotations": dict(annotations)}}
        self.gateway.patch(DEPLOYMENT, example.NAMESPACE, deployment, body, patch_type="merge")

    def release(self, version: str, behaviour: Mapping[str, str] = example.HEALTHY, policy: str = "demo") -> str:
        """Deploy a version, wait until its pods serve, then annotate it; the Deployment's name."""
        name = example.deployment_name(version)
        self.apply(example.deployment(version, behaviour))
        self.wait_available(name)
        self.annotate(name, {POLICY_ANNOTATION: policy})
        return name

    def delete_deployment(self, name: str) -> None:
        """Delete a Deployment with its pods; nothing when it is gone."""
        with contextlib.suppress(NotFound):
            self.gateway.delete(DEPLOYMENT, example.NAMESPACE, name)

    def is_available(self, deployment: str) -> bool:
        """Whether all pods of its newest template serve. Raises NotFound."""
        found = self.gateway.get(DEPLOYMENT, example.NAMESPACE, deployment)
        status, wanted = found.get("status") or {}, found["spec"].get("replicas", 1)
        if status.get("observedGeneration", 0) < found["metadata"]["generation"]:
            return False
        return bool(status.get("updatedReplicas", 0) == status.get("availableReplicas", 0) == wanted)

    def wait_available(self, deployment: str, timeout_s: float = _START_SECONDS) -> None:
        """Return once all its pods serve. Raises SandboxError when they do not in time."""
        deadline = time.monotonic() + timeout_s
        while not self.is_available(deployment):
            if not self.workloads.is_running:
                raise SandboxError(last_words("workloads", self.workloads))
            if time.monotonic() >= deadline:
                raise SandboxError(
                    f"the pods of {deployment} are not ready within {timeout_s:g} s; the end of the pod runner's log:\n"
                    f"{self.workloads.log_tail()}"
                )
            time.sleep(_POLL_SECONDS)

    def rollouts(self, target: str | None = None) -> list[Rollout]:
        """Every rollout, or those of one Deployment, oldest first."""
        items, _ = self.gateway.list(CANARYROLLOUT, example.NAMESPACE)
        found = [Rollout.parse(item) for item in items]
        return sorted(
            (rollout for rollout in found if target in (None, rollout.spec.target)),
            key=lambda rollout: (rollout.created, rollout.name),
        )

    def wait_rollout(
        self, target: str, until: Callable[[Rollout], bool], timeout_s: float, poll_s: float = 0.1
    ) -> Rollout:
        """The newest rollout of a Deployment, once `until` holds for it. Raises SandboxError with how it stands."""
        deadline = time.monotonic() + timeout_s
        newest: Rollout | None = None
        while time.monotonic() < deadline:
            newest = next(reversed(self.rollouts(target)), None)
            if newest is not None and until(newest):
                return newest
            time.sleep(poll_s)
        stands = f"{newest.name} is {newest.status.phase}: {newest.status.message}" if newest else "there is no rollout"
        raise SandboxError(f"{target}: not there within {timeout_s:g} s: {stands}")

    def weights(self) -> dict[str, int]:
        """What the route of the example gives each subset, in percent; subsets without a weight are left out."""
        found = self.gateway.get(VIRTUALSERVICE, example.NAMESPACE, example.SERVICE)
        primary = next(route for route in found["spec"]["http"] if route.get("name") == "primary")
        destinations = [(entry["destination"], entry.get("weight", 100)) for entry in primary["route"]]
        return {destination.get("subset", ""): weight for destination, weight in destinations if weight}

    def __enter__(self) -> Self:
        return self if self._gateway is not None else self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()
