"""Rollouts as they change: the snapshot now, and one more each time something happens or a second has passed.

A cut connection is the reflector's business; the caller sees time pass and `trouble`. It never writes.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from types import TracebackType

from canary.cli.attempt import Attempt, Object
from canary.cluster.backoff import Backoff
from canary.cluster.gateway import Gateway
from canary.cluster.kinds import CANARYROLLOUT
from canary.cluster.projections import project_whole
from canary.cluster.reflector import Change, Reflector
from canary.errors import Unavailable

TICK_SECONDS = 1.0
"""A count-down on the screen moves once a second."""

PATIENCE = 5
"""Failed lists before the first good one after which a command gives up."""


class Follow:
    """A live copy of the rollouts of a namespace (None: all). Use it in a `with` block."""

    def __init__(self, gateway: Gateway, namespace: str | None, *, label_selector: str | None = None) -> None:
        self._changed = threading.Event()
        self._reflector: Reflector[Object] = Reflector(
            gateway,
            CANARYROLLOUT,
            namespace,
            project=project_whole,
            on_change=self._note,
            label_selector=label_selector,
            backoff=Backoff(base_seconds=0.2, cap_seconds=5.0),
        )

    def __enter__(self) -> Follow:
        self._reflector.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._reflector.stop(timeout_seconds=1.0)

    @property
    def trouble(self) -> str:
        """Why news cannot arrive at the moment, empty while it can."""
        return self._reflector.last_error if self._reflector.staleness_seconds > 2 * TICK_SECONDS else ""

    def snapshots(self) -> Iterator[list[Attempt]]:
        """All rollouts: once the first list is there, then after each change and every second, for ever.

        Raises Unavailable when not even the first list arrives.
        """
        while not self._reflector.wait_synced(TICK_SECONDS):
            if self._reflector.failures >= PATIENCE:
                raise Unavailable(self._reflector.last_error)
        while True:
            self._changed.clear()
            yield [Attempt(document) for document in self._reflector.items()]
            self._changed.wait(TICK_SECONDS)

    def _note(self, _change: Change[Object]) -> None:
        self._changed.set()
