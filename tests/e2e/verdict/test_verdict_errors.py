"""Errors as they come, at random: what is no worse than stable is promoted, what is worse never is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from canary.model.phase import Phase
from canary.model.verdict import Reason
from canary.sandbox import example

if TYPE_CHECKING:
    from canary.model.rollout import Rollout

    from .conftest import Service, Shop

pytestmark = pytest.mark.slow

ONE_PERCENT = example.HEALTHY | {"ERROR_RATE": "1%"}
RATE = 25.0
"""Requests per second of each service; ten at a time are most of what a small machine can do beside other tests."""


def test_of_ten_releases_that_fail_one_percent_as_stable_does_every_one_is_promoted(shop: Shop) -> None:
    services = [shop.service(f"orders-{number}") for number in range(10)]
    for service in services:
        service.open(RATE, ONE_PERCENT)
    for service in services:
        service.wait_requests(20 * int(RATE))
        service.release(ONE_PERCENT, policy="steady")

    ended = [service.wait_end(timeout_s=360) for service in services]

    others = [f"{one.spec.target} {one.status.phase}: {one.status.message}" for one in ended if not promoted(one)]
    assert not others, "\n".join(others)
    seen = [service.seen() for service in services]
    assert min(one.version("v2").requests for one in seen) > 400
    assert sum(one.version("v2").errors for one in seen) > 20, "the canaries did fail now and then"
    assert sum(one.lost for one in seen) == 0
    close(services)


def promoted(rollout: Rollout) -> bool:
    return rollout.status.phase is Phase.SUCCEEDED


def test_of_five_releases_that_fail_five_percent_over_a_clean_stable_every_one_is_rolled_back(shop: Shop) -> None:
    services = [shop.service(f"billing-{number}") for number in range(5)]
    for service in services:
        service.open(4 * RATE, example.HEALTHY)
    for service in services:
        service.wait_requests(40 * int(RATE))
        service.release(example.FAILS_SOMETIMES, policy="careful")

    ended = [service.wait_end(timeout_s=120) for service in services]

    stories = {rollout.spec.target: (rollout.status.phase, rollout.status.message) for rollout in ended}
    assert {phase for phase, _ in stories.values()} == {Phase.ROLLED_BACK}, stories
    for rollout, service in zip(ended, services, strict=True):
        assert rollout.status.cause is not None
        assert "errors" in rollout.status.cause.sentence
        assert rollout.status.verdict is not None
        assert rollout.status.verdict.reason in (Reason.ERROR_RATE, Reason.HARM_BUDGET)
        assert max(change.weight for change in rollout.status.weight_changes) < 100
        assert service.seen().lost == 0
    close(services)


def close(services: list[Service]) -> None:
    """What follows in this file has the machine for itself."""
    for service in services:
        service.close()
