"""A service in a namespace of its own, a controller in this process, a metrics source that counts what it is told."""

from __future__ import annotations

import threading
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from canary.cluster.gateway import Gateway
from canary.cluster.kinds import NAMESPACE
from canary.daemon.pulse import FACTS
from canary.daemon.run import Daemon
from canary.daemon.settings import Settings
from canary.telemetry.settings import SourceSettings
from tests.counts import Counts, counted
from tests.shop import Shop as Shop  # noqa: PLC0414  tests name its type
from tests.shop import until

QUICK = """\
name: quick
strategy: {weights: [50, 100], hold: 200ms, bake: 200ms, progressDeadline: 1m}
analysis: {warmup: 0s, minRequests: 5, maxWait: 1m, errorRate: {max: 5%}, p99: {max: 500ms}}
outlierDetection: {consecutive5xxErrors: 5, interval: 2s}
"""


class Running:
    """A controller in this process, on a thread of its own; `requests` is all that it asked of the API server."""

    def __init__(self, settings: Settings) -> None:
        self.requests: list[tuple[str, str, int]] = []
        self._settings = settings
        self.again()

    def again(self) -> None:
        """Start it, also after stop(): another process as far as the cluster can tell."""
        self.daemon = Daemon(self._settings)
        count = self.daemon.gateway.on_request

        def note(verb: str, plural: str, status: int, seconds: float) -> None:
            self.requests.append((verb, plural, status))
            count(verb, plural, status, seconds)

        self.daemon.gateway.on_request = note
        self._thread = threading.Thread(target=self.daemon.run, name="daemon")
        self._thread.start()
        until(lambda: not self.daemon.not_ready() and self.daemon.replica.owned, what="for the controller")

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.daemon.health.port}"

    @property
    def writes(self) -> list[tuple[str, str, int]]:
        return [one for one in list(self.requests) if one[0] not in ("get", "list", "watch") and one[1] != "events"]

    def metrics(self) -> str:
        """The page that Prometheus scrapes."""
        with urllib.request.urlopen(f"{self.url}/metrics", timeout=5) as answer:
            return str(answer.read(), "utf-8")

    def looks(self) -> int:
        """How often a service was looked at so far."""
        name = "canary_reconcile_seconds_count "
        return next(round(float(line.split()[1])) for line in self.metrics().splitlines() if line.startswith(name))

    def ticks(self, number: int) -> None:
        """Return after so many more ticks."""
        for _ in range(number):
            last = self.daemon.pulse.last_tick
            until(lambda last=last: self.daemon.pulse.last_tick > last, what="for a tick")

    @property
    def own_namespace(self) -> str:
        return self._settings.own_namespace

    def wait_for_policy(self, name: str, first_weight: int) -> None:
        """Return once the folder's policy is the one with this first weight."""
        until(lambda: (found := self.daemon.folder.get(name)) and found.strategy.weights[0] == first_weight)

    def ask_the_source(self) -> None:
        """The preflight of the metrics source, as it is made once a minute."""
        self.daemon.source.refresh()

    def minute_passes(self) -> None:
        """What is done once a minute: the preflight, and a look at every service."""
        self.daemon.pulses.add(FACTS)
        self.daemon.enqueue.everything()

    def stop(self) -> None:
        self.daemon.stop()
        self._thread.join(15)
        assert not self._thread.is_alive()


@pytest.fixture
def wait() -> Callable[..., Any]:
    """`wait(holds, seconds)`: poll until it is true."""
    return until


@pytest.fixture
def user(kubeconfig: Path) -> Iterator[Gateway]:
    """The service owners' way to the API server."""
    gateway = Gateway.connect(str(kubeconfig), field_manager="kubectl", write_timeout_seconds=10)
    yield gateway
    gateway.close()


@pytest.fixture
def new_namespace(user: Gateway) -> Iterator[Callable[[str], str]]:
    made: list[str] = []

    def make(prefix: str) -> str:
        made.append(f"{prefix}-{uuid4().hex[:8]}")
        user.create(NAMESPACE, None, {"metadata": {"name": made[-1]}})
        return made[-1]

    yield make
    for name in made:
        user.delete(NAMESPACE, None, name)


@pytest.fixture
def new_shop(user: Gateway, new_namespace: Callable[[str], str]) -> Callable[[], Shop]:
    return lambda: Shop(user, new_namespace("shop"))


@pytest.fixture
def shop(new_shop: Callable[[], Shop]) -> Shop:
    """A namespace with nothing in it."""
    return new_shop()


@pytest.fixture
def released(shop: Shop) -> Shop:
    """payment-v1 carries all the traffic."""
    shop.mesh()
    shop.deploy("v1")
    return shop


@pytest.fixture
def counts() -> Iterator[Counts]:
    """The metrics source of every controller of the test; what it counts needs no time to arrive."""
    with counted() as source:
        yield source


@pytest.fixture
def policies(tmp_path: Path) -> Path:
    folder = tmp_path / "policies"
    folder.mkdir()
    (folder / "quick.yaml").write_text(QUICK, encoding="utf-8")
    slow = QUICK.replace("name: quick", "name: slow").replace("hold: 200ms", "hold: 1h")
    (folder / "slow.yaml").write_text(slow, encoding="utf-8")
    return folder


@pytest.fixture
def settings(kubeconfig: Path, policies: Path, shop: Shop, new_namespace: Callable[[str], str]) -> Settings:
    return Settings(
        policies=policies, source=SourceSettings("http://127.0.0.1:9"), kubeconfig=str(kubeconfig),
        namespace=shop.namespace, own_namespace=new_namespace("own"), listen="127.0.0.1:0", tile_s=0.2, tick_s=0.2,
        settle_s=0.1, abort_period_s=0.2, intake_grace_s=0.5, workers=2, history_limit=2,
    )  # fmt: skip


@pytest.fixture
def run_daemon(settings: Settings) -> Iterator[Callable[..., Running]]:
    """Start a controller, with other settings if wanted; all are stopped in the end."""
    started: list[Running] = []

    def start(**changes: Any) -> Running:
        started.append(Running(replace(settings, **changes)))
        return started[-1]

    yield start
    for running in started:
        running.stop()


@pytest.fixture
def controller(counts: Counts, run_daemon: Callable[..., Running]) -> Running:
    """A controller of the shop's namespace, with the synthetic source."""
    return run_daemon()
