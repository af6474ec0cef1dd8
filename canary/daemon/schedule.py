"""When things are done: APScheduler, whose jobs only put keys into queues.

What a run does, and how late, is the queues' business; a run that was dropped is counted and never made up for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC

from apscheduler.events import EVENT_JOB_ERROR, EVENT_JOB_MAX_INSTANCES, EVENT_JOB_MISSED, JobEvent
from apscheduler.schedulers.background import BackgroundScheduler

_WHY = {EVENT_JOB_MISSED: "missed", EVENT_JOB_ERROR: "error", EVENT_JOB_MAX_INSTANCES: "max_instances"}


def schedule(
    jobs: Mapping[str, tuple[float, Callable[[], None]]], on_dropped: Callable[[str, str], None]
) -> BackgroundScheduler:
    """A scheduler, not started, of jobs by id: (seconds between runs, what to do).

    `on_dropped(job, why)` hears of each run that was missed, failed, or found the one before still at work.
    """
    scheduler = BackgroundScheduler(
        timezone=UTC, job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": 5}
    )
    for name, (seconds, run) in jobs.items():
        scheduler.add_job(run, "interval", seconds=seconds, id=name)

    def dropped(event: JobEvent) -> None:
        on_dropped(event.job_id, _WHY[event.code])

    scheduler.add_listener(dropped, EVENT_JOB_MISSED | EVENT_JOB_ERROR | EVENT_JOB_MAX_INSTANCES)
    return scheduler
