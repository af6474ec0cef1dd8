"""What is said of requests that keep failing, and when."""

from __future__ import annotations

from canary.daemon.setbacks import SAID_AFTER_S, Setbacks
from canary.errors import Invalid, Unavailable


def test_a_failure_is_said_when_it_has_gone_on_for_a_while_in_its_first_words_and_forgotten_with_a_success() -> None:
    now = [100.0]
    setbacks = Setbacks(lambda: now[0])

    assert setbacks.failed("a", Unavailable("cannot patch x: nobody answers in 1 s")) is None
    now[0] += SAID_AFTER_S
    found = setbacks.failed("a", Unavailable("cannot patch x: nobody answers in 2 s"))

    assert found is not None
    assert (found.reason, found.sentence) == ("WriteFailing", "cannot patch x: nobody answers in 1 s")
    assert setbacks.of("a") == found
    assert setbacks.of("b") is None
    setbacks.went_through("a")
    assert setbacks.of("a") is None


def test_what_the_api_server_will_not_take_is_told_from_what_it_cannot_take_now() -> None:
    setbacks = Setbacks(lambda: 0.0)
    setbacks.failed("a", Invalid("no"))
    setbacks._clock = lambda: SAID_AFTER_S

    found = setbacks.of("a")

    assert found is not None
    assert found.reason == "WriteRejected"
