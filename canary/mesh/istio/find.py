"""The one HTTP route that carries a service, or a refusal that lists what there is to choose from.

Nothing outside the view's namespace is followed or accepted: not a host, not a destination, not a delegate.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from canary.errors import FindingError
from canary.mesh.istio.advice import subsets_to_add
from canary.mesh.istio.hosts import Hosts
from canary.mesh.istio.http_route import HttpRoute, http_routes, whole
from canary.mesh.objects import by_name, listed, name_of, names, refuse_unless_plain, section, title
from canary.mesh.router import MeshView, Object
from canary.model.route import Route

_NOT_WEIGHTED = ("redirect", "directResponse", "delegate")


def choose(view: MeshView, hosts: Hosts, service: str, virtual_service: str = "", route: str = "") -> HttpRoute:
    """The route to edit for a service: the named one, or the only one that has a subset of it as destination.

    Raises FindingError: InvalidName, VirtualServiceMissing, AmbiguousVirtualService, TwoVirtualServices, ForeignHost,
    ForeignDelegate, RouteMissing, AmbiguousRoute, NoSubsets, UnsafeRoute.
    """
    chosen = _virtual_service(view, hosts, service, virtual_service)
    _refuse_second_in_mesh(view, hosts, chosen)
    _refuse_foreign_hosts(view, hosts, chosen)
    found = _http_route(view, hosts, service, chosen, route)
    _refuse_unsafe(found)
    _refuse_foreign_destinations(view, found)
    return found


def again(view: MeshView, hosts: Hosts, route: Route) -> HttpRoute:
    """The route of a rollout in flight: by its names, or when it has none by its destinations.

    Deliberately lenient about everything `choose` refuses: a rollback must get through. Raises FindingError RouteGone
    or AmbiguousRoute.
    """
    virtual_service = by_name(view.virtual_services, route.virtual_service)
    where = title("VirtualService", route.namespace, route.virtual_service)
    if virtual_service is None:
        raise FindingError("RouteGone", f"{where} is gone; the rollout moved the traffic of {route.service} in it")
    arms = (route.stable.subset, route.canary.subset)
    found = [
        candidate
        for candidate in http_routes(virtual_service, hosts)
        if (candidate.name == route.http_name if route.http_name else _has_any(candidate, route.service, arms))
    ]
    narrower: Sequence[Callable[[HttpRoute], bool]] = (
        lambda candidate: all(candidate.position(route.service, arm) is not None for arm in arms),
        lambda candidate: candidate.position(route.service, route.stable.subset) is not None,
    )
    for holds in narrower:
        if len(found) > 1:
            found = [candidate for candidate in found if holds(candidate)] or found
    wanted = (
        f"named {route.http_name!r}" if route.http_name else f"with a subset {' or '.join(arms)} of {route.service}"
    )
    if not found:
        raise FindingError("RouteGone", f"{where}: spec.http has no route {wanted} any more; put it back")
    if len(found) > 1:
        raise FindingError(
            "AmbiguousRoute",
            f"{where}: spec.http now has {len(found)} routes {wanted}; leave only one",
            candidates=tuple(candidate.field for candidate in found),
        )
    return found[0]


def in_mesh(virtual_service: Object) -> bool:
    """Whether sidecars apply it: no gateways at all, or the word `mesh` among them."""
    gateways = section(virtual_service, "spec").get("gateways")
    return not gateways or "mesh" in gateways


def _has_any(route: HttpRoute, service: str, subsets: tuple[str, ...]) -> bool:
    return any(route.position(service, subset) is not None for subset in subsets)


def _spec_hosts(virtual_service: Object) -> list[object]:
    found = section(virtual_service, "spec").get("hosts")
    return list(found) if isinstance(found, list | tuple) else []


def _virtual_service(view: MeshView, hosts: Hosts, service: str, named: str) -> Object:
    if named:
        refuse_unless_plain(named, "virtual-service")
        found = by_name(view.virtual_services, named)
        if found is None:
            raise FindingError(
                "VirtualServiceMissing",
                f"{title('VirtualService', view.namespace, named)} does not exist; name one of the namespace's own",
                candidates=names(view.virtual_services),
            )
        return found

    def routes_to(virtual_service: Object, *, by_subset: bool) -> bool:
        return any(
            found.service == service and (found.subset or not by_subset)
            for route in http_routes(virtual_service, hosts)
            for found in route.destinations
        )

    ways: Sequence[Callable[[Object], bool]] = (
        lambda candidate: routes_to(candidate, by_subset=True),
        lambda candidate: routes_to(candidate, by_subset=False),
        lambda candidate: service in map(hosts.service, _spec_hosts(candidate)),
    )
    for way in ways:
        found_so = [candidate for candidate in view.virtual_services if way(candidate)]
        if len(found_so) == 1:
            return found_so[0]
        if found_so:
            _refuse_second_in_mesh(view, hosts, next((one for one in found_so if in_mesh(one)), found_so[0]))
            raise FindingError(
                "AmbiguousVirtualService",
                f"{len(found_so)} VirtualServices in namespace {view.namespace} route to Service {service}: "
                f"{', '.join(names(found_so))}; name one in the annotation canary.delivery/virtual-service",
                candidates=names(found_so),
            )
    raise FindingError(
        "VirtualServiceMissing",
        f"no VirtualService in namespace {view.namespace} routes to Service {service}; create one with "
        f"spec.hosts [{service}] and a destination of that host with a subset",
        candidates=names(view.virtual_services),
    )


def _refuse_second_in_mesh(view: MeshView, hosts: Hosts, chosen: Object) -> None:
    """Two VirtualServices of the mesh for one host: which one a sidecar takes is undefined."""

    def meant(virtual_service: Object) -> set[str]:
        literal = [host for host in _spec_hosts(virtual_service) if isinstance(host, str)]
        return {hosts.fqdn(host) if "." not in host and "*" not in host else host for host in literal}

    if not in_mesh(chosen):
        return
    for other in view.virtual_services:
        both = meant(chosen) & meant(other)
        if name_of(other) != name_of(chosen) and in_mesh(other) and both:
            pair = names((chosen, other))
            raise FindingError(
                "TwoVirtualServices",
                f"VirtualServices {view.namespace}/{pair[0]} and {view.namespace}/{pair[1]}: spec.hosts of both have "
                f"{min(both)} and both apply in the mesh, so which one routes is undefined; merge them into one",
                candidates=pair,
            )


def _refuse_foreign_hosts(view: MeshView, hosts: Hosts, chosen: Object) -> None:
    """The hosts whose requests the edited route takes must not be another namespace's Services.

    A delegate has no hosts of its own: those of the VirtualServices that delegate to it count.
    """
    roots = [root for root in view.virtual_services if name_of(chosen) in _delegates(root, view.namespace)]
    for holder in [chosen, *roots]:
        for position, host in enumerate(_spec_hosts(holder)):
            if hosts.is_foreign(host, in_mesh=in_mesh(holder)):
                raise FindingError(
                    "ForeignHost",
                    f"{title('VirtualService', view.namespace, name_of(holder))}: spec.hosts[{position}] "
                    f"{str(host)[:253]!r} takes the requests of Services outside namespace {view.namespace}; only a "
                    f"Service's plain name, {hosts.fqdn('<service>')} or a public name is edited",
                )


def _delegates(virtual_service: Object, namespace: str) -> list[object]:
    """The names of the delegates in this namespace; those elsewhere are never followed."""
    found = [section(http, "delegate") for http in listed(virtual_service, "spec", "http")]
    return [one.get("name") for one in found if one and (one.get("namespace") or namespace) == namespace]


def _http_route(view: MeshView, hosts: Hosts, service: str, chosen: Object, named: str) -> HttpRoute:
    where = title("VirtualService", view.namespace, name_of(chosen))
    routes = http_routes(chosen, hosts)
    carriers = [route for route in routes if route.carries(service)]
    plain = [route for route in routes if any(found.service == service for found in route.destinations)]
    if named:
        matching = [route for route in routes if route.name == named]
        if not matching:
            raise FindingError(
                "RouteMissing",
                f"{where}: spec.http has no route named {named[:63]!r}; name one that has a subset of {service} as "
                f"destination",
                candidates=tuple(route.name or route.field for route in carriers),
            )
        carriers = [route for route in carriers if route.name == named]
        plain = [route for route in plain if route.name == named]
        if not plain:
            _refuse_unsafe(matching[0])
            raise FindingError(
                "RouteMissing",
                f"{matching[0].title} has no destination of Service {service}; name one that has in "
                f"canary.delivery/route",
                candidates=tuple(route.name or route.field for route in routes if route.carries(service)),
            )
    if len(carriers) == 1:
        return carriers[0]
    if carriers:
        raise FindingError(
            "AmbiguousRoute",
            f"{where}: {len(carriers)} HTTP routes send traffic to subsets of {service}: "
            f"{', '.join(route.field for route in carriers)}; give the one to shift a name of its own "
            f"(spec.http[].name) and name it in the annotation canary.delivery/route",
            candidates=tuple(route.name or route.field for route in carriers),
        )
    if plain:
        raise FindingError("NoSubsets", subsets_to_add(view, service, plain[0]))
    for route in routes:  # `payment.default` is not the Service payment, and the sentence must say so
        _refuse_foreign_destinations(view, route)
    raise _nothing_to_weigh(view, service, chosen, where)


def _nothing_to_weigh(view: MeshView, service: str, chosen: Object, where: str) -> FindingError:
    for index, http in enumerate(listed(chosen, "spec", "http")):
        delegate = section(http, "delegate")
        if delegate:
            namespace, name = delegate.get("namespace") or view.namespace, delegate.get("name")
            own = namespace == view.namespace
            return FindingError(
                "UnsafeRoute" if own else "ForeignDelegate",
                f"{where}: spec.http[{index}].delegate is VirtualService {namespace}/{name}, "
                + (
                    "where no route has a subset of " + service + "; name that one in canary.delivery/virtual-service"
                    if own
                    else f"outside namespace {view.namespace}, and is not followed; keep the route in {view.namespace}"
                ),
            )
    other = [kind for kind in ("tls", "tcp") if listed(chosen, "spec", kind)]
    if other and not listed(chosen, "spec", "http"):
        return FindingError(
            "UnsafeRoute",
            f"{where} has only spec.{other[0]} routes, which are weighed per connection and know no headers; "
            f"add an HTTP route (spec.http) to {service}",
        )
    return FindingError(
        "RouteMissing",
        f"{where}: no route in spec.http has Service {service} as destination; add one, with a subset",
    )


def _refuse_unsafe(route: HttpRoute) -> None:
    for kind in _NOT_WEIGHTED:
        if route.body.get(kind) is not None:
            raise FindingError(
                "UnsafeRoute", f"{route.title}.{kind}: a {kind} route has no weights to move; name another"
            )
    for position, found in enumerate(route.destinations):
        weight = found.entry.get("weight")
        if weight is not None and (whole(weight) is None or weight < 0):
            raise FindingError(
                "UnsafeRoute",
                f"{route.title}.route[{position}].weight must be a whole number, 0 to 100, not {str(weight)[:40]!r}",
            )


def _refuse_foreign_destinations(view: MeshView, route: HttpRoute) -> None:
    own = names(view.services)
    for position, found in enumerate(route.destinations):
        if found.service is None or found.service not in own:
            host = str(section(found.entry, "destination").get("host"))[:253]
            raise FindingError(
                "ForeignHost",
                f"{route.title}.route[{position}].destination.host {host!r} is no Service of namespace "
                f"{view.namespace}; write a Service's plain name or its FQDN "
                f"{route.hosts.fqdn('<service>')} (any other name with a dot is taken literally)",
                candidates=own,
            )
