"""The telemetry thread's work: ticks that feed the judges, and looks for disasters between them."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from canary.cluster.queue import KeyedQueue
from canary.daemon.caches import Caches
from canary.daemon.evidence import Case, Evidence
from canary.daemon.keys import Key, key_of_rollout
from canary.daemon.metrics import Metrics
from canary.daemon.policies import FrozenPolicies
from canary.daemon.sourcewatch import SourceWatch
from canary.errors import ClusterError, TelemetryError
from canary.mesh.router import Router
from canary.model.rollout import Phase

TICK, ABORT, FACTS = "tick", "abort", "facts"

log = structlog.get_logger(__name__)


@dataclass
class Pulse:
    caches: Caches
    router: Router
    frozen: FrozenPolicies
    evidence: Evidence
    source: SourceWatch
    work: KeyedQueue[Key]
    metrics: Metrics
    wall: Callable[[], float] = time.time
    last_tick: float = 0.0
    last_look: float = 0.0

    def beat(self, what: str) -> None:
        """Do what the scheduler asked for."""
        match what:
            case "facts":
                self.source.refresh()
                self._wake(everybody=True)
            case "abort":
                now = self.wall()
                if self.last_look:
                    self.metrics.abort_period.set(now - self.last_look)  # stretched when looks take longer
                self.last_look = now
                self._look_for_disasters()
            case _:
                with self.metrics.tick_seconds.time():
                    self._tick()

    def _tick(self) -> None:
        now = self.wall()
        cases = self._cases()
        if self.source.problem or self.source.not_yet or self.source.finding:
            self.source.refresh()
        if self.source.problem:
            self.metrics.source_failures.inc()
            self.evidence.source_failed(cases, self.source.problem)
        elif cases:
            self.evidence.tick_s = self.source.tick_s
            problem = self.evidence.tick(cases, now, self.source.settle_s)
            if problem:
                self.metrics.source_failures.inc()
                self.source.failed(problem)
        self.evidence.forget_all_but(case.rollout.uid for case in cases)
        self.last_tick = self.wall()
        self._wake(everybody=False)

    def _look_for_disasters(self) -> None:
        now, ended = self.wall(), self._last_traffic()
        cases = [case for case in self._cases() if _is_alone_in_its_interval(case, ended, now)]
        if not cases or self.source.problem:
            return
        try:
            aborted = self.evidence.look_for_disasters(cases, now)
        except TelemetryError as error:
            self.metrics.source_failures.inc()
            log.warning("no look for disasters", problem=str(error))
            return
        for case in aborted:
            self.work.add(key_of_rollout(self.router, self.caches, case.rollout))

    def _cases(self) -> list[Case]:
        """The rollouts that traffic is being divided for."""
        cases = []
        for entry in self.caches.rollouts(None):
            status = entry.rollout.status
            if (
                not status.phase.divides_traffic
                or status.policy is None
                or status.tile is None
                or status.canary is None
            ):
                continue
            try:
                policy = self.frozen.get(status.policy.digest)
            except ClusterError as error:
                log.warning("frozen policy not read", rollout=entry.rollout.full_name, problem=str(error))
                continue
            if policy is not None:
                cases.append(Case(entry.rollout, policy))
        return cases

    def _last_traffic(self) -> dict[tuple[str, str], float]:
        """When the last ended attempt at each target lost its traffic (Unix seconds)."""
        ended: dict[tuple[str, str], float] = {}
        for entry in self.caches.rollouts(None):
            rollout = entry.rollout
            if rollout.status.phase.is_terminal and rollout.status.weight_changes:
                target = (rollout.namespace, rollout.spec.target)
                ended[target] = max(ended.get(target, 0.0), rollout.status.weight_changes[-1].asked.timestamp())
        return ended

    def _wake(self, *, everybody: bool) -> None:
        for entry in self.caches.rollouts(None):
            if entry.rollout.status.phase.is_terminal:
                continue
            if everybody or entry.rollout.status.phase is not Phase.PENDING:
                self.work.add(key_of_rollout(self.router, self.caches, entry.rollout))


def _is_alone_in_its_interval(case: Case, ended: dict[tuple[str, str], float], now: float) -> bool:
    """Whether no earlier attempt's failures are still within the look-back: they must not abort a quick retry."""
    if not case.rollout.status.weight_changes:
        return False
    before = ended.get((case.rollout.namespace, case.rollout.spec.target))
    look_back_s = case.policy.outlier_detection.interval.total_seconds() + case.tile_s
    return before is None or now - before > look_back_s
