"""The scheduler's jobs run again and again, ticks just after a tile has settled, and a run that is dropped is told."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from canary.daemon.schedule import AFTER_S, Rhythm, schedule


def test_a_job_runs_again_and_again() -> None:
    runs = threading.Semaphore(0)
    scheduler = schedule({"tick": (Rhythm(0.02), runs.release)}, lambda *_: None)
    scheduler.start()
    try:
        assert all(runs.acquire(timeout=5) for _ in range(3))
    finally:
        scheduler.shutdown()


def test_a_run_that_fails_or_finds_the_one_before_at_work_is_told_with_the_reason() -> None:
    told: set[tuple[str, str]] = set()
    complete, enough = threading.Event(), threading.Event()

    def dropped(job: str, why: str) -> None:
        told.add((job, why))
        if len(told) == 2:
            complete.set()

    def fail() -> None:
        raise RuntimeError("for the test")

    def dawdle() -> None:
        enough.wait(5)

    scheduler = schedule({"fails": (Rhythm(0.02), fail), "dawdles": (Rhythm(0.02), dawdle)}, dropped)
    scheduler.start()
    try:
        assert complete.wait(5)
    finally:
        enough.set()
        scheduler.shutdown()
    assert told == {("fails", "error"), ("dawdles", "max_instances")}


@given(
    st.datetimes(datetime(2025, 1, 1), datetime(2035, 1, 1)),  # noqa: DTZ001 - made aware below
    st.sampled_from([0.2, 0.5, 1.0, 5.0, 15.0, 60.0]),
    st.floats(0.1, 20),
)
def test_a_tick_comes_right_after_a_tile_has_settled_whenever_it_is_asked_for(
    moment: datetime, tile_s: float, settle_s: float
) -> None:
    now = moment.replace(tzinfo=UTC)
    trigger = Rhythm.after_settled(tile_s, settle_s).trigger

    first = trigger.get_next_fire_time(None, now)
    second = trigger.get_next_fire_time(first, first + timedelta(milliseconds=1))

    assert timedelta(0) <= first - now <= timedelta(seconds=tile_s, milliseconds=1)
    for run in (first, second):
        settled_for = (run.timestamp() - settle_s) % tile_s
        assert settled_for == pytest.approx(AFTER_S % tile_s, abs=0.002)


def test_a_tick_that_comes_more_often_than_tiles_end_hits_each_that_settles() -> None:
    """Tiles of 5 s, settled after 2.3 s, looked for every second."""
    rhythm = Rhythm.after_settled(1.0, 2.3)
    start = datetime.fromtimestamp(1_800_000_000, UTC)
    runs, run = [], None
    for _ in range(15):
        run = rhythm.trigger.get_next_fire_time(run, start)
        runs.append(round(run.timestamp() - 1_800_000_000, 3))

    assert 2.33 in runs
    assert 7.33 in runs
    assert 12.33 in runs


def test_lateness_counts_from_the_moment_that_was_due() -> None:
    rhythm = Rhythm.after_settled(5.0, 2.0)

    assert rhythm.lateness_s(1_800_000_002.03) == pytest.approx(0.0, abs=1e-6)
    assert rhythm.lateness_s(1_800_000_003.53) == pytest.approx(1.5, abs=1e-6)


def test_the_scheduler_keeps_to_the_phase_on_the_wall_clock() -> None:
    seen: list[float] = []
    enough = threading.Event()

    def run() -> None:
        seen.append(time.time())
        if len(seen) == 3:
            enough.set()

    rhythm = Rhythm(0.5, 0.1)
    scheduler = schedule({"tick": (rhythm, run)}, lambda *_: None)
    scheduler.start()
    try:
        assert enough.wait(10)
    finally:
        scheduler.shutdown()
    assert min(rhythm.lateness_s(at) for at in seen) < 0.25  # a busy machine may be late once, not always
