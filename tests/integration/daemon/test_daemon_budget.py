"""What a steady controller costs, in counts: API requests, Prometheus queries, status writes, looks."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from canary.cluster.kinds import DEPLOYMENT
from canary.model.rollout import Phase

pytestmark = pytest.mark.slow

MANY = 5


def start_in_many_namespaces(new_shop: Callable[[], Any], number: int) -> list[Any]:
    """Shops with a rollout each that stays in its first step."""
    shops = [new_shop() for _ in range(number)]
    for shop in shops:
        shop.mesh()
        shop.deploy("v1")
    for shop in shops:
        shop.release("v2", policy="slow")
    for shop in shops:
        shop.until_judged("payment-v2-v2a-1")
    return shops


def test_a_steady_tick_neither_reads_nor_writes_whatever_the_number_of_rollouts(
    counts: Any, new_shop: Callable[[], Any], run_daemon: Callable[..., Any]
) -> None:
    controller = run_daemon(namespace=None, tick_s=0.5)
    start_in_many_namespaces(new_shop, MANY)
    controller.ticks(3)

    before = len(controller.requests)
    controller.ticks(10)

    told = [one for one in controller.requests[before:] if one[0] != "watch"]  # a watch counts when it is opened
    assert told == []


def test_prometheus_is_asked_the_same_number_of_questions_for_one_rollout_and_for_many(
    counts: Any, new_shop: Callable[[], Any], run_daemon: Callable[..., Any]
) -> None:
    controller = run_daemon(namespace=None, tick_s=0.5, abort_period_s=0.5)

    def per_tick(rollouts: int) -> dict[str, float]:
        controller.ticks(2)
        before, since = len(counts.asked), controller.daemon.pulse.last_tick
        controller.ticks(10)
        asked = counts.asked[before:]
        assert set(asked) == {("tiles", 2 * rollouts), ("failing", rollouts), ("unattributed", rollouts)}
        seconds = controller.daemon.pulse.last_tick - since
        return {"tiles": [what for what, _ in asked].count("tiles") / 10,
                "unattributed": [what for what, _ in asked].count("unattributed") / 10,
                "failing": [what for what, _ in asked].count("failing") / (seconds / 0.5)}  # fmt: skip

    start_in_many_namespaces(new_shop, 1)
    one = per_tick(1)
    start_in_many_namespaces(new_shop, MANY)
    many = per_tick(1 + MANY)

    assert one["tiles"] == many["tiles"] == 1.0  # one batch: two range queries (test_telemetry_source)
    assert one["unattributed"] == many["unattributed"] == 1.0
    assert one["failing"] == pytest.approx(1.0, abs=0.25)
    assert many["failing"] == pytest.approx(1.0, abs=0.25)


def test_evidence_alone_is_written_once_a_minute(
    released: Any, controller: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    ahead = timedelta(0)
    monkeypatch.setattr(controller.daemon.reconciler, "now", lambda: datetime.now(UTC) + ahead)
    released.release("v2", policy="slow")
    released.until_judged("payment-v2-v2a-1")
    controller.ticks(2)
    before = len(controller.writes)

    controller.ticks(10)
    at_first = controller.writes[before:]
    ahead = timedelta(seconds=61)
    controller.ticks(10)
    after_a_minute = controller.writes[before:]

    assert at_first == []
    assert after_a_minute == [("patch", "canaryrollouts", 200)]


def test_a_running_rollout_is_looked_at_once_per_tick(released: Any, controller: Any) -> None:
    released.release("v2", policy="slow")
    released.until_judged("payment-v2-v2a-1")
    controller.ticks(2)

    before = controller.looks()
    controller.ticks(10)

    assert controller.looks() - before <= 14


@pytest.mark.parametrize("policy", ["quick", "none"])
def test_a_rollout_that_has_ended_or_waits_costs_nothing(released: Any, controller: Any, policy: str) -> None:
    released.release("v2", policy=policy)
    if policy == "quick":
        released.reaches("payment-v2-v2a-1", Phase.SUCCEEDED)
    else:
        released.stalled("payment-v2-v2a-1", "UnknownPolicy")
    controller.ticks(3)

    looks, requests = controller.looks(), len(controller.requests)
    controller.ticks(10)

    assert controller.looks() - looks <= 2
    assert [one for one in controller.requests[requests:] if one[0] != "watch"] == []


def test_replica_counts_that_move_all_day_are_no_news(released: Any, controller: Any, wait: Callable[..., Any]) -> None:
    deployments = controller.daemon.caches.reflectors[DEPLOYMENT]
    controller.ticks(2)
    looks = controller.looks()

    for number in range(20):
        released.patch(DEPLOYMENT, "payment-v1", {"status": {"replicas": number + 5}}, "status")

    def has_arrived() -> bool:
        return deployments.get(released.namespace, "payment-v1")["status"].get("replicas") == 24

    wait(has_arrived, what="for the last change to arrive")
    controller.ticks(2)
    assert controller.looks() - looks <= 1
