"""Who may send the header that a policy's header stage looks for: also outsiders, where a gateway takes their requests.

A header is no permission. On a route that sidecars apply, only pods of the mesh can send it; on one that is bound to a
gateway, anybody on the other side of it can, and reaches a version that nobody has judged yet.
"""

from __future__ import annotations

from canary.mesh.objects import by_name, listed, name_of, section
from canary.mesh.router import MeshView, Object
from canary.model.policy import Match
from canary.model.route import Route


def gateways_of(view: MeshView, virtual_service: str) -> tuple[str, ...]:
    """The gateways whose requests a VirtualService routes, its own or its roots'; the word `mesh` aside."""
    chosen = by_name(view.virtual_services, virtual_service)
    roots = [root for root in view.virtual_services if _delegates_to(root, view.namespace, virtual_service)]
    found = {
        gateway
        for holder in (chosen, *roots)
        if holder is not None
        for gateway in _gateways(holder)
        if isinstance(gateway, str) and gateway != "mesh"
    }
    return tuple(sorted(found))


def _gateways(virtual_service: Object) -> list[object]:
    found = section(virtual_service, "spec").get("gateways")
    return list(found) if isinstance(found, list | tuple) else []


def header_from_outside(view: MeshView, route: Route, match: Match | None) -> str:
    """What to look out for before a header stage, as a sentence; "" where there is no such stage or no gateway."""
    gateways = gateways_of(view, route.virtual_service) if match is not None else ()
    if match is None or not gateways:
        return ""
    headers = ", ".join(sorted(match.headers))
    return (
        f"VirtualService {view.namespace}/{route.virtual_service} is bound to {', '.join(gateways)[:200]}: whoever "
        f"sends {headers} from outside reaches the new version before it is judged; have the gateway take the header "
        "off"
    )


def _delegates_to(root: Object, namespace: str, name: str) -> bool:
    found = [section(http, "delegate") for http in listed(root, "spec", "http")]
    is_named = any(one.get("name") == name and (one.get("namespace") or namespace) == namespace for one in found if one)
    return is_named and name_of(root) != name
