"""A day of releases on a fake clock: versions come, are judged and go, and nothing of them may stay in memory.

`python -m bench.scale.day` prints the growth hour by hour. The daemon's own parts do the work (caches, evidence,
tracks, the queue, records, what is said of Deployments); the cluster and Prometheus are made up here, and no thread but
the records' own runs.
"""

from __future__ import annotations

import argparse
import gc
import sys
import tracemalloc
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any, cast

from bench.scale.objects import deployment, mesh, pod, replicaset, revision
from bench.scale.shape import CANARY, STABLE, Service, services
from canary.cluster.gateway import Gateway
from canary.cluster.kinds import (
    CANARYROLLOUT,
    DEPLOYMENT,
    DESTINATIONRULE,
    POD,
    REPLICASET,
    SERVICE,
    VIRTUALSERVICE,
    Kind,
)
from canary.cluster.queue import KeyedQueue
from canary.cluster.reflector import Change
from canary.daemon.act import Actor
from canary.daemon.attempts import Attempts
from canary.daemon.caches import Caches, Object
from canary.daemon.carriers import Carriers
from canary.daemon.evidence import Evidence
from canary.daemon.keys import Key, keys_of_change
from canary.daemon.metrics import Metrics
from canary.daemon.news import is_news
from canary.daemon.policies import FrozenPolicies
from canary.daemon.pulse import TICK, Pulse
from canary.daemon.records import Records
from canary.daemon.sourcewatch import SourceWatch
from canary.daemon.tracks import Case
from canary.engine.actions import Announce
from canary.errors import NotFound
from canary.mesh.istio.router import IstioRouter
from canary.model.policy import ISTIO_BUCKETS_MS, GrpcStatus, Policy
from canary.model.verdict import ArmCounts
from canary.telemetry.preflight import SourceFacts
from canary.telemetry.queries import ServiceName, Workload
from canary.telemetry.source import PrometheusSource
from canary.telemetry.tiles import Bounds, StatusCounts, Tile, TileBatch, bounds_of

TICK_S, SETTLE_S = 60.0, 2.0
LIFE_S = 1500.0
"""A release runs so long, through five steps; the next version of its service begins right after."""
BEGIN = 1_800_000_000.0
POLICY = Policy.model_validate(
    {
        "name": "day",
        "strategy": {"weights": [10, 25, 50, 75, 100], "hold": "5m"},
        "analysis": {"warmup": "0s", "minRequests": 50, "errorRate": {"max": "1%"}, "p99": {"max": "500ms"}},
    }
)


class MadeUpSource:
    """Counts of two versions that are alike, never the same twice."""

    queries_sent = 0

    def server_now(self) -> float | None:
        """It has no clock of its own."""

    def facts(self, *, refresh: bool = False) -> SourceFacts:
        del refresh
        return SourceFacts(TICK_S, 0.0, "source", up_joined=True)

    def tiles(
        self, workloads: Collection[Workload], bounds_ms: Bounds, *, first_end: float, last_end: float, tile_s: float,
        openings_of: Collection[Workload] = (),
    ) -> TileBatch:  # fmt: skip
        ends = list(_ends(first_end, last_end, tile_s))
        tiles = {one: tuple(_tile(end, tile_s, bounds_of(bounds_ms, one)) for end in ends) for one in workloads}
        openings = {one: {end: end - tile_s for end in ends} for one in openings_of}
        return TileBatch(tiles, last_end, frozenset(tiles), "source", dict.fromkeys(workloads, last_end), openings)

    def histories(
        self, workloads: Collection[Workload], *, first_end: float, last_end: float, tile_s: float
    ) -> Mapping[Workload, tuple[Tile, ...]]:
        bounds = [float(bound) for bound in ISTIO_BUCKETS_MS]
        return {
            one: tuple(_tile(end, tile_s, bounds) for end in _ends(first_end, last_end, tile_s)) for one in workloads
        }

    def unattributed(
        self, services: Collection[ServiceName], *, first_end: float, last_end: float, tile_s: float
    ) -> Mapping[ServiceName, Mapping[float, ArmCounts]]:
        return {one: {end: ArmCounts() for end in _ends(first_end, last_end, tile_s)} for one in services}

    def failing(
        self, workloads: Collection[Workload], grpc_errors: Collection[GrpcStatus], *, now: float, interval_s: float
    ) -> frozenset[Workload]:
        del grpc_errors, now, interval_s  # everybody has an error now and then
        return frozenset(workloads)

    def recent(
        self, workloads: Collection[Workload], *, now: float, interval_s: float
    ) -> Mapping[Workload, StatusCounts]:
        return {one: StatusCounts(_tile(now, interval_s, ()).status) for one in workloads}


def _ends(first_end: float, last_end: float, tile_s: float) -> Iterator[float]:
    return (first_end + place * tile_s for place in range(round((last_end - first_end) / tile_s) + 1))


def _tile(end: float, tile_s: float, bounds: Collection[float]) -> Tile:
    requests, bad = 3000 + round(end) % 97, round(end) % 3 // 2
    slower = {bound: requests // round(2 + bound / 5) if bound < 400 else 0 for bound in bounds}
    return Tile(end - tile_s, end, {("200", ""): requests, ("503", ""): bad}, requests, slower)


class MadeUpCluster:
    """Answers the records' writes; the rest of the cluster is told to the caches as a watch would."""

    write_timeout_seconds = 1.0

    def __init__(self) -> None:
        self.version = 0

    def create(self, _kind: Kind, _namespace: str | None, document: Object) -> Object:
        return {"metadata": {**document["metadata"], "resourceVersion": self.next_version()}}

    def patch(self, _kind: Kind, _namespace: str | None, name: str, _body: Object, **_: Any) -> Object:
        return {"metadata": {"name": name, "resourceVersion": self.next_version()}}

    def get(self, kind: Kind, _namespace: str | None, name: str) -> Object:
        raise NotFound(f"no {kind.resource} {name}")

    def next_version(self) -> str:
        self.version += 1
        return str(self.version)


@dataclass
class Release:
    """One version of a service on its way, and the objects that go with it."""

    service: Service
    number: int
    begun: float
    objects: list[tuple[Kind, Object]] = field(default_factory=list)

    @property
    def target(self) -> str:
        return f"{self.service.name}-r{self.number}"


class Day:
    """`releases` at a time. `pass_hour` lets an hour go by and returns the bytes that are in use after it."""

    def __init__(self, releases: int) -> None:
        self.now = BEGIN
        self.ended = 0
        """Releases that are over so far."""
        self._cluster = MadeUpCluster()
        gateway = cast(Gateway, self._cluster)
        self._router, metrics = IstioRouter(), Metrics()
        self._work: KeyedQueue[Key] = KeyedQueue(clock=self._time)
        self._caches = Caches(gateway, None, self._changed, clock=self._time)
        self._attempts = Attempts(self._caches, self._router, 200)
        actor = cast(Actor, SimpleNamespace(announce=lambda *_: None))
        self._carriers = Carriers(self._caches, self._router, actor)
        source = cast(PrometheusSource, MadeUpSource())
        self._evidence = Evidence(source, metrics, clock=self._time)
        self._records = Records(gateway, metrics, clock=self._time)
        frozen = FrozenPolicies(gateway, "canary-system")
        frozen.freeze(POLICY)
        watch = SourceWatch(source, TICK_S, SETTLE_S, TICK_S)
        watch.refresh()
        self._pulse = Pulse(
            self._caches, self._router, frozen, self._evidence, watch, self._work, metrics,
            wall=self._time, clock=self._time,
        )  # fmt: skip
        self._running = [self._begin(service, 0, place) for place, service in enumerate(services(releases))]
        self._gone: list[Release] = []

    def start(self) -> None:
        self._records.start()

    def stop(self) -> None:
        self._records.stop(5.0)

    def pass_hour(self) -> int:
        for _ in range(round(3600 / TICK_S)):
            self.now += TICK_S
            self._go_on()
            self._pulse.beat(TICK)
            self._look()
        self._records.settle(30.0)
        gc.collect()
        return tracemalloc.get_traced_memory()[0]

    def _time(self) -> float:
        return self.now

    def _changed(self, kind: Kind, change: Change[Object]) -> None:
        if is_news(kind, change.old, change.new):
            for key in keys_of_change(self._router, kind, change):
                self._work.add(key)

    def _hear(self, type_: str, kind: Kind, document: Object) -> None:
        meta = document["metadata"]
        meta.setdefault("uid", f"{kind.plural}/{meta['name']}")
        meta.setdefault("creationTimestamp", _stamp(self.now))
        meta["resourceVersion"] = self._cluster.next_version()
        self._caches.reflectors[kind]._apply(type_, document)

    def _begin(self, service: Service, number: int, place: int) -> Release:
        """The next version: its Deployment, ReplicaSet and Pod, a route, a rollout. They begin at different times."""
        release = Release(service, number, self.now - (place % 5) * LIFE_S / 5 if not number else self.now)
        made = deployment(service, CANARY, POLICY.name)
        made["metadata"] |= {"name": release.target, "uid": release.target, "generation": 1}
        made["status"] = {"observedGeneration": 1}
        owner = replicaset(service, CANARY, made)
        owner["metadata"] |= {"name": f"{release.target}-{revision(CANARY)}", "uid": f"rs-{release.target}"}
        release.objects = [(DEPLOYMENT, made), (REPLICASET, owner), (POD, pod(service, CANARY, owner))]
        for kind, document in (
            *release.objects,
            *zip((SERVICE, DESTINATIONRULE, VIRTUALSERVICE), mesh(service), strict=True),
        ):
            self._hear("ADDED", kind, document)
        self._tell(release)
        return release

    def _tell(self, release: Release) -> None:
        """The rollout as it stands now."""
        age = self.now - release.begun
        step = min(5, 1 + int(age // (LIFE_S / 5)))
        phase = "Succeeded" if age >= LIFE_S else "Progressing"
        arm = {"label": "version", "revision": revision(CANARY)}
        changes = [
            {"step": place, "weight": POLICY.weight_of(place), "asked": at, "reached": at}
            for place in range(1, step + 1)
            for at in [_stamp(release.begun + (place - 1) * LIFE_S / 5)]
        ]
        name = f"{release.target}-{revision(CANARY)}-1"
        document = {
            "apiVersion": "canary.delivery/v1alpha1",
            "kind": "CanaryRollout",
            "metadata": {"namespace": release.service.namespace, "name": name, "uid": name},
            "spec": {"target": release.target, "policyName": POLICY.name},
            "status": {
                "phase": phase,
                "service": release.service.name,
                "targetRevision": revision(CANARY),
                "step": {"index": step, "of": 5},
                "weight": {"desired": POLICY.weight_of(step), "configured": POLICY.weight_of(step)},
                "resumedAt": _stamp(self.now),
                "tile": f"{TICK_S:g}s",
                "stable": arm | {"deployment": release.service.deployment(STABLE), "subset": "v1", "value": "v1"},
                "canary": arm | {"deployment": release.target, "subset": "v2", "value": "v2"},
                "route": {"virtualService": release.service.name, "host": release.service.name},
                "policy": {"name": POLICY.name, "digest": POLICY.digest},
                "weightChanges": changes,
            },
        }
        self._hear("MODIFIED", CANARYROLLOUT, document)

    def _go_on(self) -> None:
        for place, release in enumerate(self._running):
            self._tell(release)
            if self.now - release.begun >= LIFE_S:
                self.ended += 1
                self._gone.append(release)
                self._running[place] = self._begin(release.service, release.number + 1, place)
        while len(self._gone) > len(self._running):  # one ended attempt of each service is kept
            self._remove(self._gone.pop(0))

    def _remove(self, release: Release) -> None:
        name = f"{release.target}-{revision(CANARY)}-1"
        meta = {"namespace": release.service.namespace, "name": name, "uid": name}
        for kind, document in (*release.objects, (CANARYROLLOUT, {"metadata": meta})):
            self._hear("DELETED", kind, document)

    def _look(self) -> None:
        """What a worker does with each key, as far as it keeps anything."""
        while (key := self._work.get(0)) is not None:
            if not key.service:
                for found in self._attempts.keys(key.namespace):
                    self._work.add(found)
            view = self._caches.view(key.namespace)
            for entry in self._attempts.of(key) if key.service else ():
                rollout = entry.rollout
                recorder = self._evidence.recorder(rollout.uid)
                self._evidence.verdict(Case(rollout, POLICY), self.now)
                self._records.consider(rollout, rollout.status, recorder)
                sentence = f"{rollout.spec.target} carries the traffic"
                self._carriers.announce_once(view, rollout.spec.target, Announce("Normal", "Adopted", sentence))
            self._records.sweep(lambda: {e.rollout.uid: e.rollout.status.phase for e in self._caches.rollouts(None)})
            self._work.done(key)


def _stamp(seconds: float) -> str:
    return (datetime.fromtimestamp(0, UTC) + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")


def hours(releases: int, count: int) -> tuple[list[int], int]:
    """Bytes in use after each hour, and how many releases came and went."""
    tracemalloc.start(1)
    day = Day(releases)
    day.start()
    try:
        return [day.pass_hour() for _ in range(count)], day.ended
    finally:
        day.stop()
        tracemalloc.stop()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.scale.day", description=__doc__)
    parser.add_argument("--releases", type=int, default=8, help="at a time")
    parser.add_argument("--hours", type=int, default=24)
    options = parser.parse_args()
    used, ended = hours(options.releases, options.hours)
    for hour, (size, before) in enumerate(zip(used[1:], used[:-1], strict=True), start=2):
        print(f"hour {hour:2}: {size / 1e6:7.2f} MB, {(size - before) / 1e3:+8.1f} KB")
    growth = (used[-1] - used[1]) / max(1, len(used) - 2)
    print(f"{ended} releases came and went; after hour 2 it grew by {growth / 1e3:+.1f} KB per hour")
    return int(growth > 1e6)


if __name__ == "__main__":
    sys.exit(main())
