"""Faults on the way to the API server: a release goes on as soon as it can, ends as it would have, says why it waits.

The rollouts of `released` run side by side, each behind a fault of its own.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from canary.cluster.kinds import CANARYROLLOUT, VIRTUALSERVICE
from canary.daemon import setbacks
from canary.model.rollout import Phase, Rollout
from tests.faults import kubernetes as faults
from tests.faults.asked import Asked
from tests.faults.proxy import Hook
from tests.faults.streams import End
from tests.shop import Shop, until

pytestmark = pytest.mark.slow

ATTEMPT = "payment-v2-v2a-1"

OF_A_RELEASE: Mapping[str, Hook] = {
    "no fault": faults.late(0.0),
    "late answer": faults.late(1.0),
    "answer later than anybody waits": faults.late(3.5),
    "late request": faults.late_before(3.5),
    "409": faults.conflict(),
    "422 without causes": faults.lost_precondition(),
    "422 with causes": faults.invalid("a webhook says no"),
    "429 in seconds": faults.throttled(1),
    "429 with a date": faults.throttled(2, as_date=True),
    "500": faults.broken(),
    "500 request is too large": faults.too_large(),
    "503": faults.unavailable(),
    "answer lost": faults.answer_lost,
    "connection reset": faults.reset,
    "half the JSON": faults.truncated,
    "dribbled answer": faults.dribbled(4.0),
}
HITS = 4
"""So many of a release's writes are hit: some of its first ones, on the rollout, the route and the subsets."""


def in_namespace(namespace: str, where: Callable[[Asked], bool]) -> Callable[[Asked], bool]:
    return lambda asked: asked.namespace == namespace and where(asked)


@dataclass
class Told:
    """A release and every weight that its route has had, in order."""

    shop: Shop
    ended: Rollout
    weights: list[int]
    hits: int


@contextmanager
def behind(between: Any, *hooks: Hook) -> Iterator[None]:
    """These faults, for as long as the block lasts."""
    for hook in hooks:
        between.proxy.hooks.insert(0, hook)
    try:
        yield
    finally:
        for hook in hooks:
            between.proxy.hooks.remove(hook)


@pytest.fixture(scope="module")
def controller(counts: Any, run_daemon: Callable[..., Any]) -> Any:
    return run_daemon()


@pytest.fixture(scope="module")
def released(controller: Any, between: Any, new_shop: Callable[[], Shop]) -> Mapping[str, Told]:
    """One release behind each fault, to its end."""
    with ThreadPoolExecutor(len(OF_A_RELEASE)) as pool:  # each waits for the next second of the creation times
        shops = dict(zip(OF_A_RELEASE, pool.map(lambda _: new_shop(), OF_A_RELEASE), strict=True))
    hits = dict.fromkeys(OF_A_RELEASE, 0)

    def counted(name: str, fault: Hook) -> Hook:
        async def hook(asked: Any, forward: Any) -> Any:
            hits[name] += 1
            return await fault(asked, forward)

        return hook

    writes = faults.writes("canaryrollouts", "virtualservices", "destinationrules")
    hooks = [
        faults.on(in_namespace(shops[name].namespace, writes), counted(name, fault), times=HITS)
        for name, fault in OF_A_RELEASE.items()
    ]
    weights: dict[str, list[int]] = {shop.namespace: [] for shop in shops.values()}
    with behind(between, *hooks):
        with ThreadPoolExecutor(len(shops)) as pool:
            list(pool.map(lambda shop: shop.release("v2"), shops.values()))

        def ended() -> dict[str, Rollout]:
            for item in next(iter(shops.values())).gateway.list(VIRTUALSERVICE)[0]:
                if (seen := weights.get(item["metadata"]["namespace"])) is not None:
                    seen.append(weight_of(item))
            found = {name: rollout_of(shop) for name, shop in shops.items()}
            return {name: one for name, one in found.items() if one is not None and one.status.phase.is_terminal}

        try:
            until(lambda: len(ended()) == len(shops), 120)
        except AssertionError:
            waiting = {name: rollout_of(shop) for name, shop in shops.items() if name not in ended()}
            told = {name: one.status.message if one else "no rollout" for name, one in waiting.items()}
            raise AssertionError(f"not ended: {told}") from None
    return {
        name: Told(shops[name], one, compact(weights[shops[name].namespace]), hits[name])
        for name, one in ended().items()
    }


def rollout_of(shop: Shop) -> Rollout | None:
    return next(iter(shop.rollouts()), None)


def weight_of(route: Mapping[str, Any]) -> int:
    """The canary's weight on a route as it stands."""
    entries = route["spec"]["http"][-1]["route"]
    return sum(one.get("weight", 0) for one in entries if one["destination"].get("subset") == "v2")


def compact(weights: list[int]) -> list[int]:
    """Without repetitions."""
    return [weight for index, weight in enumerate(weights) if index == 0 or weights[index - 1] != weight]


@pytest.mark.parametrize("fault", OF_A_RELEASE)
def test_a_release_is_promoted_through_its_steps_whatever_happens_to_its_writes(
    released: Mapping[str, Told], fault: str
) -> None:
    told = released[fault]

    assert told.ended.status.phase is Phase.SUCCEEDED, told.ended.status.message
    assert told.hits == HITS
    assert [change.weight for change in told.ended.status.weight_changes] == [50, 100, 100][
        : len(told.ended.status.weight_changes)
    ]
    assert told.weights == sorted(told.weights), "the canary's weight never went back"
    assert told.shop.weights() == {"v1": 0, "v2": 100}
    assert len(told.shop.rollouts()) == 1, "nobody began it twice"


@contextmanager
def again_and_again(streams: Any, how: End) -> Iterator[None]:
    """Every watch ends so, three times a second."""
    over = threading.Event()

    def end() -> None:
        while not over.wait(0.3):
            streams.end(how)

    ending = threading.Thread(target=end)
    ending.start()
    try:
        yield
    finally:
        over.set()
        ending.join()


@pytest.mark.parametrize("how", list(End))
def test_a_release_is_promoted_although_no_watch_lasts(
    controller: Any, between: Any, new_shop: Callable[[], Shop], how: End
) -> None:
    shop = new_shop()

    with again_and_again(between.streams, how):
        shop.release("v2")
        ended = shop.reaches(ATTEMPT, Phase.SUCCEEDED, Phase.ROLLED_BACK, Phase.FAILED, seconds=90)

    assert ended.status.phase is Phase.SUCCEEDED, ended.status.message
    assert between.streams.counts[how] > 7, "every kind's watch was ended"


def test_watches_that_lag_for_seconds_neither_move_a_weight_back_nor_begin_anything_twice(
    controller: Any, between: Any, new_shop: Callable[[], Shop]
) -> None:
    shop = new_shop()
    weights: list[int] = []
    between.streams.lag_s = 6.0  # longer than our own writes are remembered without the watch having told of them
    try:
        shop.release("v2")

        def ended() -> bool:
            weights.append(weight_of(shop.get(VIRTUALSERVICE)))
            found = rollout_of(shop)
            return found is not None and found.status.phase.is_terminal

        until(ended, 120, "for the release to end")
    finally:
        between.streams.lag_s = 0.0

    (rollout,) = shop.rollouts()
    assert rollout.status.phase is Phase.SUCCEEDED, rollout.status.message
    assert compact(weights) in ([0, 50, 100], [50, 100])
    assert [change.weight for change in rollout.status.weight_changes][:2] == [50, 100]


def test_an_api_server_that_is_away_holds_the_weight_where_it_is_and_the_release_goes_on_by_itself(
    controller: Any, between: Any, new_shop: Callable[[], Shop]
) -> None:
    shop = new_shop()
    shop.release("v2", policy="slow")
    shop.until_judged(ATTEMPT)
    before = shop.rollout(ATTEMPT)

    with behind(between, faults.reset):
        between.streams.end(End.CUT)
        until(lambda: not controller.daemon.lease.is_held, 60, "for the right to write to end")
        assert shop.weights() == {"v1": 50, "v2": 50}
    shop.patch(CANARYROLLOUT, ATTEMPT, {"spec": {"promote": {"full": True, "actor": "me"}}})

    ended = shop.reaches(ATTEMPT, Phase.SUCCEEDED, Phase.ROLLED_BACK, Phase.FAILED, seconds=90)
    assert ended.status.phase is Phase.SUCCEEDED, ended.status.message
    assert ended.status.history[: len(before.status.history)] == before.status.history


def test_an_aborted_release_loses_its_traffic_although_its_first_writes_fail(
    controller: Any, between: Any, new_shop: Callable[[], Shop]
) -> None:
    names = ("answer lost", "500", "409", "dribbled answer")
    with ThreadPoolExecutor(len(names)) as pool:
        shops = dict(zip(names, pool.map(lambda _: new_shop(), names), strict=True))
        list(pool.map(lambda shop: shop.release("v2", policy="slow"), shops.values()))
    for shop in shops.values():
        shop.until_judged(ATTEMPT)
    writes = faults.writes("canaryrollouts", "virtualservices")
    hooks = [faults.on(in_namespace(shops[name].namespace, writes), OF_A_RELEASE[name], times=3) for name in names]

    with behind(between, *hooks):
        for shop in shops.values():
            shop.patch_abort(ATTEMPT)
        ended = {name: shop.reaches(ATTEMPT, Phase.ABORTED, seconds=60) for name, shop in shops.items()}

    for name in names:
        assert shops[name].weights() == {"v1": 100}, name
        assert [change.weight for change in ended[name].status.weight_changes] == [50, 0], name


def test_a_route_that_a_webhook_refuses_is_named_on_the_release_which_goes_on_when_it_no_longer_does(
    controller: Any, between: Any, new_shop: Callable[[], Shop], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(setbacks, "SAID_AFTER_S", 1.0)
    shop = new_shop()
    where = in_namespace(shop.namespace, faults.writes("virtualservices"))

    with behind(between, faults.on(where, faults.invalid("no route changes on Fridays"))):
        shop.release("v2")
        until(shop.rollouts, 60)
        stuck = shop.stalled(ATTEMPT, "WriteRejected")
        tried = len([asked for asked, _ in between.proxy.log if where(asked)])
        assert shop.weights() == {"v1": 100}

    (said,) = [one.message for one in stuck.status.conditions if one.type == "Stalled"]
    assert said.startswith(f"cannot patch virtualservices.networking.istio.io {shop.namespace}/payment: ")
    assert "no route changes on Fridays (HTTP 422)" in said
    assert tried < 40, "it backs off"
    ended = shop.reaches(ATTEMPT, Phase.SUCCEEDED, Phase.ROLLED_BACK, Phase.FAILED, seconds=90)
    assert ended.status.phase is Phase.SUCCEEDED
    assert not shop.is_stalled(ATTEMPT)
