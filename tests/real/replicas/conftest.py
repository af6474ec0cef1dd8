"""A real API server with an audit log and the fence, and replicas whose tokens are bound to their pods."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

import pytest

from canary.cluster.gateway import Gateway
from canary.cluster.kinds import CONFIGMAP, DESTINATIONRULE, LEASE, NAMESPACE, POD, VIRTUALSERVICE, Kind
from canary.cluster.leases import slot_document
from canary.cluster.slots import slot_of
from canary.cluster.timestamps import utc_now
from canary.errors import Forbidden, SandboxError
from canary.sandbox.definitions import canary_definition, install, read_definitions
from canary.sandbox.realapi.assets import find_assets
from canary.sandbox.realapi.server import Options, RealApiServer
from canary.shipped import shipped
from tests.replicas import Crew, Process
from tests.shop import until

HOME, ACCOUNT = "canary-system", "canary"
SERVICEACCOUNT = Kind("", "v1", "serviceaccounts", "ServiceAccount")
BINDING = Kind("rbac.authorization.k8s.io", "v1", "clusterrolebindings", "ClusterRoleBinding", namespaced=False)


@dataclass
class Stage:
    """The cluster, and how replicas of it are started."""

    server: RealApiServer
    gateway: Gateway
    crews: list[Crew] = field(default_factory=list)

    def pod(self, name: str) -> tuple[str, str]:
        """(name, uid) of a new pod of the controller."""
        spec = {"serviceAccountName": ACCOUNT, "containers": [{"name": "canary", "image": "example.com/canary"}]}
        made = self.gateway.create(POD, HOME, {"metadata": {"name": name}, "spec": spec})
        return name, str(made["metadata"]["uid"])

    def account(self, name: str, folder: Path) -> Path:
        """A kubeconfig whose token is bound to a new pod of that name."""
        token = self.server.token(HOME, ACCOUNT, pod=self.pod(name))
        return self.server.kubeconfig_for(token, folder / f"{name}.kubeconfig")


@pytest.fixture(scope="session")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """One server for these tests; each test has slots of its own time: it begins when nobody holds any."""
    try:
        assets = find_assets()
    except SandboxError as error:
        pytest.skip(str(error))
    policy = Path(__file__).with_name("audit.yaml")
    options = Options(audit_policy=policy)
    with RealApiServer(tmp_path_factory.mktemp("audited"), options, assets) as server:  # noqa: SIM117  it tells where
        with closing(Gateway.connect(str(server.kubeconfig), write_timeout_seconds=30.0)) as gateway:
            istio = read_definitions(assets.istio_crds, only=[VIRTUALSERVICE.resource, DESTINATIONRULE.resource])
            install(gateway, [canary_definition(), *istio])
            gateway.create(NAMESPACE, None, {"metadata": {"name": HOME}})
            gateway.create(SERVICEACCOUNT, HOME, {"metadata": {"name": ACCOUNT}})
            subject = {"kind": "ServiceAccount", "name": ACCOUNT, "namespace": HOME}
            role = {"apiGroup": BINDING.group, "kind": "ClusterRole", "name": "cluster-admin"}
            gateway.create(BINDING, None, {"metadata": {"name": "all"}, "roleRef": role, "subjects": [subject]})
            made = Stage(server, gateway)
            server.kubectl("apply", "-f", str(shipped("deploy") / "admission" / "fence.yaml"))
            _in_force(made, tmp_path_factory.mktemp("probe"))
            yield made


def _in_force(stage: Stage, folder: Path) -> None:
    """A write of an account without a slot is refused. For that the slot must have a Lease."""
    lease = slot_document(HOME, slot_of("default"), None, "", utc_now())
    stage.gateway.create(LEASE, HOME, lease)
    kubeconfig = stage.account("probe", folder)
    stage.server.wait_allowed(kubeconfig, "create", "configmaps")
    with closing(Gateway.connect(str(kubeconfig), write_timeout_seconds=30.0)) as probe:

        def is_refused() -> bool:
            try:
                probe.create(CONFIGMAP, "default", {"metadata": {"generateName": "probe-"}})
            except Forbidden as error:
                return "canary-fence" in str(error)
            return False

        until(is_refused, 60, "for the fence")


@pytest.fixture
def crew(stage: Stage, tmp_path: Path) -> Iterator[Callable[..., Process]]:
    """`crew(name)`: one more replica, as pod `name` with something that no other test has."""
    salt = uuid4().hex[:6]
    with Crew(tmp_path, HOME, hold="1s", fields={"slot_pace_s": 0.3}) as members:

        def start(name: str) -> Process:
            pod = f"{name}-{salt}"
            return members.start(pod, stage.account(pod, tmp_path))

        yield start
