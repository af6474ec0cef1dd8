"""The telemetry thread and the scheduler that sets its times; what else comes at fixed times is scheduled here too.

The scheduler only puts words into the queue; what a beat does is the pulse's.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial

import structlog
from apscheduler.jobstores.base import JobLookupError

from canary.cluster.queue import KeyedQueue
from canary.daemon.metrics import Metrics
from canary.daemon.pulse import ABORT, FACTS, TICK, Pulse
from canary.daemon.schedule import Rhythm, schedule
from canary.daemon.sourcewatch import SourceWatch
from canary.daemon.wallclock import WallClock

FACTS_S = 60

Jobs = Mapping[str, tuple[Rhythm, Callable[[], None]]]

log = structlog.get_logger("canary.daemon")


class Beats:
    """Ticks after each settled tile, looks for disasters between them, questions about the source once a minute."""

    def __init__(
        self,
        queue: KeyedQueue[str],
        pulse: Pulse,
        source: SourceWatch,
        clock: WallClock,
        metrics: Metrics,
        *,
        is_ours: Callable[[], bool],
        abort_period_s: float,
        others: Jobs,
    ) -> None:
        """While `is_ours` is false nothing is looked at but the source; `others` are scheduled beside the beats."""
        self._queue, self._pulse, self._source = queue, pulse, source
        self._clock, self._metrics, self._is_ours = clock, metrics, is_ours
        self._abort_period_s, self._others = abort_period_s, others
        self._rhythm = Rhythm.after_settled(source.tick_s, source.settle_s)
        self._scheduler = schedule(self._jobs(), lambda job, why: metrics.missed_jobs.labels(job=job, why=why).inc())
        self.thread = threading.Thread(target=self._loop, name="pulse", daemon=True)

    def start(self) -> None:
        self.thread.start()
        self._scheduler.start()
        self._queue.add(FACTS)

    def stop(self) -> None:
        """Nothing begins any more; what is under way ends by itself."""
        self._scheduler.shutdown(wait=False)
        self._queue.close(discard=True)

    def _jobs(self) -> Jobs:
        return {
            TICK: (self._rhythm, partial(self._queue.add, TICK)),
            ABORT: (Rhythm(self._abort_period_s), partial(self._queue.add, ABORT)),
            FACTS: (Rhythm(FACTS_S), partial(self._queue.add, FACTS)),
            **self._others,
        }

    def _loop(self) -> None:
        due, jumps = 0.0, 0
        while not self._queue.is_closed:
            what = self._queue.get(1.0)
            now = self._clock.time()
            if self._clock.jumps != jumps:
                jumps = self._clock.jumps
                self._reschedule()
            if what is None:
                continue
            if what != FACTS and not self._is_ours():
                self._queue.done(what)  # nothing is ours now; what was judged is kept until somebody else has it
                continue
            try:
                if what == TICK:
                    self._metrics.tick_lateness.set(max(0.0, now - due) if due else 0.0)
                    due = now - self._rhythm.lateness_s(now) + self._rhythm.every_s
                self._pulse.beat(what)
                self._keep_time()
                if what == TICK and self._pulse.is_behind:
                    self._queue.add(TICK)  # others' looks come first: it is put at the end of the queue
            except Exception:
                # a tick that fails is no evidence and no verdict; the next one asks again
                self._metrics.source_failures.inc()
                log.exception("telemetry failed", what=what)
            finally:
                self._queue.done(what)

    def _reschedule(self) -> None:
        """The scheduler goes by the system's clock: after a jump back nothing would run until the old time has come."""
        for job, (rhythm, _) in self._jobs().items():
            with suppress(JobLookupError):  # told to stop meanwhile
                self._scheduler.reschedule_job(job, trigger=rhythm.trigger)

    def _keep_time(self) -> None:
        """Ticks follow what was learnt about the source."""
        wanted = Rhythm.after_settled(self._source.tick_s, self._source.settle_s)
        if wanted != self._rhythm:
            self._rhythm = wanted
            with suppress(JobLookupError):  # told to stop while the source was asked: the scheduler has ended
                self._scheduler.reschedule_job(TICK, trigger=wanted.trigger)
            log.info("tile", seconds=self._source.tile_s, tick_s=wanted.every_s, settle_s=self._source.settle_s)
