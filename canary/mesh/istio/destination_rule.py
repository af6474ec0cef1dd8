"""Making the subsets that a rollout needs, before any route names them (make before break).

An existing DestinationRule keeps every field it has and only gains a subset: its traffic policy is its owner's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from canary.errors import FindingError
from canary.mesh.istio.added import ADDED, AddedRule, added_to_destination_rule
from canary.mesh.istio.hosts import Hosts
from canary.mesh.istio.patch import Operation, annotate, expect, pin, version_of
from canary.mesh.istio.subsets import Subset, rules_of, subsets_of
from canary.mesh.objects import name_of, names, section, title
from canary.mesh.router import MeshView, Object, Write
from canary.model.policy import Policy
from canary.model.route import Arm, Route

Labels = Mapping[str, Any]


def prepare(view: MeshView, hosts: Hosts, route: Route, policy: Policy) -> list[Write]:
    """The one write that makes the missing subsets; empty when both arms have theirs.

    Raises FindingError SubsetTaken, ShadowedRule or RuleNameTaken.
    """
    subsets = subsets_of(view, hosts, route.service)
    _refuse_taken(view, route.canary, subsets)
    stable = subsets.get(route.stable.subset)
    missing: dict[str, Labels] = {}
    if stable is None:
        missing[route.stable.subset] = {route.stable.label: route.stable.value}
    if route.canary.subset not in subsets:
        shared = stable.labels if stable else {}
        missing[route.canary.subset] = {**shared, route.canary.label: route.canary.value}
    if not missing:
        return []
    rules = rules_of(view, hosts, route.service)
    return [_extended(view, rules[0], missing) if rules else _made(view, hosts, route.service, missing, policy)]


def _refuse_taken(view: MeshView, canary: Arm, subsets: Mapping[str, Subset]) -> None:
    taken = subsets.get(canary.subset)
    if taken is not None and taken.labels.get(canary.label) != canary.value:
        raise FindingError(
            "SubsetTaken",
            f"{title('DestinationRule', view.namespace, name_of(taken.rule))}: spec.subsets {taken.name!r} selects "
            f"{dict(taken.labels)}, not the canary's {canary.label}={canary.value}; it is somebody else's, "
            f"rename it or give it these labels",
        )


def _extended(view: MeshView, rule: Object, missing: Mapping[str, Labels]) -> Write:
    added = added_to_destination_rule(rule)
    record = AddedRule({**added.subsets, **missing}, rule=added.rule)
    new = [_subset(name, labels) for name, labels in missing.items()]
    spec = section(rule, "spec")
    if isinstance(spec.get("subsets"), list):
        changes: list[Operation] = [{"op": "add", "path": "/spec/subsets/-", "value": subset} for subset in new]
    else:
        changes = [{"op": "add", "path": "/spec/subsets", "value": new}]
    return Write(
        verb="patch",
        kind="DestinationRule",
        namespace=view.namespace,
        name=name_of(rule),
        body=[
            *expect("/spec/host", spec["host"]),
            pin(rule),
            *changes,
            *annotate(rule, {ADDED: record.text}),
        ],
        why=f"subsets {', '.join(missing)} before traffic can go there",
        pins=version_of(rule),
    )


def _made(view: MeshView, hosts: Hosts, service: str, missing: Mapping[str, Labels], policy: Policy) -> Write:
    """A rule for our own Service's FQDN, with the policy's breaker: nobody else's policy is there to keep."""
    _refuse_shadowing(view, hosts, service)
    taken = names(view.destination_rules)
    free = [name for name in (service, f"{service}-canary") if name not in taken]
    if not free:
        raise FindingError(
            "RuleNameTaken",
            f"{title('DestinationRule', view.namespace, service)} and {service}-canary exist and are for other hosts; "
            f"write a DestinationRule for {hosts.fqdn(service)} with the subsets {', '.join(missing)}",
            candidates=taken,
        )
    traffic_policy: dict[str, Any] = {"outlierDetection": policy.outlier_detection.document()}
    if policy.connection_pool is not None:
        traffic_policy["connectionPool"] = policy.connection_pool.document()
    return Write(
        verb="create",
        kind="DestinationRule",
        namespace=view.namespace,
        name=free[0],
        body={
            "apiVersion": "networking.istio.io/v1",
            "kind": "DestinationRule",
            "metadata": {
                "name": free[0],
                "namespace": view.namespace,
                "labels": {"app.kubernetes.io/managed-by": "canary"},
                "annotations": {ADDED: AddedRule(missing, rule=True).text},
            },
            "spec": {
                "host": hosts.fqdn(service),
                "trafficPolicy": traffic_policy,
                "subsets": [_subset(name, labels) for name, labels in missing.items()],
            },
        },
        why=f"no DestinationRule has the subsets of {service}",
    )


def _refuse_shadowing(view: MeshView, hosts: Hosts, service: str) -> None:
    """A rule for the exact host replaces a wildcard's policy (its TLS settings, too) for this Service: not unasked."""
    for rule in view.destination_rules:
        host = section(rule, "spec").get("host")
        if isinstance(host, str) and host.startswith("*") and hosts.fqdn(service).endswith(host[1:]):
            raise FindingError(
                "ShadowedRule",
                f"{title('DestinationRule', view.namespace, name_of(rule))}: spec.host {host!r} sets the policy of "
                f"Service {service}, and a rule of its own would replace it; write one for {hosts.fqdn(service)} with "
                f"that policy and the subsets",
            )


def _subset(name: str, labels: Labels) -> dict[str, Any]:
    return {"name": name, "labels": dict(labels)}
