"""What the server serves, told to clients: /api, /apis, resource lists (plain and aggregated) and /version."""

from __future__ import annotations

from canary.sandbox.apiserver.answers import Json
from canary.sandbox.apiserver.resources import Registry, Resource, Version

AGGREGATED = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"

VERSION: Json = {
    "major": "1",
    "minor": "36",
    "gitVersion": "v1.36.0+canary-sandbox",
    "gitCommit": "",
    "gitTreeState": "clean",
    "buildDate": "1970-01-01T00:00:00Z",
    "goVersion": "",
    "compiler": "",
    "platform": "sandbox/python",
}


def wants_aggregated(accept: str) -> bool:
    """Whether the Accept header asks for aggregated discovery v2."""
    offers = ({word.strip() for word in offer.split(";")} for offer in accept.split(","))
    return any({"g=apidiscovery.k8s.io", "v=v2", "as=APIGroupDiscoveryList"} <= words for words in offers)


def core_versions() -> Json:
    """The answer of /api."""
    return {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []}


def groups(registry: Registry) -> Json:
    """The answer of /apis."""
    named = [group(registry, name) for name in registry.group_versions() if name]
    return {"kind": "APIGroupList", "apiVersion": "v1", "groups": named}


def group(registry: Registry, name: str) -> Json | None:
    """The answer of /apis/NAME; None when nothing is served there."""
    versions = registry.group_versions().get(name)
    if not versions:
        return None
    told = [{"groupVersion": f"{name}/{version}", "version": version} for version in versions]
    return {"kind": "APIGroup", "apiVersion": "v1", "name": name, "versions": told, "preferredVersion": told[0]}


def resources(registry: Registry, group_name: str, version_name: str) -> Json | None:
    """The answer of /api/v1 and /apis/GROUP/VERSION; None when nothing is served there."""
    listed: list[Json] = []
    for resource, version in registry.served(group_name, version_name):
        names = {"shortNames": list(resource.short_names), "categories": list(resource.categories)}
        listed.append(
            {
                "name": resource.plural,
                "singularName": resource.singular,
                "namespaced": resource.namespaced,
                "kind": resource.kind,
                "verbs": list(resource.verbs),
                **{key: value for key, value in names.items() if value},
            }
        )
        listed += [
            {
                "name": f"{resource.plural}/{subresource}",
                "singularName": "",
                "namespaced": resource.namespaced,
                **kind,
                "verbs": ["get", "patch", "update"],
            }
            for subresource, kind in _subresources(resource, version)
        ]
    if not listed:
        return None
    group_version = f"{group_name}/{version_name}" if group_name else version_name
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version, "resources": listed}


def aggregated(registry: Registry, *, core: bool) -> Json:
    """/api or /apis with everything below them in one answer."""
    items = [
        {
            "metadata": {"creationTimestamp": None, **({"name": name} if name else {})},
            "versions": [
                {
                    "version": version,
                    "freshness": "Current",
                    "resources": [_aggregated_resource(*pair) for pair in registry.served(name, version)],
                }
                for version in versions
            ],
        }
        for name, versions in registry.group_versions().items()
        if core is (not name)
    ]
    return {"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}, "items": items}


def _aggregated_resource(resource: Resource, version: Version) -> Json:
    subresources = [
        {
            "subresource": subresource,
            "responseKind": {
                "group": kind.get("group", resource.group),
                "version": kind.get("version", version.name),
                "kind": kind["kind"],
            },
            "verbs": ["get", "patch", "update"],
        }
        for subresource, kind in _subresources(resource, version)
    ]
    described: Json = {
        "resource": resource.plural,
        "responseKind": {"group": resource.group, "version": version.name, "kind": resource.kind},
        "scope": "Namespaced" if resource.namespaced else "Cluster",
        "singularResource": resource.singular,
        "verbs": list(resource.verbs),
        "shortNames": list(resource.short_names),
        "categories": list(resource.categories),
        "subresources": subresources,
    }
    return {key: value for key, value in described.items() if value}


def _subresources(resource: Resource, version: Version) -> list[tuple[str, Json]]:
    found: list[tuple[str, Json]] = []
    if version.has_status:
        found.append(("status", {"kind": resource.kind}))
    if version.scale:
        found.append(("scale", {"group": "autoscaling", "version": "v1", "kind": "Scale"}))
    return found
