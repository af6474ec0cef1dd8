"""The member Lease: a sign of life the whole cluster can see, and the local right to write that follows from it.

The deadline is ours and local: `valid_until` is 8 s after the clock was read *before* a renewal was sent, while peers
wait 12 s from a change they saw *after* it, so the old holder stops before the next begins, without comparing clocks
(availability.md 3). `kubernetes.leaderelection` does not: with the API server down its leader keeps writing. The Lease
has a gateway of its own, with REQUEST_SECONDS as its time limits: a renewal must not queue behind other traffic.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

from canary.cluster.gateway import Gateway
from canary.cluster.kinds import LEASE
from canary.cluster.timestamps import format_micro_time, parse_time, utc_now
from canary.errors import ClusterError, Conflict, NotFound, NotOurs

LEASE_NAME = "canary-controller"
DURATION_SECONDS = 12.0
"""Peers take a Lease over that did not change for this long on their own clock."""

PERIOD_SECONDS = 2.0
REQUEST_SECONDS = 1.5
"""For the Lease's own gateway: a request must be given up before the next renewal is due."""

VALID_SECONDS = 8.0
"""A holder stops writing this long after it began its last successful renewal."""

ALIVE_SLACK = timedelta(seconds=10)
"""What the clocks of a laptop and a cluster may differ by before `controller_is_alive` is wrong."""

NEVER = float("-inf")

log = logging.getLogger(__name__)


def boottime() -> float:
    """Seconds that also pass in suspend, where the system has such a clock (Linux); monotonic time elsewhere."""
    if hasattr(time, "CLOCK_BOOTTIME"):
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.monotonic()


def controller_is_alive(lease: Mapping[str, Any], now: datetime) -> bool:
    """Whether this Lease says that a controller runs: held, and renewed within its duration and some slack."""
    spec = lease.get("spec") or {}
    renewed = parse_time(spec.get("renewTime"))
    if not spec.get("holderIdentity") or renewed is None:
        return False
    duration = timedelta(seconds=spec.get("leaseDurationSeconds") or DURATION_SECONDS)
    return now <= renewed + duration + ALIVE_SLACK


class MemberLease:
    """Holds, renews and gives back one Lease. `may_write` is the seam for other gateways' writes.

    `identity` must be of one process at a time (a pod's name, or host name and random part): a Lease that names it is
    taken for our own. `on_acquired` is called on the Lease's thread each time it was not ours before.
    """

    def __init__(
        self,
        gateway: Gateway,
        namespace: str,
        identity: str,
        *,
        name: str = LEASE_NAME,
        write_timeout_seconds: float = 2.5,
        on_acquired: Callable[[], None] | None = None,
        clock: Callable[[], float] = boottime,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self.namespace = namespace
        self.name = name
        self.identity = identity
        self.sentence = "not started"
        """What the last cycle did, for people and readiness answers."""
        self._gateway = gateway
        self._write_timeout = write_timeout_seconds
        self._on_acquired = on_acquired
        self._clock = clock
        self._now = now
        self._valid_until = NEVER
        self._draining = False
        self._seen: tuple[str, float] = ("", NEVER)  # a peer's resourceVersion, and when it was new to us
        self._heartbeat = clock()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def is_held(self) -> bool:
        """True until `valid_until`; what may still be begun is may_write's to say."""
        return self._clock() < self._valid_until

    @property
    def valid_until(self) -> float:
        """On this Lease's clock; minus infinity while it is not ours."""
        return self._valid_until

    @property
    def is_draining(self) -> bool:
        return self._draining

    @property
    def heartbeat_seconds(self) -> float:
        """Since the last cycle began: the renewing thread hangs when this grows beyond a few periods."""
        return self._clock() - self._heartbeat

    def may_write(self, namespace: str | None) -> None:  # noqa: ARG002  slots of namespaces come with more replicas
        """Raise NotOurs unless a write begun now must be over before anybody else may take the Lease."""
        if self._draining:
            raise NotOurs(f"this controller ({self.identity}) is shutting down and begins no more writes")
        if self._clock() + self._write_timeout >= self._valid_until:
            raise NotOurs(f"this controller ({self.identity}) does not hold Lease {self.namespace}/{self.name}")

    def start(self) -> None:
        """Take and renew on a thread of its own until stop()."""
        self._thread = threading.Thread(target=self._run, name="lease", daemon=True)
        self._thread.start()

    def drain(self) -> None:
        """Refuse new writes from now on, but keep the Lease until those under way are answered."""
        self._draining = True

    def stop(self, *, release: bool, timeout_seconds: float = 5.0) -> None:
        """End the renewing; with `release` give the Lease back, so that the next holder need not wait 12 s.

        Release only when every write was answered: one still under way would land in the next holder's time.
        """
        self._draining = True
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(timeout_seconds)
        if release and self.is_held and (self._thread is None or not self._thread.is_alive()):
            try:
                self._give_back()
            except ClusterError as error:
                log.warning("the Lease %s/%s expires by itself: %s", self.namespace, self.name, error)
        self._valid_until = NEVER

    def cycle(self) -> str:
        """Take or renew once, and say in a sentence what was found. Never raises a ClusterError."""
        self._heartbeat = self._clock()
        try:
            sentence = self._take_or_renew()
        except Conflict:
            # somebody was faster, or our own unanswered renewal arrived: the next look tells which
            sentence = "the Lease changed while it was written, looking again"
        except ClusterError as error:
            sentence = str(error)
        if sentence != self.sentence:
            log.info("lease: %s", sentence)
        self.sentence = sentence
        return sentence

    def _run(self) -> None:
        while not self._stopping.is_set():
            started = self._clock()
            try:
                self.cycle()
            except Exception:
                # not renewing already stops our writes in time; a dead thread would never begin again
                log.exception("the Lease %s/%s could not be looked after", self.namespace, self.name)
            pause = PERIOD_SECONDS * random.uniform(0.9, 1.0) - (self._clock() - started)
            self._stopping.wait(max(pause, 0.1))

    def _take_or_renew(self) -> str:
        if self._draining and not self.is_held:
            return "shutting down, and the Lease is left to others"
        try:
            lease = self._gateway.get(LEASE, self.namespace, self.name)
        except NotFound:
            return self._put(None)
        holder = (lease.get("spec") or {}).get("holderIdentity") or ""
        if holder in ("", self.identity):
            return self._put(lease)
        self._valid_until = NEVER
        version, since = self._seen
        current = lease["metadata"]["resourceVersion"]
        if current != version:
            version, since = self._seen = (current, self._clock())
        silent = self._clock() - since
        if silent < DURATION_SECONDS:
            return f"standing by: {holder} holds the Lease"
        return self._put(lease)

    def _put(self, lease: Mapping[str, Any] | None) -> str:
        old = dict((lease or {}).get("spec") or {})
        now = format_micro_time(self._now())
        mine = old.get("holderIdentity") == self.identity
        spec: dict[str, Any] = {
            **old,
            "holderIdentity": self.identity,
            "leaseDurationSeconds": int(DURATION_SECONDS),
            "renewTime": now,
        }
        if not mine:
            spec["acquireTime"] = now
            spec["leaseTransitions"] = old.get("leaseTransitions", -1) + 1
        before = self._clock()  # read before the renewal is sent: peers see it only later
        if lease is None:
            metadata = {"name": self.name, "namespace": self.namespace}
            self._gateway.create(LEASE, self.namespace, _lease(metadata, spec))
        else:
            self._gateway.replace(LEASE, self.namespace, self.name, _lease(lease["metadata"], spec))
        was_held = self.is_held  # a renewal that came after the deadline is a new beginning, not a continuation
        self._valid_until = before + VALID_SECONDS
        if was_held:
            return "renewed the Lease"
        if self._on_acquired is not None:
            self._on_acquired()
        return "took the Lease"

    def _give_back(self) -> None:
        lease = self._gateway.get(LEASE, self.namespace, self.name)
        spec = lease.get("spec") or {}
        if spec.get("holderIdentity") == self.identity:
            self._gateway.replace(
                LEASE, self.namespace, self.name, _lease(lease["metadata"], {**spec, "holderIdentity": ""})
            )


def _lease(metadata: Mapping[str, Any], spec: Mapping[str, Any]) -> dict[str, Any]:
    return {"apiVersion": LEASE.api_version, "kind": LEASE.kind, "metadata": dict(metadata), "spec": dict(spec)}
