"""Each verb of each role taken away once: within ten seconds the controller says which, where, and what would grant it.

The scenarios are read from the manifests, so that a verb that is added to a role has one too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from canary.daemon.needs import NEEDS, Role
from canary.model.rollout import Phase
from canary.sandbox.realapi.server import RealApiServer
from tests.real.rights.controller import Controller
from tests.real.rights.roles import Grant, Installation, grants
from tests.shop import Shop

pytestmark = pytest.mark.slow

WITHIN_S = 10.0
ATTEMPT = "payment-v2-v2a-1"
AT_A_TIME = 6

OF_CONTROLLER = [grant for grant in grants() if grant.role != Role.WRITES]
OF_NAMESPACE = [grant for grant in grants() if grant.role == Role.WRITES]
STOPPING = {Grant(need.role, need.right.resource, need.right.verb) for need in NEEDS if need.stops}


@pytest.fixture(scope="module")
def said_by_controllers(
    install: Callable[..., Installation], control: Callable[..., Controller]
) -> Iterator[dict[Grant, str]]:
    """What /readyz of a controller says whose role lacks the verb; each has an account of its own. "" for nothing."""

    def scenario(taken: Grant) -> tuple[Grant, str]:
        controller = control(install(taken))
        try:
            return taken, controller.says(f"may not {taken.verb} {taken.resource} in ", status=503, seconds=WITHIN_S)
        except AssertionError as error:
            return taken, f"nothing in time: {error}"
        finally:
            controller.end()

    with ThreadPoolExecutor(AT_A_TIME) as pool:
        yield dict(pool.map(scenario, OF_CONTROLLER))


@pytest.mark.parametrize("taken", OF_CONTROLLER, ids=str)
def test_without_a_verb_of_its_own_the_controller_is_not_ready_and_says_which_rule_it_needs(
    taken: Grant, said_by_controllers: dict[Grant, str]
) -> None:
    said = [line for line in said_by_controllers[taken].splitlines() if line.startswith("may not")]
    assert len(said) == 1, said_by_controllers[taken]
    plural = taken.resource.partition("/")[0].partition(".")[0]
    assert said[0].count("may not") == 1, "one verb is missing, and nothing else is said to be"
    assert f"Role {taken.role}" in said[0]
    assert plural in said[0].partition("needs the rule ")[2]
    assert f"verbs: [{taken.verb}]" in said[0]


@pytest.fixture(scope="module")
def namespaces(
    real: RealApiServer,
    install: Callable[..., Installation],
    control: Callable[..., Controller],
    new_shop: Callable[[], Shop],
) -> tuple[Controller, dict[Grant, Shop]]:
    """One controller, and a namespace for each verb of canary-writes whose binding gives all but that."""
    installation = install()
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        shops = dict(zip(OF_NAMESPACE, pool.map(lambda _: new_shop(), OF_NAMESPACE), strict=True))
    for taken, shop in shops.items():
        installation.let_in(shop.namespace, installation.role_without(taken))
    controller = control(installation)
    controller.ready()
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        list(pool.map(lambda shop: shop.release("v2"), shops.values()))
    return controller, shops


@pytest.mark.parametrize("taken", [one for one in OF_NAMESPACE if one in STOPPING], ids=str)
def test_without_a_verb_that_releases_need_the_rollout_says_so_before_any_traffic(
    taken: Grant, namespaces: tuple[Controller, dict[Grant, Shop]]
) -> None:
    _, shops = namespaces
    shop = shops[taken]

    rollout = shop.stalled(ATTEMPT, "RightsMissing")

    said = next(one.message for one in rollout.status.conditions if one.type == "Stalled")
    assert f"may not {taken.verb} {taken.resource} in namespace {shop.namespace}" in said
    assert "ClusterRole canary-writes needs the rule {apiGroups: [" in said
    assert said.count("may not") == 1
    assert rollout.status.phase is Phase.PENDING
    assert shop.weights() == {"v1": 100}


@pytest.mark.parametrize("taken", [one for one in OF_NAMESPACE if one not in STOPPING], ids=str)
def test_without_a_verb_that_no_release_needs_it_goes_on_and_the_controller_says_what_is_lost(
    taken: Grant, namespaces: tuple[Controller, dict[Grant, Shop]]
) -> None:
    controller, shops = namespaces
    shop = shops[taken]

    said = controller.says(f"may not {taken.verb} {taken.resource} in namespace {shop.namespace}", status=200)

    assert "releases go on" in said
    assert shop.reaches(ATTEMPT, Phase.SUCCEEDED).status.phase is Phase.SUCCEEDED
    labels = f'namespace="{shop.namespace}",resource="{taken.resource}",verb="{taken.verb}"'
    assert f"canary_rights_missing{{{labels}}} 1.0" in controller.page("/metrics")[1]
