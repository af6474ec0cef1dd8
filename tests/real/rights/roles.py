"""The roles in deploy/rbac, as they are or without one verb, given to an account of a test's own.

Names of cluster-wide objects get the name of the controller's namespace, so that controllers with different rights can
live side by side on one API server.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import yaml

from canary.cluster.gateway import Gateway
from canary.cluster.kinds import NAMESPACE, Kind
from canary.sandbox.realapi.server import RealApiServer
from canary.shipped import shipped

Object = dict[str, Any]
_RBAC = "rbac.authorization.k8s.io"
SERVICEACCOUNT = Kind("", "v1", "serviceaccounts", "ServiceAccount")
CLUSTERROLE = Kind(_RBAC, "v1", "clusterroles", "ClusterRole", namespaced=False)
CLUSTERROLEBINDING = Kind(_RBAC, "v1", "clusterrolebindings", "ClusterRoleBinding", namespaced=False)
ROLE = Kind(_RBAC, "v1", "roles", "Role")
ROLEBINDING = Kind(_RBAC, "v1", "rolebindings", "RoleBinding")
CLUSTER = ("reads.yaml", "reports.yaml", "writes.yaml", "own.yaml")
NAMESPACED = ("namespaced/controller.yaml",)
"""Its Role `canary-own` is the same as the other's."""


@dataclass(frozen=True, order=True)
class Grant:
    """One verb on one resource by one role."""

    role: str
    resource: str
    """As our errors name it: `virtualservices.networking.istio.io`, `canaryrollouts.canary.delivery/status`."""
    verb: str

    @property
    def as_used(self) -> tuple[str, str, bool]:
        """As `Controller.used` has it: verb, resource without its group, whether in the controller's own namespace."""
        resource, slash, sub = self.resource.partition("/")
        return self.verb, resource.partition(".")[0] + slash + sub, self.role == "canary-own"

    def __str__(self) -> str:
        return f"{self.role}: {self.verb} {self.resource}"


def documents(*files: str) -> list[Object]:
    """The objects in files of deploy/rbac."""
    folder = shipped("deploy") / "rbac"
    return [one for file in files for one in yaml.safe_load_all((folder / file).read_text(encoding="utf-8"))]


def rules(files: tuple[str, ...]) -> Iterator[tuple[str, Object]]:
    """(role's name, rule) of each rule."""
    for document in documents(*files):
        for rule in document.get("rules", ()):
            yield document["metadata"]["name"], rule


def grants(files: tuple[str, ...] = CLUSTER) -> list[Grant]:
    """Every verb on every resource that the roles of these files give, in their order."""
    found = []
    for role, rule in rules(files):
        assert rule.keys() == {"apiGroups", "resources", "verbs"}, f"{role}: {rule}"
        for group in rule["apiGroups"]:
            for resource in rule["resources"]:
                found += [Grant(role, _full(group, resource), verb) for verb in rule["verbs"]]
    return found


def _full(group: str, resource: str) -> str:
    plural, slash, sub = resource.partition("/")
    return (f"{plural}.{group}" if group else plural) + slash + sub


def without(rules_: list[Object], taken: Grant) -> list[Object]:
    """The rules of a role but for one verb on one resource."""
    kept = []
    for rule in rules_:
        for group in rule["apiGroups"]:
            for resource in rule["resources"]:
                is_it = _full(group, resource) == taken.resource
                verbs = [verb for verb in rule["verbs"] if not (is_it and verb == taken.verb)]
                if verbs:
                    kept.append({"apiGroups": [group], "resources": [resource], "verbs": verbs})
    return kept


class Installation:
    """ServiceAccount `canary` in a namespace of its own, with the shipped roles."""

    def __init__(self, admin: Gateway, *, taken: Grant | None = None, files: tuple[str, ...] = CLUSTER) -> None:
        self.admin = admin
        self.own = f"own-{uuid4().hex[:8]}"
        self.taken = taken
        admin.create(NAMESPACE, None, {"metadata": {"name": self.own}})
        admin.create(SERVICEACCOUNT, self.own, {"metadata": {"name": "canary"}})
        self._made: list[tuple[Kind, str]] = []
        for document in documents(*files):
            self._apply(document)

    def _apply(self, document: Object) -> None:
        document = deepcopy(document)
        kind = next(k for k in (CLUSTERROLE, CLUSTERROLEBINDING, ROLE, ROLEBINDING) if k.kind == document["kind"])
        name = document["metadata"]["name"]
        if "rules" in document and self.taken and self.taken.role == name:
            document["rules"] = without(document["rules"], self.taken)
        for subject in document.get("subjects", ()):
            subject["namespace"] = self.own
        if kind.namespaced:
            document["metadata"]["namespace"] = self.own
            self.admin.create(kind, self.own, document)
            return
        document["metadata"]["name"] = self.called(name)
        if "roleRef" in document:
            document["roleRef"]["name"] = self.called(name)
        self.admin.create(kind, None, document)
        self._made.append((kind, document["metadata"]["name"]))

    def called(self, role: str) -> str:
        """What a ClusterRole is called here."""
        return f"{role}-{self.own}"

    def role_without(self, taken: Grant) -> str:
        """Another ClusterRole: like the shipped one of this name but for a verb."""
        rules_ = next(d["rules"] for d in documents(*CLUSTER) if d.get("rules") and d["metadata"]["name"] == taken.role)
        name = f"{taken.role}-{uuid4().hex[:8]}"
        self.admin.create(CLUSTERROLE, None, {"metadata": {"name": name}, "rules": without(rules_, taken)})
        self._made.append((CLUSTERROLE, name))
        return name

    def let_in(self, namespace: str, role: str = "") -> None:
        """`kubectl create rolebinding canary-writes --clusterrole=canary-writes --serviceaccount=... -n namespace`."""
        name = role or self.called("canary-writes")
        subject = {"kind": "ServiceAccount", "name": "canary", "namespace": self.own}
        reference = {"apiGroup": _RBAC, "kind": "ClusterRole", "name": name}
        body = {"metadata": {"name": "canary-writes"}, "roleRef": reference, "subjects": [subject]}
        self.admin.create(ROLEBINDING, namespace, body)

    def put_out(self, namespace: str) -> None:
        """`kubectl delete rolebinding canary-writes -n namespace`."""
        self.admin.delete(ROLEBINDING, namespace, "canary-writes")

    def take(self, taken: Grant) -> None:
        """Edit the role: without this verb."""
        self._edit(taken.role, lambda rules_: without(rules_, taken))

    def give_back(self, taken: Grant) -> None:
        """Edit the role: as it is shipped."""
        self._edit(taken.role, lambda rules_: rules_)

    def _edit(self, role: str, change: Callable[[list[Object]], list[Object]]) -> None:
        (document,) = [
            one
            for one in documents(*CLUSTER, *NAMESPACED[: not role.startswith("canary-")])
            if one.get("rules") and one["metadata"]["name"] == role
        ]
        body = {"rules": change(document["rules"])}
        if document["kind"] == ROLE.kind:
            self.admin.patch(ROLE, self.own, role, body, patch_type="merge")
        else:
            self.admin.patch(CLUSTERROLE, None, self.called(role), body, patch_type="merge")

    def token(self, real: RealApiServer) -> str:
        return real.token(self.own, "canary")

    def remove(self) -> None:
        for kind, name in self._made:
            self.admin.delete(kind, None, name)
        self.admin.delete(NAMESPACE, None, self.own)
