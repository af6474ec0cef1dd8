"""What helm and kubectl make of deploy/, as objects to compare."""

from __future__ import annotations

import copy
import json
import os
import re
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from canary.sandbox.realapi.assets import Assets

Object = dict[str, Any]
Key = tuple[str, str, str, str]

ROOT = Path(__file__).parents[3]
CHART = ROOT / "deploy" / "chart" / "canary"
OVERLAYS = ROOT / "deploy" / "kustomize" / "overlays"
HOME = "canary-system"
NEWEST = "1.36.0"
PATIENCE_S = 60.0
OF_HELM = ("app.kubernetes.io/managed-by", "helm.sh/chart")
SERVICE_MONITOR = "monitoring.coreos.com/v1/ServiceMonitor"


class Refused(Exception):
    """What a program said on standard error when it ended with something else than 0."""


@dataclass(frozen=True, slots=True)
class Programs:
    """helm and kubectl of the assets; helm keeps what it caches in `home`."""

    assets: Assets
    home: Path
    kubeconfig: Path | None = None

    def run(self, program: Path, *arguments: str | Path, stdin: str = "") -> tuple[str, str]:
        """Standard output and standard error. Raises Refused."""
        environment = {**os.environ, "HELM_CACHE_HOME": f"{self.home}/cache", "HELM_CONFIG_HOME": f"{self.home}/config"}
        environment |= {"HELM_DATA_HOME": f"{self.home}/data", "KUBECACHEDIR": f"{self.home}/kubectl"}
        environment["KUBECONFIG"] = str(self.kubeconfig or self.home / "nowhere")
        done = subprocess.run(
            [program, *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
            env=environment,
        )
        if done.returncode:
            raise Refused(done.stderr)
        return done.stdout, done.stderr

    def helm(self, *arguments: str | Path) -> str:
        """What helm prints. Raises Refused, also when it warns."""
        out, said = self.run(self.assets.helm, *arguments)
        if re.search(r"^(?:WARNING|W\d{4} )", said, re.MULTILINE):  # helm's own, and the API server's
            raise Refused(said)
        return out

    def kubectl(self, *arguments: str | Path, stdin: str = "") -> str:
        """What kubectl prints. Raises Refused, also when the API server warns."""
        out, said = self.run(self.assets.kubectl, *arguments, stdin=stdin)
        if said.strip():
            raise Refused(said)
        return out

    def create(self, document: Object) -> None:
        """Create it. For some seconds after a change of a CRD a mutating policy cannot be asked about its kind."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                self.kubectl("create", "-f", "-", stdin=json.dumps(document))
            except Refused as error:
                if "There can be a delay" not in str(error) or time.monotonic() >= deadline:
                    raise
                time.sleep(0.2)
            else:
                return

    def template(
        self, *options: str, namespace: str = HOME, version: str = NEWEST, chart: Path = CHART
    ) -> list[Object]:
        """The chart's objects, for a cluster of this version."""
        place = ("--namespace", namespace, "--kube-version", version)
        return documents(self.helm("template", "canary", chart, *place, *options))

    def kustomize(self, folder: Path) -> list[Object]:
        """The objects of a kustomization."""
        return documents(self.kubectl("kustomize", folder))


def rollout(namespace: str) -> Object:
    """A CanaryRollout of a Deployment that is not there."""
    return {
        "apiVersion": "canary.delivery/v1alpha1",
        "kind": "CanaryRollout",
        "metadata": {"name": "payment-v2-abc-1", "namespace": namespace},
        "spec": {"target": "payment-v2", "policyName": "standard"},
    }


def documents(text: str) -> list[Object]:
    """Every object of a YAML stream."""
    return [document for document in yaml.safe_load_all(text) if document]


def of_kind(objects: list[Object], kind: str) -> list[Object]:
    return [one for one in objects if one["kind"] == kind]


def only(objects: list[Object], kind: str) -> Object:
    """The one object of a kind."""
    (found,) = of_kind(objects, kind)
    return found


def container(objects: list[Object]) -> Object:
    """The controller's container."""
    (found,) = only(objects, "Deployment")["spec"]["template"]["spec"]["containers"]
    assert isinstance(found, dict)
    return found


def environment(objects: list[Object]) -> dict[str, str]:
    """What the container is told, as the kubelet would: a field's path stands for what is read from it."""
    return {
        one["name"]: one["value"] if "value" in one else f"<{one['valueFrom']['fieldRef']['fieldPath']}>"
        for one in container(objects)["env"]
    }


def normal(objects: list[Object]) -> dict[Key, Object]:
    """By identity, without what Helm adds to say that it is Helm's, and without the order of environment variables."""
    found: dict[Key, Object] = {}
    for one in copy.deepcopy(objects):
        metadata = one["metadata"]
        for name in OF_HELM:
            metadata.get("labels", {}).pop(name, None)
        if metadata.get("annotations", {}).pop("helm.sh/resource-policy", None) and not metadata["annotations"]:
            del metadata["annotations"]
        if one["kind"] == "Deployment":
            container([one])["env"].sort(key=lambda variable: variable["name"])
        key = (one["apiVersion"], one["kind"], metadata.get("namespace", ""), metadata["name"])
        assert key not in found, f"twice: {key}"
        found[key] = one
    return found
