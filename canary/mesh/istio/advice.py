"""The YAML a user has to add before a service can be released step by step."""

from __future__ import annotations

from typing import Any

import yaml

from canary.mesh.istio.http_route import HttpRoute
from canary.mesh.istio.subsets import VERSION_LABELS, subset_name
from canary.mesh.objects import age, by_name, name_of, section, template_labels
from canary.mesh.router import MeshView, Object
from canary.mesh.services import selected


def subsets_to_add(view: MeshView, service: str, route: HttpRoute) -> str:
    """The sentence of the finding NoSubsets, and the two pieces of YAML that end it."""
    subsets = _subsets(view, service)
    unnamed = next(found for found in route.destinations if found.service == service)
    destination = {**section(unnamed.entry, "destination"), "subset": subsets[0]["name"]}
    rule = {
        "apiVersion": "networking.istio.io/v1",
        "kind": "DestinationRule",
        "metadata": {"name": service, "namespace": view.namespace},
        "spec": {"host": route.hosts.fqdn(service), "subsets": subsets},
    }
    return (
        f"{route.title}: no destination of Service {service} names a subset, so every version that the Service's "
        f"selector matches gets traffic, a new one before canary acts; add this DestinationRule:\n"
        f"{_yaml(rule)}and this in VirtualService {view.namespace}/{name_of(route.virtual_service)}, "
        f"spec.http[{route.index}]:\n{_yaml({'route': [{'destination': destination, 'weight': 100}]})}"
    )


def _subsets(view: MeshView, service: str) -> list[dict[str, Any]]:
    """One subset per version that runs, the oldest first; placeholders where the Deployments do not tell."""
    found = by_name(view.services, service)
    deployments: list[Object] = sorted(selected(view, found) if found else [], key=age)
    for label in VERSION_LABELS:
        values = list(dict.fromkeys(template_labels(deployment).get(label) for deployment in deployments))
        subsets = [{"name": subset_name(value), "labels": {label: value}} for value in values if value]
        if subsets:
            return subsets
    return [{"name": version, "labels": {"version": version}} for version in ("v1", "v2")]


def _yaml(document: dict[str, Any]) -> str:
    return str(yaml.safe_dump(document, sort_keys=False))
