"""The member Lease: a replica's sign of life, and the local deadline of its right to write that follows from it.

The deadline is ours and local: `valid_until` is 8 s after the clock was read *before* a renewal was sent, while peers
wait 12 s from a change they saw *after* it, so an old holder of a slot stops before the next begins, without comparing
clocks (availability.md 3). `kubernetes.leaderelection` does not: with the API server down its leader keeps writing.
Which slots a replica holds is ownership.py's business; this module only says whether it is a member at all.
"""

from __future__ import annotations

import logging
import random
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from datetime import datetime

from canary.cluster.gateway import Gateway
from canary.cluster.kinds import LEASE
from canary.cluster.leases import PROCESS, State, member_document, member_name, seen
from canary.cluster.slots import SILENCE_S
from canary.cluster.timestamps import utc_now
from canary.errors import Ambiguous, ClusterError, Conflict, Forbidden, NotFound

PERIOD_SECONDS = 2.0
REQUEST_SECONDS = 1.5
"""For the Leases' own gateway: a request must be given up before the next renewal is due."""

VALID_SECONDS = 8.0
"""A member stops writing this long after it began its last successful renewal."""

NEVER = float("-inf")

log = logging.getLogger(__name__)


def boottime() -> float:
    """Seconds that also pass in suspend, where the system has such a clock (Linux); monotonic time elsewhere."""
    if hasattr(time, "CLOCK_BOOTTIME"):
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.monotonic()


class MemberLease:
    """Makes, renews and ends one replica's Lease. Its gateway has REQUEST_SECONDS as its time limits.

    `identity` must be of one process at a time. A process that finds its name used by another that lives stands by.
    `on_joined` is called on the Lease's thread each time a life begins: what was owned in the one before is void.
    """

    def __init__(
        self,
        gateway: Gateway,
        namespace: str,
        identity: str,
        *,
        owner: Mapping[str, str] | None = None,
        on_joined: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = boottime,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        """`owner` is an ownerReference with which the Lease is taken away."""
        self.namespace = namespace
        self.identity = identity
        self.name = member_name(identity)
        self.life = 0
        """Counts the times it became a member: a deadline that was missed ends a life."""
        self.sentence = "not started"
        """What the last cycle did, for people and readiness answers."""
        self.problem = ""
        """The right that is missing, "" when none is."""
        self.on_joined = on_joined
        self._gateway = gateway
        self._owner = dict(owner or {})
        self._process = secrets.token_hex(8)
        self._clock = clock
        self._now = now
        self._state = State.JOINING
        self._version = ""
        self._valid_until = NEVER
        self._rival: tuple[str, float] = ("", NEVER)  # another process's version of our Lease, and when it was new
        self._heartbeat = clock()
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def is_held(self) -> bool:
        """True until `valid_until`; what may still be begun is may_begin's to say."""
        return self._clock() < self._valid_until

    @property
    def valid_until(self) -> float:
        """On this Lease's clock; minus infinity while it is not renewed."""
        return self._valid_until

    @property
    def state(self) -> State:
        return self._state

    @property
    def heartbeat_seconds(self) -> float:
        """Since the last cycle began: the renewing thread hangs when this grows beyond a few periods."""
        return self._clock() - self._heartbeat

    @property
    def is_running(self) -> bool:
        """False when its thread has died."""
        return self._thread is None or self._stopping.is_set() or self._thread.is_alive()

    def may_begin(self, seconds: float) -> bool:
        """Whether what takes so long at most, begun now, is over before anybody may take our slots."""
        return self._clock() + seconds < self._valid_until

    def say(self, state: State) -> None:
        """Tell the others, with a renewal at once."""
        self._state = state
        self._wake.set()

    def start(self) -> None:
        """Renew on a thread of its own until stop()."""
        self._thread = threading.Thread(target=self._run, name="lease", daemon=True)
        self._thread.start()

    def stop(self, *, end: bool, timeout_seconds: float = 3.0) -> None:
        """End the renewing. With `end` say on the Lease that nobody is there any more; only when every slot was given
        back, or it is left to expire."""
        self._stopping.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join(timeout_seconds)
        if end and self._version and (self._thread is None or not self._thread.is_alive()):
            try:
                self._end()
            except ClusterError as error:
                log.warning("the Lease %s/%s expires by itself: %s", self.namespace, self.name, error)
        self._valid_until = NEVER

    def cycle(self) -> str:
        """Join or renew once, and say in a sentence what was found. Never raises a ClusterError."""
        self._heartbeat = self._clock()
        problem = ""
        try:
            sentence = self._renew() if self._version else self._join()
        except (Conflict, NotFound):
            # our own unanswered renewal arrived, or somebody took the Lease away: the next look tells which
            self._version, sentence = "", "the Lease changed while it was written, looking again"
        except Ambiguous as error:
            self._version, sentence = "", str(error)
        except Forbidden as error:
            problem = sentence = str(error)
        except ClusterError as error:
            sentence = str(error)
        if sentence != self.sentence:
            log.info("lease: %s", sentence)
        self.sentence, self.problem = sentence, problem
        return sentence

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._wake.clear()
            started = self._clock()
            try:
                self.cycle()
                if not self._version and not self._stopping.is_set():
                    self.cycle()  # what changed it is looked at while there is time
            except Exception:
                # not renewing already stops our writes in time; a dead thread would never begin again
                log.exception("the Lease %s/%s could not be looked after", self.namespace, self.name)
            pause = PERIOD_SECONDS * random.uniform(0.9, 1.0) - (self._clock() - started)
            self._wake.wait(max(pause, 0.1))

    def _renew(self) -> str:
        before = self._clock()  # read before the renewal is sent: peers see it only later
        answer = self._gateway.replace(LEASE, self.namespace, self.name, self._document(self._version))
        return self._renewed(before, str(answer["metadata"]["resourceVersion"]))

    def _join(self) -> str:
        try:
            lease = self._gateway.get(LEASE, self.namespace, self.name)
        except NotFound:
            before = self._clock()
            answer = self._gateway.create(LEASE, self.namespace, self._document(""))
            return self._renewed(before, str(answer["metadata"]["resourceVersion"]))
        found = seen(lease)
        process = (lease["metadata"].get("annotations") or {}).get(PROCESS)
        if self.life and found.holder and process != self._process and self._has_rival(found.version):
            self._valid_until = NEVER
            return f"another process renews the Lease of {self.identity}: this one stands by"
        self._version = found.version
        return self._renew()

    def _has_rival(self, version: str) -> bool:
        """Whether the other process that took our name lives. One that begins takes the name of one that ended, as the
        same pod's next container: who was there before finds out here."""
        if version != self._rival[0]:
            self._rival = version, self._clock()
        return self._clock() - self._rival[1] < SILENCE_S

    def _renewed(self, before: float, version: str) -> str:
        self._version = version
        was_held = self.is_held  # a renewal that came after the deadline is a new beginning, not a continuation
        if not was_held:
            self.life += 1
        self._valid_until = before + VALID_SECONDS
        if was_held:
            return "renewed the Lease"
        self.on_joined()
        return "joined"

    def _document(self, version: str) -> dict[str, object]:
        return member_document(
            self.namespace, self.identity, version, process=self._process, state=self._state, now=self._now(),
            owner=self._owner,
        )  # fmt: skip

    def _end(self) -> None:
        """Take the Lease away, or where that is not ours to do, leave it without a holder."""
        if not self._owner:
            try:
                self._gateway.delete(LEASE, self.namespace, self.name, resource_version=self._version)
            except Forbidden:
                log.info("the Lease %s/%s stays: it may not be deleted", self.namespace, self.name)
            else:
                return
        body = self._document(self._version)
        spec = body["spec"]
        assert isinstance(spec, dict)  # a Lease has one
        spec["holderIdentity"] = ""
        self._gateway.replace(LEASE, self.namespace, self.name, body)
