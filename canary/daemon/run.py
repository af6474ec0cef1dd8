"""The daemon put together: caches, queue, workers, telemetry thread, scheduler, Lease, health; and its orderly end."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from datetime import timedelta
from functools import partial

import structlog

from canary.cluster.events import EventRecorder
from canary.cluster.gateway import Gateway
from canary.cluster.kinds import NAMESPACE
from canary.cluster.lease import REQUEST_SECONDS
from canary.cluster.leases import identity_of_process, owner_of_member
from canary.cluster.patience import patiently
from canary.cluster.queue import KeyedQueue
from canary.cluster.replica import Replica
from canary.cluster.status import StatusWriter
from canary.daemon import interpreter
from canary.daemon.act import Actor
from canary.daemon.attempts import Attempts
from canary.daemon.beats import Beats
from canary.daemon.caches import Caches
from canary.daemon.carriers import Carriers
from canary.daemon.enqueue import Enqueue
from canary.daemon.evidence import Evidence
from canary.daemon.gauges import read_when_scraped
from canary.daemon.handover import Handover
from canary.daemon.health import HealthServer
from canary.daemon.keys import Key, releasing
from canary.daemon.metrics import Metrics
from canary.daemon.observe import Observer
from canary.daemon.permits import Permits
from canary.daemon.policies import FrozenPolicies, PolicyFolder
from canary.daemon.pulse import Pulse
from canary.daemon.reconcile import Reconciler
from canary.daemon.records import Records
from canary.daemon.rights import Rights
from canary.daemon.schedule import Rhythm
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
POLICIES_S = 2
GARBAGE_S = 600
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
        self.enqueue = Enqueue(self.work, lambda: self.caches, self.router, self.owns)
        self.caches = Caches(self.gateway, settings.namespace, self.enqueue.changed)
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
            on_change=self.enqueue.namespace,
        )
        self.events = EventRecorder(self.gateway)
        self.records = Records(self.gateway, self.metrics)
        self.replica = Replica(
            self._lease_gateway,
            settings.own_namespace,
            identity_of_process(os.environ),
            Handover(
                self.gateway,
                settings.namespace,
                self.caches,
                self.records,
                pulses=self.pulses,
                look_at=self.enqueue.within,
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
        self._beats = Beats(
            self.pulses,
            self.pulse,
            self.source,
            self._clock,
            self.metrics,
            is_ours=lambda: self.lease.is_held,
            abort_period_s=settings.abort_period_s,
            others={
                "resync": (Rhythm(RESYNC_S), self.enqueue.everything),
                "policies": (Rhythm(POLICIES_S), partial(self._reload_policies, self.enqueue.everything)),
                "garbage": (Rhythm(GARBAGE_S), interpreter.collect),
            },
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
        self.health.start()
        self.replica.start()
        self.events.start()
        self.records.start()
        self.caches.start()
        self.rights.start()
        self.workers.start()
        self._beats.start()
        log.info(
            "started", server=self.gateway.server, namespace=self.settings.namespace or "all", port=self.health.port
        )
        while self.caches.unsynced and not self.stopping.wait(SYNC_POLL_S):
            pass
        interpreter.settle()
        self.source.asked.wait(ASKED_S)  # a clock that is wrong is known before anything is timed by it
        self.replica.serve()  # slots are taken now, and everything in them is looked at
        while not self.stopping.wait(SIGNAL_POLL_S):
            pass  # a signal that another thread was given wakes nobody: its handler runs here, between two waits
        self._end()

    def stop(self) -> None:
        """End run(). Safe from any thread and from a signal handler."""
        self.stopping.set()

    def owns(self, namespace: str) -> bool:
        """Whether this replica drives the rollouts of a namespace now."""
        return self.replica.owns(namespace)

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
        dead = [thread.name for thread in (self._beats.thread, *self.workers.threads) if not thread.is_alive()]
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

    def _reload_policies(self, when_changed: Callable[[], None]) -> None:
        try:
            changed = self.folder.reload()
        except PolicyError as error:
            log.error("policies not read", error=str(error))
            return
        if changed:
            when_changed()

    def _may_write_own(self, _namespace: str | None) -> None:
        """Frozen policies are in no slot: their name is what is in them, so whoever writes one writes the same."""
        if not self.lease.is_held:
            raise NotOurs(f"this controller ({self.lease.identity}) did not renew its Lease in time")

    def _end(self) -> None:
        """Others take over while we are still there: first the mark, then each slot whose writes are answered."""
        log.info("stopping")
        self.replica.drain()
        self._beats.stop()
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
