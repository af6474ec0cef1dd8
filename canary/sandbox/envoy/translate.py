"""Istio's objects to the resources of one client's Envoy, as istiod would write them. Pure: dicts in, dicts out.

One listener serves every service and tells them apart by the Host header. A broken object never takes the others with
it: it is left out with a warning. Nothing here may reach for a cluster, a clock or a file.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from canary.sandbox.envoy.clusters import Rules, clusters_of, is_http
from canary.sandbox.envoy.names import (
    Client,
    Json,
    Warnings,
    age_order,
    is_exported,
    matches_host,
    resolve_host,
    service_host,
    title,
)
from canary.sandbox.envoy.routes import RouteContext, default_route, virtual_service_routes

ROUTE_CONFIGURATION = "http"
"""The name under which the listener asks for its routes."""

_BROKEN = (KeyError, TypeError, ValueError, AttributeError)  # what an object of the wrong shape raises


@dataclass(frozen=True, slots=True)
class Resources:
    """Envoy clusters and the one route configuration, and what was ignored on the way."""

    clusters: list[Json]
    routes: Json
    warnings: tuple[str, ...] = ()


def translate(
    virtual_services: Iterable[Json],
    destination_rules: Iterable[Json],
    services: Iterable[Json],
    pods: Iterable[Json],
    client: Client | None = None,
) -> Resources:
    """The configuration of `client`'s sidecar. The same input gives the same output, in whatever order it comes."""
    client = client or Client()
    warnings = Warnings()
    services = sorted(services, key=service_host)
    rules = Rules(destination_rules, client, warnings)
    by_namespace: dict[str, list[Json]] = {}
    for pod in pods:
        by_namespace.setdefault(pod["metadata"]["namespace"], []).append(pod)

    clusters: list[Json] = []
    for service in services:
        try:
            clusters += clusters_of(service, by_namespace.get(service["metadata"]["namespace"], []), rules, warnings)
        except _BROKEN as error:
            warnings.add(service_host(service), f"left out, its Service or DestinationRule is broken: {error!r}")
    return Resources(clusters, _routes(virtual_services, services, client, warnings), warnings.sentences)


def _routes(virtual_services: Iterable[Json], services: list[Json], client: Client, warnings: Warnings) -> Json:
    ports = {service_host(service): _http_ports(service) for service in services}
    claims = _claims(virtual_services, client, warnings)
    virtual_hosts = []
    taken: set[str] = set()
    # Hosts that only a VirtualService knows are served on port 80, as an outbound listener of Istio does.
    for host, numbers in [*ports.items(), *((host, (80,)) for host in claims if host not in ports)]:
        virtual_service = _claimed(host, claims)
        for port in numbers:
            domains = [d for d in _domains(host, port, numbers, client.namespace) if d not in taken]
            if not domains:
                continue
            taken.update(domains)
            routes = [default_route(port, host)]
            if virtual_service is not None:
                context = RouteContext(virtual_service["metadata"]["namespace"], port, ports, client, warnings)
                try:
                    routes = virtual_service_routes(virtual_service, context)
                except _BROKEN as error:
                    warnings.add(title(virtual_service, "VirtualService"), f"left out, it is broken: {error!r}")
            virtual_hosts.append(
                {
                    "name": f"{host}:{port}",
                    "domains": domains,
                    "include_request_attempt_count": True,
                    "routes": routes,
                }
            )
    return {
        "@type": "type.googleapis.com/envoy.config.route.v3.RouteConfiguration",
        "name": ROUTE_CONFIGURATION,
        "validate_clusters": False,  # a route to a missing subset is 503 NC, not a rejected configuration
        "virtual_hosts": virtual_hosts,
    }


def _http_ports(service: Json) -> tuple[int, ...]:
    """The ports to serve; none of a broken Service, of which the clusters' translation has told."""
    try:
        return tuple(int(port["port"]) for port in service["spec"].get("ports") or [] if is_http(port))
    except _BROKEN:
        return ()


def _claims(virtual_services: Iterable[Json], client: Client, warnings: Warnings) -> dict[str, Json]:
    """The VirtualService in force for each host it names: of two, the older."""
    claims: dict[str, Json] = {}
    for virtual_service in sorted(virtual_services, key=age_order):
        where = title(virtual_service, "VirtualService")
        try:
            hosts = _hosts_for_mesh(virtual_service, client)
            warnings.ignored(where, virtual_service["spec"], "hosts", "gateways", "http", "exportTo")
        except _BROKEN as error:
            warnings.add(where, f"left out, it is broken: {error!r}")
            continue
        for host in hosts:
            if host in claims:
                warnings.add(where, f"host {host} already belongs to {title(claims[host], 'VirtualService')}")
            claims.setdefault(host, virtual_service)
    return claims


def _hosts_for_mesh(virtual_service: Json, client: Client) -> list[str]:
    """The resolved hosts a VirtualService claims for sidecars of the client's namespace."""
    spec, namespace = virtual_service["spec"], virtual_service["metadata"]["namespace"]
    if "mesh" not in (spec.get("gateways") or ["mesh"]) or not is_exported(virtual_service, client.namespace):
        return []
    return list(dict.fromkeys(resolve_host(host, namespace) for host in spec.get("hosts") or []))


def _claimed(host: str, claims: dict[str, Json]) -> Json | None:
    """The VirtualService for a host: by its name, else by the longest wildcard that covers it."""
    covering = [claim for claim in claims if matches_host(claim, host)]
    if not covering:
        return None
    return claims[host] if host in claims else claims[max(covering, key=len)]


def _domains(host: str, port: int, ports: tuple[int, ...], client_namespace: str) -> list[str]:
    """What a caller may write into the Host header. Without a port it means port 80, or the service's first."""
    names = [host]
    parts = host.split(".")
    if parts[2:3] == ["svc"] and not host.startswith("*"):
        name, namespace = parts[:2]
        names += [f"{name}.{namespace}.svc", f"{name}.{namespace}"]
        if namespace == client_namespace:
            names.append(name)
    is_default = port == (80 if 80 in ports else ports[0])
    with_port = [] if host.startswith("*") else [f"{name}:{port}" for name in names]  # Envoy has no `*.host:80`
    return (names if is_default else []) + with_port
