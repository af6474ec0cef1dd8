"""What kinds exist: built-in ones and those a CustomResourceDefinition declares, found by group, version and plural.

Only descriptions live here, no objects. One `Resource` is one kind with all its versions, which share one store.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from canary.sandbox.apiserver.answers import Json
from canary.sandbox.apiserver.lists import ListKind, builtin_lists, schema_lists

VERBS = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")


@dataclass(frozen=True)
class Column:
    """A printer column; `priority` above 0 shows in `-o wide` only; `type` "date" prints an age."""

    name: str
    path: str
    type: str = "string"
    format: str = ""
    priority: int = 0
    description: str = ""


@dataclass(frozen=True)
class Scale:
    """Where the scale subresource finds its numbers (JSONPaths)."""

    spec_replicas: str = ".spec.replicas"
    status_replicas: str = ".status.replicas"
    selector: str = ""


@dataclass(frozen=True)
class Version:
    """One served version of a kind. `schema` is the OpenAPI v3 schema, None for kinds that are not checked."""

    name: str
    schema: Json | None = None
    columns: tuple[Column, ...] = ()
    has_status: bool = False
    scale: Scale | None = None
    selectable: tuple[str, ...] = ()


@dataclass(frozen=True)
class Resource:
    """One kind. `custom` ones are pruned, validated and refuse strategic merge patches."""

    group: str
    kind: str
    plural: str
    singular: str
    versions: tuple[Version, ...]
    namespaced: bool = True
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    custom: bool = False
    has_generation: bool = False
    storage: str = ""
    verbs: tuple[str, ...] = field(default=VERBS)

    @property
    def key(self) -> tuple[str, str]:
        """Identity of the kind: (group, plural)."""
        return self.group, self.plural

    def version(self, name: str) -> Version | None:
        return next((version for version in self.versions if version.name == name), None)

    def api_version(self, version: str) -> str:
        return f"{self.group}/{version}" if self.group else version

    @property
    def storage_api_version(self) -> str:
        return self.api_version(self.storage or self.versions[0].name)

    def lists(self, version: Version) -> ListKind:
        """How this kind's lists merge."""
        return schema_lists(version.schema) if self.custom else builtin_lists


def version_priority(name: str) -> tuple[int, int, int]:
    """Sort key of Kubernetes versions, best first: v2, v1, v1beta2, v1beta1, v1alpha1."""
    found = re.fullmatch(r"v(\d+)(?:(alpha|beta)(\d+))?", name)
    if not found:
        return 3, 0, 0
    stage = {None: 0, "beta": 1, "alpha": 2}[found[2]]
    return stage, -int(found[1]), -int(found[3] or 0)


def from_definition(crd: Json) -> Resource:
    """The kind a (valid, defaulted) CustomResourceDefinition declares; only served versions count."""
    spec = crd["spec"]
    names = spec["names"]
    served = sorted((v for v in spec["versions"] if v["served"]), key=lambda v: version_priority(v["name"]))
    return Resource(
        group=spec["group"],
        kind=names["kind"],
        plural=names["plural"],
        singular=names["singular"],
        versions=tuple(_version(version) for version in served),
        namespaced=spec["scope"] == "Namespaced",
        short_names=tuple(names.get("shortNames") or ()),
        categories=tuple(names.get("categories") or ()),
        custom=True,
        has_generation=True,
        storage=next(version["name"] for version in spec["versions"] if version["storage"]),
    )


def _version(version: Json) -> Version:
    subresources = version.get("subresources") or {}
    scale = subresources.get("scale")
    columns = [
        Column(
            name=column["name"],
            path=column["jsonPath"],
            type=column.get("type", "string"),
            format=column.get("format", ""),
            priority=column.get("priority", 0),
            description=column.get("description", ""),
        )
        for column in version.get("additionalPrinterColumns") or ()
    ]
    return Version(
        name=version["name"],
        schema=version["schema"]["openAPIV3Schema"],
        columns=tuple(columns) or (Column("Age", ".metadata.creationTimestamp", "date"),),
        has_status="status" in subresources,
        scale=Scale(scale["specReplicasPath"], scale["statusReplicasPath"], scale.get("labelSelectorPath", ""))
        if scale
        else None,
        selectable=tuple(item["jsonPath"].lstrip(".") for item in version.get("selectableFields") or ()),
    )


class Registry:
    """All kinds served now; changes when CustomResourceDefinitions come and go."""

    def __init__(self, resources: tuple[Resource, ...]) -> None:
        self._resources = {resource.key: resource for resource in resources}

    def __iter__(self) -> Iterator[Resource]:
        return iter(self._resources.values())

    def find(self, group: str, plural: str) -> Resource | None:
        return self._resources.get((group, plural))

    def add(self, resource: Resource) -> None:
        self._resources[resource.key] = resource

    def discard(self, group: str, plural: str) -> None:
        self._resources.pop((group, plural), None)

    def group_versions(self) -> dict[str, list[str]]:
        """Served versions by group ("" is core), best first."""
        groups: dict[str, set[str]] = {}
        for resource in self:
            groups.setdefault(resource.group, set()).update(version.name for version in resource.versions)
        return {group: sorted(versions, key=version_priority) for group, versions in groups.items()}

    def served(self, group: str, version: str) -> list[tuple[Resource, Version]]:
        """The kinds of one group version."""
        pairs = ((resource, resource.version(version)) for resource in self if resource.group == group)
        return [(resource, found) for resource, found in pairs if found]
