"""The objects of a release, as their owners would send them."""

from __future__ import annotations

from typing import Any

from canary.cluster.kinds import CANARYROLLOUT, DESTINATIONRULE, VIRTUALSERVICE

Object = dict[str, Any]
EVERYTHING: list[Object] = [{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]
"""Rules of a Role."""


def rollout(name: str = "payment-v2-abc-1", **spec: Any) -> Object:
    """A CanaryRollout as `kubectl create` sends it."""
    return {
        "apiVersion": CANARYROLLOUT.api_version, "kind": CANARYROLLOUT.kind, "metadata": {"name": name},
        "spec": {"target": "payment-v2", "policyName": "standard", **spec},
    }  # fmt: skip


def deployment(name: str = "payment-v2", **annotations: str) -> Object:
    """A Deployment with annotations canary.delivery/...; `virtual_service` is `virtual-service`."""
    labels = {"app": "payment", "version": name}
    ours = {f"canary.delivery/{key.replace('_', '-')}": value for key, value in annotations.items()}
    return {
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": name, "annotations": ours},
        "spec": {
            "replicas": 0, "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels}, "spec": {"containers": [{"name": "app", "image": "payment:1"}]}
            },
        },
    }  # fmt: skip


def virtual_service(name: str = "payment", *, host: str = "payment", **spec: Any) -> Object:
    route = [{"destination": {"host": host, "subset": "v1"}, "weight": 100}]
    return {
        "apiVersion": VIRTUALSERVICE.api_version, "kind": VIRTUALSERVICE.kind, "metadata": {"name": name},
        "spec": {"hosts": ["payment"], "http": [{"name": "primary", "route": route, "timeout": "2s"}], **spec},
    }  # fmt: skip


def destination_rule(name: str = "payment", **spec: Any) -> Object:
    subsets = [{"name": "v1", "labels": {"version": "v1"}}]
    return {
        "apiVersion": DESTINATIONRULE.api_version, "kind": DESTINATIONRULE.kind, "metadata": {"name": name},
        "spec": {"host": "payment", "subsets": subsets, **spec},
    }  # fmt: skip
