"""The time of day by which steps are timed, while the system's own clock jumps."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from canary.daemon.wallclock import BELIEVED_AFTER_S, WallClock


@dataclass
class System:
    """A machine's clocks: `passes` seconds go by on both, `jumps` moves the one on the wall."""

    wall: float = 1_000_000.0
    steady: float = 500.0

    def passes(self, seconds: float, *, drift: float = 0.0) -> None:
        self.steady += seconds
        self.wall += seconds + drift

    def clock(self) -> WallClock:
        return WallClock(lambda: self.wall, lambda: self.steady)


@pytest.mark.parametrize("jump", [3600.0, -3600.0, 5.0])
def test_a_jump_that_is_taken_back_takes_no_time_with_it(jump: float) -> None:
    system = System()
    clock = system.clock()
    begun = clock.time()

    system.wall += jump
    system.passes(30)
    during = clock.time()
    system.wall -= jump
    system.passes(10)

    assert during - begun == pytest.approx(30)
    assert clock.time() - begun == pytest.approx(40)
    assert clock.jumps == 2


def test_a_jump_that_lasts_is_believed_in_the_end() -> None:
    system = System()
    clock = system.clock()

    system.wall += 3600
    clock.time()
    system.passes(BELIEVED_AFTER_S - 1)
    before = clock.time()
    system.passes(1)

    assert system.wall - before == pytest.approx(3601)
    assert clock.time() == system.wall
    assert clock.jumps == 1


def test_one_jump_after_the_other_is_doubted_anew_each_time() -> None:
    system = System()
    clock = system.clock()

    for _ in range(5):
        system.wall += 100
        clock.time()
        system.passes(BELIEVED_AFTER_S / 2)
        assert system.wall - clock.time() >= 100


def test_slow_corrections_are_followed() -> None:
    system = System()
    clock = system.clock()

    for _ in range(3600):
        system.passes(1, drift=0.0005)
        assert clock.time() == pytest.approx(system.wall)

    assert clock.jumps == 0
    assert clock.now().timestamp() == pytest.approx(system.wall)


def test_a_jump_to_where_another_clock_is_is_believed_at_once() -> None:
    system = System()
    system.wall -= 90
    clock = system.clock()

    system.wall += 90
    system.passes(1)
    clock.time()
    clock.heard(system.wall + 0.7)

    assert clock.time() == system.wall


def test_a_jump_away_from_where_another_clock_is_is_doubted_as_ever() -> None:
    system = System()
    clock = system.clock()
    right = system.wall

    system.wall += 90
    clock.heard(right)

    assert clock.time() == pytest.approx(right)
