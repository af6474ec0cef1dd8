"""One HTTP route of a VirtualService: its destinations, their weights, and what share each one really gets.

Shares are Istio's: weight / sum of weights, an absent weight is 0, and **a single destination gets everything**
whatever its weight says.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Any

from canary.mesh.istio.added import added_to_virtual_service
from canary.mesh.istio.hosts import Hosts
from canary.mesh.objects import listed, name_of, section, title
from canary.mesh.router import Object


@dataclass(frozen=True, slots=True)
class Destination:
    """An entry of `route[]`. `service` is None when the host is not a Service of this namespace; `weight` >= 0."""

    entry: Object
    service: str | None
    subset: str
    port: int | None
    weight: int


def shares(weights: Sequence[int]) -> list[Fraction]:
    """What part of the requests each destination gets, 0-1. All zero when every one of several weights is 0."""
    if len(weights) == 1:
        return [Fraction(1)]
    total = sum(weights)
    return [Fraction(weight, total) if total else Fraction(0) for weight in weights]


@dataclass(frozen=True)
class HttpRoute:
    """`spec.http[index]` of a VirtualService."""

    virtual_service: Object
    index: int
    hosts: Hosts

    @property
    def body(self) -> Object:
        return listed(self.virtual_service, "spec", "http")[self.index]

    @property
    def name(self) -> str:
        name = self.body.get("name")
        return name if isinstance(name, str) else ""

    @property
    def field(self) -> str:
        """How a sentence names it: `spec.http[1]`, and its name when it has one (escaped: it is free text)."""
        return f"spec.http[{self.index}]" + (f" ({self.name[:63]!r})" if self.name else "")

    @property
    def title(self) -> str:
        return f"{title('VirtualService', self.hosts.namespace, name_of(self.virtual_service))}: {self.field}"

    @cached_property
    def destinations(self) -> list[Destination]:
        return [self._destination(entry) for entry in listed(self.body, "route")]

    def _destination(self, entry: Object) -> Destination:
        destination = section(entry, "destination")
        port = section(destination, "port").get("number")
        subset = destination.get("subset")
        return Destination(
            entry=entry,
            service=self.hosts.service(destination.get("host")),
            subset=subset if isinstance(subset, str) else "",
            port=port if isinstance(port, int) else None,
            weight=max(0, whole(entry.get("weight")) or 0),
        )

    @property
    def weights(self) -> list[int]:
        return [destination.weight for destination in self.destinations]

    @property
    def shares(self) -> list[Fraction]:
        return shares(self.weights)

    def position(self, service: str, subset: str) -> int | None:
        """Where the first destination of this service and subset stands in `route[]`."""
        for position, destination in enumerate(self.destinations):
            if destination.service == service and destination.subset == subset:
                return position
        return None

    def carries(self, service: str) -> bool:
        """Whether a subset of the service is among the destinations."""
        return any(found.service == service and found.subset for found in self.destinations)


def whole(weight: Any) -> int | None:
    """A weight as an int; None when it is absent or not a whole number."""
    return weight if isinstance(weight, int) and not isinstance(weight, bool) else None


def http_routes(virtual_service: Object, hosts: Hosts) -> list[HttpRoute]:
    """Every HTTP route in order, without the header routes we added."""
    ours = {
        added.header_route
        for subsets in added_to_virtual_service(virtual_service).values()
        for added in subsets.values()
    } - {""}
    routes = [HttpRoute(virtual_service, index, hosts) for index in range(len(listed(virtual_service, "spec", "http")))]
    return [route for route in routes if route.name not in ours]
