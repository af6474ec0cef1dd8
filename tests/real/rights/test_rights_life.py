"""Rights that were never given, are taken away while a release runs, and come back: what is said, and what goes on."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator

import pytest

from canary.cluster.gateway import Gateway
from canary.cluster.kinds import VIRTUALSERVICE
from canary.model.rollout import Phase, Rollout
from canary.sandbox.realapi.server import RealApiServer
from tests.real.rights.controller import Controller
from tests.real.rights.roles import Grant, Installation
from tests.real.rights.shops import shops
from tests.shop import Shop, until

pytestmark = pytest.mark.slow

ATTEMPT = "payment-v2-v2a-1"
WITHIN_S = 10.0
MOVE_WEIGHTS = Grant("canary-writes", VIRTUALSERVICE.resource, "patch")


@pytest.fixture
def installation(install: Callable[..., Installation]) -> Installation:
    return install()


@pytest.fixture
def controller(installation: Installation, control: Callable[..., Controller]) -> Iterator[Controller]:
    running = control(installation)
    running.ready()
    yield running
    running.end()


@pytest.fixture
def new_shop(admin: Gateway, controller: Controller) -> Iterator[Callable[..., Shop]]:
    """As the others', gone after each test, and the controller before them: it would be in the way of the next."""
    with shops(admin) as make:
        yield make
        controller.end()


def stalled(rollout: Rollout) -> str:
    """The message of a Stalled condition that holds, "" for none."""
    return next((one.message for one in rollout.status.conditions if (one.type, one.status) == ("Stalled", "True")), "")


def stalls(shop: Shop, *words: str) -> str:
    """The message, once it holds all these words."""

    def there() -> str:
        said = stalled(shop.rollout(ATTEMPT))
        return said if all(word in said for word in words) else ""

    return str(until(there, WITHIN_S, f"for {ATTEMPT} to say {words}"))


def test_a_namespace_without_the_binding_is_told_the_command_and_nobody_else_suffers(
    real: RealApiServer, installation: Installation, controller: Controller, new_shop: Callable[[], Shop]
) -> None:
    closed, opened = new_shop(), new_shop()
    installation.let_in(opened.namespace)
    for shop in (closed, opened):
        shop.release("v2")

    assert opened.reaches(ATTEMPT, Phase.SUCCEEDED)
    said = stalls(closed, "may not patch virtualservices.networking.istio.io", f"in namespace {closed.namespace}")
    assert closed.rollout(ATTEMPT).status.phase is Phase.PENDING
    assert closed.event("payment-v2", "RightsMissing") == said
    assert controller.page("/readyz")[0] == 200
    assert said in controller.page("/readyz")[1]

    command = said[said.index("kubectl create rolebinding") :]
    role, account = installation.called("canary-writes"), f"{installation.own}:canary"
    assert f"--clusterrole=canary-writes --serviceaccount={account} -n {closed.namespace}" in command
    real.kubectl(*shlex.split(command.replace("--clusterrole=canary-writes", f"--clusterrole={role}"))[1:])

    assert closed.reaches(ATTEMPT, Phase.SUCCEEDED, seconds=60)
    assert not stalled(closed.rollout(ATTEMPT))
    until(lambda: controller.page("/readyz") == (200, "ok\n"), what="for nothing to be missing")


def test_a_right_taken_away_with_the_traffic_divided_is_named_on_the_rollout_and_holds_up_even_an_abort(
    installation: Installation, controller: Controller, new_shop: Callable[[], Shop]
) -> None:
    shop = new_shop()
    installation.let_in(shop.namespace)
    shop.release("v2", "slow")
    until(lambda: shop.weights() == {"v1": 50, "v2": 50}, what="for the first weight")
    shop.until_judged(ATTEMPT)

    installation.take(MOVE_WEIGHTS)
    said = stalls(shop, "may not patch virtualservices.networking.istio.io", "ClusterRole canary-writes needs the rule")
    assert shop.rollout(ATTEMPT).status.phase is Phase.PROGRESSING
    assert controller.says("may not patch virtualservices", status=503), "every namespace lacks it: it is the role's"

    shop.patch_abort(ATTEMPT)
    until(lambda: 'status="403"' in metrics(controller, "patch", "virtualservices"), what="for the refused write")
    assert stalls(shop, said)
    assert shop.weights() == {"v1": 50, "v2": 50}

    installation.give_back(MOVE_WEIGHTS)
    ended = shop.reaches(ATTEMPT, Phase.ABORTED, seconds=60)
    assert shop.weights() == {"v1": 100}
    assert not stalled(ended)


def test_a_watch_that_is_refused_in_the_middle_is_named_though_the_old_one_is_still_open(
    installation: Installation, controller: Controller
) -> None:
    taken = Grant("canary-reads", "pods", "watch")
    assert controller.page("/readyz") == (200, "ok\n")

    installation.take(taken)
    said = controller.says("may not watch pods in all namespaces", status=503, seconds=WITHIN_S)
    assert 'ClusterRole canary-reads needs the rule {apiGroups: [""], resources: [pods], verbs: [watch]}' in said
    assert 'canary_rights_missing{namespace="",resource="pods",verb="watch"} 1.0' in controller.page("/metrics")[1]

    installation.give_back(taken)
    until(lambda: controller.page("/readyz") == (200, "ok\n"), what="for it to be ready again")


def test_where_even_the_status_cannot_be_written_the_controller_says_so_and_moves_nothing(
    installation: Installation, controller: Controller, new_shop: Callable[[], Shop]
) -> None:
    shop = new_shop()
    installation.let_in(shop.namespace)
    taken = Grant("canary-reports", "canaryrollouts.canary.delivery/status", "patch")
    installation.take(taken)
    controller.says("may not patch canaryrollouts.canary.delivery/status in all namespaces", status=503)

    shop.release("v2")
    until(lambda: 'status="403"' in metrics(controller, "patch", "canaryrollouts"), what="for the refused write")
    assert shop.rollout(ATTEMPT).status.conditions == ()
    assert shop.weights() == {"v1": 100}

    installation.give_back(taken)
    assert shop.reaches(ATTEMPT, Phase.SUCCEEDED, seconds=90)


def test_a_watch_is_refused_by_the_api_server_itself_where_nobody_may_ask_about_rights(
    real: RealApiServer, installation: Installation, controller: Controller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(controller.daemon.rights, "_can_ask", False)
    installation.take(Grant("canary-reads", "pods", "watch"))
    real.wait_allowed(controller.kubeconfig, "watch", "pods", allowed=False)

    controller.cut_watches()
    said = controller.says("not up to date: pods", status=503)
    assert re.search(r'cannot watch pods in all namespaces: .* cannot watch resource "pods"', said)


def metrics(controller: Controller, verb: str, resource: str) -> str:
    """The counts of requests of this kind."""
    wanted = re.compile(rf'canary_api_requests_total{{resource="{resource}",.*verb="{verb}"}}')
    return "\n".join(line for line in controller.page("/metrics")[1].splitlines() if wanted.match(line))
