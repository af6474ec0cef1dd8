"""The record of what was added to somebody's object, kept in its annotation `canary.delivery/added`.

Only what is recorded here is ever taken away again; everything else is the user's. A record that cannot be read is
treated as absent: then nothing is taken away.

    VirtualService   {"payment": {"v2": {"destination": true, "headerRoute": "canary-v2-header",
                                         "was": {"v1": {"weight": 3}}}}}
    DestinationRule  {"subsets": {"v2": {"version": "v2"}}, "rule": true}

A VirtualService may carry several services (an ingress), so its record is by service, then by the version's subset.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from canary.mesh.objects import section
from canary.mesh.router import Object

ADDED = "canary.delivery/added"
ROLLBACK = "canary.delivery/rollback"


@dataclass(frozen=True, slots=True)
class AddedRoute:
    """What one version got in a VirtualService.

    `destination`: its destination on the primary route is ours. `header_route`: the name of its header route, or
    empty. `was`: the weight field of destinations (by subset) before the first step, `{}` where there was none,
    recorded only when a rollback's plain numbers would not be the same text.
    """

    destination: bool = False
    header_route: str = ""
    was: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def document(self) -> dict[str, Any]:
        document: dict[str, Any] = {}
        if self.destination:
            document["destination"] = True
        if self.header_route:
            document["headerRoute"] = self.header_route
        if self.was:
            document["was"] = {subset: dict(weight) for subset, weight in self.was.items()}
        return document


Record = dict[str, dict[str, AddedRoute]]
"""service -> subset -> what was added."""


def added_to_virtual_service(virtual_service: Object) -> Record:
    """The record of a VirtualService; empty when there is none."""
    return {
        service: {subset: _added_route(subsets[subset]) for subset in subsets}
        for service, subsets in _annotation(virtual_service, ADDED).items()
        if isinstance(subsets, Mapping)
    }


def _added_route(document: object) -> AddedRoute:
    if not isinstance(document, Mapping):
        return AddedRoute()
    header_route = document.get("headerRoute")
    return AddedRoute(
        destination=document.get("destination") is True,
        header_route=header_route if isinstance(header_route, str) else "",
        was={subset: weight for subset, weight in section(document, "was").items() if isinstance(weight, Mapping)},
    )


def virtual_service_text(record: Record) -> str | None:
    """The annotation's value; None (take it away) when nothing is left."""
    document = {
        service: {subset: added.document() for subset, added in subsets.items() if added.document()}
        for service, subsets in record.items()
    }
    return _text({service: subsets for service, subsets in document.items() if subsets})


@dataclass(frozen=True, slots=True)
class AddedRule:
    """What is ours in a DestinationRule: subsets with their labels, or the whole rule."""

    subsets: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    rule: bool = False

    @property
    def text(self) -> str | None:
        """The annotation's value; None (take it away) when nothing is left."""
        document: dict[str, Any] = {}
        if self.subsets:
            document["subsets"] = {name: dict(labels) for name, labels in self.subsets.items()}
        if self.rule:
            document["rule"] = True
        return _text(document)


def added_to_destination_rule(rule: Object) -> AddedRule:
    """The record of a DestinationRule; empty when there is none."""
    document = _annotation(rule, ADDED)
    return AddedRule(
        subsets={name: labels for name, labels in section(document, "subsets").items() if isinstance(labels, Mapping)},
        rule=document.get("rule") is True,
    )


def rollback_marks(virtual_service: Object) -> dict[str, str]:
    """service -> the mark its rollback left."""
    marks = _annotation(virtual_service, ROLLBACK)
    return {service: mark for service, mark in marks.items() if isinstance(mark, str)}


def rollback_text(marks: Mapping[str, str]) -> str | None:
    return _text({service: mark for service, mark in marks.items() if mark})


def _annotation(thing: Object, key: str) -> Mapping[str, Any]:
    value = section(thing, "metadata", "annotations").get(key)
    try:
        document = json.loads(value) if isinstance(value, str) else {}
    except (ValueError, RecursionError):  # anybody who may annotate the object wrote it
        return {}
    return document if isinstance(document, Mapping) else {}


def _text(document: Mapping[str, Any]) -> str | None:
    return json.dumps(document, sort_keys=True, separators=(",", ":")) if document else None
