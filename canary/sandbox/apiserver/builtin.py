"""The built-in kinds, their defaults and the few checks of theirs that clients notice.

Built-in kinds keep fields this server has never heard of: their full schemas are the real server's. What is checked
is in the small schemas here.
"""

from __future__ import annotations

import base64
import itertools
from collections.abc import Iterator
from typing import Any

from canary.sandbox.apiserver.answers import Cause, Json
from canary.sandbox.apiserver.resources import Resource, Scale, Version

_ALL = ("all",)
_STRINGS: Json = {"type": "object", "additionalProperties": {"type": "string"}}
_CONTAINERS: Json = {
    "type": "array",
    "minItems": 1,
    "items": {"type": "object", "required": ["name"], "properties": {"name": {"type": "string"}}},
}
_POD_SPEC: Json = {"type": "object", "required": ["containers"], "properties": {"containers": _CONTAINERS}}
_TEMPLATE: Json = {"type": "object", "required": ["spec"], "properties": {"spec": _POD_SPEC}}
_WORKLOAD: Json = {
    "type": "object",
    "required": ["selector", "template"],
    "properties": {
        "replicas": {"type": "integer", "minimum": 0},
        "selector": {"type": "object", "properties": {"matchLabels": _STRINGS}},
        "template": _TEMPLATE,
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
        "schema": {"type": "object", "required": ["openAPIV3Schema"]},
    },
}
_CRD: Json = {
    "type": "object",
    "required": ["group", "names", "scope", "versions"],
    "properties": {
        "scope": {"type": "string", "enum": ["Cluster", "Namespaced"]},
        "names": {"type": "object", "required": ["kind", "plural"]},
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

_cluster_ips = itertools.count(10)


def fill_in(resource: Resource, new: Json, old: Json | None) -> None:
    """Upstream's defaults, in place, for the fields that clients read back."""
    spec = new.setdefault("spec", {}) if resource.kind in _WITH_SPEC else {}
    match resource.kind:
        case "Namespace":
            new["metadata"].setdefault("labels", {})["kubernetes.io/metadata.name"] = new["metadata"]["name"]
            spec.setdefault("finalizers", ["kubernetes"])
            new.setdefault("status", {"phase": "Active"})
        case "Pod":
            _fill_in_pod(spec)
            new.setdefault("status", {}).setdefault("phase", "Pending")
        case "Deployment":
            _fill_in_deployment(spec)
        case "ReplicaSet":
            spec.setdefault("replicas", 1)
            _fill_in_template(spec)
        case "Service":
            _fill_in_service(spec, old)
        case "Secret":
            plain = new.pop("stringData", None) or {}
            encoded = {key: base64.b64encode(text.encode()).decode() for key, text in plain.items()}
            if encoded:
                new["data"] = {**(new.get("data") or {}), **encoded}
            new.setdefault("type", "Opaque")
        case "CustomResourceDefinition":
            _fill_in_definition(new)


_WITH_SPEC = ("Namespace", "Pod", "Deployment", "ReplicaSet", "Service")


def _fill_in_deployment(spec: Json) -> None:
    spec.setdefault("replicas", 1)
    spec.setdefault("revisionHistoryLimit", 10)
    spec.setdefault("progressDeadlineSeconds", 600)
    strategy = spec.setdefault("strategy", {})
    if strategy.setdefault("type", "RollingUpdate") == "RollingUpdate":
        rolling = strategy.setdefault("rollingUpdate", {})
        rolling.setdefault("maxSurge", "25%")
        rolling.setdefault("maxUnavailable", "25%")
    _fill_in_template(spec)


def _fill_in_template(spec: Json) -> None:
    template = spec.get("template")
    if isinstance(template, dict) and isinstance(template.get("spec"), dict):
        template.setdefault("metadata", {}).setdefault("creationTimestamp", None)
        _fill_in_pod(template["spec"])


def _fill_in_pod(spec: Json) -> None:
    spec.setdefault("restartPolicy", "Always")
    spec.setdefault("dnsPolicy", "ClusterFirst")
    spec.setdefault("terminationGracePeriodSeconds", 30)
    spec.setdefault("schedulerName", "default-scheduler")
    spec.setdefault("securityContext", {})
    for container in _dicts(spec.get("containers")):
        container.setdefault("imagePullPolicy", "IfNotPresent")
        container.setdefault("resources", {})
        for port in _dicts(container.get("ports")):
            port.setdefault("protocol", "TCP")


def _fill_in_service(spec: Json, old: Json | None) -> None:
    spec.setdefault("type", "ClusterIP")
    spec.setdefault("sessionAffinity", "None")
    if spec["type"] != "ExternalName" and not spec.get("clusterIP"):
        kept = (old or {}).get("spec", {}).get("clusterIP")
        number = next(_cluster_ips)
        spec["clusterIP"] = kept or f"10.96.{number // 250 % 250}.{number % 250 + 1}"
        spec["clusterIPs"] = [spec["clusterIP"]]
    for port in _dicts(spec.get("ports")):
        port.setdefault("protocol", "TCP")
        port.setdefault("targetPort", port.get("port"))


def _fill_in_definition(crd: Json) -> None:
    """A definition is established at once: its kind is served before the answer to the write is sent."""
    spec = crd.get("spec")
    names = spec.get("names") if isinstance(spec, dict) else None
    if not isinstance(spec, dict) or not isinstance(names, dict) or not isinstance(names.get("kind"), str):
        return  # the schema says what is missing
    names.setdefault("singular", names["kind"].lower())
    names.setdefault("listKind", f"{names['kind']}List")
    spec.setdefault("conversion", {"strategy": "None"})
    status = crd.setdefault("status", {})
    status["acceptedNames"] = names
    status["storedVersions"] = [
        version.get("name") for version in _dicts(spec.get("versions")) if version.get("storage")
    ]
    since = crd["metadata"]["creationTimestamp"]
    status["conditions"] = [
        {"type": kind, "status": "True", "reason": reason, "message": message, "lastTransitionTime": since}
        for kind, reason, message in (
            ("NamesAccepted", "NoConflicts", "no conflicts found"),
            ("Established", "InitialNamesAccepted", "the initial names have been accepted"),
        )
    ]


def _dicts(items: Any) -> Iterator[Json]:
    return (item for item in items if isinstance(item, dict)) if isinstance(items, list) else iter(())


def check(resource: Resource, new: Json, old: Json | None) -> Iterator[Cause]:
    """What is wrong beyond the schema."""
    if resource.kind in ("Deployment", "ReplicaSet"):
        selector = (new["spec"].get("selector") or {}).get("matchLabels") or {}
        labels = (new["spec"]["template"].get("metadata") or {}).get("labels") or {}
        if not selector.items() <= labels.items():
            message = f"Invalid value: {labels}: `selector` does not match template `labels`"
            yield Cause("FieldValueInvalid", message, "spec.template.metadata.labels")
        if old and old["spec"].get("selector") != new["spec"].get("selector"):
            message = f"Invalid value: {new['spec'].get('selector')}: field is immutable"
            yield Cause("FieldValueInvalid", message, "spec.selector")
    elif resource.kind in ("ConfigMap", "Secret") and old and old.get("immutable"):
        if old.get("data") != new.get("data"):
            message = "Forbidden: field is immutable when `immutable` is set"
            yield Cause("FieldValueForbidden", message, "data")
    elif resource.kind == "CustomResourceDefinition":
        yield from _check_definition(new)


def _check_definition(crd: Json) -> Iterator[Cause]:
    spec = crd["spec"]
    wanted = f"{spec['names']['plural']}.{spec['group']}"
    if crd["metadata"]["name"] != wanted:
        message = f'Invalid value: "{crd["metadata"]["name"]}": must be spec.names.plural+"."+spec.group'
        yield Cause("FieldValueInvalid", message, "metadata.name")
    if sum(version["storage"] for version in spec["versions"]) != 1:
        message = "Invalid value: must have exactly one version marked as storage version"
        yield Cause("FieldValueInvalid", message, "spec.versions")
