"""One rollout in a namespace of its own, with a controller of its own, which is killed once and started again."""

from __future__ import annotations

import itertools
import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from canary.cluster.gateway import Gateway
from canary.cluster.kinds import CANARYROLLOUT, CONFIGMAP, DESTINATIONRULE, LEASE, NAMESPACE, VIRTUALSERVICE
from canary.errors import NotFound
from canary.sandbox.prometheus import PrometheusServer, ScrapeTarget
from tests.faults.asked import Asked
from tests.faults.callers import Callers
from tests.faults.cluster import Cluster, Insistent, define
from tests.faults.crash.points import Point
from tests.faults.crash.process import Controller
from tests.faults.crash.stories import PER_SECOND, POLICIES, Scene, Story
from tests.faults.crash.told import Told, differences, told
from tests.faults.crash.witness import Witness, once
from tests.faults.proxy import Proxy
from tests.shop import Shop

Object = dict[str, Any]

SCRAPE_S, TILE_S = 0.5, 0.6
PATIENCE_S = 300.0
"""For a rollout to end, on a machine that does much else."""
SAME_S = 30.0
"""For what is left to become as in the uninterrupted run, once all rollouts have ended."""
QUIET_S = 3.0
"""An uninterrupted run is over when nothing was written for so long: longer than anything the controller waits for."""
LOOKS_S = 2.0
"""A controller that was started again is watched for so long from its first write on: it ticks four times."""
_POLL_S = 0.02


@dataclass
class Stand:
    """What all runs share: an API server, callers, a Prometheus that scrapes them, policies."""

    directory: Path
    cluster: Cluster
    gateway: Gateway = field(init=False)
    callers: Callers = field(init=False)
    _prometheus: PrometheusServer = field(init=False)
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    def __enter__(self) -> Self:
        self.cluster.start()
        self.gateway = Insistent.to(self.cluster.kubeconfig)
        define(self.gateway)
        self.callers = Callers(self.gateway)
        self.callers.start()
        targets = [
            ScrapeTarget(f"127.0.0.1:{one.server_port}", namespace="callers", pod=f"caller-{one.server_port}")
            for one in self.callers.targets
        ]
        self._prometheus = PrometheusServer(self.directory / "prometheus", targets, SCRAPE_S)
        self._prometheus.start()
        self.policies.mkdir()
        for name, text in POLICIES.items():
            (self.policies / f"{name}.yaml").write_text(text, encoding="utf-8")
        return self

    def __exit__(self, *_: object) -> None:
        self._prometheus.stop()
        self.callers.stop()
        self.gateway.close()
        self.cluster.stop()

    @property
    def policies(self) -> Path:
        return self.directory / "policies"

    @property
    def prometheus_url(self) -> str:
        return self._prometheus.url

    def number(self) -> int:
        """One for each run."""
        return next(self._numbers)


@dataclass(frozen=True)
class Played:
    """One run that is over."""

    story: Story
    point: Point | None
    was_killed: bool
    told: Told
    writes: tuple[Asked, ...]
    seconds: float
    log: Path
    unlike: tuple[str, ...] = ()
    """In what it differs from the uninterrupted run."""


def play(stand: Stand, story: Story, point: Point | None = None, expected: Told | None = None) -> Played:
    """Run the story once. With `expected` it is over when all is as it was then, or has stayed different for long."""
    begun = time.monotonic()
    run = _Run(stand, story, point)
    try:
        run.begin()
        run.until_ended()
        found, code = run.settled(expected)
        if run.is_dead:  # killed at a write that it made as it was told to end
            found, code = run.settled(expected)
        wrong = run.unlike(expected, found, code)
    finally:
        run.close()
    return Played(
        story, point, bool(run.witness.kills), found, tuple(run.witness.asked), time.monotonic() - begun, run.log,
        tuple(wrong),
    )  # fmt: skip


class _Run:
    def __init__(self, stand: Stand, story: Story, point: Point | None) -> None:
        self.story = story
        self._stand = stand
        self._namespace = f"crash-{stand.number()}"
        self._own = f"{self._namespace}-own"
        self._folder = stand.directory / self._namespace
        self._folder.mkdir()
        self.log = self._folder / "controller.log"
        self.witness = Witness(once(point), self._kill, lambda: self._take_turn(at_once=True))
        self._proxy = Proxy.before(stand.cluster.kubeconfig, [self.witness.hook])
        self._controller = Controller((), self.log)
        self._scene = Scene(Shop(stand.gateway, self._namespace), stand.callers)
        self._turns = list(story.turns)
        self._started_again = 0.0

    def _kill(self) -> None:
        self._controller.kill()

    def begin(self) -> None:
        stand, scene = self._stand, self._scene
        for name in (self._namespace, self._own):
            stand.gateway.create(NAMESPACE, None, {"metadata": {"name": name}})
        stand.callers.call(self._namespace, 0)
        scene.release("v1", None)
        scene.shop.mesh()
        stand.callers.call(self._namespace, PER_SECOND)
        self.story.begin(scene)
        self._proxy.start()
        kubeconfig = self._proxy.kubeconfig(stand.cluster.kubeconfig, self._folder / "kubeconfig")
        options = {
            "kubeconfig": kubeconfig, "namespace": self._namespace, "own-namespace": self._own,
            "policies": stand.policies, "prometheus": stand.prometheus_url, "listen": "127.0.0.1:0",
            "tile": f"{TILE_S * 1000:.0f}ms", "tick": f"{TILE_S * 1000:.0f}ms", "settle": "300ms",
            "abort-period": "1s",
        }  # fmt: skip
        self._controller = Controller(["run", *(f"--{name}={value}" for name, value in options.items())], self.log)
        self._controller.start()

    def close(self) -> None:
        """End whatever still runs of it."""
        self._controller.kill()
        self._controller.reap()
        self._proxy.stop()
        self._stand.callers.forget(self._namespace)

    def settled(self, expected: Told | None) -> tuple[Told, int | None]:
        """What the run tells once nothing more comes, and the exit code of a controller that is then asked to end."""
        if expected:
            self._until(self._has_looked_again, "go on after it was killed")
            self._until_same(expected)
        else:
            self._until(lambda: time.time() - self._last_write() > QUIET_S, "be quiet")
        code = self._controller.stop()
        return self.told(), code

    @property
    def is_dead(self) -> bool:
        """It was killed, and nobody started it again yet."""
        return not self.witness.is_open

    def until_ended(self) -> None:
        """Do what users do, and bring the controller back, until every rollout has ended as it must."""
        self._until(lambda: not self._turns and self.story.has_ended(self.witness), "end")

    def _has_looked_again(self) -> bool:
        """The controller that came after a killed one has been at work long enough to do what it should not."""
        if not self.witness.kills:
            return True
        since = [one.at for one in self.witness.effects if one.at > self._started_again]
        return bool(self._started_again and since) and time.time() - since[0] > LOOKS_S

    def _until_same(self, expected: Told) -> None:
        """Return once the run tells what was expected, or has had the time to."""
        deadline = time.monotonic() + SAME_S
        self._look_after()
        while differences(expected, self.told()) and time.monotonic() < deadline:
            self._look_after()
            time.sleep(0.2)

    def told(self) -> Told:
        lost = self._stand.callers.lost.get(self._namespace)
        return told(list(self.witness.effects), self._left(), [lost] if lost else ())

    def unlike(self, expected: Told | None, found: Told, code: int | None) -> list[str]:
        said = differences(expected or found, found)
        if code != 0:
            said.append(f"the controller ended with exit code {code} when it was asked to")
        if re.search("Traceback|level.: .critical", self.log.read_text(encoding="utf-8")):
            said.append(f"a traceback in {self.log}")
        return said

    def _until(self, holds: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not holds():
            self._look_after()
            if time.monotonic() > deadline:
                raise AssertionError(
                    f"{self.story.name} did not {what} within {PATIENCE_S:g} s: {self.told().steps}; {self.log}"
                )
            time.sleep(_POLL_S)

    def _look_after(self) -> None:
        """Start a dead controller again; let users do what it is time for."""
        if self.is_dead:
            self._controller.reap()
            self._until_idle()
            clear_leases(self._stand.gateway, self._own)
            self._started_again = time.time()
            self.witness.open()
            self._controller.start()
        assert self._controller.is_alive, f"the controller ended by itself; look at {self.log}"
        self._take_turn(at_once=False)

    def _take_turn(self, *, at_once: bool) -> None:
        """Let users do what comes next, if it is time; called by the proxy's thread for what is done at once."""
        if self._turns and self._turns[0].at_once is at_once and self._turns[0].when(self.witness):
            self._turns.pop(0).do(self._scene)

    def _until_idle(self) -> None:
        while not self.witness.is_idle:
            time.sleep(_POLL_S)

    def _last_write(self) -> float:
        """When something other than a sign of life was written last."""
        return max(one.at for one in self.witness.effects if one.asked.resource != "leases")

    def _left(self) -> Sequence[Object]:
        """Everything in both namespaces that a controller writes, but signs of life and news."""
        gateway = self._stand.gateway
        found = []
        for kind, namespace in (
            (VIRTUALSERVICE, self._namespace),
            (DESTINATIONRULE, self._namespace),
            (CANARYROLLOUT, self._namespace),
            (CONFIGMAP, self._namespace),
            (CONFIGMAP, self._own),
        ):
            items, _ = gateway.list(kind, namespace)
            found += [{"kind": kind.kind, **item} for item in items]
        return [one for one in found if one["metadata"]["name"] != "kube-root-ca.crt"]


def clear_leases(gateway: Gateway, namespace: str) -> None:
    """What an administrator may do who knows that a controller is dead: nobody has to wait until its Leases expire."""
    items, _ = gateway.list(LEASE, namespace)
    for item in items:
        try:
            gateway.delete(LEASE, namespace, item["metadata"]["name"])
        except NotFound:
            continue
