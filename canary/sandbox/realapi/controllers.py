"""kube-controller-manager with the controllers that a cluster without machines has work for."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from canary.sandbox.process import Child
from canary.sandbox.realapi.assets import Assets


class Cluster(Protocol):
    """The API server to work on."""

    @property
    def kubeconfig(self) -> Path: ...
    @property
    def ca_file(self) -> Path: ...


ACCOUNTS = "serviceaccount-controller"
GARBAGE = "garbage-collector-controller"
ROLES = "clusterrole-aggregation-controller"
"""Without it `view`, `edit` and `admin` are empty: their rules are gathered from the roles that name them."""

NAMES = (
    "deployment-controller",
    "replicaset-controller",
    GARBAGE,
    "namespace-controller",
    ACCOUNTS,
    "root-ca-certificate-publisher-controller",  # the ConfigMap that pods mount beside their token
    ROLES,
    "disruption-controller",  # the status of PodDisruptionBudgets
    "resourcequota-controller",
    "validatingadmissionpolicy-status-controller",  # type-checks the expressions of policies
)
"""Those that run. Nodes, volumes, jobs, autoscaling, certificates and clouds have nothing here to control,
and EndpointSlices take no address of loopback, where the pods are."""


def child(assets: Assets, cluster: Cluster, names: tuple[str, ...], logs: Path) -> Child:
    """The process, not started: it works as the administrator of the cluster."""
    return Child(
        "kube-controller-manager",
        [
            assets.controller_manager,
            f"--kubeconfig={cluster.kubeconfig}",
            f"--controllers={','.join(names)}",
            f"--root-ca-file={cluster.ca_file}",
            "--leader-elect=false",  # there is no second one
            "--secure-port=0",
        ],
        log=logs / "kube-controller-manager.log",
    )
