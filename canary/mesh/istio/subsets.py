"""The subsets of a service's host, as Istio merges them out of the namespace's DestinationRules. Only reads."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from canary.errors import FindingError
from canary.mesh.istio.hosts import Hosts
from canary.mesh.objects import age, listed, name_of, section, title
from canary.mesh.router import MeshView, Object

VERSION_LABELS = ("version", "app.kubernetes.io/version")
"""Where a version is usually written, Istio's own label first."""


@dataclass(frozen=True, slots=True)
class Subset:
    """A subset by its first definition, which is the one that Istio takes."""

    name: str
    labels: Mapping[str, Any]
    rule: Object


def rules_of(view: MeshView, hosts: Hosts, service: str) -> list[Object]:
    """The DestinationRules of a service's host, in the order in which Istio merges them (oldest first).

    One with a workloadSelector is left out: it speaks for some callers only.
    """
    rules = [
        rule
        for rule in view.destination_rules
        if hosts.service(section(rule, "spec").get("host")) == service and not section(rule, "spec", "workloadSelector")
    ]
    return sorted(rules, key=age)


def subsets_of(view: MeshView, hosts: Hosts, service: str) -> dict[str, Subset]:
    """Every subset of a service's host by name; of duplicates the first wins."""
    found: dict[str, Subset] = {}
    for rule in rules_of(view, hosts, service):
        for subset in listed(rule, "spec", "subsets"):
            name = subset.get("name")
            if isinstance(name, str):
                found.setdefault(name, Subset(name, section(subset, "labels"), rule))
    return found


def subset_name(value: str) -> str:
    """A label's value as a subset's name, which Istio wants to be a DNS label: `V2.1` -> `v2-1`."""
    return re.sub(r"[^a-z0-9]+", "-", value.lower()).strip("-") or "canary"


def name_for(value: str, labels: Mapping[str, Any], subsets: Mapping[str, Subset], where: str) -> str:
    """A name for a subset that is to be made: the value, or `<value>-canary` when that means something else already.

    Raises FindingError SubsetTaken when both do.
    """
    name = subset_name(value)
    for free in (name, f"{name[:56]}-canary"):
        if free not in subsets or subsets[free].labels == labels:
            return free
    taken = subsets[name]
    raise FindingError(
        "SubsetTaken",
        f"{title('DestinationRule', where, name_of(taken.rule))}: spec.subsets already uses {name} and {name}-canary "
        f"for other labels ({dict(taken.labels)}); add a subset of your own with the labels {dict(labels)}",
    )
