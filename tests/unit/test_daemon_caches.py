"""What is known of the cluster: the watch, and our own writes until the watch has them."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Self

import pytest

from canary.cluster.kinds import CANARYROLLOUT, DEPLOYMENT, POD, REPLICASET, SERVICE, VIRTUALSERVICE, Kind
from canary.cluster.reflector import Change
from canary.daemon.caches import KINDS, Caches
from canary.daemon.news import is_news
from canary.daemon.overlay import LONGEST_S, OVERLAY_S
from canary.errors import Unavailable
from canary.model.rollout import Rollout

Object = dict[str, Any]


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 5
    while not holds():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.005)


class Watch:
    def __init__(self, events: queue.Queue[tuple[str, Object] | None]) -> None:
        self._events = events

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing is open."""

    def __iter__(self) -> Iterator[tuple[str, Object]]:
        while (event := self._events.get()) is not None:
            yield event

    def close(self) -> None:
        self._events.put(None)


class Cluster:
    """Lists and watches by kind."""

    def __init__(self) -> None:
        self.listed: dict[Kind, list[Object]] = {kind: [] for kind in KINDS}
        self.events: dict[Kind, queue.Queue[tuple[str, Object] | None]] = {kind: queue.Queue() for kind in KINDS}
        self.refuses: set[Kind] = set()

    def pages(self, kind: Kind, _namespace: str | None, **_: Any) -> Iterator[tuple[list[Object], str]]:
        if kind in self.refuses:
            raise Unavailable(f"cannot list {kind.resource}: forbidden")
        yield self.listed[kind], "100"

    def watch(self, kind: Kind, _namespace: str | None, **_: Any) -> Watch:
        return Watch(self.events[kind])


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def obj(name: str, version: int, namespace: str = "shop", **more: Any) -> Object:
    meta = {"name": name, "namespace": namespace, "uid": f"uid-{name}", "resourceVersion": str(version)}
    return {"metadata": meta, **more}


@pytest.fixture
def cluster() -> Cluster:
    return Cluster()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def heard() -> list[tuple[Kind, Change[Object]]]:
    return []


@pytest.fixture
def caches(cluster: Cluster, clock: Clock, heard: list[tuple[Kind, Change[Object]]]) -> Iterator[Caches]:
    made = Caches(cluster, None, lambda kind, change: heard.append((kind, change)), clock=clock)  # type: ignore[arg-type]
    yield made
    made.stop()


def synced(caches: Caches) -> Caches:
    caches.start()
    until(lambda: not caches.unsynced)
    return caches


def version_of(caches: Caches, name: str = "payment", kind: Kind = VIRTUALSERVICE) -> str | None:
    found = caches.object(kind, "shop", name)
    return found["metadata"]["resourceVersion"] if found else None


def test_what_is_not_listed_yet_is_named_with_the_reason(cluster: Cluster, caches: Caches) -> None:
    assert len(caches.unsynced) == len(KINDS)
    cluster.refuses = {VIRTUALSERVICE}

    caches.start()

    until(lambda: len(caches.unsynced) == 1 and "(" in caches.unsynced[0])
    assert caches.unsynced == (
        "virtualservices.networking.istio.io (cannot list virtualservices.networking.istio.io: forbidden)",
    )


def test_our_own_write_is_read_at_once(cluster: Cluster, caches: Caches) -> None:
    cluster.listed[VIRTUALSERVICE] = [obj("payment", 5)]
    synced(caches)

    caches.remember(VIRTUALSERVICE, obj("payment", 7))

    assert version_of(caches) == "7"
    assert [one["metadata"]["resourceVersion"] for one in caches.view("shop").virtual_services] == ["7"]
    assert caches.objects(VIRTUALSERVICE, "bank") == []
    assert len(caches.objects(VIRTUALSERVICE, None)) == 1


def test_what_the_watch_brings_later_replaces_it(cluster: Cluster, caches: Caches) -> None:
    cluster.listed[VIRTUALSERVICE] = [obj("payment", 5)]
    synced(caches)
    caches.remember(VIRTUALSERVICE, obj("payment", 7))

    cluster.events[VIRTUALSERVICE].put(("MODIFIED", obj("payment", 6)))
    until(lambda: caches.reflectors[VIRTUALSERVICE].get("shop", "payment") == obj("payment", 6))
    assert version_of(caches) == "7"
    cluster.events[VIRTUALSERVICE].put(("MODIFIED", obj("payment", 10)))  # ten is after seven, though not as text

    until(lambda: version_of(caches) == "10")


def test_an_older_answer_does_not_hide_what_the_watch_has_already(cluster: Cluster, caches: Caches) -> None:
    cluster.listed[VIRTUALSERVICE] = [obj("payment", 9)]
    synced(caches)

    caches.remember(VIRTUALSERVICE, obj("payment", 7))

    assert version_of(caches) == "9"


def test_after_a_while_the_watch_is_right_whatever_it_says(cluster: Cluster, clock: Clock, caches: Caches) -> None:
    synced(caches)
    caches.remember(VIRTUALSERVICE, obj("payment", 7))
    assert version_of(caches) == "7"

    clock.now += OVERLAY_S + 0.1

    assert version_of(caches) is None


def test_a_watch_that_lags_takes_nothing_back_that_we_know(clock: Clock, cluster: Cluster, caches: Caches) -> None:
    cluster.listed[VIRTUALSERVICE] = [obj("payment", 5)]
    synced(caches)
    caches.remember(VIRTUALSERVICE, obj("payment", 1_000_000))  # the watch is not there yet

    clock.now += OVERLAY_S + 0.1
    assert version_of(caches) == "1000000"
    clock.now += LONGEST_S

    assert version_of(caches) == "5"


def test_what_was_deleted_right_after_our_write_is_gone_at_once(cluster: Cluster, caches: Caches) -> None:
    cluster.listed[VIRTUALSERVICE] = [obj("payment", 5)]
    synced(caches)
    caches.remember(VIRTUALSERVICE, obj("payment", 7))

    cluster.events[VIRTUALSERVICE].put(("DELETED", obj("payment", 8)))

    until(lambda: version_of(caches) is None)


def test_the_deletion_of_a_namesake_does_not_hide_what_was_made_after_it(cluster: Cluster, caches: Caches) -> None:
    cluster.listed[VIRTUALSERVICE] = [obj("payment", 5)]
    synced(caches)
    new = obj("payment", 9)
    new["metadata"]["uid"] = "uid-of-the-second"
    caches.remember(VIRTUALSERVICE, new)

    cluster.events[VIRTUALSERVICE].put(("DELETED", obj("payment", 8)))

    until(lambda: caches.reflectors[VIRTUALSERVICE].get("shop", "payment") is None)
    assert version_of(caches) == "9"


def rollout(name: str, version: int, **spec: Any) -> Object:
    made = obj(name, version, spec={"target": "payment-v2", "policyName": "quick", **spec})
    made["metadata"]["creationTimestamp"] = "2026-03-02T12:00:00Z"
    return made


def test_a_rollout_is_parsed_once_per_version_and_a_strange_one_is_left_alone(
    cluster: Cluster, caches: Caches, monkeypatch: pytest.MonkeyPatch
) -> None:
    parsed: list[str] = []
    parse = Rollout.parse
    monkeypatch.setattr(
        Rollout, "parse", lambda raw: (parsed.append(raw["metadata"]["name"]), parse(raw))[1], raising=True
    )
    cluster.listed[CANARYROLLOUT] = [rollout("good", 5), rollout("strange", 6, colour="red")]
    synced(caches)

    for _ in range(3):
        assert [entry.rollout.name for entry in caches.rollouts("shop")] == ["good"]
    assert sorted(parsed) == ["good", "strange"]

    cluster.events[CANARYROLLOUT].put(("MODIFIED", rollout("good", 9)))
    until(lambda: caches.rollouts("shop")[0].rollout.resource_version == "9")
    assert sorted(parsed) == ["good", "good", "strange"]
    caches.remember(CANARYROLLOUT, rollout("good", 10))
    assert caches.rollouts("shop")[0].rollout.resource_version == "10"
    cluster.events[CANARYROLLOUT].put(("MODIFIED", rollout("good", 10)))
    until(lambda: caches.reflectors[CANARYROLLOUT].get("shop", "good")["metadata"]["resourceVersion"] == "10")
    assert caches.rollouts("shop")[0].rollout.resource_version == "10"
    assert sorted(parsed) == ["good", "good", "good", "strange"]  # our own write comes twice, and is parsed once
    cluster.events[CANARYROLLOUT].put(("DELETED", rollout("good", 11)))
    until(lambda: caches.rollouts(None) == [])


def test_reading_from_many_threads_while_things_change_never_fails(cluster: Cluster, caches: Caches) -> None:
    synced(caches)
    done = threading.Event()

    def read() -> int:
        reads = 0
        while not done.is_set():
            caches.rollouts(None)
            caches.objects(CANARYROLLOUT, "shop")
            reads += 1
        return reads

    with ThreadPoolExecutor(3) as pool:
        readers = [pool.submit(read) for _ in range(3)]
        for number in range(200):
            cluster.events[CANARYROLLOUT].put(("ADDED", rollout(f"r{number % 20}", number)))
            caches.remember(CANARYROLLOUT, rollout(f"w{number % 20}", number))
            cluster.events[CANARYROLLOUT].put(("DELETED", rollout(f"r{(number + 7) % 20}", number)))
        until(cluster.events[CANARYROLLOUT].empty)
        done.set()

    assert min(reader.result() for reader in readers) > 0  # what a reader raised is raised here


def deployment(**status: Any) -> Object:
    return {**obj("payment-v2", 1, spec={"replicas": 2}, status={"observedGeneration": 3, **status})}


def pod(ready: str, **status: Any) -> Object:
    condition = {"type": "Ready", "status": ready, "lastTransitionTime": "2026-03-02T12:00:00Z"}
    return obj("p", 1, status={"conditions": [condition], **status})


def generation(item: Object, number: int) -> Object:
    item["metadata"]["generation"] = number
    return item


def with_status(**status: Any) -> Object:
    return rollout("r", 1) | {"status": status}


@pytest.mark.parametrize(
    ("kind", "old", "new", "news"),
    [
        (DEPLOYMENT, None, deployment(), True),
        (DEPLOYMENT, deployment(), None, True),
        (DEPLOYMENT, deployment(replicas=2), deployment(replicas=3, availableReplicas=1), False),
        (DEPLOYMENT, generation(deployment(), 4), generation(deployment(observedGeneration=4), 4), True),
        (DEPLOYMENT, deployment(), deployment() | {"spec": {"replicas": 3}}, True),
        (REPLICASET, obj("rs", 1, status={"replicas": 1}), obj("rs", 2, status={"replicas": 2}), False),
        (POD, pod("True"), pod("True", podIP="10.0.0.7"), False),
        (POD, pod("False"), pod("True"), True),
        (SERVICE, obj("s", 1, spec={}), obj("s", 2, spec={"selector": {"app": "x"}}), True),
        (CANARYROLLOUT, rollout("r", 1), rollout("r", 2) | {"spec": {"target": "payment-v3"}}, True),
        (CANARYROLLOUT, with_status(weight={"desired": 10}), with_status(weight={"desired": 25}), True),
        (
            CANARYROLLOUT,
            with_status(verdict={"sentence": "7 of 9"}),
            with_status(verdict={"sentence": "8 of 9"}),
            False,
        ),
    ],
)
def test_only_what_may_change_a_decision_is_news(kind: Kind, old: Any, new: Any, news: bool) -> None:
    assert is_news(kind, old, new) is news
