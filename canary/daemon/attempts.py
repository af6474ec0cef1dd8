"""The attempts of each namespace by the service they are about, worked out once per change and not once per look.

A look at one service must not cost a walk through all that its namespace holds: a tenant with a thousand attempts would
have everybody else wait for it. Attempts beyond what is looked at (`engine.crowd`) share one key, CROWD.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from canary.cluster.kinds import CANARYROLLOUT, DEPLOYMENT, SERVICE, Kind
from canary.daemon.caches import Caches, Entry, Object
from canary.daemon.keys import Key, is_opted_in, key_of_deployment, key_of_rollout
from canary.engine.crowd import crowded_out
from canary.engine.intake import age
from canary.mesh.router import Router

CROWD = "~"
"""The service part of the key of all attempts of a namespace that have to wait for others to end."""

_DECIDE = (CANARYROLLOUT, DEPLOYMENT, SERVICE)
"""The kinds that tell which service an attempt is about."""

_DECIDE_DEPLOYMENTS = (DEPLOYMENT, SERVICE)
"""And those that tell it of a Deployment."""

T = TypeVar("T")
_Known = tuple[tuple[object, ...], Mapping[Key, list[T]]]
"""What was worked out, and from which versions of the objects."""


@dataclass
class Attempts:
    """`most` is how many unfinished attempts of a namespace are looked at. Safe for several threads."""

    caches: Caches
    router: Router
    most: int
    _sorted: dict[str, _Known[Entry]] = field(default_factory=dict)
    _opted_in: dict[str, _Known[Object]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def of(self, key: Key) -> list[Entry]:
        """The attempts under one key, oldest first."""
        return list(self._known(self._sorted, _DECIDE, self._sorted_out, key.namespace).get(key, ()))

    def deployments(self, key: Key) -> list[Object]:
        """The Deployments under one key that opted in."""
        return list(self._known(self._opted_in, _DECIDE_DEPLOYMENTS, self._who_opted_in, key.namespace).get(key, ()))

    def keys(self, namespace: str) -> set[Key]:
        """Every service of a namespace that we have anything to do with."""
        attempted = self._known(self._sorted, _DECIDE, self._sorted_out, namespace)
        return {*attempted, *self._known(self._opted_in, _DECIDE_DEPLOYMENTS, self._who_opted_in, namespace)}

    def _known(
        self,
        known: dict[str, _Known[T]],
        kinds: tuple[Kind, ...],
        work_out: Callable[[str], Mapping[Key, list[T]]],
        namespace: str,
    ) -> Mapping[Key, list[T]]:
        """What was worked out for a namespace, anew after each change of an object of these kinds."""
        stamp = tuple(self.caches.version(kind, namespace) for kind in kinds)
        with self._lock:
            before = known.get(namespace)
        if before is not None and before[0] == stamp:
            return before[1]
        found = work_out(namespace)
        with self._lock:
            if found:
                known[namespace] = (stamp, found)
            else:
                known.pop(namespace, None)
        return found

    def _who_opted_in(self, namespace: str) -> Mapping[Key, list[Object]]:
        view = self.caches.view(namespace)
        found: dict[Key, list[Object]] = defaultdict(list)
        for deployment in view.deployments:
            if is_opted_in(deployment):
                found[key_of_deployment(self.router, view, dict(deployment))].append(dict(deployment))
        return dict(found)

    def _sorted_out(self, namespace: str) -> Mapping[Key, list[Entry]]:
        entries = sorted(self.caches.rollouts(namespace), key=lambda entry: age(entry.rollout))
        crowd = crowded_out([entry.rollout for entry in entries], self.most)
        found: dict[Key, list[Entry]] = defaultdict(list)
        for entry in entries:
            is_crowded = entry.rollout.uid in crowd
            key = Key(namespace, CROWD) if is_crowded else key_of_rollout(self.router, self.caches, entry.rollout)
            found[key].append(entry)
        return dict(found)
