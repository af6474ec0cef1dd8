"""Which kill points there are, what two runs are compared by, and that a difference is seen."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import orjson
import pytest
from multidict import CIMultiDict

from tests.faults.asked import Asked
from tests.faults.crash.points import Point, Side, points_of, sample
from tests.faults.crash.told import differences, lost_time, told, unreachable
from tests.faults.crash.witness import Effect, Witness, once, relentlessly
from tests.faults.proxy import Answer, Dropped

VS, DR, ROLLOUT = "virtualservices", "destinationrules", "canaryrollouts"


def asked(resource: str, nth: int = 1, verb: str = "patch", subresource: str = "", name: str = "payment") -> Asked:
    path = f"/apis/x/v1/namespaces/shop/{resource}/{name}"
    return Asked(verb, resource, subresource, "shop", name, nth, path, {}, b"")


def virtual_service(header: str = "", **weights: int) -> dict[str, Any]:
    entries = [{"destination": {"host": "payment", "subset": name}, "weight": share} for name, share in weights.items()]
    before = [{"route": [{"destination": {"subset": header}}]}] if header else []
    return {"kind": "VirtualService", "metadata": {"name": "payment"}, "spec": {"http": [*before, {"route": entries}]}}


def rule(*subsets: str) -> dict[str, Any]:
    return {
        "kind": "DestinationRule",
        "metadata": {"name": "payment"},
        "spec": {"subsets": [{"name": s} for s in subsets]},
    }


def status(step: int, elapsed: str = "0s", resumed: str | None = None, phase: str = "Progressing") -> dict[str, Any]:
    running = {"resumedAt": resumed} if resumed else {}
    weight = {"desired": 50 if phase == "Progressing" else 0}
    return {"phase": phase, "step": {"index": step, "of": 2}, "weight": weight, "stepElapsed": elapsed, **running}


def rollout(**more: Any) -> dict[str, Any]:
    return {"kind": "CanaryRollout", "metadata": {"name": "a"}, "spec": {}, "status": status(**more)}


def effects(*documents: dict[str, Any]) -> list[Effect]:
    plural = {"VirtualService": VS, "DestinationRule": DR, "CanaryRollout": ROLLOUT}
    return [
        Effect(float(at), asked(plural[one["kind"]], name=one["metadata"]["name"]), one)
        for at, one in enumerate(documents)
    ]


def test_every_write_has_two_kill_points_and_events_and_leases_have_two_by_kind() -> None:
    writes = [asked(VS, 1), asked(VS, 2), asked(ROLLOUT, 1, subresource="status")]
    writes += [asked("events", nth, "create") for nth in range(1, 9)]
    writes += [asked("leases", 1, "create", name="canary-member-a-b")]
    writes += [asked("leases", nth, "create", name=f"canary-slot-{nth}") for nth in range(2, 18)]
    writes += [asked("leases", nth, "update", name="canary-member-a-b") for nth in range(1, 30)]

    found = points_of(writes)

    assert sorted(str(point) for point in found if point.side is Side.BEFORE) == [
        "before create events #2",
        "before create leases #1",
        "before create leases #3",
        "before patch canaryrollouts/status #1",
        "before patch virtualservices #1",
        "before patch virtualservices #2",
        "before update leases #2",
    ]
    assert len(found) == 14


def test_a_sample_has_every_kind_of_write_first_and_is_the_same_for_the_same_seed() -> None:
    points = points_of([*(asked(ROLLOUT, nth, subresource="status") for nth in range(1, 20)), asked(VS), asked(DR)])

    chosen = sample(points, 6, seed=3)

    assert {point.write for point in chosen} == {"patch canaryrollouts/status", f"patch {VS}", f"patch {DR}"}
    assert chosen == sample(points, 6, seed=3)
    assert chosen != sample(points, 6, seed=4)
    assert sorted(sample(points, 1000, seed=1)) == sorted(points)


class Killed:
    """A controller that can only die."""

    def __init__(self) -> None:
        self.times = 0

    def kill(self) -> None:
        self.times += 1


def send(witness: Witness, request: Asked, upstream: list[Asked], code: int = 200) -> str:
    """What the controller hears."""

    async def forward() -> Answer:
        upstream.append(request)
        return Answer(code, CIMultiDict(), orjson.dumps({"kind": "x"}))

    try:
        return str(asyncio.run(witness.hook(request, forward)).status)
    except Dropped:
        return "nothing"


@pytest.mark.parametrize(("side", "arrives"), [(Side.BEFORE, 0), (Side.AFTER, 1)])
def test_killed_at_one_write_and_what_the_dead_process_still_sends_is_not_forwarded(side: Side, arrives: int) -> None:
    dead, upstream = Killed(), list[Asked]()
    witness = Witness(once(Point("patch", VS, "", 2, side)), dead.kill)

    heard = [send(witness, asked(VS, nth), upstream) for nth in (1, 2)]
    late = send(witness, asked(ROLLOUT), upstream)
    witness.open()
    again = send(witness, asked(VS, 2), upstream)

    assert heard == ["200", "nothing"]
    assert (late, again) == ("nothing", "200")
    assert dead.times == 1
    assert [one.resource for one in upstream].count(VS) == 2 + arrives
    assert len(witness.effects) == 2 + arrives


def test_a_refused_write_took_no_effect() -> None:
    witness = Witness(once(None), Killed().kill)

    assert send(witness, asked(VS), [], code=409) == "409"
    assert witness.effects == []
    assert len(witness.asked) == 1


def test_a_question_that_is_asked_by_a_create_is_no_write() -> None:
    assert not asked("selfsubjectaccessreviews", verb="create").is_write
    assert asked(ROLLOUT, verb="create").is_write


def test_killed_relentlessly_each_write_costs_two_lives() -> None:
    dead, upstream = Killed(), list[Asked]()
    witness = Witness(relentlessly(frozenset({VS})), dead.kill)

    heard = []
    for nth in range(1, 5):
        heard.append(send(witness, asked(VS, nth), upstream))
        witness.open()
    heard.append(send(witness, asked(ROLLOUT), upstream))

    assert heard == ["nothing"] * 4 + ["200"]
    assert dead.times == 4
    assert [side for side, _ in witness.kills] == [Side.BEFORE, Side.AFTER] * 2
    assert len(upstream) == 3


def test_runs_that_gave_users_the_same_are_alike_however_often_something_was_written() -> None:
    once_each = [rule("v1", "v2"), virtual_service(v1=50, v2=50), rollout(step=1), virtual_service(v1=0, v2=100)]
    repeated = [one for one in once_each for _ in range(2)]

    assert differences(told(effects(*once_each), once_each[:2]), told(effects(*repeated), once_each[:2])) == []


@pytest.mark.parametrize(
    ("found", "sentence"),
    [
        ([rule("v1", "v2"), virtual_service(v1=20, v2=80)], "route: v1=20 v2=80 instead of v1=50 v2=50"),
        ([rule("v1", "v2")], "route: (nothing) instead of v1=50 v2=50"),
        ([rule("v1", "v2"), virtual_service(header="v2", v1=50, v2=50)], "route: v1=50 v2=50 header→v2 instead of"),
        (
            [rule("v1", "v2"), virtual_service(v1=50, v2=50), rollout(step=2), rollout(step=1)],
            "steps/a: Progressing step 2 at 50 % → Progressing step 1 at 50 % instead of",
        ),
        ([virtual_service(v1=50, v2=50)], "patch virtualservices #1 (shop/payment) leads to subset v2"),
        ([rule("v1", "v2"), virtual_service(v1=50, v2=49)], "left weights of 99 %"),
    ],
)  # fmt: skip
def test_another_route_step_or_a_route_to_nowhere_is_a_difference(found: list[dict[str, Any]], sentence: str) -> None:
    expected = told(effects(rule("v1", "v2"), virtual_service(v1=50, v2=50), rollout(step=1)), [])

    assert any(sentence in line for line in differences(expected, told(effects(*found), []))), sentence


def test_what_is_left_behind_is_a_difference() -> None:
    clean = told([], [rule("v1"), rollout(step=1)])
    kept = rollout(step=1)
    kept["metadata"] = {"name": "a", "finalizers": ["canary.delivery/route-back"]}

    assert differences(clean, told([], [rule("v1"), kept])) == [
        "left/CanaryRollout a/finalizers: ['canary.delivery/route-back'] instead of []"
    ]
    assert "left/DestinationRule payment" in differences(clean, told([], [rule("v1", "v2"), rollout(step=1)]))[0]
    assert differences(clean, replace(clean, wrong=("3 requests lost",))) == ["3 requests lost"]


EARLY, LATE = "2026-03-02T12:00:00Z", "2026-03-02T12:00:30Z"


@pytest.mark.parametrize(
    ("before", "after", "is_lost"),
    [
        (status(1, "0s", EARLY), status(1, "0s", EARLY), False),
        (status(1, "0s", EARLY), status(1, "0s", LATE), True),
        (status(1, "0s", EARLY), status(1, "0s"), True),
        (status(1, "0s", EARLY), status(1, "30s"), False),
        (status(1, "30s"), status(1, "30s", LATE), False),
        (status(1, "30s"), status(1, "0s", LATE), True),
        (status(1, "30s"), status(2, "0s"), False),
        (status(1, "30s"), status(1, "0s", phase="RollingBack"), False),
    ],
)  # fmt: skip
def test_a_steps_clock_may_stand_still_and_never_forgets(
    before: dict[str, Any], after: dict[str, Any], is_lost: bool
) -> None:
    assert bool(lost_time([before, after])) is is_lost


def test_a_subset_that_was_there_before_may_be_used() -> None:
    assert unreachable(effects(virtual_service(v5=100)), {"v5"}) == []
    assert unreachable(effects(virtual_service(v5=100))) != []
