"""Controllers in this process, each under an account with the shipped roles, and a metrics source that counts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from canary.cluster.gateway import Gateway
from canary.sandbox.realapi.server import RealApiServer
from tests.counts import Counts, counted
from tests.integration.daemon.conftest import QUICK
from tests.real.conftest import started
from tests.real.rights.controller import Controller
from tests.real.rights.roles import CLUSTER, Grant, Installation
from tests.real.rights.shops import shops
from tests.shop import Shop


@pytest.fixture(scope="session")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealApiServer]:
    """One of their own: a controller of all namespaces asks for its rights in each that others left behind."""
    with started(tmp_path_factory.mktemp("rights")) as server:
        yield server


@pytest.fixture(scope="session")
def admin(real: RealApiServer) -> Iterator[Gateway]:
    """Who may do everything there."""
    with closing(Gateway.connect(str(real.kubeconfig), write_timeout_seconds=30.0)) as gateway:
        yield gateway


@pytest.fixture(scope="module")
def counts() -> Iterator[Counts]:
    """The metrics source of every controller here; what it counts needs no time to arrive."""
    with counted() as source:
        yield source


@pytest.fixture(scope="session")
def policies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("policies")
    (folder / "quick.yaml").write_text(QUICK, encoding="utf-8")
    slow = QUICK.replace("name: quick", "name: slow").replace("hold: 200ms", "hold: 1h")
    (folder / "slow.yaml").write_text(slow, encoding="utf-8")
    headed = QUICK.replace("name: quick", "name: headed").replace(
        "strategy: {", 'strategy: {match: {headers: {x-debug-user: {exact: "true"}}, hold: 200ms}, '
    )
    (folder / "headed.yaml").write_text(headed, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def install(admin: Gateway) -> Iterator[Callable[..., Installation]]:
    """An account with the shipped roles; without one verb where it is named, or with those of other files."""
    made: list[Installation] = []

    def new(taken: Grant | None = None, files: tuple[str, ...] = CLUSTER) -> Installation:
        installation = Installation(admin, taken=taken, files=files)
        made.append(installation)
        return installation

    yield new
    for installation in made:
        installation.remove()


@pytest.fixture(scope="module")
def control(
    real: RealApiServer, counts: Counts, policies: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., Controller]]:
    """Start a controller under an installation's account; all are stopped in the end."""
    del counts  # the source is there before a controller is
    running: list[Controller] = []

    def start(installation: Installation, **options: Any) -> Controller:
        controller = Controller(real, installation, policies, tmp_path_factory.mktemp("controller"), **options)
        running.append(controller)
        return controller

    yield start
    for controller in running:
        controller.stop()


@pytest.fixture(scope="module")
def new_shop(admin: Gateway) -> Iterator[Callable[..., Shop]]:
    """A namespace, or the one that is named, where payment-v1 carries all the traffic."""
    with shops(admin) as make:
        yield make
