"""Moving weights and the header route in a VirtualService: one JSON patch, pinned, touching nothing else.

Every list in Istio's kinds is atomic for server-side apply, so applying would own all of `spec.http`; a patch names
the two weights and leaves matches, retries, mirrors, foreign destinations and unknown fields as they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import replace
from fractions import Fraction
from math import ceil
from typing import Any

from canary.errors import FindingError
from canary.mesh.istio.added import (
    ADDED,
    ROLLBACK,
    AddedRoute,
    added_to_virtual_service,
    rollback_marks,
    rollback_text,
    virtual_service_text,
)
from canary.mesh.istio.header_route import free_name, header_route
from canary.mesh.istio.http_route import HttpRoute, shares
from canary.mesh.istio.patch import Operation, annotate, expect, pin, pointer, version_of
from canary.mesh.objects import listed, name_of, section
from canary.mesh.router import Object, Write
from canary.model.policy import Match
from canary.model.route import Route, RouteState


def state_of(http: HttpRoute, route: Route, *, promoted: bool = False) -> RouteState:
    """What the route says now. Raises FindingError SubsetGone when stable is no longer on it and was not promoted."""
    canary = http.position(route.service, route.canary.subset)
    may_be_alone = promoted and canary is not None
    stable = http.position(route.service, route.stable.subset) if may_be_alone else stable_position(http, route)
    own_shares = http.shares
    own = sum(own_shares[position] for position in (stable, canary) if position is not None)
    share = own_shares[canary] / own if canary is not None and own else Fraction(0)
    added = added_to_virtual_service(http.virtual_service).get(route.service, {}).get(route.canary.subset)
    return RouteState(
        # The least weight whose destination weight, rounded down, is this one: reads back what `shift` wrote.
        weight=ceil(share * 100),
        header=bool(added and _index_of(http.virtual_service, added.header_route) is not None),
        resource_version=version_of(http.virtual_service),
        foreign_weight=round((1 - own) * 100),
        mark=rollback_marks(http.virtual_service).get(route.service, ""),
        without_stable=stable is None,
    )


def shift(http: HttpRoute, route: Route, weight: int, match: Match | None, mark: str) -> Write | None:
    """The write that gives the canary `weight` percent of what is not foreign; None when the route says so already.

    Raises FindingError SubsetGone or HeaderConflict, ValueError for a weight outside 0-100.
    """
    if not 0 <= weight <= 100:
        raise ValueError(f"weight must be 0 to 100, not {weight}")
    record = added_to_virtual_service(http.virtual_service)
    added = record.get(route.service, {}).get(route.canary.subset, AddedRoute())
    weights, added = _weights(http, route, weight, added)
    headers, added = _header(http, route, match, added)
    record.setdefault(route.service, {})[route.canary.subset] = added
    marks = {**rollback_marks(http.virtual_service), route.service: mark}
    annotations = annotate(http.virtual_service, {ADDED: virtual_service_text(record), ROLLBACK: rollback_text(marks)})
    changes = [*weights, *annotations, *headers]
    if not changes:
        return None
    stage = f", with {', '.join(match.headers)} to it" if match else ""
    return patch_of(
        http.virtual_service, http, changes, why=f"{route.canary.subset} gets {weight} % of {route.service}{stage}"
    )


def stable_position(http: HttpRoute, route: Route) -> int:
    """Where stable stands in `route[]`. Raises FindingError SubsetGone: without it the canary would get everything."""
    position = http.position(route.service, route.stable.subset)
    if position is None:
        raise FindingError(
            "SubsetGone",
            f"{http.title}.route has no destination {route.service} with subset {route.stable.subset} (stable) any "
            f"more; put it back",
        )
    return position


def patch_of(virtual_service: Object, http: HttpRoute | None, changes: list[Operation], *, why: str) -> Write:
    """The write of these changes, valid only for this version of the object, and for this very route if given."""
    return Write(
        verb="patch",
        kind="VirtualService",
        namespace=str(virtual_service["metadata"]["namespace"]),
        name=name_of(virtual_service),
        body=[*(_identity(http) if http else []), pin(virtual_service), *changes],
        why=why,
        pins=version_of(virtual_service),
    )


def _identity(http: HttpRoute) -> list[Operation]:
    """Tests for the route's name and for every destination, in order; not for weights, which say nothing (ABA)."""
    at = ("spec", "http", http.index)
    tests = expect(pointer(*at, "name"), http.name) if http.name else []
    for position, found in enumerate(http.destinations):
        destination = section(found.entry, "destination")
        for key in ("host", "subset"):
            if key in destination:
                tests += expect(pointer(*at, "route", position, "destination", key), destination[key])
    return tests


def set_weight(http: HttpRoute, position: int, field: Mapping[str, Any]) -> list[Operation]:
    """Makes one destination's weight field `{"weight": 90}`, or absent for `{}`; nothing when it is so already."""
    entry = http.destinations[position].entry
    path = pointer("spec", "http", http.index, "route", position, "weight")
    if "weight" not in field:
        return [{"op": "remove", "path": path}] if "weight" in entry else []
    if "weight" in entry and entry["weight"] == field["weight"]:
        return []
    return [{"op": "replace" if "weight" in entry else "add", "path": path, "value": field["weight"]}]


def _weights(http: HttpRoute, route: Route, weight: int, added: AddedRoute) -> tuple[list[Operation], AddedRoute]:
    stable = stable_position(http, route)
    canary = http.position(route.service, route.canary.subset)
    mine = (stable,) if canary is None else (stable, canary)
    pool = max(0, 100 - sum(each for position, each in enumerate(http.weights) if position not in mine))
    canary_weight = weight * pool // 100
    wanted = {stable: pool - canary_weight}
    if canary is not None:
        wanted[canary] = canary_weight
    elif canary_weight == 0:
        return [], added  # not on the route gets nothing: there is no reason to touch it
    now, after = http.weights, [wanted.get(position, each) for position, each in enumerate(http.weights)]
    if canary is not None and shares(now) == shares(after):
        return [], added
    operations = [
        operation for position, each in wanted.items() for operation in set_weight(http, position, {"weight": each})
    ]
    nothing_yet = canary is None or not http.shares[canary]
    if nothing_yet and not added.was:
        added = replace(added, was=_as_written(http, {stable: pool} | ({canary: 0} if canary is not None else {})))
    if canary is None:
        operations.append(
            {
                "op": "add",
                "path": pointer("spec", "http", http.index, "route", "-"),
                "value": {**canary_destination(http, route), "weight": canary_weight},
            }
        )
        added = replace(added, destination=True)
    return operations, added


def _as_written(http: HttpRoute, plain: Mapping[int, int]) -> dict[str, dict[str, Any]]:
    """The weight fields of these destinations, unless they are the plain numbers that a rollback leaves anyway."""
    entries = {position: http.destinations[position].entry for position in plain}
    if all(not set_weight(http, position, {"weight": weight}) for position, weight in plain.items()):
        return {}
    return {
        http.destinations[position].subset: {"weight": entry["weight"]} if "weight" in entry else {}
        for position, entry in entries.items()
    }


def canary_destination(http: HttpRoute, route: Route) -> dict[str, Any]:
    """The canary's entry of `route[]` as it stands, or a new one: stable's host and port, the canary's subset."""
    canary = http.position(route.service, route.canary.subset)
    if canary is not None:
        return deepcopy(dict(http.destinations[canary].entry))
    stable = http.destinations[stable_position(http, route)].entry
    return {"destination": {**deepcopy(dict(section(stable, "destination"))), "subset": route.canary.subset}}


def _index_of(virtual_service: Object, name: str) -> int | None:
    """Where the header route of this name stands in `spec.http`."""
    https = listed(virtual_service, "spec", "http")
    return next((index for index, http in enumerate(https) if name and http.get("name") == name), None)


def drop_header_route(virtual_service: Object, name: str) -> list[Operation]:
    """Takes a header route of ours away, wherever it stands by now."""
    index = _index_of(virtual_service, name)
    if index is None:
        return []
    at = pointer("spec", "http", index)
    return [*expect(f"{at}/name", name), {"op": "remove", "path": at}]


def _header(
    http: HttpRoute, route: Route, match: Match | None, added: AddedRoute
) -> tuple[list[Operation], AddedRoute]:
    """Operations that may move indices, so they come last in the patch."""
    index = _index_of(http.virtual_service, added.header_route)
    if match is None:
        return drop_header_route(http.virtual_service, added.header_route), replace(added, header_route="")
    taken = {str(one.get("name")) for one in listed(http.virtual_service, "spec", "http")}
    name = added.header_route if index is not None else free_name(route.canary.subset, taken)
    document = header_route(http, name, match, canary_destination(http, route))
    added = replace(added, header_route=name)
    if index is None:
        return [{"op": "add", "path": pointer("spec", "http", http.index), "value": document}], added
    if index == http.index - 1:
        same = listed(http.virtual_service, "spec", "http")[index] == document
        at = pointer("spec", "http", index)
        return [] if same else [*expect(f"{at}/name", name), {"op": "replace", "path": at, "value": document}], added
    before = http.index - 1 if index < http.index else http.index
    moved = {"op": "add", "path": pointer("spec", "http", before), "value": document}
    return [*drop_header_route(http.virtual_service, name), moved], added
