"""The daemon put together: caches, queue, workers, telemetry thread, scheduler, Lease, health; and its orderly end."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from functools import partial

import structlog
from apscheduler.jobstores.base import JobLookupError

from canary.cluster.events import EventRecorder
from canary.cluster.gateway import Gateway
from canary.cluster.kinds import CANARYROLLOUT, DEPLOYMENT, NAMESPACE, Kind
from canary.cluster.lease import REQUEST_SECONDS
from canary.cluster.leases import identity_of_process, owner_of_member
from canary.cluster.patience import patiently
from canary.cluster.queue import KeyedQueue
from canary.cluster.reflector import Change
from canary.cluster.replica import Replica
from canary.cluster.status import StatusWriter
from canary.daemon import memory
from canary.daemon.act import Actor
from canary.daemon.attempts import Attempts
from canary.daemon.caches import Caches, Object
from canary.daemon.carriers import Carriers
from canary.daemon.evidence import Evidence
from canary.daemon.gauges import read_when_scraped
from canary.daemon.handover import Handover
from canary.daemon.health import HealthServer
from canary.daemon.keys import Key, keys_of_change, releasing
from canary.daemon.metrics import Metrics
from canary.daemon.news import is_news
from canary.daemon.observe import Observer
from canary.daemon.permits import Permits
from canary.daemon.policies import FrozenPolicies, PolicyFolder
from canary.daemon.pulse import ABORT, FACTS, TICK, Pulse
from canary.daemon.reconcile import Reconciler
from canary.daemon.records import Records
from canary.daemon.rights import Rights
from canary.daemon.schedule import Rhythm, schedule
from canary.daemon.settings import Settings
from canary.daemon.sourcewatch import SourceWatch
from canary.daemon.starts import Starts
from canary.daemon.wallclock import WallClock
from canary.daemon.workers import Workers
from canary.errors import Forbidden, InputError, NotFound, NotOurs, PolicyError
from canary.mesh.istio.router import IstioRouter
from canary.model.annotations import FLOOR
from canary.telemetry.source import PrometheusSource

RESYNC_S = 60
FACTS_S = 60
POLICIES_S = 2
SYNC_POLL_S = 0.05
SIGNAL_POLL_S = 0.25
ASKED_S = 2.0
"""How long the metrics source may keep a start waiting: what goes back needs none."""
RIGHTS_S = 3.0
"""For a question about our rights: nobody waits for its answer but a rollout that has not begun."""
RECORDS_S, EVENTS_S = 1.0, 0.5
"""How long the last records and Events may take to write when the controller is told to stop: somebody waits for it."""
STUCK_S = 60.0
"""A worker that has had one key for so long hangs: every request has a time limit far below."""

log = structlog.get_logger("canary.daemon")


class Daemon:
    """One replica. `run()` returns after SIGTERM or SIGINT, or `stop()` from another thread."""

    def __init__(self, settings: Settings) -> None:
        """Connects, and reads the policies. Raises InputError and PolicyError for what the user must mend."""
        self.settings = settings
        self.metrics = Metrics()
        self.stopping = threading.Event()
        self._clock = WallClock()

        self.gateway = self._connect()
        self.gateway.on_request = self.metrics.count_request
        self._lease_gateway = self._connect(timeout_seconds=REQUEST_SECONDS, write_timeout_seconds=1.0)

        several = settings.namespace is None and settings.workers > 1
        self.work: KeyedQueue[Key] = KeyedQueue(
            group=lambda key: key.namespace, share=settings.workers - 1 if several else None
        )
        self.pulses: KeyedQueue[str] = KeyedQueue()
        self.router = IstioRouter()
        self.caches = Caches(self.gateway, settings.namespace, self._changed)
        self.folder = PolicyFolder(settings.policies)
        self.folder.reload()
        frozen = FrozenPolicies(self.gateway.beside(self._may_write_own), settings.own_namespace)
        self._prometheus = PrometheusSource(settings.source, wall=self._clock.time)
        self.source = SourceWatch(
            self._prometheus, settings.tile_s, settings.settle_s, settings.tick_s, clock=self._clock
        )
        evidence = Evidence(self._prometheus, self.metrics)
        self._rights_gateway = self._connect(timeout_seconds=RIGHTS_S)
        self._rights_gateway.on_request = self.metrics.count_request
        self.rights = Rights(
            self._rights_gateway,
            served=settings.namespace,
            own=settings.own_namespace,
            releasing=lambda: releasing(self.caches),
            on_change=self._rights_changed,
        )
        self.events = EventRecorder(self.gateway)
        self.records = Records(self.gateway, self.metrics)
        self.replica = Replica(
            self._lease_gateway,
            settings.own_namespace,
            identity_of_process(os.environ),
            Handover(
                self.gateway, settings.namespace, self.caches, self.records, pulses=self.pulses, look_at=self._enqueue
            ),
            owner=owner_of_member(os.environ, settings.own_namespace),
            pace_seconds=settings.slot_pace_s,
        )
        self.lease = self.replica.lease
        self.gateway.may_write, self.gateway.under_way = self.replica.may_write, self.replica.under_way
        actor = Actor(self.gateway, self.caches, self.router, frozen, StatusWriter(self.gateway), self.events)
        permits = Permits(self.folder, lambda namespace: self.caches.label(namespace, FLOOR), settings.floor)
        observer = Observer(self.gateway, self.caches, self.router, permits, frozen, evidence, self.source, self.rights)
        grace = timedelta(seconds=settings.intake_grace_s)
        attempts = Attempts(self.caches, self.router, settings.namespace_limit)
        carriers = Carriers(self.caches, self.router, actor)
        self.reconciler = Reconciler(
            caches=self.caches,
            attempts=attempts,
            observer=observer,
            actor=actor,
            starts=Starts(self.caches, self.router, actor, carriers, attempts, grace),
            records=self.records,
            rights=self.rights,
            metrics=self.metrics,
            now=self._clock.now,
            history_limit=settings.history_limit,
        )
        self.workers = Workers(
            settings.workers,
            self.work,
            self.reconciler,
            self.metrics,
            may_look=lambda namespace: not self.caches.unsynced and self.replica.owns(namespace),
        )
        self._pulse_thread = threading.Thread(target=self._pulse_loop, name="pulse", daemon=True)
        self.pulse = Pulse(
            self.caches,
            self.router,
            frozen,
            evidence,
            self.source,
            self.work,
            self.metrics,
            self.replica.owns,
            wall=self._clock.time,
        )
        self._rhythm = Rhythm.after_settled(self.source.tick_s, self.source.settle_s)
        self.scheduler = schedule(
            self._jobs(), lambda job, why: self.metrics.missed_jobs.labels(job=job, why=why).inc()
        )
        self.health = HealthServer(
            settings.listen,
            alive=self.not_alive,
            ready=self.not_ready,
            registry=self.metrics.registry,
            notes=self.rights.notes,
        )
        self.metrics.rights_missing(self.rights.missing)
        read_when_scraped(
            self.metrics,
            work=self.work,
            prometheus=self._prometheus,
            source=self.source,
            replica=self.replica,
            events=self.events,
            folder=self.folder,
            caches=self.caches,
        )

    def run(self) -> None:
        """Work until told to stop, then drain: no new keys, answers awaited, the slots given back."""
        self._check_own_namespace()
        if threading.current_thread() is threading.main_thread():  # only there Python takes signal handlers
            for which in (signal.SIGTERM, signal.SIGINT):
                signal.signal(which, lambda *_: self.stop())
        memory.few_arenas()
        self.health.start()
        self.replica.start()
        self.events.start()
        self.records.start()
        self.caches.start()
        self.rights.start()
        self._pulse_thread.start()
        self.workers.start()
        self.scheduler.start()
        self.pulses.add(FACTS)
        log.info(
            "started", server=self.gateway.server, namespace=self.settings.namespace or "all", port=self.health.port
        )
        while self.caches.unsynced and not self.stopping.wait(SYNC_POLL_S):
            pass
        memory.settle()
        self.source.asked.wait(ASKED_S)  # a clock that is wrong is known before anything is timed by it
        self.replica.serve()  # slots are taken now, and everything in them is looked at
        while not self.stopping.wait(SIGNAL_POLL_S):
            pass  # a signal that another thread was given wakes nobody: its handler runs here, between two waits
        self._end()

    def stop(self) -> None:
        """End run(). Safe from any thread and from a signal handler."""
        self.stopping.set()

    def not_ready(self) -> str:
        """Why this replica cannot work yet, "" when it can."""
        if self.stopping.is_set():
            return "stopping"
        unsynced, refused = self.caches.unsynced, self.caches.refused
        wrong = [
            f"not listed yet: {', '.join(unsynced)}" if unsynced else "",
            f"not up to date: {', '.join(refused)}" if refused else "",
            self.rights.not_ready(),
            "" if self.replica.leases.has_synced else f"not listed yet: Leases {self.replica.problem}".rstrip(),
        ]
        return "\n".join(sentence for sentence in wrong if sentence)

    def not_alive(self) -> str:
        """What hangs, "" when nothing does."""
        if self.stopping.is_set():
            return ""
        for kind, reflector in self.caches.reflectors.items():
            if reflector.is_stuck:
                return f"the reflector of {kind.resource} hangs"
        for name, queue in (("worker", self.work), ("telemetry", self.pulses)):
            if queue.longest_running_seconds > STUCK_S:
                return f"a {name} thread hangs"
        if hangs := self.replica.hangs:
            return hangs
        dead = [thread.name for thread in (self._pulse_thread, *self.workers.threads) if not thread.is_alive()]
        return f"thread {dead[0]} died" if dead else ""

    def _connect(self, timeout_seconds: float = 10.0, write_timeout_seconds: float = 2.0) -> Gateway:
        return Gateway.connect(
            self.settings.kubeconfig,
            self.settings.context,
            timeout_seconds=timeout_seconds,
            write_timeout_seconds=write_timeout_seconds,
        )

    def _check_own_namespace(self) -> None:
        name = self.settings.own_namespace
        try:
            patiently(lambda: self.gateway.get(NAMESPACE, None, name), within_seconds=30)
        except Forbidden:
            return  # an account of that namespace itself need not be able to look at it from outside
        except NotFound:
            raise InputError(
                f"namespace {name} does not exist: create it (kubectl create namespace {name}) or name another with "
                "--own-namespace; the controller keeps its Lease and its frozen policies there"
            ) from None

    def _jobs(self) -> dict[str, tuple[Rhythm, Callable[[], None]]]:
        return {
            TICK: (self._rhythm, partial(self.pulses.add, TICK)),
            ABORT: (Rhythm(self.settings.abort_period_s), partial(self.pulses.add, ABORT)),
            FACTS: (Rhythm(FACTS_S), partial(self.pulses.add, FACTS)),
            "resync": (Rhythm(RESYNC_S), self._enqueue_everything),
            "policies": (Rhythm(POLICIES_S), self._reload_policies),
        }

    def _reload_policies(self) -> None:
        try:
            changed = self.folder.reload()
        except PolicyError as error:
            log.error("policies not read", error=str(error))
            return
        if changed:
            self._enqueue_everything()

    def _changed(self, kind: Kind, change: Change[Object]) -> None:
        """Hear of a change: note where to look."""
        if is_news(kind, change.old, change.new):
            for key in keys_of_change(self.router, kind, change):
                self.work.add(key)

    def _rights_changed(self, namespace: str) -> None:
        """What waited for a right may go on, what lacks one says so."""
        if namespace:
            self.work.add(Key(namespace))
        else:
            self._enqueue_everything()

    def _may_write_own(self, _namespace: str | None) -> None:
        """Frozen policies are in no slot: their name is what is in them, so whoever writes one writes the same."""
        if not self.lease.is_held:
            raise NotOurs(f"this controller ({self.lease.identity}) did not renew its Lease in time")

    def _enqueue_everything(self) -> None:
        self._enqueue(self.replica.owns)

    def _enqueue(self, of: Callable[[str], bool]) -> None:
        if self.caches.unsynced:
            return
        spaces = {item["metadata"]["namespace"] for item in self.caches.objects(DEPLOYMENT, None)}
        spaces |= {item["metadata"]["namespace"] for item in self.caches.objects(CANARYROLLOUT, None)}
        for namespace in filter(of, spaces):
            self.work.add(Key(namespace))

    def _pulse_loop(self) -> None:
        due, jumps = 0.0, 0
        while not self.pulses.is_closed:
            what = self.pulses.get(1.0)
            now = self._clock.time()
            if self._clock.jumps != jumps:
                jumps = self._clock.jumps
                self._reschedule()
            if what is None:
                continue
            if what != FACTS and not self.lease.is_held:
                self.pulses.done(what)  # nothing is ours now; what was judged is kept until somebody else has it
                continue
            try:
                if what == TICK:
                    self.metrics.tick_lateness.set(max(0.0, now - due) if due else 0.0)
                    due = now - self._rhythm.lateness_s(now) + self._rhythm.every_s
                self.pulse.beat(what)
                self._keep_time()
                if what == TICK and self.pulse.is_behind:
                    self.pulses.add(TICK)  # others' looks come first: it is put at the end of the queue
            except Exception:
                # a tick that fails is no evidence and no verdict; the next one asks again
                self.metrics.source_failures.inc()
                log.exception("telemetry failed", what=what)
            finally:
                self.pulses.done(what)

    def _reschedule(self) -> None:
        """The scheduler goes by the system's clock: after a jump back nothing would run until the old time has come."""
        for job, (rhythm, _) in self._jobs().items():
            with suppress(JobLookupError):  # told to stop meanwhile
                self.scheduler.reschedule_job(job, trigger=rhythm.trigger)

    def _keep_time(self) -> None:
        """Ticks follow what was learnt about the source."""
        wanted = Rhythm.after_settled(self.source.tick_s, self.source.settle_s)
        if wanted != self._rhythm:
            self._rhythm = wanted
            with suppress(JobLookupError):  # told to stop while the source was asked: the scheduler has ended
                self.scheduler.reschedule_job(TICK, trigger=wanted.trigger)
            log.info("tile", seconds=self.source.tile_s, tick_s=wanted.every_s, settle_s=self.source.settle_s)

    def _end(self) -> None:
        """Others take over while we are still there: first the mark, then each slot whose writes are answered."""
        log.info("stopping")
        self.replica.drain()
        self.scheduler.shutdown(wait=False)
        self.pulses.close(discard=True)
        self.work.close(discard=True)
        drained = self.work.wait_idle(self.settings.drain_s)
        self.records.stop(RECORDS_S)
        self.events.stop(EVENTS_S)
        given = self.replica.leave()
        self.rights.stop()
        self.caches.stop()
        self.health.stop()
        for closable in (self._lease_gateway, self._rights_gateway, self.gateway, self._prometheus):
            closable.close()
        log.info("stopped", drained=drained, slots_given_back=given)
