"""Several replicas share what there is to drive: nothing twice, nothing dropped, whoever comes and goes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from signal import SIGTERM
from uuid import uuid4

import pytest

from canary.cluster.gateway import Gateway
from canary.cluster.kinds import NAMESPACE
from tests.replicas import WEIGHTS, Crew, Process, Routes, holders, opened, phases, released, serves
from tests.shop import Shop, until

pytestmark = pytest.mark.slow


@pytest.fixture
def user(kubeconfig: Path) -> Iterator[Gateway]:
    with closing(Gateway.connect(str(kubeconfig), field_manager="kubectl", write_timeout_seconds=10)) as gateway:
        yield gateway


@pytest.fixture
def own(user: Gateway) -> str:
    name = f"own-{uuid4().hex[:8]}"
    user.create(NAMESPACE, None, {"metadata": {"name": name}})
    return name


@pytest.fixture
def shops(user: Gateway) -> Iterator[list[Shop]]:
    """Services of a dozen namespaces, each with a version that carries the traffic."""
    made = opened(user, 12)
    yield made
    for shop in made:
        user.delete(NAMESPACE, None, shop.namespace)


def has_ticked(process: Process, before: float) -> bool:
    return process.metric("canary_tick_seconds_count") > before


def test_replicas_that_come_and_go_drive_every_rollout_once(
    kubeconfig: Path, user: Gateway, own: str, shops: list[Shop], tmp_path: Path
) -> None:
    with Crew(tmp_path, own, hold="2s", fields={"slot_pace_s": 1.0}) as crew, Routes(user) as routes:
        first = crew.start("first", kubeconfig)
        serves(first)
        released(shops)
        second, third = crew.start("second", kubeconfig), crew.start("third", kubeconfig)
        until(lambda: min(second.owned, third.owned) >= 2, 60, "for the newcomers to get their share")

        others = second, third
        ticks = {one.pod: one.metric("canary_tick_seconds_count") for one in others}
        told = time.monotonic()
        first.send(SIGTERM)
        until(lambda: second.owned + third.owned == 16, 30, "for the others to own everything")
        for one in others:
            until(partial(has_ticked, one, ticks[one.pod]), 30, "for its tick")
        took_over = time.monotonic() - told
        assert first.ends() == 0
        crew.start("fourth", kubeconfig)
        until(lambda: set(phases(user, shops).values()) == {"Succeeded"}, 120, "for all rollouts")

        print(f"16 slots with the others, and a tick of theirs, {took_over:.2f} s after SIGTERM")
        print(f"longest wait between weights {max(routes.longest_wait(shop.namespace) for shop in shops):.2f} s")
        for shop in shops:
            assert routes.of(shop.namespace) == list(WEIGHTS), "each weight once, in order"
        decided = {name: len(process.said("decision")) for name, process in zip("abcd", crew.processes, strict=True)}
        assert all(decided[name] for name in "abc"), decided
        assert not [line for process in crew.processes for line in process.said("") if line.get("level") == "error"]
        assert "first" not in holders(user, own).values()
