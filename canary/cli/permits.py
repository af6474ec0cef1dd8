"""Whether the controller would let a namespace use a policy, as far as the caller may see it: for `canary plan`."""

from __future__ import annotations

from pathlib import Path

from canary.analysis.advice import Caution
from canary.cli.policy import known_in
from canary.cluster.gateway import Gateway
from canary.cluster.kinds import NAMESPACE
from canary.errors import Forbidden, NotFound
from canary.model.annotations import FLOOR
from canary.model.floor import below
from canary.model.policy import Policy


def permit_cautions(gateway: Gateway, namespace: str, policy: Policy, policies: Path | None) -> list[Caution]:
    """What speaks against this policy in this namespace: its allowedNamespaces, and the floor that the label names."""
    found = []
    if not policy.may_be_used_in(namespace):
        allowed = ", ".join(policy.allowed_namespaces)
        found.append(
            f"The policy {policy.name} is not for namespace {namespace} (allowedNamespaces: {allowed}): the rollout "
            "would wait, Stalled."
        )
    found += _below_floor(gateway, namespace, policy, policies)
    return [Caution("policy", text) for text in found]


def _below_floor(gateway: Gateway, namespace: str, policy: Policy, policies: Path | None) -> list[str]:
    try:
        labels = gateway.get(NAMESPACE, None, namespace)["metadata"].get("labels") or {}
    except Forbidden:
        return [f"Whether namespace {namespace} has a floor ({FLOOR}) is not known: you may not read the Namespace."]
    except NotFound:
        return []
    name = labels.get(FLOOR)
    if not name:
        return []
    floor = known_in(policies).get(name)
    if floor is None:
        return [
            f"The floor of namespace {namespace} is the policy {name}, which is not among these policies: say "
            "--policies with the controller's own."
        ]
    problem = below(policy, floor)
    if not problem:
        return []
    return [
        f"The policy {policy.name} is less strict than {name}, the floor of namespace {namespace}, so the rollout "
        f"would wait, Stalled: {problem}."
    ]
