"""Which services to look at: those that a change is about, or all of them. Only puts keys into the work queue."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from canary.cluster.kinds import CANARYROLLOUT, DEPLOYMENT, Kind
from canary.cluster.queue import KeyedQueue
from canary.cluster.reflector import Change
from canary.daemon.caches import Caches, Object
from canary.daemon.keys import Key, keys_of_change
from canary.daemon.news import is_news
from canary.mesh.router import Router


@dataclass
class Enqueue:
    """`owns` says whether this replica drives the rollouts of a namespace. Safe for several threads."""

    work: KeyedQueue[Key]
    caches: Callable[[], Caches]
    """Asked for when needed: the caches themselves tell of changes, and are made after this."""
    router: Router
    owns: Callable[[str], bool]

    def changed(self, kind: Kind, change: Change[Object]) -> None:
        """Hear of a change: note where to look."""
        if is_news(kind, change.old, change.new):
            for key in keys_of_change(self.router, kind, change):
                self.work.add(key)

    def namespace(self, name: str) -> None:
        """Look at everything in a namespace, "" for everything that is ours."""
        if name:
            self.work.add(Key(name))
        else:
            self.everything()

    def everything(self) -> None:
        """Look at all services of the namespaces that are ours."""
        self.within(self.owns)

    def within(self, of: Callable[[str], bool]) -> None:
        """Look at all services of the namespaces of which `of` is true; nothing before everything was listed."""
        caches = self.caches()
        if caches.unsynced:
            return
        spaces = {item["metadata"]["namespace"] for item in caches.objects(DEPLOYMENT, None)}
        spaces |= {item["metadata"]["namespace"] for item in caches.objects(CANARYROLLOUT, None)}
        for space in filter(of, spaces):
            self.work.add(Key(space))
