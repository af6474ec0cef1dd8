"""No write of a deposed replica takes effect: the audit log says so. And what it costs when a slot moves."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from signal import SIGCONT, SIGSTOP, SIGTERM
from typing import TYPE_CHECKING

import pytest

from canary.cluster.kinds import NAMESPACE
from canary.cluster.slots import SLOTS, slot_of
from tests.faults.asked import Asked
from tests.real.replicas.audit import of_deposed, refused_by_fence, writes
from tests.replicas import WEIGHTS, Process, Routes, holders, opened, phases, released, serves
from tests.shop import Shop, until

if TYPE_CHECKING:
    from .conftest import Stage

pytestmark = pytest.mark.slow

HOME = "canary-system"
Start = Callable[[str], Process]


@pytest.fixture
def shops(stage: Stage) -> Iterator[list[Shop]]:
    made = opened(stage.gateway, 6)
    yield made
    for shop in made:
        stage.gateway.delete(NAMESPACE, None, shop.namespace)


def is_route_write(asked: Asked) -> bool:
    return asked.resource == "virtualservices" and asked.verb == "patch"


def answers_to_routes(process: Process) -> list[int]:
    """How the API server answered its writes of routes."""
    return [status for asked, status in list(process.proxy.log) if is_route_write(asked)]


def all_succeed(stage: Stage, shops: list[Shop], routes: Routes, *crew: Process) -> None:
    """Every release goes its whole way, each weight once; nobody wrote where somebody else was the owner."""
    until(lambda: set(phases(stage.gateway, shops).values()) == {"Succeeded"}, 120, "for all rollouts")
    for shop in shops:
        assert routes.of(shop.namespace) == list(WEIGHTS)
    found = writes(stage.server.audit_log, {one.pod for one in crew})
    effective = [one for one in found if one.took_effect and one.resource == "virtualservices"]
    assert len(effective) >= len(shops) * len(WEIGHTS)
    assert of_deposed(found, HOME) == []


def taken_over(stage: Stage, by: Process, since: float) -> float:
    """Seconds until every slot's Lease names `by`."""
    until(lambda: set(holders(stage.gateway, HOME).values()) == {by.pod}, 60, f"for {by.pod} to hold every slot")
    return time.monotonic() - since


def test_of_a_stopped_replica_and_one_that_is_cut_off_no_late_write_takes_effect(
    stage: Stage, crew: Start, shops: list[Shop]
) -> None:
    stopped, alone, other = (crew(name) for name in ("stopped", "alone", "other"))
    until(lambda: min(one.owned for one in (stopped, alone, other)) >= 5, 90, "for each to have its share")
    with Routes(stage.gateway) as routes:
        for one in (stopped, other):
            one.line.holds = is_route_write  # the other's too, so that what comes late finds the routes as it left them
        released(shops)
        until(lambda: stopped.line.held and "Progressing" in phases(stage.gateway, shops).values(), 60, "for routes")
        stopped.send(SIGSTOP)
        alone.line.is_cut = True
        begun = time.monotonic()
        late = len(stopped.line.held)
        until(lambda: alone.metric("canary_member_valid") == 0, 30, "for the one that is cut off to stop by itself")
        by_itself = time.monotonic() - begun
        seconds = taken_over(stage, other, begun)
        until(lambda: other.owned == SLOTS, 30, "for the other to use every slot")
        stopped.line.release()
        until(lambda: len(answers_to_routes(stopped)) >= late, 30, "for the late writes")
        refused = refused_by_fence(writes(stage.server.audit_log, {stopped.pod}))
        alone.line.is_cut = False
        other.line.release()
        stopped.send(SIGCONT)

        print(f"stopped by itself {by_itself:.1f} s after the cut; all taken over {seconds:.1f} s after the signal")
        print(f"{late} writes of the stopped one came late: {answers_to_routes(stopped)[:late]}")
        assert set(answers_to_routes(stopped)[:late]) == {403}
        assert len(refused) >= late
        assert by_itself < seconds
        all_succeed(stage, shops, routes, stopped, alone, other)


def test_told_to_end_with_a_write_unanswered_it_gives_back_all_but_that_slot(
    stage: Stage, crew: Start, shops: list[Shop]
) -> None:
    old = crew("ending")
    serves(old)
    with Routes(stage.gateway) as routes:
        chosen = shops[0].namespace
        old.line.holds = lambda asked: is_route_write(asked) and asked.namespace == chosen
        released(shops)
        until(lambda: old.line.held, 60, "for the write that is held")
        told = time.monotonic()
        old.send(SIGTERM)
        assert old.ends() == 0
        ended = time.monotonic() - told
        left = [slot for slot, holder in holders(stage.gateway, HOME).items() if holder == old.pod]
        new = crew("next")
        seconds = taken_over(stage, new, told)
        until(lambda: new.owned == SLOTS, 30, "for the other to use every slot")
        old.line.release()

        print(f"ended after {ended:.1f} s leaving slots {left}; the last was taken after {seconds:.1f} s")
        assert slot_of(chosen) in left
        assert len(left) < SLOTS / 2, "on a busy machine another write may have been left without an answer, not half"
        all_succeed(stage, shops, routes, old, new)
