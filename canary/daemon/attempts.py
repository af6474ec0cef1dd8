"""The attempts of each namespace by the service they are about, worked out once per change and not once per look.

A look at one service must not cost a walk through all that its namespace holds: a tenant with a thousand attempts would
have everybody else wait for it. Attempts beyond what is looked at (`engine.crowd`) share one key, CROWD.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

from canary.cluster.kinds import CANARYROLLOUT, DEPLOYMENT, SERVICE
from canary.daemon.caches import Caches, Entry
from canary.daemon.keys import Key, is_opted_in, key_of_deployment, key_of_rollout
from canary.engine.crowd import crowded_out
from canary.engine.intake import age
from canary.mesh.router import Router

CROWD = "~"
"""The service part of the key of all attempts of a namespace that have to wait for others to end."""

_DECIDE = (CANARYROLLOUT, DEPLOYMENT, SERVICE)
"""The kinds that tell which service an attempt is about."""

_Stamp = tuple[object, ...]


@dataclass
class Attempts:
    """`most` is how many unfinished attempts of a namespace are looked at. Safe for several threads."""

    caches: Caches
    router: Router
    most: int
    _known: dict[str, tuple[_Stamp, Mapping[Key, list[Entry]]]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def of(self, key: Key) -> list[Entry]:
        """The attempts under one key, oldest first."""
        return list(self._by_key(key.namespace).get(key, ()))

    def keys(self, namespace: str) -> set[Key]:
        """Every service of a namespace that we have anything to do with."""
        found = set(self._by_key(namespace))
        view = self.caches.view(namespace)
        for deployment in view.deployments:
            if is_opted_in(deployment):
                found.add(key_of_deployment(self.router, view, dict(deployment)))
        return found

    def _by_key(self, namespace: str) -> Mapping[Key, list[Entry]]:
        stamp = tuple(self.caches.version(kind, namespace) for kind in _DECIDE)
        with self._lock:
            known = self._known.get(namespace)
        if known is not None and known[0] == stamp:
            return known[1]
        found = self._sorted_out(namespace)
        with self._lock:
            if found:
                self._known[namespace] = (stamp, found)
            else:
                self._known.pop(namespace, None)
        return found

    def _sorted_out(self, namespace: str) -> Mapping[Key, list[Entry]]:
        entries = sorted(self.caches.rollouts(namespace), key=lambda entry: age(entry.rollout))
        crowd = crowded_out([entry.rollout for entry in entries], self.most)
        found: dict[Key, list[Entry]] = defaultdict(list)
        for entry in entries:
            is_crowded = entry.rollout.uid in crowd
            key = Key(namespace, CROWD) if is_crowded else key_of_rollout(self.router, self.caches, entry.rollout)
            found[key].append(entry)
        return dict(found)
