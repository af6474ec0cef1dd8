"""When things are done: APScheduler, whose jobs only put keys into queues.

What a run does, and how late, is the queues' business; a run that was dropped is counted and never made up for. A tick
comes when there is something new, and not at a random moment after it: tiles end at multiples of their length on the
wall clock, so the moments at which they have settled are known.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from apscheduler.events import EVENT_JOB_ERROR, EVENT_JOB_MAX_INSTANCES, EVENT_JOB_MISSED, JobEvent
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.interval import IntervalTrigger

AFTER_S = 0.03
"""A tick comes so long after a tile has settled: the scheduler's own wake-up, and clocks that differ by a little."""

_WHY = {EVENT_JOB_MISSED: "missed", EVENT_JOB_ERROR: "error", EVENT_JOB_MAX_INSTANCES: "max_instances"}


@dataclass(frozen=True, slots=True)
class Rhythm:
    """Every `every_s` seconds, at the moments of the wall clock that are multiples of it plus `phase_s`.

    Without a phase the first run comes `every_s` from now.
    """

    every_s: float
    phase_s: float | None = None

    @classmethod
    def after_settled(cls, every_s: float, settle_s: float) -> Rhythm:
        """Just after tiles have settled, `settle_s` after multiples of their length, which `every_s` is or divides."""
        return cls(every_s, round((settle_s + AFTER_S) % every_s, 3))

    @property
    def trigger(self) -> IntervalTrigger:
        start = None if self.phase_s is None else datetime.fromtimestamp(self.phase_s, UTC)
        return IntervalTrigger(seconds=self.every_s, start_date=start, timezone=UTC)

    def lateness_s(self, now: float) -> float:
        """How long ago the moment was at which a run that begins at `now` (Unix seconds) was due."""
        return (now - (self.phase_s or 0.0)) % self.every_s


def schedule(
    jobs: Mapping[str, tuple[Rhythm, Callable[[], None]]], on_dropped: Callable[[str, str], None]
) -> BackgroundScheduler:
    """A scheduler, not started, of jobs by id: (when they run, what to do).

    `on_dropped(job, why)` hears of each run that was missed, failed, or found the one before still at work.
    """
    scheduler = BackgroundScheduler(
        timezone=UTC, job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": 5}
    )
    for name, (rhythm, run) in jobs.items():
        scheduler.add_job(run, rhythm.trigger, id=name)

    def dropped(event: JobEvent) -> None:
        on_dropped(event.job_id, _WHY[event.code])

    scheduler.add_listener(dropped, EVENT_JOB_MISSED | EVENT_JOB_ERROR | EVENT_JOB_MAX_INSTANCES)
    return scheduler
