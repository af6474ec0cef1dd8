"""A controller under its own roles and admission policies, and tenants with `*` in their namespace who attack it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest

from canary.cluster.gateway import Gateway
from canary.cluster.kinds import (
    CANARYROLLOUT,
    CONFIGMAP,
    DEPLOYMENT,
    DESTINATIONRULE,
    NAMESPACE,
    SERVICE,
    VIRTUALSERVICE,
    Kind,
)
from canary.daemon.settings import Settings
from canary.errors import Forbidden
from canary.model.rollout import Phase
from canary.sandbox.realapi.server import RealApiServer
from canary.shipped import shipped
from canary.telemetry.settings import SourceSettings
from tests.counts import Counts, counted
from tests.integration.daemon.conftest import QUICK, Running
from tests.real.security.objects import EVERYTHING, rollout
from tests.shop import Shop, until

pytestmark = pytest.mark.slow

FLOOR = "canary.delivery/floor"
SECRET = Kind("", "v1", "secrets", "Secret")
CRITICAL = QUICK.replace("name: quick", "name: critical").replace("max: 5%", "max: 1%")
POLICIES = {
    "quick": QUICK,
    "slow": QUICK.replace("name: quick", "name: slow").replace("hold: 200ms", "hold: 1h"),
    "critical": CRITICAL,
    "elsewhere": QUICK.replace("name: quick", "name: elsewhere") + "allowedNamespaces: [sandbox, dev-*]\n",
}
POLICIES["header"] = (
    POLICIES["slow"]
    .replace("name: slow", "name: header")
    .replace("strategy: {", "strategy: {match: {headers: {x-debug-user: {exact: 'true'}}}, ")
)
ATTEMPT = "payment-v2-v2a-1"


@dataclass(frozen=True)
class Team:
    """A tenant in its own namespace, where the controller is let in."""

    tenant: Any
    shop: Shop

    @property
    def namespace(self) -> str:
        return self.shop.namespace


@pytest.fixture(scope="module")
def counts() -> Iterator[Counts]:
    """What the controller of this module counts: every request is a success."""
    with counted() as source:
        yield source


@pytest.fixture(scope="module")
def ours(
    real: RealApiServer, guarded: Callable[..., str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    """Our own account with the rights of deploy/rbac and no others."""
    real.kubectl("apply", "-k", shipped("deploy") / "rbac")
    kubeconfig = real.kubeconfig_for(
        real.token("canary-system", "canary"), tmp_path_factory.mktemp("ours") / "kubeconfig"
    )
    real.wait_allowed(kubeconfig, "watch", "canaryrollouts.canary.delivery", "default")
    gateway = Gateway.connect(str(kubeconfig), write_timeout_seconds=30.0)
    yield gateway
    gateway.close()


@pytest.fixture(scope="module")
def controller(
    real: RealApiServer, ours: Gateway, counts: Counts, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Running]:
    """One for all namespaces, in canary-system."""
    folder = tmp_path_factory.mktemp("policies")
    for name, text in POLICIES.items():
        (folder / f"{name}.yaml").write_text(text, encoding="utf-8")
    kubeconfig = real.kubeconfig_for(real.token("canary-system", "canary"), folder.parent / "controller.kubeconfig")
    settings = Settings(
        policies=folder, source=SourceSettings("http://127.0.0.1:9"), kubeconfig=str(kubeconfig),
        namespace=None, own_namespace="canary-system", listen="127.0.0.1:0", tile_s=0.2, tick_s=0.2,
        settle_s=0.1, abort_period_s=0.2, intake_grace_s=0.5, workers=4, history_limit=2, namespace_limit=50,
    )  # fmt: skip
    running = Running(settings)
    yield running
    running.stop()


@pytest.fixture(scope="module")
def new_team(
    real: RealApiServer, guarded: Callable[..., str], account: Callable[..., Any], controller: Running
) -> Callable[[], Team]:
    def make() -> Team:
        space = guarded()
        tenant = account("tenant", space, EVERYTHING, space)
        real.kubectl(*let_in(space))
        return Team(tenant, Shop(tenant.gateway, space))

    return make


@pytest.fixture
def team(new_team: Callable[[], Team]) -> Team:
    """payment-v1 carries all the traffic."""
    found = new_team()
    found.shop.mesh()
    found.shop.deploy("v1")
    return found


@pytest.fixture(scope="module")
def bank(new_team: Callable[[], Team]) -> Team:
    """Somebody else's namespace."""
    found = new_team()
    found.shop.mesh()
    found.shop.deploy("v1")
    return found


def let_in(space: str) -> tuple[str, ...]:
    """The command by which a namespace opts in."""
    binding = ("create", "rolebinding", "canary-writes", "--clusterrole=canary-writes")
    return (*binding, "--serviceaccount=canary-system:canary", "-n", space)


def versions(shop: Shop) -> dict[str, str]:
    """Every object of a namespace that could be attacked, with its version."""
    found = {}
    for kind in (SERVICE, VIRTUALSERVICE, DESTINATIONRULE, DEPLOYMENT, CONFIGMAP, CANARYROLLOUT):
        for item in shop.gateway.list(kind, shop.namespace)[0]:
            found[f"{kind.kind}/{item['metadata']['name']}"] = item["metadata"]["resourceVersion"]
    return found


def reroute(team: Team, **spec: Any) -> None:
    team.shop.patch(VIRTUALSERVICE, "payment", {"spec": spec})


# Rows 4, 5 and 7: another namespace's traffic


def test_a_tenant_cannot_have_another_namespace_s_requests_moved(team: Team, bank: Team) -> None:
    before = versions(bank.shop)
    host = f"payment.{bank.namespace}.svc.cluster.local"
    reroute(team, hosts=["payment", host])
    team.shop.release("v2")

    found = team.shop.stalled(ATTEMPT, "ForeignHost")

    assert f"takes the requests of Services outside namespace {team.namespace}" in found.status.message
    assert team.shop.weights() == {"v1": 100}
    assert versions(bank.shop) == before


def test_a_tenant_cannot_have_its_requests_sent_to_another_namespace(team: Team, bank: Team) -> None:
    before = versions(bank.shop)
    there = {"host": f"payment.{bank.namespace}.svc.cluster.local"}
    here = {"host": "payment", "subset": "v1"}
    route = [{"destination": here, "weight": 90}, {"destination": there, "weight": 10}]
    reroute(team, http=[{"name": "primary", "route": route}])
    team.shop.release("v2")

    found = team.shop.stalled(ATTEMPT, "ForeignHost")

    assert f"is no Service of namespace {team.namespace}" in found.status.message
    assert versions(bank.shop) == before


def test_a_tenant_cannot_have_a_delegate_in_another_namespace_written(team: Team, bank: Team) -> None:
    before = versions(bank.shop)
    reroute(team, http=[{"name": "primary", "delegate": {"name": "payment", "namespace": bank.namespace}}])
    team.shop.release("v2", virtual_service="payment")

    found = team.shop.stalled(ATTEMPT, "ForeignDelegate")

    assert f"outside namespace {team.namespace}, and is not followed" in found.status.message
    assert versions(bank.shop) == before


@pytest.mark.parametrize(
    "spec", [{"type": "ExternalName", "externalName": "payment.bank.svc.cluster.local"}, {"ports": [{"port": 80}]}]
)
def test_a_tenant_cannot_release_through_a_service_that_points_elsewhere(spec: Any, team: Team) -> None:
    team.shop.create(SERVICE, {"metadata": {"name": "elsewhere"}, "spec": spec})
    team.shop.release("v2", service="elsewhere")

    team.shop.stalled(ATTEMPT, "UnusableService")

    assert team.shop.weights() == {"v1": 100}


# Row 12: the policy


def test_a_tenant_cannot_choose_a_policy_of_other_namespaces(team: Team) -> None:
    team.shop.release("v2", policy="elsewhere")

    found = team.shop.stalled(ATTEMPT, "PolicyNotAllowed")

    assert found.status.message == (
        f'policy "elsewhere" is not for namespace {team.namespace}: its allowedNamespaces are sandbox, dev-*; policies '
        "that are: critical, header, quick, slow"
    )
    assert team.shop.weights() == {"v1": 100}


def test_a_tenant_cannot_choose_a_policy_below_the_floor_nor_lower_the_floor(team: Team, admin: Gateway) -> None:
    def floor(gateway: Gateway, name: str | None) -> None:
        gateway.patch(NAMESPACE, None, team.namespace, {"metadata": {"labels": {FLOOR: name}}}, patch_type="merge")

    floor(admin, "critical")
    team.shop.release("v2")

    found = team.shop.stalled(ATTEMPT, "BelowFloor")
    assert found.status.message == (
        f'policy "quick" is less strict than "critical", the floor of namespace {team.namespace}: '
        "analysis.errorRate.max is 5%, at most 1%; policies that are: critical"
    )
    with pytest.raises(Forbidden, match=f"may not change the label {FLOOR}"):
        floor(team.tenant.gateway, None)
    assert team.shop.weights() == {"v1": 100}

    floor(admin, None)
    team.shop.reaches(ATTEMPT, Phase.SUCCEEDED)


def test_a_floor_that_comes_later_leaves_a_rollout_with_the_policy_it_was_pinned_with(
    team: Team, admin: Gateway, controller: Running
) -> None:
    team.shop.release("v2", policy="slow")
    running = team.shop.reaches(ATTEMPT, Phase.PROGRESSING)

    admin.patch(NAMESPACE, None, team.namespace, {"metadata": {"labels": {FLOOR: "critical"}}}, patch_type="merge")
    until(lambda: controller.daemon.caches.label(team.namespace, FLOOR) == "critical")
    controller.ticks(2)

    now = team.shop.rollout(ATTEMPT)
    assert now.status.phase is Phase.PROGRESSING
    assert now.status.policy == running.status.policy
    assert not team.shop.is_stalled(ATTEMPT)


# Row 3: the status, on a cluster without admission policies


def test_a_tenant_cannot_have_its_own_promql_run_even_where_it_can_write_a_status(
    real: RealApiServer, account: Callable[..., Any], controller: Running, counts: Counts, space: str
) -> None:
    tenant = account("tenant", space, EVERYTHING, space)
    real.kubectl(*let_in(space))
    shop = Shop(tenant.gateway, space)
    shop.mesh()
    shop.deploy("v1")
    shop.release("v2", policy="slow")
    running = shop.reaches(ATTEMPT, Phase.PROGRESSING)
    asked: list[str] = []
    counts.metric = lambda query, *_: asked.append(query) or {}  # type: ignore[attr-defined, func-returns-value]
    assert running.status.policy is not None
    forged = running.status.policy.resolved
    forged["analysis"]["metrics"] = [{"name": "theft", "query": "secrets", "max": 1, "breaches": 1, "of": 1}]
    forged["strategy"]["hold"] = "0s"

    shop.patch(CANARYROLLOUT, ATTEMPT, {"status": {"policy": {"resolved": forged}}}, "status")
    controller.ticks(5)

    assert shop.rollout(ATTEMPT).status.phase is Phase.PROGRESSING
    assert asked == []
    shop.patch_abort(ATTEMPT)
    shop.reaches(ATTEMPT, Phase.ABORTED)


# Row 14: the weights


def test_a_tenant_cannot_force_a_promotion_by_editing_the_weights(team: Team) -> None:
    team.shop.release("v2", policy="slow")
    team.shop.reaches(ATTEMPT, Phase.PROGRESSING)
    until(lambda: team.shop.weights() == {"v1": 50, "v2": 50})
    vs = team.shop.get(VIRTUALSERVICE)
    route = [
        {**one, "weight": 100 if one["destination"]["subset"] == "v2" else 0} for one in vs["spec"]["http"][0]["route"]
    ]

    reroute(team, http=[{**vs["spec"]["http"][0], "route": route}])

    found = team.shop.stalled(ATTEMPT, "Drift")
    assert found.status.phase is Phase.PROGRESSING
    assert found.status.step is not None
    assert found.status.step.index == 1
    assert "tenant" in found.status.message
    team.shop.patch_abort(ATTEMPT)
    team.shop.reaches(ATTEMPT, Phase.ABORTED)
    assert team.shop.weights() == {"v1": 100}


# Row 10: names that act


@pytest.mark.parametrize("text", ["\x1b[31mred\x1b[0m", "a\n::set-output name=x::y", "\u202egnp.exe", "[bold]x[/]"])
def test_a_tenant_cannot_hide_commands_in_an_annotation(
    text: str, team: Team, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        team.shop.release("v2", policy=text, release_id=text)
        message = team.shop.event("payment-v2", "BadAnnotation")

    assert message.isprintable()
    assert "annotation canary.delivery/" in message
    assert team.shop.rollouts() == []


# Row 17: outsiders


def test_a_header_stage_that_outsiders_can_reach_is_warned_of(team: Team) -> None:
    reroute(team, gateways=["mesh", "istio-system/public"])
    team.shop.release("v2", policy="header")

    message = team.shop.event(ATTEMPT, "HeaderFromOutside")

    assert "is bound to istio-system/public: whoever sends x-debug-user from outside reaches the new version" in message


# Row 16: our account


def test_our_account_may_do_nothing_that_a_release_does_not_need(
    ours: Gateway, guarded: Callable[..., str], admin: Gateway, team: Team
) -> None:
    stranger = guarded()
    shut = Shop(admin, stranger)
    shut.mesh()
    body = {"metadata": {"annotations": {"x": "y"}}}

    attempts: dict[str, Callable[[], Any]] = {
        "patch deployments": lambda: ours.patch(DEPLOYMENT, team.namespace, "payment-v1", body, patch_type="merge"),
        "scale deployments": lambda: ours.patch(
            DEPLOYMENT, team.namespace, "payment-v1", {"spec": {"replicas": 0}}, patch_type="merge", subresource="scale"
        ),
        "list secrets": lambda: ours.list(SECRET, team.namespace),
        "list its own namespace's secrets": lambda: ours.list(SECRET, "canary-system"),
        "patch services": lambda: ours.patch(SERVICE, team.namespace, "payment", body, patch_type="merge"),
        "label namespaces": lambda: ours.patch(NAMESPACE, None, team.namespace, body, patch_type="merge"),
        "patch routes that it was not let in to": lambda: ours.patch(
            VIRTUALSERVICE, stranger, "payment", body, patch_type="merge"
        ),
        "list config maps": lambda: ours.list(CONFIGMAP, team.namespace),
        "delete routes": lambda: ours.delete(VIRTUALSERVICE, team.namespace, "payment"),
    }
    allowed = []
    for what, attempt in attempts.items():
        try:
            attempt()
        except Forbidden:
            continue
        allowed.append(what)

    assert allowed == []


# Row 11: numbers


def test_a_tenant_with_a_thousand_rollouts_keeps_nobody_waiting(team: Team, new_team: Callable[[], Team]) -> None:
    crowd = new_team()
    many = [rollout(f"r-{number:04d}", target=f"t-{number:04d}") for number in range(1000)]
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda one: crowd.tenant.gateway.create(CANARYROLLOUT, crowd.namespace, one), many))
    assert len(made) == 1000

    team.shop.release("v2")
    done = team.shop.reaches(ATTEMPT, Phase.SUCCEEDED, seconds=60)

    waited = (done.status.history[0].at - done.created).total_seconds()
    print(f"looked at within {waited:.1f} s, with {len(many)} rollouts next door")
    assert waited < 30  # one at a time they take longer than that; without turns it waits for all of them
    told = until(lambda: [one for one in crowd.shop.rollouts() if "more than 50 unfinished" in one.status.message], 60)
    assert told[0].status.phase is Phase.PENDING
    assert crowd.shop.is_stalled(told[0].name)
