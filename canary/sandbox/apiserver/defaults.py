"""What the server itself puts into built-in kinds, and the few rules about them beyond their schemas."""

from __future__ import annotations

import base64
import itertools
from collections.abc import Iterator
from typing import Any

from canary.sandbox.apiserver import jsonpath, schema
from canary.sandbox.apiserver.answers import Cause, Json
from canary.sandbox.apiserver.resources import Resource

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
    spec = crd["spec"]
    names = spec["names"]
    names.setdefault("singular", names["kind"].lower())
    names.setdefault("listKind", f"{names['kind']}List")
    spec.setdefault("conversion", {"strategy": "None"})
    status = crd.setdefault("status", {})
    status["acceptedNames"] = names
    status["storedVersions"] = [version["name"] for version in spec["versions"] if version["storage"]]
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
    for number, version in enumerate(spec["versions"]):
        yield from schema.problems(
            version["schema"]["openAPIV3Schema"], f"spec.versions[{number}].schema.openAPIV3Schema"
        )
        for index, column in enumerate(version.get("additionalPrinterColumns") or ()):
            try:
                jsonpath.find(column["jsonPath"], {})
            except ValueError as error:
                where = f"spec.versions[{number}].additionalPrinterColumns[{index}].jsonPath"
                yield Cause("FieldValueInvalid", f"Invalid value: {error}", where)
