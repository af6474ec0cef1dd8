"""Which of our needs no rule grants, as the API server tells it. Nothing is kept but what saves asking again."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import Final

from canary.cluster.access import NOWHERE, Right, Rule, allows, is_allowed, own_name, rules_in
from canary.cluster.gateway import Gateway
from canary.cluster.kinds import CONFIGMAP
from canary.daemon.needs import Need, Role, of

EXACT_S: Final = 60.0
"""How often the rules of all namespaces are asked for by themselves; those of our own namespace contain them."""


@dataclass(frozen=True, slots=True)
class Given:
    """What a namespace lacks of the role canary-writes; `is_bound` where it gives at least a part of it."""

    missing: frozenset[Need] = frozenset()
    is_bound: bool = False
    asked_at: float = float("-inf")


class Questions:
    """Asked by one thread at a time; `of_namespace` by any. Every method raises ClusterError."""

    def __init__(self, gateway: Gateway, served: str | None, own: str, clock: Callable[[], float]) -> None:
        self.account = ""
        """Who we are to the API server, "" while nobody has said so."""
        self._gateway, self._served, self._own, self._clock = gateway, served, own, clock
        self._exact_at = float("-inf")
        self._otherwise: dict[tuple[Right, str | None], float] = {}

    def of_controller(self, before: Collection[Need]) -> frozenset[Need]:
        """What the controller itself lacks, `before` when it was asked the last time."""
        if not self.account:
            self.account = own_name(self._gateway)
        own = rules_in(self._gateway, self._own)
        lacking = self._lacking(of(Role.OWN), own, self._own)
        wanted = of(Role.READS, Role.REPORTS)
        if self._served is not None:
            rules = own if self._served == self._own else rules_in(self._gateway, self._served)
            here = [need for need in (*wanted, *of(Role.WRITES)) if not need.of_cluster]
            return lacking | self._lacking(here, rules, self._served)
        lacked = any(need.role is not Role.OWN for need in before)
        is_due = self._clock() - self._exact_at >= EXACT_S
        if is_due or lacked or not all(allows(own, need.right) for need in wanted):
            lacking |= self._lacking(wanted, rules_in(self._gateway, NOWHERE), None)
            self._exact_at = self._clock()
        return lacking

    def of_namespace(self, namespace: str) -> Given:
        """What a namespace that releases does not give."""
        if self._served is not None:
            return Given(asked_at=self._clock())  # its rights are the controller's own, asked for with those
        rules, wanted = rules_in(self._gateway, namespace), of(Role.WRITES)
        lacking = self._lacking(wanted, rules, namespace)
        # ConfigMaps are also in the role for our own namespace, which may be one that releases
        is_bound = any(need not in lacking and need.right.plural != CONFIGMAP.plural for need in wanted)
        return Given(lacking, is_bound, self._clock())

    def _lacking(self, wanted: Iterable[Need], rules: Collection[Rule], namespace: str | None) -> frozenset[Need]:
        return frozenset(
            need
            for need in wanted
            if not allows(rules, need.right) and not self._is_allowed_otherwise(need.right, namespace)
        )

    def _is_allowed_otherwise(self, right: Right, namespace: str | None) -> bool:
        """Another authorizer than RBAC may allow what no rule says; asked one by one, and believed for a while."""
        if self._otherwise.get((right, namespace), 0.0) > self._clock():
            return True
        if not is_allowed(self._gateway, right, namespace):
            return False
        now = self._clock()
        self._otherwise = {asked: until for asked, until in self._otherwise.items() if until > now}
        self._otherwise[right, namespace] = now + EXACT_S
        return True
