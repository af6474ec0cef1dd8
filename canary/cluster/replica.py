"""One replica among others, as it runs: the member Lease's thread, the watch of all Leases, and the cycles' thread.

Nothing is decided here. Standing by costs one renewal every two seconds: Leases are watched, not polled.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager

from canary.cluster.gateway import Gateway
from canary.cluster.kinds import LEASE
from canary.cluster.lease import MemberLease, boottime
from canary.cluster.leases import Seen, State, seen_of_ours
from canary.cluster.ownership import Ownership
from canary.cluster.reflector import Change, Reflector
from canary.cluster.slots import PACE_S
from canary.cluster.transport import Request
from canary.cluster.turnover import Hooks, Turnover

SIDE_BY_SIDE = 8
"""Leases written at the same time: a cold start takes sixteen slots in two rounds."""

LEAVE_S = 3.0
"""How long answers are waited for at the end: no write is given longer."""

HANGS_S = 60.0

log = logging.getLogger(__name__)


class Replica:
    """The slots of this process: `start`, `serve` when the cluster is known, `drain`, `leave`.

    `gateway` has REQUEST_SECONDS as its time limits and carries nothing but Leases: a renewal must not queue behind
    other traffic.
    """

    def __init__(
        self,
        gateway: Gateway,
        namespace: str,
        identity: str,
        hooks: Hooks,
        *,
        owner: dict[str, str] | None = None,
        pace_seconds: float = PACE_S,
    ) -> None:
        """`owner` is the ownerReference of the member Lease; `pace_seconds` lie between two slots given to others."""
        self.lease = MemberLease(gateway, namespace, identity, owner=owner, on_joined=self._due)
        self.ownership = Ownership(self.lease, gateway, wake=self._due, clock=boottime)
        self.leases: Reflector[Seen] = Reflector(gateway, LEASE, namespace, project=seen_of_ours, on_change=self._heard)
        self._executor = ThreadPoolExecutor(SIDE_BY_SIDE, thread_name_prefix="slots")
        self.turnover = Turnover(
            self.ownership, gateway, hooks, self._executor, clock=boottime, pace_seconds=pace_seconds
        )
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._begun = boottime()
        self._thread = threading.Thread(target=self._run, name="slots", daemon=True)

    def owns(self, namespace: str) -> bool:
        """Whether this replica drives the rollouts of a namespace now."""
        return self.ownership.owns(namespace)

    @property
    def owned(self) -> frozenset[int]:
        """The slots that are driven here now."""
        return self.ownership.owned

    @property
    def may_write(self) -> Callable[[str | None], None]:
        """The gateways' seam: raises NotOurs."""
        return self.ownership.may_write

    @property
    def under_way(self) -> Callable[[Request], AbstractContextManager[None]]:
        """The gateways' seam around each write."""
        return self.ownership.under_way

    @property
    def problem(self) -> str:
        """The right that is missing to take part, or what keeps the Leases from being known; "" when nothing does."""
        if not self.leases.has_synced:
            return self.leases.last_error
        return self.lease.problem or self.turnover.problem

    @property
    def hangs(self) -> str:
        """The thread that died or hangs, "" when none does."""
        if self.leases.is_stuck:
            return "the reflector of leases hangs"
        if not self.lease.is_running or self.lease.heartbeat_seconds > HANGS_S:
            return "the Lease's thread hangs"
        has_died = self._thread.ident is not None and not self._thread.is_alive()  # it has no number before it begins
        if has_died or boottime() - self._begun > 2 * HANGS_S:
            return "the slots' thread hangs"
        return ""

    def start(self) -> None:
        """Become a member, and hear of the others; no slot is taken before serve()."""
        self.lease.start()
        self.leases.start()
        self._thread.start()

    def serve(self) -> None:
        """Take slots from now on."""
        self.lease.say(State.SERVING)
        self._due()

    def drain(self) -> None:
        """Tell the others that our share is theirs. Writes go on until leave()."""
        self.lease.say(State.DRAINING)

    def leave(self) -> bool:
        """Begin no more writes, give every slot back whose writes were answered, and end. Whether all were."""
        self._stopping.set()
        self._due()
        self._thread.join(LEAVE_S)
        are_given = not self._thread.is_alive() and self.turnover.leave(LEAVE_S)
        self.lease.stop(end=are_given)
        self.leases.stop()
        self._executor.shutdown(wait=False)
        return are_given

    def _due(self) -> None:
        self._wake.set()

    def _heard(self, change: Change[Seen]) -> None:
        self.ownership.heard(change.key[1], change.new)

    def _run(self) -> None:
        while not self.leases.wait_synced(0.1):
            self._begun = boottime()
            if self._stopping.is_set():
                return
        while not self._stopping.is_set():
            self._wake.clear()
            self._begun = boottime()
            again = 1.0
            try:
                again = self.turnover.cycle()
            except Exception:
                # what is held stays held, and safe by its deadline; a dead thread would never take or give again
                log.exception("slots could not be looked after")
            self._wake.wait(again)
