"""The example service of the sandbox: `payment`, versions side by side behind one route, as users' own manifests are.

Objects only: nothing is sent. What a version does to its callers is in its pods' environment (workloads/backend.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from canary.model.annotations import POLICY as POLICY_ANNOTATION
from canary.sandbox.workloads.nodes import HOSTNAME

Json = dict[str, Any]

NAMESPACE = "default"
SERVICE = "payment"


def host_of(service: str) -> str:
    """What callers write into the Host header."""
    return f"{service}.{NAMESPACE}.svc.cluster.local"


HOST = host_of(SERVICE)
DEBUG_HEADER = {"x-debug-user": "true"}
"""What the policy `demo` sends to the canary before any weight."""

STABLE = "v1"
HEALTHY = {"LATENCY_MEDIAN": "20ms", "LATENCY_SIGMA": "0.35"}
"""Log-normal around 20 ms: a P99 of 45 ms, and 2 in a million over the 100 ms of the policy `demo`."""

FAILS_SOMETIMES = HEALTHY | {"ERROR_RATE": "5%"}
SLOW = HEALTHY | {"LATENCY_FACTOR": "3"}
"""A P99 of 135 ms, and 7 % over 100 ms."""

FAILS_ALWAYS = HEALTHY | {"ERROR_RATE": "100%"}


def deployment_name(version: str, service: str = SERVICE) -> str:
    return f"{service}-{version}"


def deployment(
    version: str,
    behaviour: Mapping[str, str] = HEALTHY,
    *,
    policy: str | None = None,
    replicas: int = 2,
    node: str | None = None,
    service: str = SERVICE,
) -> Json:
    """The Deployment of one version; with `policy` it opts in to being released by canary.

    `node` is where its pods shall be, one of the sandbox's (workloads/nodes.py).
    """
    labels = {"app": service, "version": version}
    container = {
        "name": service,
        "image": f"example.com/{service}:{version}",
        "ports": [{"name": "http", "containerPort": 8080}],
        "env": [{"name": name, "value": value} for name, value in behaviour.items()],
    }
    metadata: Json = {"name": deployment_name(version, service), "namespace": NAMESPACE, "labels": labels}
    if policy is not None:
        metadata["annotations"] = {POLICY_ANNOTATION: policy}
    spec: Json = {"containers": [container]}
    if node is not None:
        spec["nodeSelector"] = {HOSTNAME: node}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata,
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": spec},
        },
    }


def mesh(service: str = SERVICE) -> list[Json]:
    """Service, DestinationRule and VirtualService: all traffic on the stable version, nothing else known yet."""
    metadata = {"name": service, "namespace": NAMESPACE}
    kubernetes_service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata,
        "spec": {"selector": {"app": service}, "ports": [{"name": "http", "port": 80, "targetPort": "http"}]},
    }
    rule = {
        "apiVersion": "networking.istio.io/v1",
        "kind": "DestinationRule",
        "metadata": metadata,
        "spec": {"host": service, "subsets": [{"name": STABLE, "labels": {"version": STABLE}}]},
    }
    stable = {"destination": {"host": service, "subset": STABLE}, "weight": 100}
    virtual_service = {
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": metadata,
        "spec": {"hosts": [service], "http": [{"name": "primary", "route": [stable], "timeout": "2s"}]},
    }
    return [kubernetes_service, rule, virtual_service]


def manifests() -> dict[str, str]:
    """Files to `kubectl apply` in a running sandbox, by name: the next versions, good and bad."""
    versions = {
        "payment-v2.yaml": ("v2", HEALTHY, "a good release: promoted"),
        "payment-v3.yaml": ("v3", FAILS_SOMETIMES, "5 % of its requests fail: rolled back"),
        "payment-v4.yaml": ("v4", SLOW, "its P99 is three times as slow: rolled back"),
        "payment-v5.yaml": ("v5", FAILS_ALWAYS, "every request fails: rolled back at once"),
    }
    return {
        file: f"# {what}\n" + yaml.safe_dump(deployment(version, behaviour), sort_keys=False)
        for file, (version, behaviour, what) in versions.items()
    }
