"""Taking away what was added, once nothing depends on it; never what a user wrote.

The routes first, the subsets only when a later view shows that no route uses them: a route to a missing subset is
answered 503.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from canary.errors import FindingError
from canary.mesh.istio.added import (
    ADDED,
    ROLLBACK,
    AddedRoute,
    added_to_destination_rule,
    added_to_virtual_service,
    rollback_marks,
    rollback_text,
    virtual_service_text,
)
from canary.mesh.istio.find import again
from canary.mesh.istio.hosts import Hosts
from canary.mesh.istio.http_route import HttpRoute, shares, whole
from canary.mesh.istio.patch import Operation, annotate, expect, pin, pointer, version_of
from canary.mesh.istio.subsets import rules_of
from canary.mesh.istio.virtual_service import drop_header_route, patch_of, set_weight
from canary.mesh.objects import by_name, listed, name_of, section
from canary.mesh.router import MeshView, Object, Write
from canary.model.route import Route


def clean_route(view: MeshView, hosts: Hosts, route: Route, keep: frozenset[str]) -> Write | None:
    """Header routes, weightless destinations and the mark of a service's versions that are not kept.

    A destination of ours that still has weight stays, and stays on record. Moves no traffic: weights are written only
    to put back the text that was there before, when it means the same shares.
    """
    virtual_service = by_name(view.virtual_services, route.virtual_service)
    if virtual_service is None:
        return None
    try:
        http = again(view, hosts, route)
    except FindingError:  # the route was taken out or doubled: what is left of ours goes all the same
        http = None
    record = added_to_virtual_service(virtual_service)
    mine = record.get(route.service, {})
    gone = {subset: added for subset, added in mine.items() if subset not in keep}
    destinations, staying = _destinations(http, route.service, gone) if http else ([], set())
    record[route.service] = {subset: added for subset, added in mine.items() if subset in keep} | {
        subset: replace(added, header_route="") for subset, added in gone.items() if subset in staying
    }
    marks = {**rollback_marks(virtual_service), route.service: ""}
    changes = [
        *destinations,
        *annotate(virtual_service, {ADDED: virtual_service_text(record), ROLLBACK: rollback_text(marks)}),
        *_header_routes(virtual_service, [added.header_route for added in gone.values()]),
    ]
    return patch_of(virtual_service, http, changes, why=f"clean up after {route.service}") if changes else None


def clean_rules(view: MeshView, hosts: Hosts, route: Route, keep: frozenset[str]) -> list[Write]:
    """Subsets of ours that are not kept and that no route in the view uses; a rule of ours when none of it is left."""
    needed = keep | _used(view, hosts, route.service)
    writes = [_clean_rule(view.namespace, rule, needed) for rule in rules_of(view, hosts, route.service)]
    return [write for write in writes if write]


def _destinations(http: HttpRoute, service: str, gone: Mapping[str, AddedRoute]) -> tuple[list[Operation], set[str]]:
    """Operations on `route[]`, and the versions whose destination cannot go yet."""
    ours = {http.position(service, subset): subset for subset, added in gone.items() if added.destination}
    removed = sorted(position for position in ours if position is not None and not http.shares[position])
    left = [position for position in range(len(http.destinations)) if position not in removed]
    before = [http.shares[position] for position in left]
    if shares([http.weights[position] for position in left]) != before:
        return [], set(ours.values())
    staying = {subset for position, subset in ours.items() if position in left}
    fields = {
        position: added.was[http.destinations[position].subset]
        for subset, added in gone.items()
        for position in left
        if subset not in staying
        and http.destinations[position].service == service
        and http.destinations[position].subset in added.was
    }
    weights = [
        max(0, whole(fields[position].get("weight")) or 0) if position in fields else http.weights[position]
        for position in left
    ]
    operations = [
        operation
        for position, field in fields.items()
        if shares(weights) == before
        for operation in set_weight(http, position, field)
    ]
    operations += [
        {"op": "remove", "path": pointer("spec", "http", http.index, "route", position)}
        for position in reversed(removed)
    ]
    return operations, staying


def _header_routes(virtual_service: Object, names: list[str]) -> list[Operation]:
    """Removals from the last index to the first, so that each path still means what it meant in the object."""
    by_index = {
        str(operations[-1]["path"]): operations
        for name in names
        if (operations := drop_header_route(virtual_service, name))
    }
    ordered = sorted(by_index, key=lambda path: int(path.rsplit("/", 1)[1]), reverse=True)
    return [operation for path in ordered for operation in by_index[path]]


def _used(view: MeshView, hosts: Hosts, service: str) -> set[str]:
    """The subsets of a service that any VirtualService in the view mentions: as destination or as mirror."""
    mentioned: list[Mapping[str, Any]] = []
    for virtual_service in view.virtual_services:
        for protocol in ("http", "tls", "tcp"):
            for entry in listed(virtual_service, "spec", protocol):
                mentioned += [section(one, "destination") for one in listed(entry, "route")]
                mentioned += [section(one, "destination") for one in listed(entry, "mirrors")]
                mentioned.append(section(entry, "mirror"))
    return {str(one.get("subset")) for one in mentioned if hosts.service(one.get("host")) == service}


def _clean_rule(namespace: str, rule: Object, needed: set[str] | frozenset[str]) -> Write | None:
    added = added_to_destination_rule(rule)
    subsets = listed(rule, "spec", "subsets")
    ours = {
        index: str(subset["name"])
        for index, subset in enumerate(subsets)
        if subset.get("name") in added.subsets
        and dict(subset) == {"name": subset["name"], "labels": added.subsets[subset["name"]]}
    }
    removed = {index: name for index, name in ours.items() if name not in needed}
    if added.rule and len(removed) == len(subsets):
        return Write(
            verb="delete",
            kind="DestinationRule",
            namespace=namespace,
            name=name_of(rule),
            why="no route uses a subset of this rule of ours any more",
            pins=version_of(rule),
        )
    # A subset of ours that somebody changed since, or took out, is theirs now: off the record.
    kept = {name: added.subsets[name] for index, name in ours.items() if index not in removed}
    changes: list[Operation] = []
    for index in sorted(removed, reverse=True):
        at = pointer("spec", "subsets", index)
        changes += [*expect(f"{at}/name", removed[index]), {"op": "remove", "path": at}]
    if removed and len(removed) == len(subsets):
        changes = [{"op": "remove", "path": "/spec/subsets"}]
    changes += annotate(rule, {ADDED: replace(added, subsets=kept).text})
    if not changes:
        return None
    return Write(
        verb="patch",
        kind="DestinationRule",
        namespace=namespace,
        name=name_of(rule),
        body=[pin(rule), *changes],
        why=f"no route uses {', '.join(sorted(removed.values()))} any more"
        if removed
        else "the record of what is ours",
        pins=version_of(rule),
    )
