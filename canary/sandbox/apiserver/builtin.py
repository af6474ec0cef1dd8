"""The built-in kinds and the small schemas of what is checked in them.

Built-in kinds keep fields this server has never heard of: their full schemas are the real server's.
"""

from __future__ import annotations

from typing import Any

from canary.sandbox.apiserver.answers import Json
from canary.sandbox.apiserver.resources import Resource, Scale, Version

_ALL = ("all",)
_STRINGS: Json = {"type": "object", "additionalProperties": {"type": "string"}}
_CONTAINERS: Json = {
    "type": "array",
    "minItems": 1,
    "items": {"type": "object", "required": ["name"], "properties": {"name": {"type": "string"}}},
}
_POD_SPEC: Json = {"type": "object", "required": ["containers"], "properties": {"containers": _CONTAINERS}}
_TEMPLATE: Json = {
    "type": "object",
    "required": ["spec"],
    "properties": {"spec": _POD_SPEC, "metadata": {"type": "object", "properties": {"labels": _STRINGS}}},
}
_WORKLOAD: Json = {
    "type": "object",
    "required": ["selector", "template"],
    "properties": {
        "replicas": {"type": "integer", "minimum": 0},
        "selector": {"type": "object", "properties": {"matchLabels": _STRINGS}},
        "template": _TEMPLATE,
        "strategy": {"type": "object", "properties": {"rollingUpdate": {"type": "object"}}},
    },
}
_LEASE: Json = {
    "type": "object",
    "properties": {
        "holderIdentity": {"type": "string"},
        "leaseDurationSeconds": {"type": "integer", "minimum": 1},
        "leaseTransitions": {"type": "integer", "minimum": 0},
        "acquireTime": {"type": "string", "format": "date-time"},
        "renewTime": {"type": "string", "format": "date-time"},
    },
}


def _object(**properties: Json) -> Json:
    required = [name for name in properties if name == "spec" and "required" in properties[name]]
    return {"type": "object", "required": required, "properties": properties}


_SERVICE: Json = {
    "type": "object",
    "properties": {
        "selector": _STRINGS,
        "ports": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["port"],
                "properties": {"port": {"type": "integer", "minimum": 1, "maximum": 65535}},
            },
        },
    },
}
_CRD_VERSION: Json = {
    "type": "object",
    "required": ["name", "served", "storage", "schema"],
    "properties": {
        "name": {"type": "string", "pattern": "^[a-z]([-a-z0-9]*[a-z0-9])?$"},
        "served": {"type": "boolean"},
        "storage": {"type": "boolean"},
        "schema": {
            "type": "object",
            "required": ["openAPIV3Schema"],
            "properties": {"openAPIV3Schema": {"type": "object"}},
        },
        "additionalPrinterColumns": {
            "type": "array",
            "items": {"type": "object", "required": ["name", "type", "jsonPath"]},
        },
    },
}
_CRD: Json = {
    "type": "object",
    "required": ["group", "names", "scope", "versions"],
    "properties": {
        "scope": {"type": "string", "enum": ["Cluster", "Namespaced"]},
        "names": {
            "type": "object",
            "required": ["kind", "plural"],
            "properties": {
                **{name: {"type": "string"} for name in ("kind", "plural", "singular", "listKind")},
                **{name: {"type": "array", "items": {"type": "string"}} for name in ("shortNames", "categories")},
            },
        },
        "versions": {"type": "array", "minItems": 1, "items": _CRD_VERSION},
    },
}
_EVENT_FIELDS = (
    *("involvedObject.kind", "involvedObject.namespace", "involvedObject.name", "involvedObject.uid"),
    *("involvedObject.apiVersion", "involvedObject.resourceVersion", "involvedObject.fieldPath"),
    *("reason", "reportingComponent", "source", "type"),
)
_POD_FIELDS = ("spec.nodeName", "spec.restartPolicy", "spec.serviceAccountName", "status.phase", "status.podIP")


def _kind(
    kind: str,
    plural: str,
    *short_names: str,
    group: str = "",
    schema: Json | None = None,
    selectable: tuple[str, ...] = (),
    has_status: bool = False,
    scale: Scale | None = None,
    **more: Any,
) -> Resource:
    version = Version("v1", schema, has_status=has_status, scale=scale, selectable=selectable)
    return Resource(group, kind, plural, kind.lower(), (version,), short_names=short_names, **more)


_WORKLOADS: Json = {
    "group": "apps",
    "schema": _object(spec=_WORKLOAD),
    "has_status": True,
    "scale": Scale(selector=".spec.selector"),
    "categories": _ALL,
    "has_generation": True,
}
_LIVE: Json = {"has_status": True, "categories": _ALL}
BUILTIN = (
    _kind("Namespace", "namespaces", "ns", has_status=True, selectable=("status.phase",), namespaced=False),
    _kind("Pod", "pods", "po", schema=_object(spec=_POD_SPEC), selectable=_POD_FIELDS, has_generation=True, **_LIVE),
    _kind("Service", "services", "svc", schema=_object(spec=_SERVICE), **_LIVE),
    _kind("ConfigMap", "configmaps", "cm", schema=_object(data=_STRINGS, binaryData=_STRINGS)),
    _kind("Secret", "secrets", schema=_object(data=_STRINGS, type={"type": "string"}), selectable=("type",)),
    _kind("Event", "events", "ev", selectable=_EVENT_FIELDS),
    _kind("Endpoints", "endpoints", "ep"),
    _kind("Node", "nodes", "no", has_status=True, selectable=("spec.unschedulable",), namespaced=False),
    _kind("ServiceAccount", "serviceaccounts", "sa"),
    _kind("Deployment", "deployments", "deploy", **_WORKLOADS),
    _kind("ReplicaSet", "replicasets", "rs", **_WORKLOADS),
    _kind("Lease", "leases", group="coordination.k8s.io", schema=_object(spec=_LEASE)),
    _kind("EndpointSlice", "endpointslices", group="discovery.k8s.io"),
    _kind(
        *("CustomResourceDefinition", "customresourcedefinitions", "crd", "crds"),
        group="apiextensions.k8s.io",
        schema=_object(spec=_CRD),
        has_status=True,
        has_generation=True,
        namespaced=False,
        categories=("api-extensions",),
    ),
    _kind(
        *("SelfSubjectAccessReview", "selfsubjectaccessreviews"),
        group="authorization.k8s.io",
        namespaced=False,
        verbs=("create",),
    ),
)
