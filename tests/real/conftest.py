"""One real kube-apiserver for the tests that need what only it can do: CEL, RBAC, admission, tokens, audit."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from uuid import uuid4

import pytest

from canary.cluster.gateway import Gateway
from canary.cluster.kinds import DESTINATIONRULE, NAMESPACE, VIRTUALSERVICE
from canary.sandbox.definitions import canary_definition, install, read_definitions
from canary.sandbox.realapi import controllers
from canary.sandbox.realapi.assets import find_assets
from canary.sandbox.realapi.server import Options, RealApiServer

_EMPTY = {"apiVersion": VIRTUALSERVICE.api_version, "kind": VIRTUALSERVICE.kind}


@contextmanager
def started(folder: Path) -> Iterator[RealApiServer]:
    """A real API server with our CRD, Istio's and aggregated roles."""
    assets = find_assets()
    options = Options(controllers=(controllers.ROLES,))
    with RealApiServer(folder, options, assets) as server:
        with closing(Gateway.connect(str(server.kubeconfig), write_timeout_seconds=30.0)) as gateway:
            istio = read_definitions(assets.istio_crds, only=[VIRTUALSERVICE.resource, DESTINATIONRULE.resource])
            install(gateway, [canary_definition(), *istio])
            # While a definition is younger than 2 s kube-apiserver holds each creation back for 2 s: here, once, and
            # never in a test whose client gives up earlier.
            gateway.create(VIRTUALSERVICE, "default", {**_EMPTY, "metadata": {"name": "first"}})
            gateway.delete(VIRTUALSERVICE, "default", "first")
        yield server


@pytest.fixture(scope="session")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealApiServer]:
    """The API server that these tests share; they keep apart by namespace (`space`)."""
    with started(tmp_path_factory.mktemp("realapi")) as server:
        yield server


@pytest.fixture(scope="session")
def admin(real: RealApiServer) -> Iterator[Gateway]:
    """A user of the real API server who may do everything."""
    with closing(Gateway.connect(str(real.kubeconfig), write_timeout_seconds=30.0)) as gateway:
        yield gateway


@pytest.fixture
def space(admin: Gateway) -> Iterator[str]:
    """A namespace of the test's own."""
    name = f"test-{uuid4().hex[:8]}"
    admin.create(NAMESPACE, None, {"metadata": {"name": name}})
    yield name
    admin.delete(NAMESPACE, None, name)
