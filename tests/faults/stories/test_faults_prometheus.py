"""Faults on the way to Prometheus and in it: a release is held where it is, says why, and goes on by itself.

None of them sends a healthy release back, and none lets anything pass. The releases of `held` run side by side, each
with a controller of its own behind one fault, on one real Prometheus that scrapes callers without noise.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from canary.model.rollout import Phase, Rollout
from canary.sandbox.prometheus import PrometheusServer
from canary.telemetry.settings import SourceSettings
from tests.faults import kubernetes, prometheus
from tests.faults.callers import Behaviour, Callers
from tests.faults.proxy import Hook, Proxy
from tests.shop import Shop, until

pytestmark = pytest.mark.slow

ATTEMPT = "payment-v2-v2a-1"
TIMEOUT_S = 4.0
NO_FAULT = "no fault"

FAULTS: Mapping[str, tuple[Hook, str]] = {
    "away": (kubernetes.reset, "Prometheus at http"),
    "silent": (prometheus.silent(3 * TIMEOUT_S), "no answer within 4 s"),
    "trickling": (kubernetes.dribbled(10 * TIMEOUT_S), "no answer within 4 s"),
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
            one.shop.until_judged(ATTEMPT)
        yield made


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
        until(all_hold, 60)
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


@pytest.fixture
def site(sites: Mapping[str, Site], held: Mapping[str, Told]) -> Site:
    """The one without a fault on its way; what is wrong is wrong with Prometheus."""
    return sites[NO_FAULT]


def goes_on(site: Site) -> Rollout:
    """The release, once it is judged on figures that came after now."""
    since = time.time() + 2.0  # a tile that ends later began after now

    def judged() -> Rollout | None:
        site.controller.ticks(1)
        recorder = site.controller.daemon.reconciler.observer.evidence.recorder(site.shop.rollout(ATTEMPT).uid)
        found = site.shop.rollout(ATTEMPT)
        is_new = recorder is not None and (recorder.last_end or 0.0) > since
        return found if is_new and not stalls(found) and found.status.resumed_at is not None else None

    found: Rollout = until(judged, 60, "for figures from after the fault")
    return found


def unmoved(site: Site, rollout: Rollout) -> bool:
    return rollout.status.phase is Phase.PROGRESSING and site.shop.weights() == {"v1": 50, "v2": 50}


@pytest.mark.parametrize("how", ["down", "hangs", "cut"])
def test_one_of_two_scrape_targets_that_fails_is_no_fault_of_the_release(
    site: Site, callers: Callers, how: str
) -> None:
    before = site.shop.rollout(ATTEMPT)
    callers.targets[0].fails = how
    try:
        site.controller.ticks(6)
        assert unmoved(site, site.shop.rollout(ATTEMPT))
    finally:
        callers.targets[0].fails = ""

    after = goes_on(site)

    assert unmoved(site, after)
    assert after.status.history == before.status.history


def test_a_prometheus_whose_every_scrape_fails_says_that_its_figures_are_old(site: Site, callers: Callers) -> None:
    for target in callers.targets:
        target.fails = "down"
    try:
        held = until(lambda: found if stalls(found := site.shop.rollout(ATTEMPT)) else None, 60, "for it to hold")
    finally:
        for target in callers.targets:
            target.fails = ""

    assert stalls(held) == "TelemetryUnavailable: the newest metrics are too old to judge by"
    assert held.status.resumed_at is None
    assert unmoved(site, goes_on(site))


def test_callers_whose_proxies_restart_begin_to_count_anew_and_nothing_else_happens(
    site: Site, callers: Callers
) -> None:
    callers.restarted()

    assert unmoved(site, goes_on(site))


def test_a_prometheus_restarted_with_its_data_lost_is_waited_for(site: Site, server: PrometheusServer) -> None:
    before = site.shop.rollout(ATTEMPT)

    server.restart(lose_data=True)

    after = goes_on(site)
    assert unmoved(site, after)
    assert after.status.history == before.status.history
