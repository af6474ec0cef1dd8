"""The owners of the services: each releases one version after the other, good ones and bad ones, and looks at the end.

They see what users see, and do what users do: where a rollout asks for a person, one comes.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from random import Random
from typing import Any

from canary.cluster.kinds import CANARYROLLOUT, DEPLOYMENT, NAMESPACE, POD, REPLICASET
from canary.model.rollout import PausedFor, Phase
from tests.faults.callers import SLOW, Behaviour, Callers
from tests.faults.cluster import Insistent
from tests.faults.soak.lives import Life, Lives
from tests.shop import Shop

POLL_S = 0.3
PERSON_COMES_S = 4.0

POLICY = """\
name: soak
strategy: {weights: [20, 60, 100], hold: 3s, bake: 3s, progressDeadline: 5m}
analysis: {warmup: 1s, minRequests: 50, maxWait: 40s, errorRate: {max: 5%}, p99: {max: 500ms}}
outlierDetection: {consecutive5xxErrors: 5, interval: 4s}
"""


class Truth(StrEnum):
    """What a version really is, which only the callers know."""

    HEALTHY = "healthy"
    FAILING = "failing"
    DEAD = "dead"
    SLOW = "slow"
    IDLE = "idle"

    @property
    def is_good(self) -> bool:
        return self is Truth.HEALTHY


BEHAVIOURS: Mapping[Truth, Behaviour] = {
    Truth.HEALTHY: Behaviour(),
    Truth.FAILING: Behaviour(errors=0.2),
    Truth.DEAD: Behaviour(errors=1.0),
    Truth.SLOW: Behaviour(within=SLOW),
    Truth.IDLE: Behaviour(),
}
SHARES: Mapping[Truth, float] = {
    Truth.HEALTHY: 0.5, Truth.FAILING: 0.15, Truth.DEAD: 0.12, Truth.SLOW: 0.13, Truth.IDLE: 0.1,
}  # fmt: skip


def truth_of(seed: int, service: int, release: int) -> Truth:
    """What the n-th release of a service is: drawn from the seed, whatever happened before."""
    rng = Random(f"{seed}/truth/{service}/{release}")
    return rng.choices(list(SHARES), list(SHARES.values()))[0]


@dataclass(frozen=True, eq=False)
class Release:
    """One release and what became of it."""

    namespace: str
    version: str
    truth: Truth
    life: Life | None
    by_a_person: bool
    """Its end was what somebody wished."""


class Owner:
    """Releases one version of `payment` after the other in a namespace, until told to finish what was begun."""

    def __init__(self, gateway: Insistent, callers: Callers, lives: Lives, seed: int, number: int) -> None:
        self.namespace = f"soak-{number}"
        self.releases: list[Release] = []
        self.failure: BaseException | None = None
        self._shop = Shop(gateway, self.namespace)
        self._callers = callers
        self._lives = lives
        self._seed, self._number = seed, number
        self._rate = float(Random(f"{seed}/rate/{number}").randrange(300, 900, 50))
        self._stable = "v1"
        self._finishing = threading.Event()
        self._given_up = threading.Event()
        self._thread = threading.Thread(target=self._run, name=self.namespace, daemon=True)

    def prepare(self) -> None:
        """The service as it is before its first release: version 1 carries everything."""
        self._shop.gateway.create(NAMESPACE, None, {"metadata": {"name": self.namespace}})
        self._callers.call(self.namespace, self._rate)
        self._callers.serve(self.namespace, "v1", BEHAVIOURS[Truth.HEALTHY])
        self._shop.deploy("v1")
        self._shop.mesh()

    def start(self) -> None:
        self._thread.start()

    def finish(self) -> None:
        """Begin no other release."""
        self._finishing.set()

    def wait(self, until: float) -> bool:
        """Whether its last release is over by then (monotonic seconds)."""
        self._thread.join(max(0.0, until - time.monotonic()))
        is_over = not self._thread.is_alive()
        self._given_up.set()
        self._thread.join(30)
        return is_over

    def _run(self) -> None:
        try:
            number = 1
            while not self._finishing.is_set():
                number += 1
                self._release(number)
        except BaseException as error:  # told where the owners are asked how it went
            self.failure = error
            raise

    def _release(self, number: int) -> None:
        truth, version = truth_of(self._seed, self._number, number), f"v{number}"
        if truth is Truth.IDLE:
            self._callers.call(self.namespace, 0.0)
        self._callers.serve(self.namespace, version, BEHAVIOURS[truth])
        self._shop.release(version, policy="soak")
        asked = self._see_to_its_end(truth, version)
        life = self._lives.of(self.namespace, f"payment-{version}")
        self.releases.append(Release(self.namespace, version, truth, life, asked))
        if life is None or not life.is_over:
            return  # given up
        self._callers.call(self.namespace, self._rate)
        gone = self._stable if life.rollout.status.phase is Phase.SUCCEEDED else version
        self._stable = version if gone == self._stable else self._stable
        self._put_away(gone)

    def _see_to_its_end(self, truth: Truth, version: str) -> bool:
        """Wait until the rollout is over; whether a person's word ended it."""
        asked, waits_since = False, 0.0
        while not self._given_up.is_set():
            life = self._lives.of(self.namespace, f"payment-{version}")
            if life is not None and life.is_over:
                break
            if life is not None and life.rollout.status.paused_for is PausedFor.INCONCLUSIVE:
                waits_since = waits_since or time.monotonic()
                if time.monotonic() - waits_since > PERSON_COMES_S:
                    asked, waits_since = self._decides(truth, life) or asked, 0.0
            time.sleep(POLL_S)
        return asked

    def _decides(self, truth: Truth, life: Life) -> bool:
        """What somebody who knows the release does about a rollout that asks; whether that ends it."""
        wish = {"actor": "owner", "reason": f"it is {truth}"}
        step = life.rollout.status.step
        if truth.is_good and step is not None:
            spec: dict[str, Any] = {"promote": {**wish, "step": step.index}}
        else:
            spec = {"abort": wish}
        self._shop.patch(CANARYROLLOUT, life.rollout.name, {"spec": spec})
        return not truth.is_good

    def _put_away(self, version: str) -> None:
        """Its owner deletes what carries no traffic any more; what belongs to it goes with it."""
        time.sleep(1.0)  # nobody deletes faster; the callers hear of the last change of the route in the meantime
        self._callers.withdraw(self.namespace, version)
        name = f"payment-{version}"
        for kind, made in ((DEPLOYMENT, name), (REPLICASET, f"{name}-{version}a"), (POD, f"{name}-{version}a-0")):
            self._shop.gateway.delete(kind, self.namespace, made, grace_seconds=0)


def write_policy(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "soak.yaml").write_text(POLICY, encoding="utf-8")
    return folder
