"""Names as istiod writes them: hosts, clusters, the calling client. Pure; shared by every part of the translation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

DOMAIN = "cluster.local"
ROOT_NAMESPACE = "istio-system"

Json = dict[str, Any]
"""A JSON object: a Kubernetes object as read, or an Envoy message in its JSON form."""


@dataclass(frozen=True, slots=True)
class Client:
    """The workload whose sidecar this Envoy plays: every request it sends is reported with it as the source."""

    workload: str = "loadgen"
    namespace: str = "default"


class Warnings:
    """Sentences about what was ignored, each once, in the order found."""

    def __init__(self) -> None:
        self._sentences: dict[str, None] = {}

    def add(self, where: str, what: str) -> None:
        self._sentences[f"{where}: {what}"] = None

    def ignored(self, where: str, given: Mapping[str, Any], *known: str) -> None:
        """Note every field of `given` that is not one of the `known` ones."""
        for field in sorted(given.keys() - set(known)):
            self.add(where, f"{field} is not supported by the sandbox and was ignored")

    @property
    def sentences(self) -> tuple[str, ...]:
        return tuple(self._sentences)


def title(obj: Mapping[str, Any], kind: str) -> str:
    """`VirtualService default/payment`, for sentences."""
    meta = obj["metadata"]
    return f"{kind} {meta['namespace']}/{meta['name']}"


def service_host(service: Mapping[str, Any]) -> str:
    """The fully qualified host of a Kubernetes Service."""
    return f"{service['metadata']['name']}.{service['metadata']['namespace']}.svc.{DOMAIN}"


def resolve_host(host: str, namespace: str) -> str:
    """A host as an Istio object names it, fully qualified.

    Istio's rule (ResolveShortnameToFQDN): only a name without any dot is short, and it belongs to the namespace of the
    object that names it. `payment.default` is therefore *not* the Service `payment`.
    """
    host = host.lower()
    return host if "." in host or host.startswith("*") else f"{host}.{namespace}.svc.{DOMAIN}"


def matches_host(pattern: str, host: str) -> bool:
    """Whether a resolved host or wildcard (`*`, `*.default.svc.cluster.local`) covers `host`."""
    return pattern == host or (pattern.startswith("*") and host.endswith(pattern[1:]))


def cluster_name(port: int, subset: str, host: str) -> str:
    """`outbound|80|v2|payment.default.svc.cluster.local`; an empty subset is the whole service."""
    return f"outbound|{port}|{subset}|{host}"


def age_order(obj: Mapping[str, Any]) -> tuple[str, str, str]:
    """Sort key of Istio's configuration: the oldest object first, then by name and namespace."""
    meta = obj["metadata"]
    return meta.get("creationTimestamp") or "", meta["name"], meta["namespace"]


def is_exported(obj: Mapping[str, Any], client_namespace: str) -> bool:
    """Whether `spec.exportTo` lets the client's namespace see the object; without it everyone does."""
    export_to = obj.get("spec", {}).get("exportTo") or ["*"]
    namespace = obj["metadata"]["namespace"]
    return any(to in ("*", client_namespace) or (to == "." and namespace == client_namespace) for to in export_to)
