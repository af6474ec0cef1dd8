"""Where a service's traffic is divided, and how. Values only; `canary.mesh` reads and writes the real objects."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Arm:
    """One version: its Deployment, and the subset of the service (name and the one label that tells it apart)."""

    deployment: str
    subset: str
    label: str
    value: str


@dataclass(frozen=True, slots=True)
class Route:
    """The one HTTP route that carries a service.

    `http_name` is the route's name inside the VirtualService, empty when it has none; `host` is the destination host
    as the VirtualService writes it; `port` the destination port, None when not written.
    """

    namespace: str
    service: str
    virtual_service: str
    http_name: str
    host: str
    port: int | None
    stable: Arm
    canary: Arm


@dataclass(frozen=True, slots=True)
class RouteState:
    """What a route says now.

    `weight` is the canary's integer percent of what does not go to foreign destinations; `header` whether our header
    route is there; `header_subset` where it points; `resource_version` what a write decided on this must pin;
    `mark` is the annotation a rollback leaves in the very write that moved the traffic (see `Router.shift`).
    `without_stable`: stable's destination is no longer there, the clean-up after a promotion took it out.
    """

    weight: int
    header: bool
    resource_version: str
    foreign_weight: int = 0
    mark: str = ""
    without_stable: bool = False

    def says(self, weight: int) -> bool:
        """Whether the route is as a shift to `weight` would leave it.

        Beside foreign destinations several weights round to the same numbers (decision 11: rounded down), and `weight`
        is the least of them.
        """
        own = 100 - self.foreign_weight
        return weight * own // 100 == self.weight * own // 100
