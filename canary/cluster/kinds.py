"""The kinds canary reads and writes, and where the API server keeps them.

Names and paths only: this module never talks to anybody and never looks into an object.
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote


@dataclass(frozen=True, slots=True)
class Kind:
    """One resource of the Kubernetes API: `plural` is its path segment, `kind` the word inside an object."""

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool = True

    @property
    def api_version(self) -> str:
        """`apps/v1`, or `v1` for the core group, as an object's `apiVersion` has it."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def resource(self) -> str:
        """`deployments.apps`, as kubectl and RBAC messages name it."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    def path(self, namespace: str | None = None, name: str | None = None, subresource: str | None = None) -> str:
        """The URL path of a collection, an object or its subresource; every part is percent-encoded.

        No namespace means all of them, so an object of a namespaced kind needs one: ValueError otherwise.
        """
        if self.namespaced and name is not None and not namespace:
            raise ValueError(f"{self.resource} {name!r} needs a namespace")
        parts = ["apis", self.group, self.version] if self.group else ["api", self.version]
        if self.namespaced and namespace:
            parts += ["namespaces", namespace]
        parts += [part for part in (self.plural, name, subresource) if part]
        return "/" + "/".join(quote(part, safe="") for part in parts)


DEPLOYMENT = Kind("apps", "v1", "deployments", "Deployment")
REPLICASET = Kind("apps", "v1", "replicasets", "ReplicaSet")
POD = Kind("", "v1", "pods", "Pod")
SERVICE = Kind("", "v1", "services", "Service")
CONFIGMAP = Kind("", "v1", "configmaps", "ConfigMap")
EVENT = Kind("", "v1", "events", "Event")
NAMESPACE = Kind("", "v1", "namespaces", "Namespace", namespaced=False)
LEASE = Kind("coordination.k8s.io", "v1", "leases", "Lease")
VIRTUALSERVICE = Kind("networking.istio.io", "v1", "virtualservices", "VirtualService")
DESTINATIONRULE = Kind("networking.istio.io", "v1", "destinationrules", "DestinationRule")
CANARYROLLOUT = Kind("canary.delivery", "v1alpha1", "canaryrollouts", "CanaryRollout")
CRD = Kind("apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition", namespaced=False)
