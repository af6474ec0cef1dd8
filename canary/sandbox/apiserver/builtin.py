"""The built-in kinds: names, versions, subresources, selectable fields. Their schemas are in shapes.py."""

from __future__ import annotations

from typing import Any

from canary.sandbox.apiserver import shapes
from canary.sandbox.apiserver.answers import Json
from canary.sandbox.apiserver.resources import Resource, Scale, Version

_ALL = ("all",)
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
    "schema": shapes.WORKLOAD,
    "has_status": True,
    "scale": Scale(selector=".spec.selector"),
    "categories": _ALL,
    "has_generation": True,
}
_LIVE: Json = {"has_status": True, "categories": _ALL}
_CLUSTER: Json = {"has_status": True, "namespaced": False}
BUILTIN = (
    _kind("Namespace", "namespaces", "ns", schema=shapes.NAMESPACE, selectable=("status.phase",), **_CLUSTER),
    _kind("Pod", "pods", "po", schema=shapes.POD, selectable=_POD_FIELDS, has_generation=True, **_LIVE),
    _kind("Service", "services", "svc", schema=shapes.SERVICE, **_LIVE),
    _kind("ConfigMap", "configmaps", "cm", schema=shapes.CONFIG_MAP),
    _kind("Secret", "secrets", schema=shapes.SECRET, selectable=("type",)),
    _kind("Event", "events", "ev", schema=shapes.EVENT, selectable=_EVENT_FIELDS),
    _kind("Endpoints", "endpoints", "ep", schema=shapes.ENDPOINTS),
    _kind("Node", "nodes", "no", schema=shapes.NODE, selectable=("spec.unschedulable",), **_CLUSTER),
    _kind("ServiceAccount", "serviceaccounts", "sa", schema=shapes.SERVICE_ACCOUNT),
    _kind("Deployment", "deployments", "deploy", **_WORKLOADS),
    _kind("ReplicaSet", "replicasets", "rs", **_WORKLOADS),
    _kind("Lease", "leases", group="coordination.k8s.io", schema=shapes.LEASE),
    _kind("EndpointSlice", "endpointslices", group="discovery.k8s.io", schema=shapes.ENDPOINT_SLICE),
    _kind(
        *("CustomResourceDefinition", "customresourcedefinitions", "crd", "crds"),
        group="apiextensions.k8s.io",
        schema=shapes.DEFINITION,
        has_status=True,
        has_generation=True,
        namespaced=False,
        categories=("api-extensions",),
    ),
    _kind(
        *("SelfSubjectAccessReview", "selfsubjectaccessreviews"),
        group="authorization.k8s.io",
        schema=shapes.REVIEW,
        namespaced=False,
        verbs=("create",),
    ),
)
