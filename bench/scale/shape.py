"""Who is in the bench: the services, where they live, and which of their releases fail. Names and numbers only."""

from __future__ import annotations

from dataclasses import dataclass

PER_NAMESPACE = 20
PER_TARGET = 50
"""Services that one scraped gateway has called."""
PODS_PER_NODE = 40
STABLE, CANARY = "v1", "v2"
REQUESTS_PER_SECOND = 200.0
"""Of each service, both versions together."""
MESH_NAMESPACE = "istio-system"


@dataclass(frozen=True, slots=True)
class Service:
    """One service with two versions."""

    number: int

    @property
    def name(self) -> str:
        return f"svc-{self.number:04d}"

    @property
    def namespace(self) -> str:
        return f"team-{self.number // PER_NAMESPACE:03d}"

    @property
    def host(self) -> str:
        return f"{self.name}.{self.namespace}.svc.cluster.local"

    def deployment(self, version: str) -> str:
        return f"{self.name}-{version}"

    def node(self, version: str) -> str:
        return node_name((2 * self.number + (version == CANARY)) // PODS_PER_NODE)


def node_name(number: int) -> str:
    return f"node-{number:03d}"


def services(count: int) -> list[Service]:
    return [Service(number) for number in range(count)]


def namespaces(count: int) -> list[str]:
    return sorted({service.namespace for service in services(count)})


def nodes(count: int) -> list[str]:
    return sorted({service.node(version) for service in services(count) for version in (STABLE, CANARY)})


def failing(count: int) -> list[Service]:
    """The releases of which every request fails: one in twenty, five at most."""
    return services(count)[:: max(1, count // min(5, max(1, count // 20)))][: min(5, max(1, count // 20))]
