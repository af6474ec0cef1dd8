"""Events: never in the way, never the same twice, never a flood, never an escape sequence."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from canary.cluster.events import BURST, EventRecorder, reference_to
from canary.cluster.gateway import Gateway
from canary.errors import NotFound, NotOurs, Unavailable

ROLLOUT = reference_to(
    {
        "apiVersion": "canary.delivery/v1alpha1",
        "kind": "CanaryRollout",
        "metadata": {"namespace": "shop", "name": "payment-v2-1", "uid": "u"},
    }
)


class Clock:
    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


class Taken(Gateway):
    """Takes Events, or raises `fault`; `gate` holds each request until it is set."""

    write_timeout_seconds = 2.0

    def __init__(self) -> None:
        self.created: list[dict[str, Any]] = []
        self.counted: list[tuple[str, dict[str, Any]]] = []
        self.fault: Exception | None = None
        self.expired = False
        self.gate = threading.Event()
        self.gate.set()

    def create(self, *asked: Any) -> dict[str, Any]:
        self.gate.wait(10)
        if self.fault:
            raise self.fault
        self.created.append(asked[-1])
        return {}

    def patch(self, *asked: Any, **_options: Any) -> dict[str, Any]:
        if self.expired:
            raise NotFound("no such event")
        self.counted.append((asked[2], asked[3]))
        return {}


@contextmanager
def recorder(gateway: Taken, clock: Clock | None = None) -> Iterator[EventRecorder]:
    events = EventRecorder(
        gateway, "canary", clock=clock or Clock(), now=lambda: datetime(2026, 1, 31, 8, 0, tzinfo=UTC)
    )
    events.start()
    try:
        yield events
    finally:
        gateway.gate.set()
        events.stop()


def test_an_event_says_what_describe_shows() -> None:
    gateway = Taken()
    with recorder(gateway) as events:
        events.record(ROLLOUT, "Warning", "RolledBack", "5.1 % errors, limit 1 %")
        assert events.flush(10)

    (event,) = gateway.created
    assert event["metadata"]["namespace"] == "shop"
    assert event["metadata"]["name"].startswith("payment-v2-1.")
    assert event["involvedObject"]["uid"] == "u"
    assert event["involvedObject"]["kind"] == "CanaryRollout"
    assert (event["type"], event["reason"], event["message"]) == ("Warning", "RolledBack", "5.1 % errors, limit 1 %")
    assert event["source"] == {"component": "canary"}
    assert event["firstTimestamp"] == "2026-01-31T08:00:00Z"


def test_the_same_event_again_raises_its_count_for_ten_minutes() -> None:
    gateway, clock = Taken(), Clock()
    with recorder(gateway, clock) as events:
        for _ in range(3):
            events.record(ROLLOUT, "Normal", "Waiting", "no traffic")
        events.record(ROLLOUT, "Normal", "Waiting", "another sentence")
        events.flush(10)
        clock.seconds += 601
        events.record(ROLLOUT, "Normal", "Waiting", "no traffic")
        events.flush(10)

    assert [event["message"] for event in gateway.created] == ["no traffic", "another sentence", "no traffic"]
    assert [body["count"] for _, body in gateway.counted] == [2, 3]
    assert {name for name, _ in gateway.counted} == {gateway.created[0]["metadata"]["name"]}


def test_an_event_that_expired_in_the_cluster_is_made_again() -> None:
    gateway = Taken()
    with recorder(gateway) as events:
        events.record(ROLLOUT, "Normal", "Waiting", "no traffic")
        events.flush(10)
        gateway.expired = True
        events.record(ROLLOUT, "Normal", "Waiting", "no traffic")
        events.flush(10)

    assert len(gateway.created) == 2
    assert events.sent == 2


def test_one_noisy_object_is_held_back_and_another_is_not() -> None:
    gateway, clock = Taken(), Clock()
    other = {**ROLLOUT, "name": "checkout-v2-1"}
    with recorder(gateway, clock) as events:
        for number in range(BURST + 10):
            events.record(ROLLOUT, "Normal", "Flapping", f"number {number}")
        events.record(other, "Normal", "Started", "fine")  # type: ignore[arg-type]
        events.flush(10)
        assert events.dropped == 10
        clock.seconds += 60
        events.record(ROLLOUT, "Normal", "Flapping", "a minute later")
        events.flush(10)

    assert events.dropped == 10
    assert [event["message"] for event in gateway.created][-2:] == ["fine", "a minute later"]


def test_failures_are_counted_and_the_next_event_is_sent() -> None:
    gateway = Taken()
    with recorder(gateway) as events:
        for gateway.fault in (Unavailable("no answer"), NotOurs("not ours")):
            events.record(ROLLOUT, "Normal", "Lost", "lost")
            events.flush(10)
        gateway.fault = None
        events.record(ROLLOUT, "Normal", "Sent", "sent")
        events.flush(10)

    assert (events.failed, events.sent) == (2, 1)


def test_a_stuck_api_server_neither_blocks_who_records_nor_the_stop() -> None:
    gateway = Taken()
    gateway.gate.clear()
    events = EventRecorder(gateway)
    events.start()

    for number in range(1500):
        events.record(ROLLOUT, "Normal", "Many", f"number {number}")
    assert events.dropped >= 400
    assert not events.flush(0)
    threading.Timer(0.05, gateway.gate.set).start()
    events.stop(timeout_seconds=0)

    assert events.sent + events.dropped == 1500


def test_messages_are_one_printable_line_of_at_most_1024() -> None:
    gateway = Taken()
    hostile = "\x1b[31mred\x1b[0m\nnext\u202e line\x00\ud800 " + "x" * 2000
    with recorder(gateway) as events:
        events.record(ROLLOUT, "Normal", "Bad\x1bReason", hostile)
        events.flush(10)

    (event,) = gateway.created
    assert event["message"].startswith("[31mred[0m next line x")
    assert len(event["message"]) == 1024
    assert event["reason"] == "BadReason"
