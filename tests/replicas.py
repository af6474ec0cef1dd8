"""Controllers in processes of their own, several of one cluster, and what can be done to each and to its connection."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self
from uuid import uuid4

from canary.cluster.gateway import Gateway
from canary.cluster.kinds import CANARYROLLOUT, LEASE, NAMESPACE, VIRTUALSERVICE
from canary.cluster.reflector import Change, Reflector
from canary.cluster.slots import SLOTS
from canary.daemon.settings import Settings
from canary.telemetry.settings import SourceSettings
from tests.counts import counted
from tests.faults.asked import Asked
from tests.faults.proxy import Answer, Forward, Proxy
from tests.shop import Shop, until

WEIGHTS = (10, 30, 50, 70, 100)
TICK_S = 0.5
POLICY = """\
name: walk
strategy: {{weights: {weights}, hold: {hold}, bake: 200ms, progressDeadline: 2m}}
analysis: {{warmup: 0s, minRequests: 5, maxWait: 5m, errorRate: {{max: 5%}}, p99: {{max: 500ms}}}}
outlierDetection: {{consecutive5xxErrors: 5, interval: 2s}}
"""


@dataclass
class Line:
    """A replica's connection to the API server, as a hook of its proxy."""

    holds: Callable[[Asked], bool] = lambda _asked: False
    """Requests that are stopped on their way, until `release`."""
    is_cut: bool = False
    """Nothing gets through, in either direction; what was sent arrives when it is mended."""
    held: list[Asked] = field(default_factory=list)
    _released: threading.Event = field(default_factory=threading.Event)

    async def __call__(self, asked: Asked, forward: Forward) -> Answer:
        if self.holds(asked) and not self._released.is_set():
            self.held.append(asked)
            while not self._released.is_set():
                await asyncio.sleep(0.02)
        await self._until_mended()
        given = await forward()
        await self._until_mended()
        if not isinstance(given.body, bytes):
            given.body = self._passed_on(given.body)
        return given

    def release(self) -> None:
        """What was held goes on; nothing more is held."""
        self._released.set()

    async def _passed_on(self, body: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        assert isinstance(body, AsyncGenerator)  # which has to be closed, and the connection with it
        async with aclosing(body):
            async for piece in body:
                await self._until_mended()
                yield piece

    async def _until_mended(self) -> None:
        while self.is_cut:
            await asyncio.sleep(0.02)


@dataclass
class Process:
    """One replica: `pod` is its identity."""

    pod: str
    proxy: Proxy
    line: Line
    child: subprocess.Popen[bytes]
    log: Path
    listen: str = ""

    def metric(self, name: str) -> float:
        """A figure of its /metrics; -1 while it does not answer."""
        address = self._address()
        if not address:
            return -1.0
        try:
            with urllib.request.urlopen(f"http://{address}/metrics", timeout=2) as answer:
                lines = answer.read().decode().splitlines()
        except OSError:
            return -1.0
        return next((float(line.split()[-1]) for line in lines if line.startswith(f"{name} ")), -1.0)

    @property
    def owned(self) -> int:
        return int(self.metric("canary_slots_owned"))

    def said(self, event: str) -> list[dict[str, Any]]:
        """Lines of its log about one event."""
        lines = self.log.read_text(encoding="utf-8").splitlines()
        found = [json.loads(line) for line in lines if line.startswith("{")]
        return [line for line in found if str(line.get("event", "")).startswith(event)]

    def send(self, signal_: signal.Signals) -> None:
        self.child.send_signal(signal_)

    def kill(self) -> None:
        """As a crash would."""
        self.child.kill()
        self.child.wait(10)

    def ends(self, seconds: float = 30.0) -> int:
        return self.child.wait(seconds)

    def _address(self) -> str:
        if not self.listen:
            self.listen = next((f"127.0.0.1:{line['port']}" for line in self.said("started")), "")
        return self.listen


class Crew:
    """Replicas of one cluster, which serve all its namespaces; all end with the test."""

    def __init__(self, folder: Path, own_namespace: str, hold: str = "500ms", *, fields: dict[str, Any]) -> None:
        """`hold` of each step; `fields` are more of the daemon's settings."""
        self.folder, self.own_namespace, self.fields = folder, own_namespace, fields
        self.processes: list[Process] = []
        policies = folder / "policies"
        policies.mkdir()
        (policies / "walk.yaml").write_text(POLICY.format(weights=list(WEIGHTS), hold=hold), encoding="utf-8")

    def start(self, pod: str, kubeconfig: Path, environment: dict[str, str] | None = None) -> Process:
        """A replica whose requests pass through a proxy of its own."""
        line = Line()
        proxy = Proxy.before(kubeconfig, [line])
        proxy.start()
        mine = proxy.kubeconfig(kubeconfig, self.folder / f"{pod}.proxied")
        told = {
            "kubeconfig": str(mine),
            "policies": str(self.folder / "policies"),
            "own_namespace": self.own_namespace,
            **self.fields,
        }
        log = self.folder / f"{pod}.log"
        with log.open("wb") as file:
            child = subprocess.Popen(
                [sys.executable, "-m", "tests.replicas", json.dumps(told)],
                stderr=file,
                stdout=file,
                env={**os.environ, "POD_NAME": pod, **(environment or {})},
            )
        self.processes.append(Process(pod, proxy, line, child, log))
        return self.processes[-1]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.processes:
            if process.child.poll() is None:
                process.child.kill()
            process.child.wait(10)
            process.proxy.stop()


def serves(process: Process, slots: int = SLOTS, seconds: float = 60.0) -> None:
    """Return once it owns so many slots at least."""
    until(lambda: process.owned >= slots, seconds, f"for {process.pod} to own {slots} slots")


def holders(gateway: Gateway, own_namespace: str) -> dict[int, str]:
    """The names on the slots' Leases."""
    leases, _ = gateway.list(LEASE, own_namespace)
    return {
        int(lease["metadata"]["name"].rsplit("-", 1)[1]): str(lease["spec"].get("holderIdentity") or "")
        for lease in leases
        if lease["metadata"]["name"].startswith("canary-slot-")
    }


class Routes:
    """Every weight that the canary of each namespace had, in order, as a watch tells."""

    def __init__(self, gateway: Gateway) -> None:
        self.weights: dict[str, list[tuple[float, int]]] = {}
        self._reflector: Reflector[int] = Reflector(
            gateway, VIRTUALSERVICE, project=_weight_of_canary, on_change=self._heard
        )

    def __enter__(self) -> Self:
        self._reflector.start()
        assert self._reflector.wait_synced(30)
        return self

    def __exit__(self, *_: object) -> None:
        self._reflector.stop()

    def of(self, namespace: str) -> list[int]:
        """The weights of one namespace from the first traffic on."""
        return [weight for _, weight in self.weights.get(namespace, [])]

    def longest_wait(self, namespace: str) -> float:
        """Seconds between two weights, at most."""
        times = [at for at, _ in self.weights[namespace]]
        return max(after - before for before, after in itertools.pairwise(times))

    def _heard(self, change: Change[int]) -> None:
        if change.new is None:
            return
        seen = self.weights.setdefault(change.key[0], [])
        if change.new != (seen[-1][1] if seen else 0):
            seen.append((time.monotonic(), change.new))


def _weight_of_canary(raw: dict[str, Any]) -> int:
    route = raw["spec"]["http"][-1]["route"]
    return sum(int(one.get("weight", 0)) for one in route if one["destination"].get("subset") == "v2")


def opened(gateway: Gateway, number: int) -> list[Shop]:
    """Services in so many new namespaces, each with a version that carries the traffic."""

    def one(_: int) -> Shop:
        shop = Shop(gateway, f"shop-{uuid4().hex[:8]}")
        gateway.create(NAMESPACE, None, {"metadata": {"name": shop.namespace}})
        shop.mesh()
        shop.deploy("v1")
        return shop

    with ThreadPoolExecutor(number) as side_by_side:
        return list(side_by_side.map(one, range(number)))


def released(shops: list[Shop]) -> None:
    """v2 of all of them begins its way."""
    with ThreadPoolExecutor(len(shops)) as side_by_side:
        list(side_by_side.map(lambda shop: shop.release("v2", policy="walk"), shops))


def phases(gateway: Gateway, shops: list[Shop]) -> dict[str, str]:
    """Of the rollouts of these services, by namespace."""
    wanted = {shop.namespace for shop in shops}
    items, _ = gateway.list(CANARYROLLOUT)
    return {
        item["metadata"]["namespace"]: str((item.get("status") or {}).get("phase"))
        for item in items
        if item["metadata"]["namespace"] in wanted
    }


def main(told: dict[str, Any]) -> None:
    """`canary run` with a metrics source of its own."""
    from canary.daemon import logs
    from canary.daemon.run import Daemon

    logs.configure("json", "info")
    settings = Settings(
        policies=Path(told.pop("policies")), source=SourceSettings("http://127.0.0.1:9"), listen="127.0.0.1:0",
        tile_s=TICK_S, tick_s=TICK_S, settle_s=0.1, abort_period_s=0.5, intake_grace_s=0.5, **told,
    )  # fmt: skip
    with counted():
        Daemon(settings).run()


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
