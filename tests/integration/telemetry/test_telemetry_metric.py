"""Somebody's own PromQL: one number at each tile's end, or none, or a sentence that says what is wrong with it."""

import math
from collections.abc import Callable
from typing import Any

import pytest

from canary.errors import TelemetryAnswer
from canary.telemetry import BreakerState


@pytest.fixture
def queue(recording: Any) -> None:
    """A queue's length per pod, and one that is there for some of the time."""
    for pod, length in (("a", 3.0), ("b", 4.0)):
        recording.sample(f'queue_length{{pod="{pod}"}}', {float(at): length + at for at in range(0, 121, 5)})
    recording.sample('late{pod="a"}', {float(at): 7.0 for at in range(45, 121, 5)})


@pytest.mark.usefixtures("queue")
@pytest.mark.parametrize(
    ("query", "values"),
    [
        ("sum(queue_length)", {40.0: 87.0, 50.0: 107.0, 60.0: 127.0}),
        ("scalar(sum(queue_length)) * 2", {40.0: 174.0, 50.0: 214.0, 60.0: 254.0}),
        ("42", {40.0: 42.0, 50.0: 42.0, 60.0: 42.0}),
        ('max(queue_length{pod="b"}) - 1e9', {40.0: 44 - 1e9, 50.0: 54 - 1e9, 60.0: 64 - 1e9}),
        ("late", {50.0: 7.0, 60.0: 7.0}),
        ("nobody_exports_this", {}),
        ("sum(queue_length) * 0 / 0", {}),
        ("scalar(nobody_exports_this)", {}),
        ("1 / (sum(queue_length) * 0)", dict.fromkeys([40.0, 50.0, 60.0], math.inf)),
        ("sum(queue_length > 50)", {50.0: 107.0, 60.0: 127.0}),
    ],
)
def test_a_metric_is_one_number_per_tile_or_none(
    recording: Any, replay: Callable[..., Any], query: str, values: dict[float, float]
) -> None:
    assert recording.by_second(replay().metric(query, **recording.tiles(40, 60, 10.0))) == values


@pytest.mark.usefixtures("queue")
def test_what_is_not_one_number_is_an_answer_nobody_understands_and_no_outage(
    recording: Any, replay: Callable[..., Any]
) -> None:
    source, tiles = replay(), recording.tiles(40, 60, 10.0)
    wrong = {
        "queue_length": r"several series, \{__name__='queue_length', pod='a'\} and .* aggregate them to one",
        "queue_length[1m]": "HTTP 400 .*range vector",
        "sum(queue_length": "HTTP 400 .*unclosed left parenthesis",
        '"text"': "HTTP 400 ",
        "queue_length * on () queue_length": "HTTP 422 .*duplicate",
    }
    for query, sentence in wrong.items():
        with pytest.raises(TelemetryAnswer, match=sentence):
            source.metric(query, **tiles)

    assert source.metric("sum(queue_length)", **tiles)
    assert source.breaker_state is BreakerState.CLOSED
