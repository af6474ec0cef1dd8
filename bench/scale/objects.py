"""What a team has in the cluster for one service, of realistic size. Objects only; nothing is sent."""

from __future__ import annotations

from typing import Any

from bench.scale.shape import CANARY, STABLE, Service
from canary.model.annotations import POLICY

Object = dict[str, Any]


def labels(service: Service, version: str) -> dict[str, str]:
    return {"app": service.name, "version": version}


def revision(version: str) -> str:
    return f"7d9f8c6b{version}"


def _meta(service: Service, name: str, **more: Any) -> Object:
    return {"name": name, "namespace": service.namespace, **more}


def _owned(owner: Object) -> Object:
    meta = owner["metadata"]
    return {
        "apiVersion": owner["apiVersion"],
        "kind": owner["kind"],
        "name": meta["name"],
        "uid": meta["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }


def pod_spec(service: Service, version: str) -> Object:
    """As long as they are: environment, probes, resources, mounts."""
    environment = [
        {"name": f"SETTING_{number:02d}", "value": f"value-{number}-of-{service.name}"} for number in range(20)
    ]
    probe = {"httpGet": {"path": "/healthz", "port": "http"}, "periodSeconds": 5, "failureThreshold": 3}
    return {
        "containers": [
            {
                "name": service.name,
                "image": f"registry.example.com/teams/{service.namespace}/{service.name}:{version}",
                "ports": [{"name": "http", "containerPort": 8080}],
                "env": environment,
                "readinessProbe": probe,
                "livenessProbe": probe,
                "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"memory": "256Mi"}},
                "volumeMounts": [{"name": "settings", "mountPath": "/etc/settings"}],
            }
        ],
        "volumes": [{"name": "settings", "emptyDir": {}}],
    }


def template(service: Service, version: str) -> Object:
    annotations = {"prometheus.io/scrape": "true", "prometheus.io/port": "15020", "sidecar.istio.io/inject": "true"}
    return {
        "metadata": {"labels": labels(service, version), "annotations": annotations},
        "spec": pod_spec(service, version),
    }


def deployment(service: Service, version: str, policy: str) -> Object:
    """The canary's asks to be released."""
    annotations = {"deployment.kubernetes.io/revision": "1"} | ({POLICY: policy} if version == CANARY else {})
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": _meta(
            service, service.deployment(version), labels=labels(service, version), annotations=annotations
        ),
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": labels(service, version)},
            "template": template(service, version),
        },
    }


def deployment_status(made: Object) -> Object:
    return {
        "status": {
            "observedGeneration": made["metadata"]["generation"],
            "replicas": 1,
            "updatedReplicas": 1,
            "readyReplicas": 1,
            "availableReplicas": 1,
        }
    }


def replicaset(service: Service, version: str, owner: Object) -> Object:
    selected = labels(service, version) | {"pod-template-hash": revision(version)}
    made_from = template(service, version)
    return {
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "metadata": _meta(
            service,
            f"{service.deployment(version)}-{revision(version)}",
            labels=selected,
            annotations={"deployment.kubernetes.io/revision": "1"},
            ownerReferences=[_owned(owner)],
        ),
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": selected},
            "template": {
                "metadata": {"labels": selected, "annotations": made_from["metadata"]["annotations"]},
                "spec": made_from["spec"],
            },
        },
    }


def pod(service: Service, version: str, owner: Object) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": _meta(
            service,
            f"{owner['metadata']['name']}-0",
            labels=labels(service, version) | {"pod-template-hash": revision(version)},
            ownerReferences=[_owned(owner)],
        ),
        "spec": pod_spec(service, version) | {"nodeName": service.node(version)},
    }


def pod_status(now: str) -> Object:
    names = ("Initialized", "PodScheduled", "ContainersReady", "Ready")
    conditions = [{"type": name, "status": "True", "lastTransitionTime": now} for name in names]
    return {"status": {"phase": "Running", "podIP": "10.0.0.1", "conditions": conditions}}


def mesh(service: Service) -> list[Object]:
    """Service, DestinationRule and VirtualService: all traffic on the stable version."""
    kubernetes_service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": _meta(service, service.name, labels={"app": service.name}),
        "spec": {"selector": {"app": service.name}, "ports": [{"name": "http", "port": 80, "targetPort": "http"}]},
    }
    rule = {
        "apiVersion": "networking.istio.io/v1",
        "kind": "DestinationRule",
        "metadata": _meta(service, service.name),
        "spec": {
            "host": service.name,
            "trafficPolicy": {"connectionPool": {"tcp": {"maxConnections": 100}}},
            "subsets": [{"name": STABLE, "labels": {"version": STABLE}}],
        },
    }
    stable = {"destination": {"host": service.name, "subset": STABLE}, "weight": 100}
    retries = {"attempts": 2, "perTryTimeout": "1s", "retryOn": "connect-failure,refused-stream"}
    virtual_service = {
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": _meta(service, service.name),
        "spec": {
            "hosts": [service.name],
            "http": [{"name": "primary", "route": [stable], "timeout": "2s", "retries": retries}],
        },
    }
    return [kubernetes_service, rule, virtual_service]
