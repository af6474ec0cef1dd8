"""What is said about rights that are missing: what cannot be done, what is lost, and what to add where. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from canary.daemon.needs import Need, Role

NAMESPACED_ROLE = "canary"
"""What grants reads, reports and writes where the controller serves one namespace (deploy/rbac/namespaced)."""


def lacks(need: Need, namespace: str | None, served: str | None) -> str:
    """One right that is missing in a namespace, None for all of them."""
    where = f"in namespace {namespace}" if namespace else "in all namespaces"
    return f"may not {need.right} {where}: {need.without}; {_role(need, namespace, served)} needs the rule {need.rule}"


def partly(namespace: str, missing: Sequence[Need], served: str | None) -> str:
    """A namespace whose binding is there and does not give all."""
    first, *others = missing
    more = f" (and may not {', '.join(str(need.right) for need in others)})" if others else ""
    return lacks(first, namespace, served) + more


def unbound(namespace: str, account: str, own: str) -> str:
    """A namespace that has not let the controller in."""
    return (
        f"canary may not patch virtualservices.networking.istio.io, nor write anything else, in namespace {namespace}; "
        f"its admin lets it by: kubectl create rolebinding {Role.WRITES} --clusterrole={Role.WRITES} "
        f"{_subject(account, own)} -n {namespace}"
    )


def _subject(account: str, own: str) -> str:
    """The flag of `kubectl create rolebinding` that means us; the shipped account where nobody said who we are."""
    kind, _, name = account.partition("system:serviceaccount:")
    if account and (kind or name.count(":") != 1):
        return f"--user={account}"
    return f"--serviceaccount={name or f'{own}:canary'}"


def _role(need: Need, namespace: str | None, served: str | None) -> str:
    if need.role is Role.OWN:
        return f"Role {Role.OWN} in namespace {namespace}"
    return f"Role {NAMESPACED_ROLE} in namespace {namespace}" if served else f"ClusterRole {need.role}"
