"""The controller's clock jumps (libfaketime): no step is shorter for it, nothing is blind because of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from canary.model.rollout import Phase
from canary.sandbox.prometheus import PrometheusServer
from tests.faults.callers import Behaviour, Callers
from tests.faults.clock import JumpingClock, find_faketime
from tests.faults.soak.controller import Controller
from tests.shop import Shop, until

pytestmark = pytest.mark.slow

ATTEMPT = "payment-v2-v2a-1"
HOUR_S = 3600.0


@pytest.fixture(scope="session")
def library() -> Path:
    found = find_faketime()
    if found is None:
        pytest.skip("without libfaketime no clock can be made to jump (scripts/faketime; Debian: libfaketime)")
    return found


@dataclass
class Timed:
    """A release at its first step, by a controller whose clock can be set."""

    shop: Shop
    controller: Controller
    clock: JumpingClock

    def jumps(self, ahead_s: float) -> None:
        before = self.jumps_noticed
        self.clock.set(ahead_s)
        until(lambda: self.jumps_noticed > before, 30, "for the controller to notice that its clock jumped")

    def ticks_go_on(self) -> None:
        name = "canary_tick_seconds_count"
        before = self.controller.metric(name)
        until(lambda: self.controller.metric(name) >= before + 3, 60, "for ticks to go on")

    @property
    def jumps_noticed(self) -> int:
        return sum("clock jumped" in str(line.get("event")) for line in self.controller.said())


@pytest.fixture
def timed(  # noqa: PLR0917  fixtures, given by name
    library: Path,
    new_shop: Callable[[], Shop],
    new_namespace: Callable[[str], str],
    callers: Callers,
    server: PrometheusServer,
    policies: Path,
    embedded: Path,
    tmp_path: Path,
) -> Iterator[Timed]:
    shop, clock = new_shop(), JumpingClock(library, tmp_path / "clock")
    callers.call(shop.namespace, 400)
    for version in ("v1", "v2"):
        callers.serve(shop.namespace, version, Behaviour())
    options = {
        "kubeconfig": embedded, "prometheus": server.url, "namespace": shop.namespace, "policies": policies,
        "own-namespace": new_namespace("own"),
    }  # fmt: skip
    controller = Controller([f"--{name}={value}" for name, value in options.items()], tmp_path / "log", clock)
    controller.start()
    try:
        shop.release("v2", policy="slow")
        until(shop.rollouts, 60)
        shop.reaches(ATTEMPT, Phase.PROGRESSING, seconds=90)
        shop.until_judged(ATTEMPT)
        yield Timed(shop, controller, clock)
    finally:
        controller.stop()


def test_a_clock_that_jumps_ends_no_step_and_a_disaster_is_seen_all_the_same(timed: Timed, callers: Callers) -> None:
    before = timed.shop.rollout(ATTEMPT)

    for ahead_s in (2 * HOUR_S, 0.0, -HOUR_S):  # the step lasts an hour
        timed.jumps(ahead_s)
        timed.ticks_go_on()

        during = timed.shop.rollout(ATTEMPT)
        assert (during.status.phase, during.status.step) == (Phase.PROGRESSING, before.status.step)
        assert during.status.history == before.status.history

    callers.serve(timed.shop.namespace, "v2", Behaviour(errors=1.0))
    broke = time.time()
    ended = timed.shop.reaches(ATTEMPT, Phase.ROLLED_BACK, seconds=60)

    assert timed.shop.weights() == {"v1": 100}
    (back,) = [change.asked for change in ended.status.weight_changes if change.weight == 0]
    assert abs(back.timestamp() - broke) < 60, "by the time of day that everybody else goes by"
    assert timed.controller.restarts.total() == 0
