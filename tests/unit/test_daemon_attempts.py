"""The attempts of a namespace by service: what a walk through everything would say, at the price of a look-up."""

from __future__ import annotations

import time
from typing import Any

import pytest

from canary.cluster.kinds import CANARYROLLOUT, DEPLOYMENT, SERVICE, Kind
from canary.daemon.attempts import CROWD, Attempts
from canary.daemon.caches import Caches
from canary.daemon.keys import Key, key_of_rollout
from canary.daemon.overlay import LONGEST_S
from canary.mesh.istio.router import IstioRouter


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class Space:
    """What the reflectors hold, written as their watch would."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.caches = Caches(None, None, lambda _kind, _change: None, clock=self.clock)  # type: ignore[arg-type]
        self.version = 0

    def obj(self, name: str, namespace: str = "shop", **more: Any) -> dict[str, Any]:
        self.version += 1
        meta = {"namespace": namespace, "name": name, "uid": name, "resourceVersion": str(self.version)}
        return {"metadata": {**meta, "creationTimestamp": f"2026-01-01T00:00:{self.version % 60:02d}Z"}, **more}

    def put(self, kind: Kind, name: str, namespace: str = "shop", **more: Any) -> dict[str, Any]:
        obj = self.obj(name, namespace, **more)
        self.caches.reflectors[kind]._store((namespace, name), obj)
        return obj

    def drop(self, kind: Kind, name: str) -> None:
        self.caches.reflectors[kind]._store(("shop", name), None)

    def rollout(self, name: str, target: str = "payment-v2", namespace: str = "shop") -> None:
        self.put(CANARYROLLOUT, name, namespace, spec={"target": target, "policyName": "standard"})

    def deployment(self, name: str = "payment-v2", **labels: str) -> None:
        self.put(DEPLOYMENT, name, spec={"template": {"metadata": {"labels": labels or {"app": "payment"}}}})

    def service(self, name: str = "payment") -> None:
        self.put(SERVICE, name, spec={"selector": {"app": name}})


@pytest.fixture
def space() -> Space:
    return Space()


def attempts(space: Space, most: int = 100) -> Attempts:
    return Attempts(space.caches, IstioRouter(), most)


def names(found: Attempts, service: str) -> list[str]:
    return [entry.rollout.name for entry in found.of(Key("shop", service))]


def test_an_attempt_is_found_under_its_service_as_soon_as_that_is_known(space: Space) -> None:
    found = attempts(space)
    space.rollout("a")
    assert (names(found, "~payment-v2"), names(found, "payment")) == (["a"], [])

    space.deployment()
    assert names(found, "~payment-v2") == ["a"]
    space.service()
    assert (names(found, "~payment-v2"), names(found, "payment")) == ([], ["a"])

    space.rollout("b")
    assert names(found, "payment") == ["a", "b"]
    space.drop(CANARYROLLOUT, "a")
    assert names(found, "payment") == ["b"]
    space.drop(SERVICE, "payment")
    assert (names(found, "~payment-v2"), names(found, "payment")) == (["b"], [])


def test_our_own_write_counts_before_the_watch_tells_of_it_and_until_it_does(space: Space) -> None:
    found = attempts(space)
    space.rollout("a")
    assert names(found, "~payment-v2") == ["a"]

    written = space.obj("b", spec={"target": "payment-v2", "policyName": "standard"})
    space.caches.remember(CANARYROLLOUT, written)
    assert names(found, "~payment-v2") == ["a", "b"]

    space.clock.now += LONGEST_S + 1
    assert names(found, "~payment-v2") == ["a"]


def test_those_beyond_the_limit_share_one_key_until_there_is_room(space: Space) -> None:
    found = attempts(space, most=2)
    for name in ("a", "b", "c", "d"):
        space.rollout(name, target=name)

    assert names(found, CROWD) == ["c", "d"]
    assert found.keys("shop") == {Key("shop", service) for service in ("~a", "~b", CROWD)}

    space.drop(CANARYROLLOUT, "a")
    assert (names(found, "~c"), names(found, CROWD)) == (["c"], ["d"])


def test_a_deployment_that_opted_in_is_a_service_to_look_at_without_any_attempt(space: Space) -> None:
    space.put(DEPLOYMENT, "payment-v2", spec={"template": {"metadata": {"labels": {"app": "payment"}}}})
    assert attempts(space).keys("shop") == set()

    opted = space.obj("payment-v2", spec={"template": {"metadata": {"labels": {"app": "payment"}}}})
    opted["metadata"]["annotations"] = {"canary.delivery/policy": "standard"}
    space.caches.reflectors[DEPLOYMENT]._store(("shop", "payment-v2"), opted)
    assert attempts(space).keys("shop") == {Key("shop", "~payment-v2")}


def test_a_thousand_attempts_are_walked_through_once_and_not_at_every_look(
    space: Space, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(1000):
        space.rollout(f"r-{number}", target=f"t-{number}")
        space.deployment(f"t-{number}")
    space.service()
    found, walked = attempts(space, most=1000), 0

    def counted(*arguments: Any) -> Key:
        nonlocal walked
        walked += 1
        return key_of_rollout(*arguments)

    monkeypatch.setattr("canary.daemon.attempts.key_of_rollout", counted)
    started = time.process_time()

    for _ in range(100):
        assert len(names(found, "payment")) == 1000

    assert walked == 1000
    assert time.process_time() - started < 10
