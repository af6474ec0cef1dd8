"""What an account may do, as the API server itself says it: rights, and the two reviews that ask for them.

`system:basic-user` lets every authenticated account ask both about itself. Nothing is remembered here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from canary.cluster.gateway import Gateway
from canary.cluster.kinds import Kind

RULES_REVIEW = Kind("authorization.k8s.io", "v1", "selfsubjectrulesreviews", "SelfSubjectRulesReview", namespaced=False)
ACCESS_REVIEW = Kind(
    "authorization.k8s.io", "v1", "selfsubjectaccessreviews", "SelfSubjectAccessReview", namespaced=False
)
WHO_AM_I = Kind("authentication.k8s.io", "v1", "selfsubjectreviews", "SelfSubjectReview", namespaced=False)

NOWHERE = "-"
"""No namespace can have this name, so its rules are those that hold in every namespace."""

Rule = Mapping[str, Any]


@dataclass(frozen=True, slots=True, order=True)
class Right:
    """One verb on one resource, as RBAC has them; `subresource` is "" for the object itself."""

    verb: str
    group: str
    plural: str
    subresource: str = ""

    @property
    def rbac_resource(self) -> str:
        """As a rule's `resources` has it: `canaryrollouts/status`."""
        return f"{self.plural}/{self.subresource}" if self.subresource else self.plural

    @property
    def resource(self) -> str:
        """As kubectl and our errors name it: `canaryrollouts.canary.delivery/status`."""
        full = f"{self.plural}.{self.group}" if self.group else self.plural
        return f"{full}/{self.subresource}" if self.subresource else full

    def __str__(self) -> str:
        return f"{self.verb} {self.resource}"


def allows(rules: Iterable[Rule], right: Right) -> bool:
    """Whether one of these rules gives the right for every name of its resource, wildcards included."""
    return any(
        _covers(rule.get("verbs"), right.verb)
        and _covers(rule.get("apiGroups"), right.group)
        and _covers(rule.get("resources"), right.rbac_resource, f"*/{right.subresource}" if right.subresource else "*")
        and not rule.get("resourceNames")
        for rule in rules
    )


def rules_in(gateway: Gateway, namespace: str) -> list[Rule]:
    """The rules that hold for us in a namespace, those bound for all namespaces among them; NOWHERE: only those.

    What other authorizers than RBAC allow may be missing. Raises ClusterError; NotFound where the server has no such
    review.
    """
    status = gateway.review(RULES_REVIEW, {"namespace": namespace})
    rules = status.get("resourceRules")
    return [rule for rule in rules if isinstance(rule, Mapping)] if isinstance(rules, list) else []


def is_allowed(gateway: Gateway, right: Right, namespace: str | None) -> bool:
    """Whether any authorizer gives us the right in a namespace, None for all of them. Raises ClusterError."""
    asked = {"verb": right.verb, "group": right.group, "resource": right.plural, "subresource": right.subresource}
    attributes = {key: value for key, value in {**asked, "namespace": namespace}.items() if value}
    return gateway.review(ACCESS_REVIEW, {"resourceAttributes": attributes}).get("allowed") is True


def own_name(gateway: Gateway) -> str:
    """Who we are to the API server, `system:serviceaccount:canary-system:canary`. Raises ClusterError."""
    user = gateway.review(WHO_AM_I, {}).get("userInfo")
    return str(user.get("username") or "") if isinstance(user, Mapping) else ""


def _covers(listed: object, *wanted: str) -> bool:
    return isinstance(listed, list) and any(word in listed for word in ("*", *wanted))
