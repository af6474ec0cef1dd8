"""Faults on the way to Prometheus and in it: a release is held where it is, says why, and goes on by itself.

None of them sends a healthy release back, and none lets anything pass. The releases of `held` run side by side, each
with a controller of its own behind one fault, on one real Prometheus that scrapes callers without noise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from canary.cluster.gateway import Gateway
from canary.model.rollout import Phase, Rollout
from canary.sandbox.prometheus import PrometheusServer, ScrapeTarget
from canary.telemetry.settings import SourceSettings
from tests.faults import kubernetes, prometheus
from tests.faults.callers import Behaviour, Callers
from tests.faults.proxy import Hook, Proxy
from tests.shop import Shop, until

pytestmark = pytest.mark.slow

ATTEMPT = "payment-v2-v2a-1"
TIMEOUT_S = 1.0
NO_FAULT = "no fault"

FAULTS: Mapping[str, tuple[Hook, str]] = {
    "away": (kubernetes.reset, "Prometheus at http"),
    "silent": (prometheus.silent(3 * TIMEOUT_S), "no answer within 1 s"),
    "trickling": (kubernetes.dribbled(10 * TIMEOUT_S), "no answer within 1 s"),
    "status error": (prometheus.status_error(), "HTTP 503 query timed out"),
    "busy": (prometheus.status_error(429), "HTTP 429"),
    "login page": (prometheus.login_page(), "not JSON"),
    "half the JSON": (kubernetes.truncated, "not JSON"),
    "empty": (prometheus.empty(), "figures"),
    "NaN": (prometheus.not_a_number(), "NaN"),
    "warnings": (prometheus.partial_warning(), "a store did not answer"),
}
"""What stands in the way, and what of it the release's owner can read."""


@dataclass
class Told:
    """One release: as it was judged, while the fault lasted, and afterwards."""

    judged: Rollout
    held: Rollout | None
    weights_held: Mapping[str, int]
    after: Rollout
    weights_after: Mapping[str, int]


@pytest.fixture(scope="module")
def callers(users: Gateway) -> Iterator[Callers]:
    made = Callers(users)
    made.start()
    yield made
    made.stop()


@pytest.fixture(scope="module")
def server(callers: Callers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrometheusServer]:
    targets = [ScrapeTarget(f"127.0.0.1:{target.server_port}", keep=None) for target in callers.targets]
    made = PrometheusServer(tmp_path_factory.mktemp("prometheus"), targets, scrape_interval_s=0.5)
    yield made.start(60)
    made.stop()


@dataclass
class Site:
    """A release with a controller and a proxy of its own."""

    shop: Shop
    proxy: Proxy
    controller: Any


@pytest.fixture(scope="module")
def sites(  # noqa: PLR0917  fixtures, given by name
    new_shop: Callable[[], Shop],
    new_namespace: Callable[[str], str],
    run_daemon: Callable[..., Any],
    callers: Callers,
    server: PrometheusServer,
    embedded: Path,
) -> Iterator[Mapping[str, Site]]:
    names = (NO_FAULT, *FAULTS)
    with ExitStack() as stack, ThreadPoolExecutor(len(names)) as pool:

        def site(_: str) -> Site:
            shop = new_shop()
            callers.call(shop.namespace, 400)
            for version in ("v1", "v2"):
                callers.serve(shop.namespace, version, Behaviour())
            proxy = stack.enter_context(Proxy(server.url))
            controller = run_daemon(
                kubeconfig=str(embedded), namespace=shop.namespace, own_namespace=new_namespace("own"), workers=1,
                source=SourceSettings(proxy.url, timeout_s=TIMEOUT_S), tile_s=None, tick_s=0.5, settle_s=None,
                abort_period_s=0.5,
            )  # fmt: skip
            shop.release("v2", policy="slow")
            until(shop.rollouts, 60)
            shop.reaches(ATTEMPT, Phase.PROGRESSING, seconds=90)
            return Site(shop, proxy, controller)

        made = dict(zip(names, pool.map(site, names), strict=True))
        for one in made.values():
            until(lambda one=one: has_passed(one.shop.rollout(ATTEMPT)), 60, "for a verdict")
        yield made


def has_passed(rollout: Rollout) -> bool:
    verdict = rollout.status.verdict
    return verdict is not None and verdict.outcome.value == "pass"


def stalls(rollout: Rollout) -> str:
    """What its condition says, "" when it goes on."""
    found = [one for one in rollout.status.conditions if one.type == "Stalled" and one.status == "True"]
    return f"{found[0].reason}: {found[0].message}" if found else ""


@pytest.fixture(scope="module")
def held(sites: Mapping[str, Site]) -> Mapping[str, Told]:
    """Each release behind its fault, and afterwards."""
    judged = {name: sites[name].shop.rollout(ATTEMPT) for name in FAULTS}
    for name, (hook, _) in FAULTS.items():
        sites[name].proxy.hooks.append(hook)
    found: dict[str, Rollout] = {}

    def all_hold() -> bool:
        found.update({name: one for name in FAULTS if stalls(one := sites[name].shop.rollout(ATTEMPT))})
        return len(found) == len(FAULTS)

    with suppress(AssertionError):  # each test says so of its own
        until(all_hold, 40)
    weights = {name: sites[name].shop.weights() for name in FAULTS}
    for name in FAULTS:
        sites[name].proxy.hooks.clear()
    after: dict[str, Rollout] = {}

    def all_go_on() -> bool:
        after.update({name: sites[name].shop.rollout(ATTEMPT) for name in FAULTS})
        return not any(stalls(one) or one.status.resumed_at is None for one in after.values())

    with suppress(AssertionError):
        until(all_go_on, 60)
    return {
        name: Told(judged[name], found.get(name), weights[name], after[name], sites[name].shop.weights())
        for name in FAULTS
    }


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_of_prometheus_holds_the_step_in_words_and_the_release_goes_on_by_itself(
    held: Mapping[str, Told], fault: str
) -> None:
    told = held[fault]

    assert told.held is not None, f"it did not say that it holds: {told.after.status.message}"
    assert told.held.status.phase is Phase.PROGRESSING
    assert told.held.status.verdict is not None
    assert FAULTS[fault][1] in f"{stalls(told.held)} {told.held.status.verdict.sentence}"
    assert told.held.status.resumed_at is None, "the step's clock stands still"
    assert told.weights_held == told.weights_after == {"v1": 50, "v2": 50}
    assert told.after.status.phase is Phase.PROGRESSING
    assert told.after.status.resumed_at is not None, stalls(told.after)
    assert told.after.status.history == told.judged.status.history
