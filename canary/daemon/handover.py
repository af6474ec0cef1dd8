"""What comes with a slot: reading what its former owner wrote last, looking at all that is in it, and letting go of it.

Which namespaces are ours follows from their names, never from a list that was handed over: nothing can be dropped.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_exponential

from canary.cluster.gateway import Gateway, anybody_may_write
from canary.cluster.kinds import CANARYROLLOUT, DESTINATIONRULE, VIRTUALSERVICE
from canary.cluster.ownership import FENCE
from canary.cluster.queue import KeyedQueue
from canary.cluster.slots import slot_of
from canary.daemon.caches import Caches
from canary.daemon.pulse import SLOTS, TICK
from canary.daemon.records import Records
from canary.errors import Conflict, Forbidden, NotFound

WRITTEN = (VIRTUALSERVICE, DESTINATIONRULE, CANARYROLLOUT)
"""What a former owner may have written a moment ago. All else comes from others, and the watch brings it in time."""

FLUSH_S = 1.0


def _is_fenced(error: BaseException) -> bool:
    """A right that is missing is told elsewhere, and is no matter of who was here before."""
    return isinstance(error, Forbidden) and FENCE in error.policy


_until_known = Retrying(
    retry=retry_if_exception(_is_fenced),
    wait=wait_exponential(multiplier=0.0125),
    stop=stop_after_attempt(8),
    reraise=True,
)
"""Asks whether the fence knows the new owner, for 1.6 s: the API server hears of its own Leases within milliseconds,
under load within a second."""


class Handover:
    """The hooks of turnover.py, on its thread."""

    def __init__(
        self,
        gateway: Gateway,
        namespace: str | None,
        caches: Caches,
        records: Records,
        *,
        pulses: KeyedQueue[str],
        look_at: Callable[[Callable[[str], bool]], None],
    ) -> None:
        """`look_at` queues a look at everything in the namespaces of which its argument is true."""
        self._gateway, self._namespace = gateway, namespace
        self._asking = gateway.beside(anybody_may_write)  # the slot is not ours to write in yet, and nothing is written
        self._caches, self._records, self._pulses, self._look_at = caches, records, pulses, look_at

    def prepare(self, slots: Collection[int]) -> None:
        """A consistent list of the slots' objects into the local copies: a watch may be behind, and says not how far.

        One list of each kind whatever the number of namespaces; raises ClusterError.
        """
        if self._namespace is not None and slot_of(self._namespace) not in slots:
            return
        self._until_fenced(slots)
        for kind in WRITTEN:
            known = self._caches.reflectors[kind]
            for page, _ in self._gateway.pages(kind, self._namespace):
                for item in page:
                    meta = item["metadata"]
                    if slot_of(meta["namespace"]) not in slots:
                        continue
                    copy = known.get(meta["namespace"], meta["name"])
                    if copy is None or copy["metadata"]["resourceVersion"] != meta["resourceVersion"]:
                        self._caches.remember(kind, item)

    def _until_fenced(self, slots: Collection[int]) -> None:
        """Wait until the fence lets us through, and so refuses whoever was before us; what they wrote until then is in
        the list that follows. Asked by a dry run on one rollout of each slot: without one nothing can come late.

        Raises Forbidden when it does not hear of us in time; the next cycle asks again.
        """
        rollouts = {}
        for item in self._caches.objects(CANARYROLLOUT, self._namespace):
            meta = item["metadata"]
            if (slot := slot_of(meta["namespace"])) in slots:
                rollouts[slot] = (meta["namespace"], meta["name"])
        for namespace, name in rollouts.values():
            try:
                _until_known(
                    self._asking.patch,
                    CANARYROLLOUT, namespace, name, {}, patch_type="merge", subresource="status", dry_run=True,
                )  # fmt: skip
            except (NotFound, Conflict):
                pass  # gone, or just changed: admitted in any case
            except Forbidden as error:
                if _is_fenced(error):
                    raise

    def gained(self, slots: Collection[int]) -> None:
        """Look at all of it, and ask for its evidence without waiting for the next tick's time."""
        self._look_at(lambda namespace: slot_of(namespace) in slots)
        self._pulses.add(TICK)

    def leaving(self, slots: Collection[int]) -> None:
        """What was judged is stored, where the next owner finds it."""
        self._records.flush(FLUSH_S, lambda namespace: slot_of(namespace) in slots)

    def lost(self, slots: Collection[int]) -> None:
        """Judges and records go at once."""
        self._records.forget(lambda namespace: slot_of(namespace) in slots)
        self._pulses.add(SLOTS)
