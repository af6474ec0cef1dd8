"""A controller with a proxy on each side: before the API server and before Prometheus."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from uuid import uuid4

import pytest

from canary.cluster.gateway import Gateway
from canary.cluster.kinds import NAMESPACE
from canary.daemon.settings import Settings
from canary.sandbox.prometheus import PrometheusServer, ScrapeTarget
from canary.telemetry.settings import SourceSettings
from tests.counts import Counts, counted
from tests.faults.callers import Callers
from tests.faults.cluster import define
from tests.faults.proxy import Proxy
from tests.faults.streams import Streams
from tests.integration.daemon.conftest import QUICK, Running
from tests.shop import Shop


@pytest.fixture(scope="session")
def users(embedded: Path) -> Iterator[Gateway]:
    """The service owners' way to the API server, past every fault."""
    with closing(Gateway.connect(str(embedded), field_manager="kubectl", write_timeout_seconds=10)) as gateway:
        define(gateway)
        yield gateway


@pytest.fixture(scope="module")
def new_namespace(users: Gateway) -> Iterator[Callable[[str], str]]:
    made: list[str] = []

    def make(prefix: str) -> str:
        name = f"{prefix}-{uuid4().hex[:8]}"
        users.create(NAMESPACE, None, {"metadata": {"name": name}})
        made.append(name)
        return name

    yield make
    for name in made:
        users.delete(NAMESPACE, None, name)


@pytest.fixture(scope="module")
def new_shop(users: Gateway, new_namespace: Callable[[str], str]) -> Callable[[], Shop]:
    """A namespace in which payment-v1 carries all the traffic."""

    def make() -> Shop:
        shop = Shop(users, new_namespace("shop"))
        shop.mesh()
        shop.deploy("v1")
        return shop

    return make


@pytest.fixture(scope="module")
def policies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("policies")
    (folder / "quick.yaml").write_text(QUICK, encoding="utf-8")
    slow = QUICK.replace("name: quick", "name: slow").replace("hold: 200ms", "hold: 1h")
    (folder / "slow.yaml").write_text(slow, encoding="utf-8")
    return folder


@dataclass
class Between:
    """What stands before the API server: hooks may be put into `proxy.hooks`, watches ended and held by `streams`."""

    proxy: Proxy
    streams: Streams
    kubeconfig: Path


@pytest.fixture(scope="module")
def between(embedded: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Between]:
    streams = Streams()
    with Proxy.before(embedded, [streams]) as proxy:
        file = proxy.kubeconfig(embedded, tmp_path_factory.mktemp("proxy") / "kubeconfig")
        yield Between(proxy, streams, file)


@pytest.fixture(scope="module")
def counts() -> Iterator[Counts]:
    """The metrics source of every controller of the file, where none else is wanted; it needs no time to arrive."""
    with counted() as source:
        yield source


@pytest.fixture(scope="session")
def callers(users: Gateway) -> Iterator[Callers]:
    made = Callers(users)
    made.start()
    yield made
    made.stop()


@pytest.fixture(scope="session")
def server(callers: Callers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrometheusServer]:
    targets = [ScrapeTarget(f"127.0.0.1:{target.server_port}", keep=None) for target in callers.targets]
    made = PrometheusServer(tmp_path_factory.mktemp("prometheus"), targets, scrape_interval_s=0.5)
    yield made.start(60)
    made.stop()


@pytest.fixture(scope="module")
def settings(between: Between, policies: Path, new_namespace: Callable[[str], str]) -> Settings:
    return Settings(
        policies=policies, source=SourceSettings("http://127.0.0.1:9"), kubeconfig=str(between.kubeconfig),
        own_namespace=new_namespace("own"), listen="127.0.0.1:0", tile_s=0.2, tick_s=0.2, settle_s=0.1,
        abort_period_s=0.2, intake_grace_s=0.5, workers=4,
    )  # fmt: skip


@pytest.fixture(scope="module")
def run_daemon(settings: Settings) -> Iterator[Callable[..., Running]]:
    """Start a controller, with other settings if wanted; all are stopped in the end."""
    started: list[Running] = []

    def start(**changes: object) -> Running:
        started.append(Running(replace(settings, **changes)))  # type: ignore[arg-type]
        return started[-1]

    yield start
    for running in started:
        running.stop()
