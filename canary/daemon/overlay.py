"""Our own writes until the watch has them too: laid over what the reflectors know.

Kept by kind and namespace, because every look at a service asks for those of its namespace and mostly there are none.
It never decides which of two versions is the newer one; the caches do.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from canary.cluster.kinds import Kind

Object = dict[str, Any]
OVERLAY_S = 5.0
"""How long an answer to our own write is kept at least, where the watch has not brought it. Then the watch is right, if
it has come past it: what it does not have was deleted."""

LONGEST_S = 600.0
"""Then it is, however late it seems: a kind of which nothing else changes does not say how far it has come."""


class Overlay:
    """Answers to our writes by kind, namespace and name. Safe for several threads."""

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        has_come_past: Callable[[Kind, Object], bool] = lambda _kind, _written: True,
    ) -> None:
        """`clock` is monotonic seconds. `has_come_past` tells whether a kind's watch is at an object's version:
        it may lag for longer than any time of ours, and must not take back what we know."""
        self._clock = clock
        self._has_come_past = has_come_past
        self._lock = threading.Lock()
        self._written: dict[tuple[Kind, str], dict[str, tuple[float, Object]]] = {}

    def put(self, kind: Kind, projected: Object) -> None:
        meta = projected["metadata"]
        with self._lock:
            of_kind = self._written.setdefault((kind, meta["namespace"]), {})
            of_kind[meta["name"]] = (self._clock(), projected)

    def of(self, kind: Kind, namespace: str) -> Mapping[str, Object]:
        """Those of one namespace by name."""
        if (kind, namespace) not in self._written:
            return {}
        now = self._clock()
        with self._lock:
            kept = {
                name: (at, written)
                for name, (at, written) in self._written.get((kind, namespace), {}).items()
                if now <= at + OVERLAY_S or (now <= at + LONGEST_S and not self._has_come_past(kind, written))
            }
            if kept:
                self._written[kind, namespace] = kept
            else:
                self._written.pop((kind, namespace), None)
        return {name: written for name, (_, written) in kept.items()}

    def namespaces(self, kind: Kind) -> list[str]:
        """Where there are any."""
        with self._lock:
            return [namespace for of_kind, namespace in self._written if of_kind is kind]

    def drop(self, kind: Kind, written: Object) -> None:
        """The watch has this very one, or newer; what was written since stays."""
        meta = written["metadata"]
        with self._lock:
            of_kind = self._written.get((kind, meta["namespace"]), {})
            known = of_kind.get(meta["name"])
            if known is None or known[1] is not written:
                return
            del of_kind[meta["name"]]
            if not of_kind:
                del self._written[kind, meta["namespace"]]
