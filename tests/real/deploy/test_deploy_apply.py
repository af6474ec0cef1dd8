"""The chart and the kustomization on a real API server, whose Deployment controller makes pods under PodSecurity."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from canary.sandbox.realapi.server import RealApiServer
from tests.real.deploy.rendering import (
    CHART,
    HOME,
    OVERLAYS,
    ROOT,
    SERVICE_MONITOR,
    Object,
    Programs,
    Refused,
    only,
    rollout,
)

pytestmark = pytest.mark.slow

CRD = "customresourcedefinition/canaryrollouts.canary.delivery"
CLUSTER_WIDE = "clusterroles,clusterrolebindings,validatingadmissionpolicies,mutatingadmissionpolicies"
EVERYTHING_SET: dict[str, Any] = {
    "prometheus": {
        "bearerToken": {"secret": "prometheus"},
        "basic": {"username": "canary", "secret": "prometheus"},
        "ca": {"configMap": "authority"},
        "headers": ["X-Scope-OrgID:team"],
    },
    "ipv6": True,
    "imagePullSecrets": [{"name": "registry"}],
    "priorityClassName": "system-cluster-critical",
    "nodeSelector": {"kubernetes.io/os": "linux"},
    "tolerations": [{"key": "infra", "operator": "Exists"}],
    "affinity": {"nodeAffinity": {}},
    "podAnnotations": {"prometheus.io/scrape": "true"},
    "extraEnv": [{"name": "TZ", "value": "UTC"}],
    "policies": {"extra": {"night.yaml": "name: night\n"}, "floor": "standard"},
    "rbac": {"namespaces": ["default"]},
    "networkPolicy": {"apiServer": {"to": [{"ipBlock": {"cidr": "10.0.0.1/32"}}]}},
}


@pytest.fixture
def install(onto: Programs, home: str) -> Iterator[Callable[..., None]]:
    """`helm upgrade --install` of the release; release and CRD are gone afterwards, also where the test failed."""

    def helm(chart: Path = CHART, *options: str) -> None:
        onto.helm("upgrade", "--install", "canary", chart, "--namespace", home, *options)

    yield helm
    onto.helm("uninstall", "canary", "--namespace", home, "--ignore-not-found")
    onto.kubectl("delete", CRD, "--ignore-not-found")


def taken_away(onto: Programs, folder: Path) -> None:
    """Delete what a kustomization has, but for the Namespace: a namespace takes ten seconds to go."""
    objects = [one for one in onto.kustomize(folder) if one["kind"] != "Namespace"]
    onto.kubectl("delete", "-f", "-", stdin=yaml.safe_dump_all(objects))


def pods_are_made(onto: Programs, namespace: str = HOME) -> None:
    """Return once the Deployment has its two pods: PodSecurity refuses pods, of a Deployment it only warns."""
    said = ("deployment/canary-controller", "--namespace", namespace, "--timeout=60s")
    onto.kubectl("wait", "--for=jsonpath={.status.updatedReplicas}=2", *said)


def pod_of(objects: list[Object], namespace: str) -> str:
    """The pod that the Deployment's template makes, as JSON."""
    template = only(objects, "Deployment")["spec"]["template"]
    metadata = {**template["metadata"], "name": "tried", "namespace": namespace}
    return json.dumps({"apiVersion": "v1", "kind": "Pod", **template, "metadata": metadata})


def older_chart(folder: Path) -> Path:
    """The chart as it could have been: its CRD does not know a field that today's controller writes."""
    chart = Path(shutil.copytree(CHART, folder / "canary"))
    path = chart / "files" / "crd.yaml"
    definition = yaml.safe_load(path.read_text())
    del definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["status"]["properties"]["verdict"]
    path.write_text(yaml.safe_dump(definition))
    return chart


def fields_of_status(onto: Programs) -> set[str]:
    definition = json.loads(onto.kubectl("get", CRD, "-o", "json"))
    schema = definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return set(schema["properties"]["status"]["properties"])


def test_the_life_of_a_release_by_helm(onto: Programs, home: str, install: Callable[..., None], tmp_path: Path) -> None:
    """Installed, upgraded with its CRD, uninstalled without losing a record, and installed again."""
    install(older_chart(tmp_path))
    assert "verdict" not in fields_of_status(onto)
    install()
    assert "verdict" in fields_of_status(onto)
    pods_are_made(onto)

    onto.create(rollout("default"))
    onto.helm("uninstall", "canary", "--namespace", home, "--wait", "--cascade=foreground")
    assert onto.kubectl("get", "canaryrollouts", "--all-namespaces", "-o", "name").split() == [
        "canaryrollout.canary.delivery/payment-v2-abc-1"
    ]
    left = onto.kubectl("get", CLUSTER_WIDE, "-l", "app.kubernetes.io/name=canary", "-o", "name").split()
    left += onto.kubectl("get", "all,networkpolicies,roles", "-n", home, "-o", "name").split()
    assert left == []

    install()
    pods_are_made(onto)


def test_a_crd_from_kubectl_is_taken_over_when_helm_is_told_to(onto: Programs, install: Callable[..., None]) -> None:
    onto.kubectl("apply", "--server-side", "-f", ROOT / "deploy" / "crd.yaml")
    with pytest.raises(Refused, match="invalid ownership metadata"):
        install()
    install(CHART, "--take-ownership")


def test_the_life_of_an_installation_by_kustomize(onto: Programs, home: str) -> None:
    """Applied, applied again without a change, and gone."""
    folder = OVERLAYS / "cluster"
    onto.kubectl("apply", "--server-side", "-k", folder)
    pods_are_made(onto)
    onto.kubectl("diff", "--server-side", "-k", folder)  # ends with 1 where anything differs
    budget = ("poddisruptionbudget/canary-controller", "--namespace", home, "--timeout=60s")
    onto.kubectl("wait", "--for=jsonpath={.status.expectedPods}=2", *budget)
    taken_away(onto, folder)


@pytest.mark.parametrize("overlay", ["cluster", "cluster-1.30", "cluster-1.29", "namespaced"])
def test_the_api_server_takes_every_overlay_without_a_warning(onto: Programs, home: str, overlay: str) -> None:
    onto.kubectl("apply", "--server-side", "--dry-run=server", "--field-manager=try", "-k", OVERLAYS / overlay)


@pytest.mark.parametrize(
    "values",
    [{}, EVERYTHING_SET, {"mode": "namespaced"}, {"runAsUser": None}],
    ids=["default", "all", "namespaced", "any user"],
)
def test_the_pods_are_allowed_in_a_restricted_namespace(
    onto: Programs, home: str, tmp_path: Path, values: dict[str, Any]
) -> None:
    (tmp_path / "values.yaml").write_text(yaml.safe_dump(values))
    objects = onto.template("-f", str(tmp_path / "values.yaml"))
    (tmp_path / "objects.yaml").write_text(yaml.safe_dump_all(objects))
    onto.kubectl("apply", "--server-side", "--dry-run=server", "-f", tmp_path / "objects.yaml")
    onto.kubectl("apply", "-f", "-", stdin=yaml.safe_dump(only(objects, "ServiceAccount")))
    pod = pod_of(objects, home)
    onto.kubectl("create", "--dry-run=server", "-f", "-", stdin=pod)

    for looser in ('"runAsNonRoot": false', '"allowPrivilegeEscalation": true', '"capabilities": {}'):
        field = looser.split(":")[0]
        right = next(text for text in ('"runAsNonRoot": true', '"allowPrivilegeEscalation": false',
                                       '"capabilities": {"drop": ["ALL"]}') if text.startswith(field))  # fmt: skip
        assert right in pod
        with pytest.raises(Refused, match='violates PodSecurity "restricted'):
            onto.kubectl("create", "--dry-run=server", "-f", "-", stdin=pod.replace(right, looser))
    onto.kubectl("delete", "serviceaccount", "canary", "-n", home)


def test_a_tenant_installs_for_its_own_namespace(onto: Programs, server: RealApiServer, tmp_path: Path) -> None:
    """Somebody with rights in one namespace and none in the cluster, once the CRD is there."""
    onto.kubectl("apply", "--server-side", "-f", ROOT / "deploy" / "crd.yaml")
    onto.kubectl("create", "namespace", "shop")
    onto.kubectl("create", "serviceaccount", "owner", "-n", "shop")
    onto.kubectl("create", "role", "owner", "--verb=*", "--resource=*.*", "-n", "shop")
    onto.kubectl("create", "rolebinding", "owner", "--role=owner", "--serviceaccount=shop:owner", "-n", "shop")
    kubeconfig = server.kubeconfig_for(server.token("shop", "owner"), tmp_path / "owner")
    server.wait_allowed(kubeconfig, "create", "deployments.apps", "shop")
    owner = replace(onto, kubeconfig=kubeconfig)

    with pytest.raises(Refused, match="forbidden"):
        owner.helm("install", "canary", CHART, "--namespace", "shop")
    said = owner.helm("install", "canary", CHART, "--namespace", "shop", "--set=mode=namespaced")
    assert "watches namespace shop" in said
    assert "export CANARY_CONTROLLER_NAMESPACE=shop" in said
    pods_are_made(owner, "shop")

    owner.helm("uninstall", "canary", "--namespace", "shop", "--wait")
    onto.kubectl("delete", "namespace", "shop", "--wait=false")
    onto.kubectl("delete", CRD)


def test_a_service_monitor_is_made_once_the_cluster_has_the_kind(
    onto: Programs, home: str, install: Callable[..., None]
) -> None:
    """Helm asks the cluster itself: nothing has to be said."""
    group, _, kind = SERVICE_MONITOR.split("/")
    definition = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"servicemonitors.{group}"},
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": {"kind": kind, "plural": "servicemonitors"},
            "versions": [
                {
                    "name": "v1",
                    "served": True,
                    "storage": True,
                    "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}},
                }
            ],
        },
    }
    install()
    onto.kubectl("create", "-f", "-", stdin=json.dumps(definition))
    onto.kubectl("wait", "--for=condition=Established", f"crd/servicemonitors.{group}", "--timeout=60s")
    install()
    assert onto.kubectl("get", "servicemonitors", "-n", home, "-o", "name").split() == [
        f"servicemonitor.{group}/canary"
    ]
    onto.kubectl("delete", f"crd/servicemonitors.{group}")
