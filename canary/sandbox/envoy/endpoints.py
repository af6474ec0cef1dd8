"""Pods to Envoy endpoints, each carrying the labels that Istio's metrics give its requests. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from canary.sandbox.envoy.names import Json
from canary.sandbox.workloads.addresses import PORT_ANNOTATION


def is_ready(pod: Mapping[str, Any]) -> bool:
    """Whether Kubernetes would send it traffic: an address, condition Ready, not being deleted."""
    status = pod.get("status", {})
    return (
        bool(status.get("podIP"))
        and not pod["metadata"].get("deletionTimestamp")
        and any(c["type"] == "Ready" and c["status"] == "True" for c in status.get("conditions") or [])
    )


def workload_name(pod: Mapping[str, Any]) -> str:
    """The name of the Deployment (or other owner) a pod belongs to.

    Istio's rule (GetWorkloadMetaFromPod): an explicit label wins; a ReplicaSet's name loses its `-<pod-template-hash>`;
    any other controller gives its own name; a pod of nobody is its own workload.
    """
    meta = pod["metadata"]
    labels = meta.get("labels") or {}
    if explicit := labels.get("service.istio.io/workload-name"):
        return str(explicit)
    owner = next((o for o in meta.get("ownerReferences") or [] if o.get("controller")), None)
    if owner is None:
        return str(meta["name"])
    template_hash = labels.get("pod-template-hash")
    name = str(owner["name"])
    return name.removesuffix(f"-{template_hash}") if owner["kind"] == "ReplicaSet" and template_hash else name


def peer_metadata(pod: Mapping[str, Any]) -> dict[str, str]:
    """What the client's proxy knows of the pod it called; the keys are the metrics' labels."""
    meta = pod["metadata"]
    labels = meta.get("labels") or {}
    workload = workload_name(pod)
    name = (labels.get(key) for key in ("service.istio.io/canonical-name", "app.kubernetes.io/name", "app"))
    revision = (labels.get(key) for key in ("service.istio.io/canonical-revision", "app.kubernetes.io/version"))
    version = labels.get("version")
    known = {
        "destination_workload": workload,
        "destination_workload_namespace": meta["namespace"],
        "destination_version": version,
        "destination_canonical_service": next(filter(None, name), workload),
        "destination_canonical_revision": next(filter(None, revision), version or "latest"),
        "pod": meta["name"],
    }
    return {key: value for key, value in known.items() if value}


def target_port(port: Mapping[str, Any], pod: Mapping[str, Any]) -> int | None:
    """The pod's port behind a port of a Service; None when `targetPort` names one that the pod does not have.

    A pod of the sandbox may listen elsewhere than its containers say (no 127.0.0.0/8); its annotation then decides.
    """
    if actual := (pod["metadata"].get("annotations") or {}).get(PORT_ANNOTATION):
        return int(actual)
    target = port.get("targetPort", port["port"])
    if isinstance(target, int):
        return target
    if str(target).isdigit():
        return int(target)
    for container in pod.get("spec", {}).get("containers") or []:
        for declared in container.get("ports") or []:
            if declared.get("name") == target:
                return int(declared["containerPort"])
    return None


def endpoints(service: Json, port: Json, labels: Mapping[str, str], pods: Iterable[Json]) -> list[Json]:
    """Envoy LbEndpoints of the ready pods that the Service selects and that carry the subset's `labels`, by pod name.

    A Service without a selector has none: the sandbox knows no hand-made endpoints.
    """
    meta, selector = service["metadata"], service.get("spec", {}).get("selector")
    if not selector:
        return []
    wanted = {**selector, **labels}.items()
    # A selector and a subset that want different values of one label have no pod in common.
    if any(selector.get(key, value) != value for key, value in labels.items()):
        return []
    chosen = []
    for pod in sorted(pods, key=lambda pod: str(pod["metadata"]["name"])):
        if pod["metadata"]["namespace"] != meta["namespace"] or not is_ready(pod):
            continue
        if not wanted <= (pod["metadata"].get("labels") or {}).items():
            continue
        number = target_port(port, pod)
        if number is not None:
            address = {"address": pod["status"]["podIP"], "port_value": number}
            chosen.append(
                {
                    "endpoint": {"address": {"socket_address": address}},
                    "metadata": {"filter_metadata": {"istio": peer_metadata(pod)}},
                }
            )
    return chosen
