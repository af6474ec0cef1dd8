"""helm and kubectl for every test here; a cluster whose Deployment controller makes pods, for those that apply."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace

import pytest

from canary.cluster.gateway import Gateway
from canary.cluster.kinds import DESTINATIONRULE, VIRTUALSERVICE
from canary.errors import SandboxError
from canary.sandbox.definitions import install, read_definitions
from canary.sandbox.realapi.assets import find_assets
from canary.sandbox.realapi.server import Options, RealApiServer
from tests.real.deploy.rendering import HOME, ROOT, Programs


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Programs:
    """helm and kubectl, with no cluster to talk to."""
    try:
        assets = find_assets()
        _ = assets.helm
    except SandboxError as error:
        pytest.skip(str(error))
    return Programs(assets, tmp_path_factory.mktemp("programs"))


@pytest.fixture(scope="session")
def server(programs: Programs, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealApiServer]:
    """A cluster with Istio's kinds and without ours: installing is what is tested."""
    folder = tmp_path_factory.mktemp("cluster")
    with RealApiServer(folder, Options(controllers=True), programs.assets) as running:
        with closing(Gateway.connect(str(running.kubeconfig), write_timeout_seconds=30.0)) as gateway:
            wanted = [VIRTUALSERVICE.resource, DESTINATIONRULE.resource]
            install(gateway, list(read_definitions(programs.assets.istio_crds, only=wanted)))
        yield running


@pytest.fixture(scope="session")
def onto(programs: Programs, server: RealApiServer) -> Programs:
    """helm and kubectl of the cluster's administrator."""
    return replace(programs, kubeconfig=server.kubeconfig)


@pytest.fixture(scope="session")
def home(onto: Programs) -> str:
    """The controller's namespace as the docs make it. A test takes away what it put there."""
    onto.kubectl("apply", "--server-side", "-k", ROOT / "deploy" / "kustomize" / "namespace")
    return HOME


@pytest.fixture
def alone(onto: Programs) -> Iterator[str]:
    """A namespace that a controller has to itself, once the CRD is there."""
    onto.kubectl("apply", "--server-side", "-f", ROOT / "deploy" / "crd.yaml")
    onto.kubectl("create", "namespace", "alone")
    yield "alone"
    onto.kubectl("delete", "namespace", "alone", "--wait=false")
