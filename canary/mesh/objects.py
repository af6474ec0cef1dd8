"""Reading plain Kubernetes objects: names, labels, what a selector selects. Never changes one."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from canary.errors import FindingError
from canary.mesh.router import Object
from canary.model.policy import DNS_LABEL


def name_of(thing: Object) -> str:
    """`metadata.name`."""
    return str(thing["metadata"]["name"])


def age(thing: Object) -> tuple[str, str]:
    """Sorts oldest first, then by name: the order in which Istio merges objects."""
    return str(section(thing, "metadata").get("creationTimestamp") or ""), name_of(thing)


def title(kind: str, namespace: str, name: str) -> str:
    """How a sentence names an object: `VirtualService default/payment`."""
    return f"{kind} {namespace}/{name}"


def section(thing: Object, *path: str) -> Mapping[str, Any]:
    """The mapping at a path; empty when any part is absent, null or something else."""
    here: Any = thing
    for part in path:
        here = here.get(part) if _is_mapping(here) else None
    return here if _is_mapping(here) else {}


def _is_mapping(thing: Any) -> bool:
    """Nearly always a dict, and then it is told ten times as quickly: this runs over whole namespaces at every look."""
    return isinstance(thing, dict) or isinstance(thing, Mapping)  # noqa: SIM101  that is the point


def listed(thing: Object, *path: str) -> list[Mapping[str, Any]]:
    """The mappings of the list at a path; empty when it is absent, null or something else."""
    found = section(thing, *path[:-1]).get(path[-1])
    return [item if isinstance(item, Mapping) else {} for item in found] if isinstance(found, list | tuple) else []


def template_labels(deployment: Object) -> Mapping[str, Any]:
    """The labels that a Deployment's pods will carry."""
    return section(deployment, "spec", "template", "metadata", "labels")


def selects(selector: Mapping[str, Any], labels: Mapping[str, Any]) -> bool:
    """Whether an equality selector matches. An empty one matches nothing here: it would match everybody's pods."""
    return bool(selector) and all(labels.get(key) == value for key, value in selector.items())


def within(namespace: str, things: Iterable[Object]) -> list[Object]:
    """The objects of this namespace. A view holds no others; a boundary between tenants is checked all the same."""
    return [thing for thing in things if _metadata(thing).get("namespace", namespace) == namespace]


def _metadata(thing: Object) -> Mapping[str, Any]:
    found = thing.get("metadata")
    return found if isinstance(found, dict) else section(thing, "metadata")


def by_name(things: Iterable[Object], name: str) -> Object | None:
    return next((thing for thing in things if name_of(thing) == name), None)


def names(things: Iterable[Object]) -> tuple[str, ...]:
    """Sorted names, as candidates of a finding."""
    return tuple(sorted(name_of(thing) for thing in things))


def refuse_unless_plain(name: str, annotation: str) -> None:
    """A name people give must be a DNS label: an FQDN or `ns/name` could point into another tenant's namespace.

    Raises FindingError InvalidName.
    """
    if not re.fullmatch(DNS_LABEL, name) or len(name) > 63:
        raise FindingError(
            "InvalidName",
            f"canary.delivery/{annotation}: {name[:80]!r} must be a plain name (lower-case letters, digits and "
            f"hyphens, at most 63), never an FQDN or namespace/name",
        )
