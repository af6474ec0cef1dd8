"""What each rollout was judged by, kept in the cluster: ConfigMap `canary-evidence-<rollout>`, gone with its rollout.

Written when a step changes, when the rollout ends (the verdict that ended it included) and at most every ten minutes in
between, by a thread of its own: nothing here may hold up a look at a service, least of all a write to its route. What
cannot be written is logged, counted and tried again, and stops nothing.

A record decides nothing. It lies in the namespace of those it is about, who may write to it: what is read back after a
restart is shown to people and never judged by. A ConfigMap of that name that is not our rollout's is left alone.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import structlog

from canary.analysis.record import Record, Recorder
from canary.cluster.evidence import LABELS, evidence_data, evidence_document, evidence_name, packed_in
from canary.cluster.gateway import Gateway
from canary.cluster.kinds import CONFIGMAP
from canary.cluster.queue import KeyedQueue
from canary.daemon.metrics import Metrics
from canary.errors import Ambiguous, CanaryError, Conflict, FindingError, InputError, NotFound, NotOurs
from canary.model.rollout import Phase, Rollout, RolloutStatus
from canary.model.verdict import Outcome

SAVE_EVERY_S = 600.0
"""How often at most a record is written while its rollout stays in one step."""

RETRY_S = 10.0
"""After a save that failed; where a person is needed, not before the next occasion."""

SWEEP_S = 60.0

log = structlog.get_logger(__name__)

Occasion = tuple[object, ...]


@dataclass(slots=True)
class _Kept:
    """One rollout's record: what is in memory, and what is known of its ConfigMap."""

    rollout: Rollout
    recorder: Recorder
    occasion: Occasion = ()
    saved_at: float = 0.0
    """Monotonic seconds of the last save that was asked for."""
    saved_changes: int = 0
    version: str = ""
    """The ConfigMap's resourceVersion, "" while it is not known."""
    is_read: bool = False
    """What was stored before this controller began has been taken over."""
    complaint: str = ""


class Records:
    """The records of this controller's rollouts. `consider` from any thread; one thread of its own writes."""

    def __init__(self, gateway: Gateway, metrics: Metrics, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._gateway, self._metrics, self._clock = gateway, metrics, clock
        self._kept: dict[str, _Kept] = {}
        self._due: KeyedQueue[str] = KeyedQueue(clock=clock)
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._swept_at = clock()

    def start(self) -> None:
        """Write on a thread of its own until stop()."""
        self._thread = threading.Thread(target=self._run, name="records", daemon=True)
        self._thread.start()

    def stop(self, timeout_s: float) -> None:
        """Write what has changed since it was written, for at most so long, then end."""
        if self._thread is None:
            return
        self.flush(timeout_s, lambda _namespace: True)
        self._due.close(discard=True)
        self._thread.join(self._gateway.write_timeout_seconds + 1.0)

    def flush(self, timeout_s: float, of: Callable[[str], bool]) -> None:
        """Write what has changed since it was written, of the namespaces that `of` is true of, for at most so long."""
        with self._lock:
            unsaved = [
                uid
                for uid, kept in self._kept.items()
                if of(kept.rollout.namespace) and kept.recorder.changes != kept.saved_changes
            ]
        for uid in unsaved:
            self._due.add(uid)
        if unsaved:
            self._due.wait_idle(timeout_s)

    def forget(self, of: Callable[[str], bool]) -> None:
        """Another controller keeps the records of these namespaces now: nothing more is written to them."""
        with self._lock:
            for uid in [uid for uid, kept in self._kept.items() if of(kept.rollout.namespace)]:
                del self._kept[uid]

    def settle(self, timeout_s: float) -> bool:
        """Wait until all that is due now is written; False when the time is over."""
        return self._due.wait_idle(timeout_s)

    def consider(self, rollout: Rollout, status: RolloutStatus, recorder: Recorder | None) -> None:
        """After a look at a rollout that now has this status: have its record written if it is time. Returns at once.

        `recorder` is the one its judge fills, None where nothing is judged now: then the last one known counts.
        """
        with self._lock:
            kept = self._hold(rollout, recorder)
        if kept is None:
            return
        now, occasion = self._clock(), _occasion(status)
        is_due = occasion != kept.occasion or now - kept.saved_at >= SAVE_EVERY_S
        if is_due and kept.recorder.changes != kept.saved_changes:
            kept.occasion, kept.saved_at = occasion, now
            self._due.add(rollout.uid)

    def sweep(self, phases: Callable[[], Mapping[str, Phase]]) -> None:
        """Now and then, let go of the records of rollouts that are gone, or have ended and are saved.

        `phases` tells the phase of every rollout there is by uid.
        """
        if self._clock() - self._swept_at < SWEEP_S:
            return
        self._swept_at = self._clock()
        now = phases()
        with self._lock:
            for uid, kept in list(self._kept.items()):
                is_saved = kept.recorder.changes == kept.saved_changes
                if uid not in now or (now[uid].is_terminal and is_saved):
                    del self._kept[uid]

    def _hold(self, rollout: Rollout, recorder: Recorder | None) -> _Kept | None:
        kept = self._kept.get(rollout.uid)
        if kept is None:
            if recorder is None:
                return None
            kept = self._kept[rollout.uid] = _Kept(rollout, recorder)
        elif recorder is not None and recorder is not kept.recorder:
            # its judge was begun afresh within this process: as after a restart, but what came before is at hand
            if kept.is_read:
                recorder.resume(Record.unpack(kept.recorder.pack()))
            kept.recorder, kept.saved_changes = recorder, 0
        return kept

    def _run(self) -> None:
        while not self._due.is_closed:
            uid = self._due.get(1.0)
            if uid is None:
                continue
            try:
                kept = self._kept.get(uid)
                if kept is not None:
                    self._save(kept)
            finally:
                self._due.done(uid)

    def _save(self, kept: _Kept) -> None:
        recorder, changes = kept.recorder, kept.recorder.changes
        try:
            self._write(kept, recorder)
        except NotOurs:
            kept.version, kept.occasion = "", ()  # whoever owns it now writes it; if we do again, from what is there
        except FindingError as error:
            self._failed(kept, error.reason, str(error))
        except CanaryError as error:
            if isinstance(error, Conflict | NotFound | Ambiguous):
                kept.version = ""  # somebody else's doing, or nobody knows: read it again first
            self._failed(kept, error.reason, str(error))
            self._due.add_after(kept.rollout.uid, RETRY_S)
        except Exception:
            # one record we stumble over must not end the thread; it is logged whole, counted and tried again
            log.exception("unexpected error", rollout=kept.rollout.full_name)
            self._failed(kept, "Unexpected", "see the traceback above")
            self._due.add_after(kept.rollout.uid, RETRY_S)
        else:
            kept.complaint = ""
            if kept.recorder is recorder:
                kept.saved_changes = changes
            self._metrics.record_saves.inc()

    def _failed(self, kept: _Kept, reason: str, sentence: str) -> None:
        self._metrics.record_failures.labels(reason=reason).inc()
        if sentence != kept.complaint:
            log.warning("evidence not saved", rollout=kept.rollout.full_name, reason=reason, error=sentence)
        kept.complaint = sentence

    def _write(self, kept: _Kept, recorder: Recorder) -> None:
        rollout = kept.rollout
        name = evidence_name(rollout.name)
        if not kept.version:
            kept.version = self._take_over(kept, recorder, name)
        if not kept.version:
            document = evidence_document(rollout.namespace, rollout.name, rollout.uid, recorder.pack())
            answer = self._gateway.create(CONFIGMAP, rollout.namespace, document)
        else:
            body = {"metadata": {"resourceVersion": kept.version, "labels": LABELS}, **evidence_data(recorder.pack())}
            answer = self._gateway.patch(CONFIGMAP, rollout.namespace, name, body, patch_type="merge")
        kept.version = str(answer["metadata"]["resourceVersion"])

    def _take_over(self, kept: _Kept, recorder: Recorder, name: str) -> str:
        """The resourceVersion of what is stored, once it is taken over; "" when there is nothing."""
        rollout = kept.rollout
        try:
            found = self._gateway.get(CONFIGMAP, rollout.namespace, name)
        except NotFound:
            kept.is_read = True
            return ""
        try:
            recorder.resume(Record.unpack(packed_in(found, rollout.uid)))
        except FindingError:
            raise  # somebody else's
        except InputError as error:
            log.warning("stored evidence is not taken over", rollout=rollout.full_name, error=str(error))
        kept.is_read = True
        return str(found["metadata"]["resourceVersion"])


def _occasion(status: RolloutStatus) -> Occasion:
    """What a record is written for when it changes: the step, the way back, the end, a verdict of failure."""
    has_failed = status.verdict is not None and status.verdict.outcome is Outcome.FAIL
    is_ending = status.phase.is_terminal or status.phase is Phase.ROLLING_BACK
    return status.step.index if status.step else None, status.phase if is_ending else None, has_failed
