import contextlib
import threading

import pytest

from canary.errors import TelemetryAnswer, TelemetryUnavailable
from canary.telemetry.breaker import Breaker, BreakerState


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def fail(breaker: Breaker, why: str = "refused") -> bool:
    """Whether the call was let through."""
    let_through = False
    with contextlib.suppress(TelemetryUnavailable), breaker.call():
        let_through = True
        raise TelemetryUnavailable(why)
    return let_through


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breaker(clock: Clock) -> Breaker:
    return Breaker(failures=3, pause_s=1, longest_pause_s=10, clock=clock)


def test_it_opens_after_three_failures_in_a_row_and_says_why(breaker: Breaker) -> None:
    assert [fail(breaker) for _ in range(4)] == [True, True, True, False]
    assert breaker.state is BreakerState.OPEN
    with (
        pytest.raises(TelemetryUnavailable, match=r"refused \(3 failures in a row, next try in 1.0 s\)"),
        breaker.call(),
    ):
        pytest.fail("let through")


def test_an_answer_between_failures_keeps_it_closed(breaker: Breaker) -> None:
    for _ in range(5):
        fail(breaker)
        fail(breaker)
        with breaker.call():
            pass

    assert breaker.state is BreakerState.CLOSED


def test_an_answer_that_is_not_understood_is_an_answer(breaker: Breaker) -> None:
    for _ in range(5):
        with pytest.raises(TelemetryAnswer), breaker.call():
            raise TelemetryAnswer("HTML")

    assert breaker.state is BreakerState.CLOSED


def test_pauses_double_up_to_the_longest_and_start_over_after_an_answer(breaker: Breaker, clock: Clock) -> None:
    for _ in range(3):
        fail(breaker)
    for pause_s in (1, 2, 4, 8, 10, 10):
        clock.now += pause_s - 0.01
        assert not fail(breaker)
        clock.now += 0.02
        assert fail(breaker)

    clock.now += 10.01
    with breaker.call():
        assert breaker.state is BreakerState.PROBING
    assert breaker.state is BreakerState.CLOSED
    assert [fail(breaker) for _ in range(4)] == [True, True, True, False]
    clock.now += 1.01
    assert fail(breaker)


def test_one_probe_at_a_time(breaker: Breaker, clock: Clock) -> None:
    for _ in range(3):
        fail(breaker)
    clock.now += 2
    refused: list[str] = []

    def second() -> None:
        try:
            with breaker.call():
                refused.append("let through")
        except TelemetryUnavailable as error:
            refused.append(str(error))

    with breaker.call():
        thread = threading.Thread(target=second)
        thread.start()
        thread.join()

    assert refused == ["refused (3 failures in a row, being tried again now)"]


def test_a_probe_that_dies_of_something_else_does_not_block_the_next(breaker: Breaker, clock: Clock) -> None:
    for _ in range(3):
        fail(breaker)
    clock.now += 2
    with pytest.raises(KeyboardInterrupt), breaker.call():
        raise KeyboardInterrupt

    assert fail(breaker)


def test_calls_under_way_when_it_opens_do_not_lengthen_the_pause(breaker: Breaker, clock: Clock) -> None:
    under_way = [breaker.call() for _ in range(5)]
    for call in under_way:
        call.__enter__()
    for call in under_way:
        error = TelemetryUnavailable("timed out")
        assert not call.__exit__(type(error), error, None)

    assert not fail(breaker)
    clock.now += 1.01
    assert fail(breaker)
