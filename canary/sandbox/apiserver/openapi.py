"""OpenAPI v3 documents, as much of them as kubectl reads: which kinds take `fieldValidation`, and their schemas.

kubectl validates on the server when a kind's PATCH takes `fieldValidation`; `kubectl explain` reads the schemas.
"""

from __future__ import annotations

import hashlib

import orjson

from canary.sandbox.apiserver.answers import Json
from canary.sandbox.apiserver.resources import Registry, Resource, Version

_WRITE_PARAMETERS = [
    {"name": name, "in": "query", "schema": {"type": "string", "uniqueItems": True}}
    for name in ("dryRun", "fieldManager", "fieldValidation")
]
_METADATA: Json = {"type": "object", "description": "Standard object's metadata."}
_HEADER: Json = {
    "apiVersion": {"type": "string", "description": "The versioned schema of this representation of an object."},
    "kind": {"type": "string", "description": "The REST resource this object represents."},
    "metadata": _METADATA,
}


def index(registry: Registry) -> Json:
    """The answer of /openapi/v3: one document per group version, with a hash that changes with its content."""
    paths: Json = {}
    for group, versions in registry.group_versions().items():
        for version in versions:
            place = f"apis/{group}/{version}" if group else f"api/{version}"
            digest = hashlib.sha256(orjson.dumps(document(registry, group, version))).hexdigest()[:32].upper()
            paths[place] = {"serverRelativeURL": f"/openapi/v3/{place}?hash={digest}"}
    return {"paths": paths}


def document(registry: Registry, group: str, version: str) -> Json:
    """The document of one group version."""
    served = registry.served(group, version)
    schemas = {_schema_name(resource, found): _schema(resource, found) for resource, found in served}
    paths: Json = {}
    for resource, found in served:
        scope = "/namespaces/{namespace}" if resource.namespaced else ""
        collection = f"/{_root(group)}/{version}{scope}/{resource.plural}"
        kind = {"x-kubernetes-group-version-kind": _gvk(resource, found)}
        reference = {"$ref": f"#/components/schemas/{_schema_name(resource, found)}"}
        responses = {"200": {"description": "OK", "content": {"application/json": {"schema": reference}}}}
        write = {**kind, "parameters": _WRITE_PARAMETERS, "responses": responses}
        paths[collection] = {
            "get": {"x-kubernetes-action": "list", **kind, "responses": responses},
            "post": {"x-kubernetes-action": "post", **write},
        }
        if "patch" in resource.verbs:
            paths[f"{collection}/{{name}}"] = {
                "get": {"x-kubernetes-action": "get", **kind, "responses": responses},
                "put": {"x-kubernetes-action": "put", **write},
                "patch": {"x-kubernetes-action": "patch", **write},
            }
    info = {"title": "canary sandbox", "version": "v1"}
    return {"openapi": "3.0.0", "info": info, "paths": paths, "components": {"schemas": schemas}}


def _root(group: str) -> str:
    return f"apis/{group}" if group else "api"


def _gvk(resource: Resource, version: Version) -> Json:
    return {"group": resource.group, "version": version.name, "kind": resource.kind}


def _schema_name(resource: Resource, version: Version) -> str:
    reverse = ".".join(reversed((resource.group or "core").split(".")))
    return f"{reverse}.{version.name}.{resource.kind}"


def _schema(resource: Resource, version: Version) -> Json:
    known = version.schema or {"type": "object"}
    properties = {**(known.get("properties") or {}), **_HEADER}
    return {**known, "properties": properties, "x-kubernetes-group-version-kind": [_gvk(resource, version)]}
