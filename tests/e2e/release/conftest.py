"""A release as its users see it: a sandbox with real Envoy, Prometheus, load and controller, and what to watch there.

One sandbox is shared by the stories of a file. Each story releases versions of its own; whatever carries the traffic
when it begins is its stable version, and the fixture `stage` puts everything else away behind it.
"""

from __future__ import annotations

import http.client
import itertools
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from canary.cluster.kinds import CANARYROLLOUT, DEPLOYMENT, DESTINATIONRULE, EVENT, POD, VIRTUALSERVICE
from canary.cluster.reflector import Change, Reflector
from canary.model.rollout import Phase, Rollout
from canary.sandbox import example
from canary.sandbox.cluster import Sandbox, Settings
from canary.sandbox.load import FollowedTally, Request, Tally
from canary.sandbox.workloads.addresses import PORT_ANNOTATION
from canary.shipped import shipped

RATE = 300.0
CANARY = str(Path(sys.executable).with_name("canary"))
SETTLE_S = 60.0
"""How long a story may take to put its leftovers away."""
POLICIES = Path(__file__).with_name("policies.yaml")


@dataclass(frozen=True, slots=True)
class RouteSeen:
    """The route at one moment: percent per subset, and whether a header route stands before it."""

    at: float
    """Epoch seconds at which the watch told of it."""
    weights: dict[str, int]
    header_to: str = ""


def _route(document: dict[str, Any]) -> RouteSeen:
    routes = document["spec"]["http"]
    primary = next(route for route in routes if route.get("name") == "primary")
    headed = [route for route in routes if "x-debug-user" in json.dumps(route.get("match", []))]
    return RouteSeen(
        time.time(),
        {entry["destination"]["subset"]: entry.get("weight", 100) for entry in primary["route"]},
        headed[0]["route"][0]["destination"]["subset"] if headed else "",
    )


@dataclass
class Stage:
    """The sandbox, the versions released on it, and everything that was seen since the story began."""

    sandbox: Sandbox
    routes: list[RouteSeen] = field(default_factory=list)
    statuses: list[tuple[float, Rollout]] = field(default_factory=list)
    """Every state of every rollout that the watch told of, with the time."""
    told: dict[str, int] = field(default_factory=dict)
    """The newest resourceVersion of each rollout that the watch told of."""
    requests: list[Request] = field(default_factory=list)
    versions: Iterator[int] = field(default_factory=lambda: itertools.count(2))
    on_route: Callable[[RouteSeen], None] | None = None
    """Called on the watch's own thread with each change of the route."""

    def __post_init__(self) -> None:
        assert self.sandbox.callers.record is not None
        self._load: FollowedTally = Tally.follow(self.sandbox.callers.record)

    # what users do

    def release(
        self, behaviour: dict[str, str] = example.HEALTHY, policy: str = "quick", version: str | None = None
    ) -> str:
        """Deploy the next version (or another template of one) with the annotation, and return its name."""
        version = version or f"v{next(self.versions)}"
        self.sandbox.apply(example.deployment(version, behaviour, policy=policy, replicas=1))
        return version

    def canary(self, *arguments: str, timeout_s: float = 60.0) -> subprocess.CompletedProcess[str]:
        """The real command line, as a user's shell runs it."""
        return subprocess.run(
            [CANARY, *arguments], env=self.environment, capture_output=True, text=True, timeout=timeout_s, check=False
        )

    def kubectl(self, *arguments: str, timeout_s: float = 60.0) -> subprocess.CompletedProcess[str]:
        if shutil.which("kubectl") is None:
            pytest.skip("NOT TESTED: kubectl is missing on this machine; install it to run this story")
        return subprocess.run(
            ["kubectl", *arguments],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )

    @contextmanager
    def waiting(self, *arguments: str) -> Iterator[subprocess.Popen[str]]:
        """A command that goes on while the story does."""
        process = subprocess.Popen(
            [CANARY, *arguments], env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()
            process.communicate()

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "KUBECONFIG": str(self.sandbox.kubeconfig), "NO_COLOR": "1"}

    def break_pods(self, version: str, behaviour: dict[str, str]) -> None:
        """Change how a version's running pods behave, without a new template."""
        pods, _ = self.sandbox.gateway.list(POD, example.NAMESPACE, label_selector=f"version={version}")
        assert pods, f"{version} has no pods"
        for pod in pods:
            port = int(pod["metadata"].get("annotations", {}).get(PORT_ANNOTATION, 8080))
            connection = http.client.HTTPConnection(pod["status"]["podIP"], port, timeout=5)
            connection.request("POST", "/__control", json.dumps(behaviour))
            answer = connection.getresponse()
            assert answer.status == 200, answer.read()
            connection.close()

    # what users see

    def rollout(self, version: str) -> Rollout:
        return self.sandbox.rollouts(example.deployment_name(version))[-1]

    def wait(self, version: str, until: Callable[[Rollout], bool], timeout_s: float = 40.0) -> Rollout:
        """The newest rollout of a version, once it is so, and the watch has told of it as well."""
        found = self.sandbox.wait_rollout(example.deployment_name(version), until, timeout_s, poll_s=0.05)
        seen = int(found.resource_version)
        wait_until(lambda: self.told.get(found.name, 0) >= seen, f"the watch tells of {found.name}", 10.0)
        return found

    def wait_phase(self, version: str, *phases: Phase, timeout_s: float = 60.0) -> Rollout:
        """The newest rollout of a version, once it is in one of the phases; at once an error if it ended otherwise."""
        found = self.wait(
            version, lambda rollout: rollout.status.phase in phases or rollout.status.phase.is_terminal, timeout_s
        )
        assert found.status.phase in phases, f"{found.status.phase}: {found.status.message}"
        return found

    def wait_weight(self, version: str, weight: int, timeout_s: float = 40.0) -> Rollout:
        """Once the route gives a version this weight and its step's clock runs."""
        return self.wait(
            version,
            lambda rollout: rollout.status.weight.configured == weight and rollout.status.resumed_at is not None,
            timeout_s,
        )

    def wait_header(self, version: str, timeout_s: float = 10.0) -> None:
        """Once requests with the debug header are routed to a version, which Envoy learns after the API server."""
        wait_until(lambda: self.sandbox.callers.debug_request().version == version, "debug users are on it", timeout_s)

    def wait_requests(self, until: Callable[[Tally], bool], what: str, timeout_s: float = 30.0) -> None:
        wait_until(lambda: until(self.seen_requests()), what, timeout_s)

    def wait_dead(self, timeout_s: float = 30.0) -> None:
        wait_until(lambda: not self.sandbox.controller.is_running, "the controller is dead", timeout_s)

    def weights_of(self, version: str) -> list[int]:
        """The weights that the route gave a version, in order, each change once."""
        seen = [0, *(route.weights.get(version, 0) for route in self.routes)]
        return [weight for weight, _ in itertools.groupby(seen)][1:]

    def states_of(self, version: str) -> list[tuple[float, Rollout]]:
        target = example.deployment_name(version)
        return [(at, rollout) for at, rollout in self.statuses if rollout.spec.target == target]

    def steps_of(self, version: str) -> list[int]:
        """The steps a rollout was on, in order, each change once."""
        indexes = [rollout.status.step.index for _, rollout in self.states_of(version) if rollout.status.step]
        return [index for index, _ in itertools.groupby(indexes)]

    def phases_of(self, version: str) -> list[Phase]:
        return [phase for phase, _ in itertools.groupby(rollout.status.phase for _, rollout in self.states_of(version))]

    def seen_requests(self) -> Tally:
        """What became of every request since the story began."""
        self.requests += self._load.refresh()
        return Tally.of(self.requests)

    def events_of(self, name: str) -> list[dict[str, Any]]:
        events, _ = self.sandbox.gateway.list(EVENT, example.NAMESPACE)
        return [event for event in events if event["involvedObject"]["name"] == name]

    def wait_event(self, name: str, reason: str, timeout_s: float = 10.0) -> dict[str, Any]:
        """Events are written behind everything else: the one of that reason, once it is there."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            found = [event for event in self.events_of(name) if event["reason"] == reason]
            if found:
                return found[-1]
            time.sleep(0.1)
        raise AssertionError(f"no Event {reason} on {name}: {[event['reason'] for event in self.events_of(name)]}")

    def virtual_service(self) -> dict[str, Any]:
        return self.sandbox.gateway.get(VIRTUALSERVICE, example.NAMESPACE, example.SERVICE)

    def subsets(self) -> set[str]:
        rule = self.sandbox.gateway.get(DESTINATIONRULE, example.NAMESPACE, example.SERVICE)
        return {subset["name"] for subset in rule["spec"]["subsets"]}

    @property
    def stable(self) -> str:
        """The version that carries the traffic now."""
        weights = self.sandbox.weights()
        return max(weights, key=lambda version: weights[version])

    # between stories

    def begin(self) -> None:
        self._load.refresh()
        self.on_route = None
        self.requests.clear()
        self.statuses.clear()
        del self.routes[:-1]

    def tidy(self) -> None:
        """End what is under way, and put away every version that does not carry the traffic."""
        if not self.sandbox.prometheus.is_running:
            self.sandbox.prometheus.start()
        if not self.sandbox.controller.is_running:
            self.sandbox.controller.start()
        for rollout in self.sandbox.rollouts():
            if not rollout.status.phase.is_terminal:
                wish = {"spec": {"abort": {"reason": "end of the story", "actor": "test"}}}
                self.sandbox.gateway.patch(CANARYROLLOUT, rollout.namespace, rollout.name, wish, patch_type="merge")
        wait_until(
            lambda: all(rollout.status.phase.is_terminal for rollout in self.sandbox.rollouts()),
            "every rollout has ended",
            SETTLE_S,
        )
        keep = example.deployment_name(self.stable)
        deployments, _ = self.sandbox.gateway.list(DEPLOYMENT, example.NAMESPACE)
        for deployment in deployments:
            if deployment["metadata"]["name"] != keep:
                self.sandbox.delete_deployment(deployment["metadata"]["name"])


def wait_until(condition: Callable[[], bool], what: str, timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout_s:g} s: {what}"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def _module_stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    policies = tmp_path_factory.mktemp("policies")
    shutil.copy(shipped("policies") / "demo.yaml", policies)
    for name, policy in yaml.safe_load(POLICIES.read_text()).items():
        (policies / f"{name}.yaml").write_text(yaml.safe_dump({"name": name} | policy))
    # a tick of its own: until the source has told its scrape interval, the automatic one is a quarter of a minute
    settings = Settings(rate=RATE, record=True, policies=policies, controller_options=("--tick", "1s"))
    with Sandbox(tmp_path_factory.mktemp("sandbox"), settings).start() as sandbox:
        stage = Stage(sandbox)

        def on_route(change: Change[RouteSeen]) -> None:
            if change.new is not None:
                stage.routes.append(change.new)
                if stage.on_route is not None:
                    stage.on_route(change.new)

        def on_status(change: Change[Rollout]) -> None:
            if change.new is not None:
                stage.statuses.append((time.time(), change.new))
                stage.told[change.new.name] = int(change.new.resource_version)

        watchers: list[Reflector[Any]] = [
            Reflector(sandbox.gateway, VIRTUALSERVICE, example.NAMESPACE, project=_route, on_change=on_route),
            Reflector(sandbox.gateway, CANARYROLLOUT, example.NAMESPACE, project=Rollout.parse, on_change=on_status),
        ]
        for watcher in watchers:
            watcher.start()
        wait_until(lambda: all(watcher.has_synced for watcher in watchers), "the watches are there", 10.0)
        try:
            yield stage
        finally:
            for watcher in watchers:
                watcher.stop()


@pytest.fixture
def stage(_module_stage: Stage) -> Iterator[Stage]:
    """The file's sandbox with one healthy stable version and nothing under way."""
    _module_stage.begin()
    yield _module_stage
    _module_stage.tidy()
