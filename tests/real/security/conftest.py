"""Tenants with real accounts, and our admission policies in force for the namespaces of these tests alone.

The API server is shared with tests that know nothing of the policies, so each binding gets a namespace selector. A
tenant is a service account with `*` on everything in its own namespace, by a Role: the most that is given away.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import yaml

from canary.cluster.gateway import Gateway
from canary.cluster.kinds import (
    CANARYROLLOUT,
    CONFIGMAP,
    DEPLOYMENT,
    DESTINATIONRULE,
    NAMESPACE,
    SERVICE,
    VIRTUALSERVICE,
    Kind,
)
from canary.errors import ClusterError, Conflict
from canary.sandbox.realapi.server import RealApiServer
from canary.shipped import shipped
from tests.real.security.objects import EVERYTHING, rollout

Object = dict[str, Any]
SERVICEACCOUNT = Kind("", "v1", "serviceaccounts", "ServiceAccount")
ROLE = Kind("rbac.authorization.k8s.io", "v1", "roles", "Role")
ROLEBINDING = Kind("rbac.authorization.k8s.io", "v1", "rolebindings", "RoleBinding")

HOME = "canary-system"
OURS = "canary"
GUARDED = "canary.test/guarded"
STAMPED = "stamped"
"""The label's value where names are stamped, as from Kubernetes 1.36 on; `checked` where they are only checked."""
DEPLOYER = [
    {"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["*"]},
    {"apiGroups": ["canary.delivery"], "resources": ["canaryrollouts"], "verbs": ["*"]},
]
IN_FORCE_SECONDS = 60.0

SENTINEL = """\
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {name: canary-test-sentinel}
spec:
  failurePolicy: Fail
  matchConstraints:
    resourceRules: [{apiGroups: [""], apiVersions: ["*"], operations: [CREATE], resources: [configmaps]}]
  validations: [{expression: "object.metadata.name != 'sentinel'", message: in force}]
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {name: canary-test-sentinel}
spec: {policyName: canary-test-sentinel, validationActions: [Deny]}
"""


def documents(folder: Path) -> list[Object]:
    """The objects of a kustomization of plain resources, as `kubectl apply -k` would send them."""
    kustomization = yaml.safe_load((folder / "kustomization.yaml").read_text(encoding="utf-8"))
    return [
        document
        for name in kustomization["resources"]
        for document in yaml.safe_load_all((folder / name).read_text(encoding="utf-8"))
    ]


def _selective(document: Object, values: list[str]) -> Object:
    if not document["kind"].endswith("Binding"):
        return document
    selector = {"matchExpressions": [{"key": GUARDED, "operator": "In", "values": values}]}
    return {**document, "spec": {**document["spec"], "matchResources": {"namespaceSelector": selector}}}


def _what_lacks(admin: Gateway, space: str) -> str:
    """Why it cannot be said yet that all policies hold here, "" when it can.

    Of a definition that is new a mutating policy does not know the schema for a moment, and refuses everything.
    """
    try:
        admin.create(CONFIGMAP, space, {"metadata": {"name": "sentinel"}})
        admin.delete(CONFIGMAP, space, "sentinel")
    except ClusterError as error:
        refused = str(error)
    else:
        refused = "the validating policies do not hold yet"
    if "in force" not in refused:
        return refused
    try:
        made = admin.create(CANARYROLLOUT, space, rollout("sentinel"))
        admin.delete(CANARYROLLOUT, space, "sentinel")
    except ClusterError as error:
        return str(error)
    return "" if "trigger" in made["spec"] else "the mutating policy does not hold yet"


@pytest.fixture(scope="session")
def guarded(real: RealApiServer, admin: Gateway, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    """`guarded("stamped")`: a new namespace in which our admission policies hold."""
    folder = shipped("deploy") / "admission"
    checked = [
        _selective(one, ["checked", STAMPED]) for one in documents(folder) if "fence" not in str(one["metadata"])
    ]
    stamped = [_selective(one, [STAMPED]) for one in documents(folder / "mutating")]
    sentinel = [_selective(one, ["checked", STAMPED]) for one in yaml.safe_load_all(SENTINEL)]
    real.kubectl("apply", "-f", "-", input=yaml.safe_dump_all([*checked, *stamped]))
    # policies and bindings are told of in order: once the last one holds, all do
    real.kubectl("apply", "-f", "-", input=yaml.safe_dump_all(sentinel))

    def make(value: str = STAMPED) -> str:
        name = f"team-{uuid4().hex[:8]}"
        admin.create(NAMESPACE, None, {"metadata": {"name": name, "labels": {GUARDED: value}}})
        return name

    probe = make()
    deadline = time.monotonic() + IN_FORCE_SECONDS
    while lacks := _what_lacks(admin, probe):
        assert time.monotonic() < deadline, lacks
        time.sleep(0.1)
    with suppress(Conflict):
        admin.create(NAMESPACE, None, {"metadata": {"name": HOME}})
    with suppress(Conflict):
        admin.create(SERVICEACCOUNT, HOME, {"metadata": {"name": OURS}})
    return make


@dataclass(frozen=True)
class Account:
    """A service account on its own connection."""

    name: str
    namespace: str
    gateway: Gateway
    kubeconfig: Path

    @property
    def user(self) -> str:
        return f"system:serviceaccount:{self.namespace}:{self.name}"


@pytest.fixture(scope="module")
def account(
    real: RealApiServer, admin: Gateway, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., Account]]:
    """`account(name, home, rules, space)`: an account of `home` that may do what the rules say in `space`."""
    made: list[Gateway] = []
    folder = tmp_path_factory.mktemp("accounts")

    def make(name: str, home: str, rules: list[Object], space: str) -> Account:
        with suppress(Conflict):
            admin.create(SERVICEACCOUNT, home, {"metadata": {"name": name}})
        admin.create(ROLE, space, {"metadata": {"name": f"{home}-{name}"}, "rules": rules})
        role = {"apiGroup": ROLE.group, "kind": "Role", "name": f"{home}-{name}"}
        subject = {"kind": "ServiceAccount", "name": name, "namespace": home}
        body = {"metadata": {"name": f"{home}-{name}"}, "roleRef": role, "subjects": [subject]}
        admin.create(ROLEBINDING, space, body)
        kubeconfig = real.kubeconfig_for(real.token(home, name), folder / f"{space}-{home}-{name}.kubeconfig")
        some = next(iter(rules))
        resource = (
            "canaryrollouts.canary.delivery" if some["apiGroups"] == ["*"] else f"deployments.{some['apiGroups'][0]}"
        )
        real.wait_allowed(kubeconfig, "create", resource, space)
        made.append(Gateway.connect(str(kubeconfig), field_manager=name, write_timeout_seconds=30.0))
        return Account(name, home, made[-1], kubeconfig)

    yield make
    for gateway in made:
        gateway.close()


@pytest.fixture(scope="module")
def team_of_the_module(guarded: Callable[..., str]) -> str:
    return guarded()


@pytest.fixture
def team(team_of_the_module: str, admin: Gateway) -> Iterator[str]:
    """A namespace in which the policies hold, and names are stamped; empty for each test."""
    yield team_of_the_module
    for kind in (CANARYROLLOUT, DEPLOYMENT, VIRTUALSERVICE, DESTINATIONRULE, SERVICE, CONFIGMAP):
        for item in admin.list(kind, team_of_the_module)[0]:
            admin.delete(kind, team_of_the_module, item["metadata"]["name"])


@pytest.fixture(scope="module")
def tenant(account: Callable[..., Account], team_of_the_module: str) -> Account:
    """`*` on everything in the team's namespace, and nothing outside."""
    return account("tenant", team_of_the_module, EVERYTHING, team_of_the_module)


@pytest.fixture(scope="module")
def deployer(account: Callable[..., Account], team_of_the_module: str) -> Account:
    """May change Deployments and CanaryRollouts of the team's namespace, but no routes."""
    return account("deployer", team_of_the_module, DEPLOYER, team_of_the_module)


@pytest.fixture(scope="module")
def stolen(account: Callable[..., Account], team_of_the_module: str) -> Account:
    """Our own account in the wrong hands, with more rights in the team's namespace than any manifest gives it."""
    return account(OURS, HOME, EVERYTHING, team_of_the_module)
