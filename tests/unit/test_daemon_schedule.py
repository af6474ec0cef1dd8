"""The scheduler's jobs run again and again, and a run that is dropped is told."""

from __future__ import annotations

import threading

from canary.daemon.schedule import schedule


def test_a_job_runs_again_and_again() -> None:
    runs = threading.Semaphore(0)
    scheduler = schedule({"tick": (0.02, runs.release)}, lambda *_: None)
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

    scheduler = schedule({"fails": (0.02, fail), "dawdles": (0.02, dawdle)}, dropped)
    scheduler.start()
    try:
        assert complete.wait(5)
    finally:
        enough.set()
        scheduler.shutdown()
    assert told == {("fails", "error"), ("dawdles", "max_instances")}
