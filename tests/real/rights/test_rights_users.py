"""What people may do: who may view follows a release, who may edit makes one, and nobody of them writes its status."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from canary.cluster.gateway import Gateway
from canary.cluster.kinds import CANARYROLLOUT, LEASE
from canary.errors import Forbidden
from canary.model.rollout import Phase
from canary.sandbox.realapi.server import RealApiServer
from tests.real.rights.controller import Controller
from tests.real.rights.roles import ROLE, ROLEBINDING, SERVICEACCOUNT, Installation, documents
from tests.shop import Shop, until

pytestmark = pytest.mark.slow

ATTEMPT = "payment-v2-v2a-1"


@pytest.fixture(scope="module")
def roles_of_people(real: RealApiServer) -> None:
    """What `kubectl apply` of deploy/rbac/users.yaml makes; Kubernetes then adds it to `view` and `edit`."""
    real.kubectl("apply", "-f", "-", input=yaml.safe_dump_all(documents("users.yaml")))


class Person:
    """Somebody to whom one of Kubernetes' own roles is bound in a namespace."""

    def __init__(self, real: RealApiServer, admin: Gateway, namespace: str, role: str, folder: Path) -> None:
        self.namespace = namespace
        name = f"who-may-{role}"
        admin.create(SERVICEACCOUNT, namespace, {"metadata": {"name": name}})
        subject = {"kind": "ServiceAccount", "name": name, "namespace": namespace}
        reference = {"apiGroup": ROLE.group, "kind": "ClusterRole", "name": role}
        body = {"metadata": {"name": name}, "roleRef": reference, "subjects": [subject]}
        admin.create(ROLEBINDING, namespace, body)
        self.kubeconfig = real.kubeconfig_for(real.token(namespace, name), folder / f"kubeconfig-{role}")
        real.wait_allowed(self.kubeconfig, "list", CANARYROLLOUT.resource, namespace)
        self.gateway = Gateway.connect(str(self.kubeconfig))

    def canary(self, *arguments: str, controller: str) -> subprocess.CompletedProcess[str]:
        keep = {key: value for key, value in os.environ.items() if not key.startswith(("CANARY_", "KUBE", "FORCE_"))}
        environment = {**keep, "KUBECONFIG": str(self.kubeconfig), "CANARY_CONTROLLER_NAMESPACE": controller}
        command = [sys.executable, "-m", "canary.cli.app", *arguments, "-n", self.namespace]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)


def test_who_may_view_follows_a_release_and_who_may_edit_makes_and_ends_one_and_neither_writes_its_status(  # noqa: PLR0917  fixtures, given by name
    real: RealApiServer,
    admin: Gateway,
    roles_of_people: None,
    install: Callable[..., Installation],
    control: Callable[..., Controller],
    new_shop: Callable[..., Shop],
    tmp_path: Path,
) -> None:
    installation = install()
    shop = new_shop()
    installation.let_in(shop.namespace)
    shop.deploy("v2")
    viewer, editor = (Person(real, admin, shop.namespace, role, tmp_path) for role in ("view", "edit"))
    real.wait_allowed(editor.kubeconfig, "create", CANARYROLLOUT.resource, shop.namespace)

    def says(person: Person, *arguments: str) -> str:
        done = person.canary(*arguments, controller=installation.own)
        return f"{done.returncode} {done.stdout}{done.stderr}"

    for document in documents("heartbeat.yaml"):
        kind = ROLE if document["kind"] == ROLE.kind else ROLEBINDING
        document["metadata"]["namespace"] = installation.own
        admin.create(kind, installation.own, document)
    real.wait_allowed(viewer.kubeconfig, "list", LEASE.resource, installation.own)
    shop.start("by-hand", "payment-v2")
    gone = says(viewer, "wait", "by-hand", "--timeout", "1m")
    assert gone.startswith("8 by-hand does not move: no controller lives"), gone
    admin.delete(CANARYROLLOUT, shop.namespace, "by-hand")

    controller = control(installation)
    controller.ready()
    refused = says(viewer, "start", "payment-v2", "--policy", "slow")
    assert refused.startswith("1 ")
    assert "cannot create canaryrollouts" in refused
    assert says(editor, "start", "payment-v2", "--policy", "slow").startswith("0 ")
    shop.until_judged(ATTEMPT)

    assert says(viewer, "status", ATTEMPT).startswith("0 ")
    until(lambda: says(viewer, "explain", ATTEMPT).startswith("0 "), 60, "for evidence to explain by")
    assert says(editor, "pause", ATTEMPT, "--reason", "lunch").startswith("0 ")
    shop.reaches(ATTEMPT, Phase.PAUSED)
    assert says(viewer, "wait", ATTEMPT, "--timeout", "30s").startswith("5 ")
    assert says(viewer, "abort", ATTEMPT, "--reason", "no").startswith("1 ")
    assert says(editor, "resume", ATTEMPT).startswith("0 ")
    assert says(editor, "promote", ATTEMPT, "--full", "--reason", "good").startswith("0 ")
    shop.reaches(ATTEMPT, Phase.SUCCEEDED)
    assert says(viewer, "wait", ATTEMPT).startswith("0 ")

    for person in (viewer, editor):
        with pytest.raises(Forbidden, match="canaryrollouts/status"):
            person.gateway.patch(
                CANARYROLLOUT, shop.namespace, ATTEMPT, {"status": {"phase": "RolledBack"}}, patch_type="merge",
                subresource="status",
            )  # fmt: skip
        person.gateway.close()
    controller.end()
