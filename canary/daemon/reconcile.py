"""One look at one service: who may act, what the engine says, carried out; then new attempts, then tidying up.

Level-triggered: it looks at how things are, never at what happened, and doing it twice changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

import structlog

from canary.cluster.kinds import CANARYROLLOUT, DEPLOYMENT
from canary.daemon.act import Actor, DecideAgain
from canary.daemon.attempts import CROWD, Attempts
from canary.daemon.caches import Caches, Entry
from canary.daemon.keys import Key
from canary.daemon.metrics import Metrics
from canary.daemon.observe import Observer
from canary.daemon.records import Records
from canary.daemon.rights import Rights
from canary.daemon.setbacks import Setbacks
from canary.daemon.starts import Starts
from canary.engine.actions import WriteStatus
from canary.engine.conditions import conditions
from canary.engine.crowd import sentence
from canary.engine.intake import active_of
from canary.engine.observed import Finding, Observed
from canary.engine.step import step
from canary.errors import CanaryError, ClusterError, Conflict, Forbidden, NotFound
from canary.model.rollout import Phase, Rollout, RolloutStatus

DECIDE_AGAIN_AT_MOST = 5
"""Lost preconditions in a row before the key goes back to the queue: somebody writes faster than we can read."""

log = structlog.get_logger("canary.decision")


@dataclass(frozen=True, slots=True)
class Turn:
    """Whose turn it is on one service: the attempt that may act, who has to make room for whom (by name), and whose
    request is flawed (by uid)."""

    active: Rollout | None
    superseded: Mapping[str, str]
    flawed: Mapping[str, Finding]


@dataclass
class Reconciler:
    caches: Caches
    attempts: Attempts
    observer: Observer
    actor: Actor
    starts: Starts
    records: Records
    rights: Rights
    metrics: Metrics
    now: Callable[[], datetime]
    history_limit: int
    setbacks: Setbacks = field(default_factory=Setbacks)

    def reconcile(self, key: Key) -> float | None:
        """Look at one service once. Returns in how many seconds to look again although nothing happened.

        Raises what the gateway raises; the caller backs off.
        """
        entries = self.attempts.of(key)
        if key.service == CROWD:
            return self._keep_waiting(key, entries)
        try:
            entries = self.starts.withdraw(key, entries)
        except Forbidden as error:
            for entry in entries:
                self._say_refused(entry, error)
            raise
        flawed = self._flawed(entries)
        sound = [entry.rollout for entry in entries if entry.rollout.uid not in flawed]
        active, superseded = active_of(sound, self._revisions(entries))
        turn = Turn(active, superseded, flawed)
        again = [self._drive(entry, turn) for entry in entries if self._needs_a_look(entry)]
        entries = self.attempts.of(key)
        try:
            again.append(self.starts.look(key, entries, self.now()))
        except DecideAgain:
            again.append(0.0)  # an ended rollout was changed by somebody else
        self._prune(entries)
        self.records.sweep(lambda: {e.rollout.uid: e.rollout.status.phase for e in self.caches.rollouts(None)})
        return min((seconds for seconds in again if seconds is not None), default=None)

    def _keep_waiting(self, key: Key, entries: list[Entry]) -> float | None:
        """Attempts beyond those that are looked at: each says so, hears a wish, and costs nothing else."""
        finding = Finding("TooManyRollouts", sentence(key.namespace, self.attempts.most))
        news = [entry for entry in entries if not _has_said(entry.rollout, finding)]
        turn = Turn(None, {}, {entry.rollout.uid: finding for entry in news})
        again = [self._drive(entry, turn) for entry in news]
        return min((seconds for seconds in again if seconds is not None), default=None)

    def _flawed(self, entries: list[Entry]) -> dict[str, Finding]:
        """Attempts that cannot begin as they were asked for, by uid: they take nobody's place."""
        pending = [entry.rollout for entry in entries if entry.rollout.status.phase is Phase.PENDING]
        return {rollout.uid: flaw for rollout in pending if (flaw := self.observer.flaw(rollout)) is not None}

    def _revisions(self, entries: list[Entry]) -> dict[str, str]:
        """The newest revision of each target, where it is known."""
        found = {}
        for namespace, target in {(entry.rollout.namespace, entry.rollout.spec.target) for entry in entries}:
            deployment = self.caches.object(DEPLOYMENT, namespace, target)
            revision = self.caches.revision(namespace, deployment) if deployment else None
            if revision:
                found[target] = revision
        return found

    @staticmethod
    def _needs_a_look(entry: Entry) -> bool:
        return not entry.rollout.status.phase.is_terminal or (entry.rollout.deleting and bool(entry.rollout.finalizers))

    def _observe(self, entry: Entry, turn: Turn, now: datetime) -> Observed:
        rollout, active = entry.rollout, turn.active
        by = turn.superseded.get(rollout.name, "")
        if rollout.status.phase is not Phase.PENDING or (active is not None and active.uid == rollout.uid):
            return self.observer.observe(entry, by, now)
        # while an older attempt is on the route nothing is resolved on it, but a wish is heard
        waits_for = f"CanaryRollout {active.name}" if active else ""
        return Observed(rollout, superseded_by=by, finding=turn.flawed.get(rollout.uid), waits_for=waits_for)

    def _drive(self, entry: Entry, turn: Turn) -> float | None:
        """Observe, decide, act; where the API server refuses to let us, say so on the rollout."""
        try:
            return self._decide_and_act(entry, turn)
        except Forbidden as error:
            self._say_refused(entry, error)
            raise
        except ClusterError as error:
            if (finding := self.setbacks.failed(entry.rollout.uid, error)) is not None:
                self._say(entry, finding)
            raise

    def _say_refused(self, entry: Entry, error: Forbidden) -> None:
        self._say(entry, self.rights.refused(entry.rollout, error))

    def _say(self, entry: Entry, refused: Finding) -> None:
        """A condition: what was to be done may have come before the status that would have told of it."""
        fresh = self._again(entry)
        if fresh is None or fresh.rollout.status.phase.is_terminal:
            return
        status = fresh.rollout.status
        now_true = conditions(Observed(fresh.rollout, refused=refused), status, self.now())
        if now_true == status.conditions:
            return
        try:
            self.actor.write_status(fresh, status.model_copy(update={"conditions": now_true}))
        except (CanaryError, DecideAgain) as failed:
            log.warning(
                "refusal not said", rollout=entry.rollout.full_name, refused=refused.sentence, error=str(failed)
            )

    def _decide_and_act(self, entry: Entry, turn: Turn) -> float | None:
        """After a lost precondition at once again on what is there now."""
        for _ in range(DECIDE_AGAIN_AT_MOST):
            now = self.now()
            observed = self._observe(entry, turn, now)
            if observed.refused is None and (keeps_failing := self.setbacks.of(entry.rollout.uid)) is not None:
                observed = replace(observed, refused=keeps_failing)
            decision = step(observed, now)
            self._tell(entry, decision.sentence, decision.actions)
            recorder = self.observer.evidence.recorder(entry.rollout.uid)  # who ends by this is forgotten at once
            try:
                self.actor.carry_out(entry, observed, decision.actions)
            except DecideAgain as lost:
                self.metrics.decided_again.inc()
                log.info("decided again", rollout=entry.rollout.full_name, why=str(lost))
                fresh = self._again(entry)
                if fresh is None:
                    return None
                entry = fresh
                continue
            if not decision.actions or not all(isinstance(action, WriteStatus) for action in decision.actions):
                self.rights.went_through(entry.rollout)
                self.setbacks.went_through(entry.rollout.uid)
            self.records.consider(entry.rollout, _status_after(entry, decision.actions), recorder)
            # what was written is looked at at once: asked for, set, reached are three looks
            return 0.0 if any(not _is_quiet(action) for action in decision.actions) else decision.look_again_s
        raise Conflict(f"CanaryRollout {entry.rollout.full_name}: its objects change faster than they can be read")

    def _again(self, entry: Entry) -> Entry | None:
        name = entry.rollout.name
        return next((e for e in self.caches.rollouts(entry.rollout.namespace) if e.rollout.name == name), None)

    def _tell(self, entry: Entry, sentence: str, actions: tuple[object, ...]) -> None:
        """One line per decision that changes something."""
        if all(_is_quiet(action) for action in actions):
            return
        rollout = entry.rollout
        new = _status_after(entry, actions)
        self.metrics.decisions.labels(phase=new.phase.value).inc()
        log.info(
            "decision",
            rollout=rollout.full_name,
            phase=new.phase.value,
            step=new.step.index if new.step else None,
            weight=new.weight.desired,
            does=[type(action).__name__ for action in actions],
            reason=sentence,
        )

    def _prune(self, entries: list[Entry]) -> None:
        """Keep the newest attempts of a service as its history, and always the newest of each target."""
        ended = [entry for entry in entries if entry.rollout.status.phase.is_terminal and not entry.rollout.deleting]
        newest = {entry.rollout.spec.target: entry.rollout.name for entry in entries}
        spare = [entry for entry in ended if newest[entry.rollout.spec.target] != entry.rollout.name]
        for entry in spare[: max(0, len(spare) - self.history_limit)]:
            rollout = entry.rollout
            try:
                self.actor.gateway.delete(CANARYROLLOUT, rollout.namespace, rollout.name, uid=rollout.uid)
            except (NotFound, Conflict):
                continue  # somebody else deleted it
            except Forbidden:
                return  # said by /readyz; the history grows, and that must not keep anybody from releasing


def _has_said(rollout: Rollout, finding: Finding) -> bool:
    """Whether a rollout's status has this finding, and nothing was asked since."""
    status = rollout.status
    return status.message == finding.sentence and status.observed_generation == rollout.generation


def _is_quiet(action: object) -> bool:
    return isinstance(action, WriteStatus) and action.evidence_only


def _status_after(entry: Entry, actions: tuple[object, ...]) -> RolloutStatus:
    written = [action.status for action in actions if isinstance(action, WriteStatus)]
    return written[-1] if written else entry.rollout.status
