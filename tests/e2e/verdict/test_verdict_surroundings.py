"""What lies around a release: ejected pods, a node that loses processor time, a number of the users' own."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from canary.model.phase import Phase
from canary.model.rollout import Rollout
from canary.model.verdict import Outcome, Reason
from canary.sandbox import example

if TYPE_CHECKING:
    from .conftest import Shop

pytestmark = pytest.mark.slow

RATE = 150.0
NOISY_FOR_S = 20.0


def sentence_of(rollout: Rollout) -> str:
    """What ended it, else its latest verdict."""
    if rollout.status.cause is not None:
        return rollout.status.cause.sentence
    return rollout.status.verdict.sentence if rollout.status.verdict else rollout.status.message


def is_noisy(rollout: Rollout) -> bool:
    verdict = rollout.status.verdict
    return rollout.status.phase.is_terminal or (verdict is not None and verdict.reason is Reason.NOISY)


def test_a_canary_whose_pods_are_all_ejected_is_rolled_back_for_what_its_own_metrics_do_not_show(shop: Shop) -> None:
    service = shop.service("ejected")
    ejects = {"consecutive5xxErrors": 3, "interval": "1s", "baseEjectionTime": "60s", "maxEjectionPercent": 100}
    service.open(RATE, example.HEALTHY, outlier_detection=ejects)
    service.wait_requests(10 * int(RATE))

    service.release(example.FAILS_ALWAYS, policy="ejecting")
    ended = service.wait_end(timeout_s=60)

    seen = service.seen()
    assert ended.status.phase is Phase.ROLLED_BACK, sentence_of(ended)
    assert ended.status.verdict is not None
    said = sentence_of(ended)
    print(said)
    assert "eject" in said or ended.status.verdict.reason is Reason.UNATTRIBUTED, said
    assert 0 < seen.version("v2").requests <= 10, "its own series say next to nothing"
    assert seen.version("").errors > 5, "callers were answered by their proxies in its place"
    service.close()


def test_a_slow_canary_on_a_node_that_loses_processor_time_is_held_and_never_rolled_back(shop: Shop) -> None:
    service = shop.service("stolen")
    service.open(RATE, example.HEALTHY, node="sandbox")
    service.wait_requests(10 * int(RATE))
    shop.nodes["sandbox-b"].stolen_share = 0.4

    service.release(example.SLOW, policy="comparing-latency", node="sandbox-b")
    held = service.wait(is_noisy, timeout_s=60)

    assert held.status.verdict is not None
    assert (held.status.verdict.outcome, held.status.verdict.reason) == (Outcome.HOLD, Reason.NOISY), sentence_of(held)
    assert "sandbox-b" in held.status.verdict.sentence or "steal" in held.status.verdict.sentence
    until = time.monotonic() + NOISY_FOR_S
    while time.monotonic() < until:
        now = service.wait(lambda _: True, timeout_s=5)
        assert now.status.phase is Phase.PROGRESSING, sentence_of(now)
        assert now.status.verdict is not None
        assert now.status.verdict.outcome is Outcome.HOLD, now.status.verdict.sentence
        time.sleep(0.5)
    shop.nodes["sandbox-b"].stolen_share = 0.0
    service.close()


def test_errors_on_such_a_node_are_rolled_back_all_the_same(shop: Shop) -> None:
    service = shop.service("failing")
    service.open(RATE, example.HEALTHY, node="sandbox")
    service.wait_requests(10 * int(RATE))
    shop.nodes["sandbox-b"].stolen_share = 0.4

    service.release(example.SLOW | {"ERROR_RATE": "10%"}, policy="comparing-latency", node="sandbox-b")
    ended = service.wait_end(timeout_s=60)

    assert ended.status.phase is Phase.ROLLED_BACK, sentence_of(ended)
    assert ended.status.verdict is not None
    assert ended.status.verdict.reason in (Reason.ERROR_RATE, Reason.FAST_ABORT)
    assert "errors" in sentence_of(ended)
    shop.nodes["sandbox-b"].stolen_share = 0.0
    service.close()


def test_a_number_of_the_users_own_over_its_limit_is_a_reason_to_go_back(shop: Shop) -> None:
    service = shop.service("queueing")
    service.open(RATE, example.HEALTHY)
    queue = f'shop_queue_length{{deployment="{service.target("v2")}"}}'
    shop.gauges.values[queue] = 7.0
    service.wait_requests(5 * int(RATE))

    service.release(example.HEALTHY, policy="watching-a-queue")
    healthy = service.wait(
        lambda one: one.status.verdict is not None and one.status.verdict.outcome is Outcome.PASS, timeout_s=60
    )
    shop.gauges.values[queue] = 250.0
    ended = service.wait_end(timeout_s=60)

    assert healthy.status.phase is Phase.PROGRESSING
    assert ended.status.phase is Phase.ROLLED_BACK, sentence_of(ended)
    assert ended.status.verdict is not None
    assert ended.status.verdict.reason is Reason.METRIC
    assert "queue-length" in sentence_of(ended)
    assert "250" in sentence_of(ended)
    assert service.seen().errors == 0
    service.close()
