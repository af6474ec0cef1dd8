"""The installed `canary` script against an API server of its own, with CanaryRollouts whose status the test writes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from canary.cluster.gateway import Gateway
from canary.cluster.kinds import CANARYROLLOUT, DEPLOYMENT, LEASE, NAMESPACE, REPLICASET
from canary.cluster.leases import ROLE
from canary.cluster.timestamps import format_micro_time, utc_now
from canary.model.policy_yaml import parse_policy
from canary.shipped import shipped

SCRIPT = Path(sys.executable).with_name("canary")
SECONDS = 30
"""No command of these tests may take longer, however busy the machine."""


@dataclass(frozen=True)
class Shop:
    """A namespace, a controller's namespace (the same), and the script to run on them."""

    gateway: Gateway
    kubeconfig: Path
    namespace: str

    @property
    def environment(self) -> dict[str, str]:
        keep = {key: value for key, value in os.environ.items() if not key.startswith(("CANARY_", "KUBE", "FORCE_"))}
        return {**keep, "KUBECONFIG": str(self.kubeconfig), "CANARY_CONTROLLER_NAMESPACE": self.namespace}

    def command(self, *arguments: str) -> list[str]:
        return [str(SCRIPT), *arguments, "-n", self.namespace]

    def canary(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run to the end; nothing but a traceback is wrong for every test alike."""
        done = subprocess.run(
            self.command(*arguments),
            env=self.environment | environment,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        assert "Traceback" not in done.stderr, done.stderr
        return done

    def begin(self, *arguments: str) -> subprocess.Popen[str]:
        """Run in the background; the test ends it."""
        return subprocess.Popen(
            self.command(*arguments),
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            bufsize=1,
        )

    def controller_lives(self) -> None:
        spec = {
            "holderIdentity": "test",
            "leaseDurationSeconds": 3600,
            "renewTime": format_micro_time(utc_now()),
        }
        metadata = {"name": "canary-member-test", "labels": {ROLE: "member"}}
        lease = {"apiVersion": LEASE.api_version, "kind": LEASE.kind, "metadata": metadata}
        self.gateway.create(LEASE, self.namespace, {**lease, "spec": spec})

    def controller_dies(self) -> None:
        self.gateway.delete(LEASE, self.namespace, "canary-member-test")

    def rollout(self, name: str = "payment-v2-abc-1", *, spec: Any = None, labels: Any = None, **status: Any) -> str:
        """A rollout with this status, written as the controller writes it."""
        self.gateway.create(
            CANARYROLLOUT,
            self.namespace,
            {
                "apiVersion": CANARYROLLOUT.api_version,
                "kind": CANARYROLLOUT.kind,
                "metadata": {"name": name, "labels": labels or {}},
                "spec": {"target": "payment-v2", "policyName": "standard", **(spec or {})},
            },
        )
        if status:
            self.status(name, **status)
        return name

    def status(self, name: str = "payment-v2-abc-1", **status: Any) -> None:
        self.gateway.patch(
            CANARYROLLOUT, self.namespace, name, {"status": status}, patch_type="merge", subresource="status"
        )

    def spec(self, name: str = "payment-v2-abc-1") -> dict[str, Any]:
        return dict(self.gateway.get(CANARYROLLOUT, self.namespace, name)["spec"])

    def names(self) -> set[str]:
        return {item["metadata"]["name"] for item in self.gateway.list(CANARYROLLOUT, self.namespace)[0]}

    def deployment(self, name: str = "payment-v2", revision: str = "abc") -> None:
        """A Deployment whose newest template has this hash, as its controller leaves it."""
        labels = {"app": "payment", "version": name}
        template = {
            "metadata": {"labels": labels},
            "spec": {"containers": [{"name": "app", "image": "payment:2"}]},
        }
        made = self.gateway.create(
            DEPLOYMENT,
            self.namespace,
            {
                "apiVersion": "apps/v1",
                "kind": "Deployment",
                "metadata": {"name": name},
                "spec": {"selector": {"matchLabels": labels}, "template": template},
            },
        )
        self.gateway.patch(
            DEPLOYMENT,
            self.namespace,
            name,
            {"status": {"observedGeneration": made["metadata"]["generation"]}},
            patch_type="merge",
            subresource="status",
        )
        self.replicaset(made, revision, number=1)

    def replicaset(self, deployment: dict[str, Any], revision: str, *, number: int) -> None:
        metadata = deployment["metadata"]
        owner = {"apiVersion": "apps/v1", "kind": "Deployment", "name": metadata["name"], "uid": metadata["uid"]}
        labels = {**deployment["spec"]["selector"]["matchLabels"], "pod-template-hash": revision}
        template = {**deployment["spec"]["template"], "metadata": {"labels": labels}}
        self.gateway.create(
            REPLICASET,
            self.namespace,
            {
                "apiVersion": "apps/v1",
                "kind": "ReplicaSet",
                "metadata": {
                    "name": f"{metadata['name']}-{revision}",
                    "labels": labels,
                    "annotations": {"deployment.kubernetes.io/revision": str(number)},
                    "ownerReferences": [{**owner, "controller": True}],
                },
                "spec": {"selector": {"matchLabels": labels}, "template": template},
            },
        )


def ago(seconds: float) -> str:
    return format_micro_time(datetime.now(UTC) - timedelta(seconds=seconds))


@pytest.fixture
def shop(kubeconfig: Path) -> Iterator[Shop]:
    """A namespace of the test's own, without a controller."""
    gateway = Gateway.connect(str(kubeconfig), write_timeout_seconds=10)
    namespace = f"shop-{uuid4().hex[:8]}"
    gateway.create(NAMESPACE, None, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
    yield Shop(gateway, kubeconfig, namespace)
    gateway.delete(NAMESPACE, None, namespace)
    gateway.close()


@pytest.fixture
def lively_shop(shop: Shop) -> Shop:
    """The same, with a controller's Lease that stays fresh."""
    shop.controller_lives()
    return shop


@pytest.fixture
def running() -> dict[str, Any]:
    """The status of a rollout at 25 %, of the shipped policy `standard`, its clock running since 30 s."""
    policy = parse_policy((shipped("policies") / "standard.yaml").read_text(), "standard.yaml")
    return {
        "phase": "Progressing",
        "service": "payment",
        "step": {"index": 2, "of": 5},
        "weight": {"desired": 25, "configured": 25, "observed": 24},
        "stepElapsed": "0s",
        "resumedAt": ago(30),
        "targetRevision": "abc",
        "stable": {"deployment": "payment-v1", "subset": "v1", "label": "version", "value": "v1"},
        "route": {"virtualService": "payment", "host": "payment"},
        "policy": {"name": "standard", "digest": policy.digest, "resolved": policy.document()},
        "verdict": {"outcome": "pass", "reason": "healthy", "sentence": "no breach in 412 requests", "at": ago(2)},
        "history": [{"at": ago(40), "phase": "Progressing", "step": 2, "weight": 25, "sentence": "25 %, all well"}],
    }
