"""Real requests through a real Envoy while the controller is killed at every write to the mesh, again and again.

Each write to a VirtualService or a DestinationRule costs it its life twice: once before the write arrives, and, as soon
as it lives again and tries again, once before it hears the answer. No request may be lost by any of it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from canary.cluster.kinds import CANARYROLLOUT, DESTINATIONRULE
from canary.model.annotations import POLICY as POLICY_ANNOTATION
from canary.model.rollout import Phase, Rollout
from canary.sandbox import example
from canary.sandbox.cluster import Sandbox, Settings
from canary.sandbox.controller import OWN_NAMESPACE
from canary.sandbox.load import Request, Tally
from tests.faults.crash.process import Program
from tests.faults.crash.run import clear_leases
from tests.faults.crash.told import collapsed, route_of, unreachable
from tests.faults.crash.witness import Effect, Witness, relentlessly
from tests.faults.proxy import Proxy

MESH = frozenset({"virtualservices", "destinationrules"})
RATE = 300.0
PATIENCE_S = 240.0
_POLL_S = 0.05
_LAST_ANSWERS_S = 1.0
"""For requests under way and for their record to be written."""

# What is judged is not the point here: a machine that starts controllers all the time is no place to compare latencies.
_COMMON = """\
analysis:
  {warmup: 0s, minRequests: 50, maxWait: 10m, errorRate: {max: 30%, vsStable: 'off'}, p99: {max: 5s, vsStable: 'off'}}
outlierDetection: {consecutive5xxErrors: 5, interval: 2s}
"""
POLICIES: Mapping[str, str] = {
    name: f"name: {name}\nstrategy: {{{strategy}, hold: 1s, bake: 1s, progressDeadline: 10m}}\n{_COMMON}"
    for name, strategy in {
        "steps": "weights: [25, 100]",
        "pause": "weights: [25, 100], pauseAt: [25]",
        "header": "match: {headers: {x-debug-user: {exact: 'true'}}, hold: 1s, keep: true}, weights: [25, 100]",
    }.items()
}


@dataclass(frozen=True)
class Crossing:
    """One rollout under traffic, and what became of everything."""

    name: str
    outcomes: tuple[str, ...]
    kills: int
    requests: int
    lost: int
    lost_examples: tuple[Request, ...]
    wrong: tuple[str, ...]
    route: tuple[str, ...]


class Lane:
    """A sandbox whose controller reaches the API server through a proxy, and is brought back whenever it was killed."""

    def __init__(self, sandbox: Sandbox, directory: Path) -> None:
        self.sandbox = sandbox
        self.stable = example.STABLE
        self.witness = Witness(relentlessly(MESH), self._kill)
        self._proxy = Proxy.before(sandbox.kubeconfig, [self.witness.hook])
        self._ending = threading.Event()
        self._keeper = threading.Thread(target=self._keep, name="keeper")
        self._proxy.start()
        kubeconfig = self._proxy.kubeconfig(sandbox.kubeconfig, directory / "through-the-proxy")
        arguments = [*("run", "--all-namespaces", "--own-namespace", OWN_NAMESPACE, "--listen", "127.0.0.1:0")]
        arguments += ["--kubeconfig", str(kubeconfig), "--policies", str(sandbox.settings.policies)]
        arguments += ["--prometheus", sandbox.prometheus.url, "--tick", "1s"]
        self._controller = Program(arguments, directory / "controller.log")
        self._controller.start()
        self._keeper.start()
        assert sandbox.callers.record is not None
        self._load = Tally.follow(sandbox.callers.record)

    def _kill(self) -> None:
        self._controller.kill()

    def close(self) -> None:
        self._ending.set()
        self._keeper.join()
        self._controller.kill()
        self._controller.reap()
        self._proxy.stop()

    def cross(self, name: str, act: Callable[[Lane], Mapping[str, Phase]]) -> Crossing:
        """Let users `act`, which says how the rollout of each version ends; return once all have."""
        self._load.refresh()
        first_effect, first_kill = len(self.witness.effects), len(self.witness.kills)
        ends = act(self)
        rollouts = {version: self.wait(version, lambda one: one.status.phase.is_terminal) for version in ends}
        wrong = [
            f"{version} is {rollouts[version].status.phase}, not {end}: {rollouts[version].status.message}"
            for version, end in ends.items()
            if rollouts[version].status.phase is not end
        ]
        promoted = [version for version, end in ends.items() if end is Phase.SUCCEEDED]
        self.stable = promoted[-1] if promoted else self.stable
        effects = self.witness.effects[first_effect:]
        wrong += self._leftovers(ends) + unreachable(effects, self._subsets_before(effects))
        time.sleep(_LAST_ANSWERS_S)
        seen = Tally.of(self._load.refresh())
        for version in ends:
            if version != self.stable:
                self.sandbox.delete_deployment(example.deployment_name(version))
        return Crossing(
            name,
            tuple(f"{version} {rollout.status.phase}" for version, rollout in rollouts.items()),
            len(self.witness.kills) - first_kill,
            seen.requests,
            seen.lost,
            tuple(seen.lost_examples[:5]),
            tuple(wrong),
            collapsed(route_of(one.document) for one in effects if one.asked.resource == "virtualservices"),
        )

    def release(self, version: str, policy: str, behaviour: Mapping[str, str] = example.HEALTHY) -> None:
        self.sandbox.release(version, behaviour, policy)

    def wait(self, version: str, holds: Callable[[Rollout], bool]) -> Rollout:
        return self.sandbox.wait_rollout(example.deployment_name(version), holds, PATIENCE_S)

    def _subsets_before(self, effects: list[Effect]) -> set[str]:
        earlier = self.witness.effects[: self.witness.effects.index(effects[0])] if effects else []
        rules = [one.document for one in earlier if one.asked.resource == "destinationrules"]
        return {one["name"] for one in rules[-1]["spec"]["subsets"]} if rules else {example.STABLE}

    def _leftovers(self, ends: Mapping[str, Phase]) -> list[str]:
        found = []
        weights = self.sandbox.weights()
        if weights != {self.stable: 100}:
            found.append(f"the route ends with {weights}, not with all on {self.stable}")
        rule = self.sandbox.gateway.get(DESTINATIONRULE, example.NAMESPACE, example.SERVICE)
        gone = {version for version, end in ends.items() if end is not Phase.SUCCEEDED}
        found += [f"subset {one['name']} was left" for one in rule["spec"]["subsets"] if one["name"] in gone]
        items, _ = self.sandbox.gateway.list(CANARYROLLOUT, example.NAMESPACE)
        found += [f"{one['metadata']['name']} kept a finalizer" for one in items if one["metadata"].get("finalizers")]
        return found

    def _keep(self) -> None:
        """Bring the controller back whenever it was killed."""
        while not self._ending.wait(_POLL_S):
            if self.witness.is_open or not self.witness.is_idle:
                continue
            self._controller.reap()
            clear_leases(self.sandbox.gateway, OWN_NAMESPACE)
            self.witness.open()
            self._controller.start()


@contextmanager
def lane(directory: Path) -> Iterator[Lane]:
    """A started one, with requests flowing."""
    policies = directory / "policies"
    policies.mkdir(parents=True)
    for name, text in POLICIES.items():
        (policies / f"{name}.yaml").write_text(text, encoding="utf-8")
    settings = Settings(rate=RATE, record=True, policies=policies, controller=False)
    with Sandbox(directory / "sandbox", settings) as sandbox:
        # v1 is annotated with a policy that is not in this folder; it carries the traffic, so nothing starts for it
        sandbox.annotate(example.deployment_name(example.STABLE), {POLICY_ANNOTATION: None})
        made = Lane(sandbox, directory)
        try:
            yield made
        finally:
            made.close()


def promoted(lane: Lane) -> Mapping[str, Phase]:
    lane.release("v2", "steps")
    return {"v2": Phase.SUCCEEDED}


def rolled_back(lane: Lane) -> Mapping[str, Phase]:
    lane.release("v3", "steps", example.FAILS_ALWAYS)
    return {"v3": Phase.ROLLED_BACK}


def aborted(lane: Lane) -> Mapping[str, Phase]:
    lane.release("v4", "pause")
    paused = lane.wait("v4", lambda one: one.status.phase is Phase.PAUSED)
    wish = {"spec": {"abort": {"reason": "test", "actor": "me"}}}
    lane.sandbox.gateway.patch(CANARYROLLOUT, paused.namespace, paused.name, wish, patch_type="merge")
    return {"v4": Phase.ABORTED}


def header_then_weights(lane: Lane) -> Mapping[str, Phase]:
    lane.release("v5", "header")
    return {"v5": Phase.SUCCEEDED}


def superseded(lane: Lane) -> Mapping[str, Phase]:
    lane.release("v6", "pause")
    lane.wait("v6", lambda one: one.status.phase is Phase.PAUSED)
    lane.release("v7", "steps")
    return {"v6": Phase.SUPERSEDED, "v7": Phase.SUCCEEDED}


CROSSINGS: Mapping[str, Callable[[Lane], Mapping[str, Phase]]] = {
    "promoted": promoted,
    "rolled back": rolled_back,
    "aborted": aborted,
    "header then weights": header_then_weights,
    "superseded": superseded,
}
