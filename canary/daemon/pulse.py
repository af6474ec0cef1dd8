"""The telemetry thread's work: ticks that feed the judges, and looks for disasters between them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import structlog

from canary.cluster.queue import KeyedQueue
from canary.daemon.caches import Caches, Entry
from canary.daemon.evidence import Evidence
from canary.daemon.keys import Key, key_of_rollout
from canary.daemon.metrics import Metrics
from canary.daemon.nodes import Nodes
from canary.daemon.policies import FrozenPolicies
from canary.daemon.sourcewatch import SourceWatch
from canary.daemon.surroundings import Exported
from canary.daemon.tracks import Case
from canary.errors import ClusterError, TelemetryError
from canary.mesh.router import Router
from canary.model.rollout import Phase

TICK, ABORT, FACTS, SLOTS = "tick", "abort", "facts", "slots"
"""What is asked for: a tick, a look for disasters, the source's facts, and to let go of what others drive now."""

ABOUT_A_TICK = 0.9
"""A tick that follows the one before sooner than this part of its time only asks what that one left over."""

LOOKS_SHARE = 0.03
"""Looks for disasters take at most this share of the time, ours and Prometheus': what takes longer comes less often."""

SMOOTHED = 1 / 8
"""The weight of the newest look in what one takes (RFC 6298's for round trips): one slow look delays nobody's abort."""

LONGEST_REST_S = 10.0
"""After a look that took its whole time limit, the next one comes all the same."""

log = structlog.get_logger(__name__)


def anywhere(_namespace: str) -> bool:
    """The seam of a controller that shares with nobody."""
    return True


@dataclass
class Pulse:
    caches: Caches
    router: Router
    frozen: FrozenPolicies
    evidence: Evidence
    source: SourceWatch
    work: KeyedQueue[Key]
    metrics: Metrics
    owns: Callable[[str], bool] = anywhere
    """Whether this replica drives the rollouts of a namespace: nobody else's are asked for."""
    wall: Callable[[], float] = time.time
    clock: Callable[[], float] = time.monotonic
    last_tick: float = 0.0
    last_look: float = 0.0
    _look_s: float | None = None
    """What a look takes, smoothed."""
    _look_not_before: float = 0.0
    _woken_at: float = 0.0

    def beat(self, what: str) -> None:
        """Do what the scheduler asked for."""
        match what:
            case "facts":
                known = self.source.known
                self.source.refresh()
                if self.source.known != known:
                    self._wake(everybody=True)
            case "abort":
                self._look()
            case "slots":
                self.evidence.forget_all_but(entry.rollout.uid for entry in self._own())
            case _:
                with self.metrics.tick_seconds.time():
                    self._tick()

    @property
    def is_behind(self) -> bool:
        """The last tick left something over that should not wait for the next one's time."""
        return self.evidence.is_behind

    def _own(self) -> list[Entry]:
        entries = self.caches.rollouts(None)
        ours = {space for space in {entry.rollout.namespace for entry in entries} if self.owns(space)}
        return [entry for entry in entries if entry.rollout.namespace in ours]

    def _tick(self) -> None:
        now = self.wall()
        catches_up = self.evidence.is_behind and now - self._woken_at < ABOUT_A_TICK * self.evidence.tick_s
        self.source.compare_clocks()
        if self.source.problem or self.source.not_yet or self.source.finding:
            self.source.refresh()
        exported = self.source.exported
        cases = self._cases(self._own(), exported)
        if self.source.problem:
            self.metrics.source_failures.inc()
            self.evidence.source_failed(cases, self.source.problem)
        elif cases:
            self.evidence.tick_s = self.source.tick_s
            self.evidence.exports(exported)
            problem = self.evidence.tick(cases, now, self.source.settle_s)
            if problem:
                self.metrics.source_failures.inc()
                self.source.failed(problem)
        self.evidence.forget_all_but(case.rollout.uid for case in cases)
        self.last_tick = self.wall()
        if catches_up:
            self._wake_those_with_news(cases)
        else:
            self._woken_at = now
            self._wake(everybody=False)

    def _look(self) -> None:
        """Look for disasters, unless the last look was just now and took long."""
        begun = self.clock()
        if begun < self._look_not_before:
            return
        now = self.wall()
        if self.last_look:
            self.metrics.abort_period.set(max(0.0, now - self.last_look))
        self.last_look = now
        entries = self._own()
        last_traffic = _last_traffic(entries)
        cases = [case for case in self._cases(entries) if _is_alone_in_its_interval(case, last_traffic, now)]
        if not cases or self.source.problem:
            return
        try:
            with self.metrics.look_seconds.time():
                aborted = self.evidence.look_for_disasters(cases, now)
        except TelemetryError as error:
            self.metrics.source_failures.inc()
            log.warning("no look for disasters", problem=str(error))
            return
        finally:
            ended = self.clock()
            took_s = ended - begun
            self._look_s = took_s if self._look_s is None else self._look_s + SMOOTHED * (took_s - self._look_s)
            self._look_not_before = ended + min(self._look_s * (1 / LOOKS_SHARE - 1), LONGEST_REST_S)
        for case in aborted:
            self.metrics.fast_aborts.inc()
            self.work.add(key_of_rollout(self.router, self.caches, case.rollout))

    def _cases(self, entries: Iterable[Entry], exported: Exported | None = None) -> list[Case]:
        """The rollouts that traffic is being divided for; with the nodes of their pods where steal is measured."""
        divided = [
            entry.rollout
            for entry in entries
            if (status := entry.rollout.status).phase.divides_traffic
            and status.policy is not None
            and status.tile is not None
            and status.canary is not None
        ]
        with_steal = exported is not None and exported.steal
        nodes = Nodes(self.caches, (rollout.namespace for rollout in divided if with_steal))
        cases = []
        for rollout in divided:
            assert rollout.status.policy is not None  # as selected
            try:
                policy = self.frozen.get(rollout.status.policy.digest)
            except ClusterError as error:
                log.warning("frozen policy not read", rollout=rollout.full_name, problem=str(error))
                continue
            if policy is not None:
                arms = (nodes.of(rollout.namespace, arm) for arm in (rollout.status.canary, rollout.status.stable))
                cases.append(Case(rollout, policy, *arms))
        return cases

    def _wake_those_with_news(self, cases: Iterable[Case]) -> None:
        for case in cases:
            if case.rollout.uid in self.evidence.news:
                self.work.add(key_of_rollout(self.router, self.caches, case.rollout))

    def _wake(self, *, everybody: bool) -> None:
        for entry in self._own():
            if entry.rollout.status.phase.is_terminal:
                continue
            if everybody or entry.rollout.status.phase is not Phase.PENDING:
                self.work.add_unless_resting(key_of_rollout(self.router, self.caches, entry.rollout))


def _last_traffic(entries: Iterable[Entry]) -> dict[tuple[str, str], float]:
    """When the last ended attempt at each target lost its traffic (Unix seconds)."""
    ended: dict[tuple[str, str], float] = {}
    for entry in entries:
        rollout = entry.rollout
        if rollout.status.phase.is_terminal and rollout.status.weight_changes:
            target = (rollout.namespace, rollout.spec.target)
            ended[target] = max(ended.get(target, 0.0), rollout.status.weight_changes[-1].asked.timestamp())
    return ended


def _is_alone_in_its_interval(case: Case, ended: dict[tuple[str, str], float], now: float) -> bool:
    """Whether no earlier attempt's failures are still within the look-back: they must not abort a quick retry."""
    if not case.rollout.status.weight_changes:
        return False
    before = ended.get((case.rollout.namespace, case.rollout.spec.target))
    look_back_s = case.policy.outlier_detection.interval.total_seconds() + case.tile_s
    return before is None or now - before > look_back_s
