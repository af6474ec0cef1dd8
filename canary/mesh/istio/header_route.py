"""The header route: a clone of the primary route that takes marked requests to the canary.

A clone, because route policy (timeout, retries, rewrite, headers, CORS, faults, mirrors) is not inherited from one
route to the next; right before the primary one, because the first match wins.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

from canary.errors import FindingError
from canary.mesh.istio.http_route import HttpRoute
from canary.mesh.objects import listed, section
from canary.model.policy import Match


def header_route(primary: HttpRoute, name: str, match: Match, destination: Mapping[str, Any]) -> dict[str, Any]:
    """The route's document: the primary's matches with the headers ANDed into each, all of it to `destination`.

    Raises FindingError HeaderConflict when a match of the primary already asks something else of such a header.
    """
    headers = {header.lower(): wanted.document() for header, wanted in match.headers.items()}
    document: dict[str, Any] = deepcopy(dict(primary.body))
    document["name"] = name
    document["match"] = [
        {**deepcopy(dict(own)), "headers": _both(primary, position, section(own, "headers"), headers)}
        for position, own in enumerate(listed(primary.body, "match") or [{}])
    ]
    document["route"] = [{**deepcopy(dict(destination)), "weight": 100}]
    return document


def _both(
    primary: HttpRoute, position: int, own: Mapping[str, Any], ours: Mapping[str, dict[str, str]]
) -> dict[str, Any]:
    for header, wanted in own.items():
        if ours.get(header.lower(), wanted) != wanted:
            raise FindingError(
                "HeaderConflict",
                f"{primary.title}.match[{position}].headers asks {dict(wanted or {})} of {header!r}, the policy's "
                f"match asks {ours[header.lower()]}; one header cannot be matched twice, use another in the policy",
            )
    return {**deepcopy(dict(own)), **ours}


def free_name(subset: str, taken: set[str]) -> str:
    """`canary-v2-header`, with a number behind it when another service's header route has that name."""
    base = f"canary-{subset}-header"
    number = 1
    while (name := base if number == 1 else f"{base}-{number}") in taken:
        number += 1
    return name
