"""Asking for a release, or for more than one may: rows 2, 8 and 13 of docs/security.md."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from canary.cluster.gateway import Gateway
from canary.cluster.kinds import CANARYROLLOUT, DEPLOYMENT, Kind
from canary.errors import Forbidden, Invalid
from canary.sandbox.realapi.server import RealApiServer
from tests.real.security.objects import deployment, rollout

QUOTA = Kind("", "v1", "resourcequotas", "ResourceQuota")
NEEDS = "right to patch virtualservices.networking.istio.io"
NAME = "payment-v2-abc-1"


def spec_of(admin: Gateway, space: str, name: str = NAME) -> dict[str, Any]:
    return dict(admin.get(CANARYROLLOUT, space, name)["spec"])


def wish(gateway: Gateway, space: str, **spec: Any) -> dict[str, Any]:
    return gateway.patch(CANARYROLLOUT, space, NAME, {"spec": spec}, patch_type="merge")


def annotate(gateway: Gateway, space: str, **annotations: str | None) -> dict[str, Any]:
    ours = {f"canary.delivery/{key.replace('_', '-')}": value for key, value in annotations.items()}
    body = {"metadata": {"annotations": ours}}
    return gateway.patch(DEPLOYMENT, space, "payment-v2", body, patch_type="merge")


# Row 2: let the controller move the traffic


def test_a_tenant_without_rights_on_routes_cannot_start_a_rollout(deployer: Any, admin: Gateway, team: str) -> None:
    with pytest.raises(Forbidden, match=f"{deployer.user} may not move traffic in namespace {team}.*{NEEDS}"):
        deployer.gateway.create(CANARYROLLOUT, team, rollout())

    assert admin.list(CANARYROLLOUT, team)[0] == []


@pytest.mark.parametrize(
    "asked",
    [
        {"spec": {"promote": {"full": True}}},
        {"spec": {"paused": {}}},
        {"spec": {"abort": {}}},
        {"metadata": {"finalizers": []}},
    ],
)
def test_a_tenant_without_rights_on_routes_cannot_steer_another_s_rollout(
    asked: Any, deployer: Any, admin: Gateway, team: str
) -> None:
    body = rollout()
    body["metadata"]["finalizers"] = ["canary.delivery/route-back"]
    before = admin.create(CANARYROLLOUT, team, body)

    with pytest.raises(Forbidden, match=NEEDS):
        deployer.gateway.patch(CANARYROLLOUT, team, NAME, asked, patch_type="merge")

    assert admin.get(CANARYROLLOUT, team, NAME)["metadata"]["resourceVersion"] == before["metadata"]["resourceVersion"]
    admin.patch(CANARYROLLOUT, team, NAME, {"metadata": {"finalizers": []}}, patch_type="merge")


def test_a_tenant_without_rights_on_routes_cannot_create_an_opted_in_deployment(deployer: Any, team: str) -> None:
    with pytest.raises(Forbidden, match=f"annotation canary.delivery/policy needs the {NEEDS}"):
        deployer.gateway.create(DEPLOYMENT, team, deployment(policy="standard"))


def test_a_tenant_without_rights_on_routes_cannot_opt_a_deployment_in_later(
    deployer: Any, real: RealApiServer, team: str
) -> None:
    made = deployer.gateway.create(DEPLOYMENT, team, deployment())

    with pytest.raises(Forbidden, match=NEEDS):
        annotate(deployer.gateway, team, policy="standard")
    whole = {**made, "metadata": {**made["metadata"], "annotations": {"canary.delivery/policy": "standard"}}}
    with pytest.raises(Forbidden, match=NEEDS):
        deployer.gateway.replace(DEPLOYMENT, team, "payment-v2", whole)
    with pytest.raises(Forbidden, match=NEEDS):
        deployer.gateway.patch(
            DEPLOYMENT, team, "payment-v2", deployment(policy="standard"), patch_type="apply", force=True
        )
    with pytest.raises(Exception, match="may not move traffic"):
        real.kubectl(
            "annotate", "deployment/payment-v2", "canary.delivery/policy=standard", "-n", team,
            kubeconfig=deployer.kubeconfig,
        )  # fmt: skip


def test_a_tenant_without_rights_on_routes_cannot_opt_in_through_the_status(
    account: Any, admin: Gateway, team: str
) -> None:
    """A write to deployments/status keeps the labels as they are, but not the annotations."""
    apps = [
        {"apiGroups": ["apps"], "resources": ["*"], "verbs": ["*"]},
        {"apiGroups": ["canary.delivery"], "resources": ["canaryrollouts"], "verbs": ["create"]},
    ]
    owner = account("apps-owner", team, apps, team)
    admin.create(DEPLOYMENT, team, deployment())
    body = {"metadata": {"annotations": {"canary.delivery/policy": "standard"}}}

    with pytest.raises(Forbidden, match=NEEDS):
        owner.gateway.patch(DEPLOYMENT, team, "payment-v2", body, patch_type="merge", subresource="status")


@pytest.mark.parametrize("change", [{"virtual_service": "other"}, {"policy": "lenient"}, {"route": None}])
def test_a_tenant_without_rights_on_routes_cannot_change_what_an_opted_in_deployment_asks_for(
    change: Any, deployer: Any, admin: Gateway, team: str
) -> None:
    admin.create(DEPLOYMENT, team, deployment(policy="standard", route="primary"))

    with pytest.raises(Forbidden, match=NEEDS):
        annotate(deployer.gateway, team, **change)


def test_who_may_change_routes_may_ask_for_a_rollout_in_both_ways(tenant: Any, team: str) -> None:
    tenant.gateway.create(CANARYROLLOUT, team, rollout())
    wish(tenant.gateway, team, paused={"reason": "lunch"})
    tenant.gateway.create(DEPLOYMENT, team, deployment(policy="standard"))

    annotations = annotate(tenant.gateway, team, policy="strict")["metadata"]["annotations"]
    assert annotations == {"canary.delivery/policy": "strict"}


def test_updates_that_leave_the_annotations_alone_need_no_right_on_routes(
    deployer: Any, admin: Gateway, team: str
) -> None:
    """The Deployment controller's, an autoscaler's, a new image; and opting out."""
    admin.create(DEPLOYMENT, team, deployment(policy="standard"))
    send = deployer.gateway.patch
    revision = {"metadata": {"annotations": {"deployment.kubernetes.io/revision": "2"}}}
    image = {"spec": {"template": {"spec": {"containers": [{"name": "app", "image": "payment:2"}]}}}}

    for body in (revision, image, {"spec": {"replicas": 3}}, {"metadata": {"labels": {"team": "a"}}}):
        send(DEPLOYMENT, team, "payment-v2", body, patch_type="merge")
    scaled = {"spec": {"replicas": 2}}
    admin.patch(DEPLOYMENT, team, "payment-v2", scaled, patch_type="merge", subresource="scale")

    assert "canary.delivery/policy" not in annotate(deployer.gateway, team, policy=None)["metadata"]["annotations"]


# Row 8: changing what was asked


IMMUTABLE: dict[str, Any] = {
    "target": "other", "policyName": "lenient", "service": "other", "virtualService": "other", "route": "other",
    "trigger": {"by": "cli", "user": "mallory", "id": "forged"},
}  # fmt: skip
GIVEN: dict[str, Any] = {
    "target": "payment-v2", "policyName": "standard", "service": "payment", "virtualService": "payment",
    "route": "primary", "trigger": {"by": "api", "id": "build-1"},
}  # fmt: skip


@pytest.mark.parametrize("field", IMMUTABLE)
def test_a_tenant_cannot_rewrite_what_was_asked(field: str, tenant: Any, admin: Gateway, team: str) -> None:
    tenant.gateway.create(CANARYROLLOUT, team, rollout(**GIVEN))
    before = spec_of(admin, team)

    with pytest.raises(Invalid, match=f"spec.{field}.* is immutable: create a new CanaryRollout"):
        wish(tenant.gateway, team, **{field: IMMUTABLE[field]})

    assert spec_of(admin, team) == before


@pytest.mark.parametrize("field", ["service", "virtualService", "route", "trigger"])
def test_a_tenant_cannot_remove_an_optional_field_and_set_it_again(
    field: str, tenant: Any, admin: Gateway, team: str
) -> None:
    """A rule on the field alone never sees the two halves of this."""
    tenant.gateway.create(CANARYROLLOUT, team, rollout(**GIVEN))
    before = spec_of(admin, team)

    with pytest.raises(Invalid, match=f"spec.{field} is immutable"):
        wish(tenant.gateway, team, **{field: None})

    assert spec_of(admin, team) == before


@pytest.mark.parametrize("field", ["service", "virtualService", "route"])
def test_a_tenant_cannot_add_what_was_not_asked(field: str, tenant: Any, team: str) -> None:
    tenant.gateway.create(CANARYROLLOUT, team, rollout())

    with pytest.raises(Invalid, match=f"spec.{field} is immutable"):
        wish(tenant.gateway, team, **{field: "other"})


@pytest.mark.parametrize("taken_back", [None, {"reason": "changed my mind"}])
def test_a_tenant_cannot_take_an_abort_back(taken_back: Any, tenant: Any, admin: Gateway, team: str) -> None:
    tenant.gateway.create(CANARYROLLOUT, team, rollout())
    wish(tenant.gateway, team, abort={"reason": "broken"})

    with pytest.raises(Invalid, match=r"spec\.abort cannot be taken back"):
        wish(tenant.gateway, team, abort=taken_back)

    assert spec_of(admin, team)["abort"]["reason"] == "broken"


def test_a_field_nobody_knows_is_refused_by_strict_validation_and_never_stored(
    tenant: Any, real: RealApiServer, admin: Gateway, team: str
) -> None:
    odd = rollout(weights=[100])

    with pytest.raises(Exception, match=r'unknown field "spec\.weights"'):
        real.kubectl(
            "create", "--validate=strict", "-n", team, "-f", "-", input=json.dumps(odd), kubeconfig=tenant.kubeconfig
        )
    assert admin.list(CANARYROLLOUT, team)[0] == []

    tenant.gateway.create(CANARYROLLOUT, team, odd)
    assert "weights" not in spec_of(admin, team)


# Row 13: acting as somebody else


CLAIMS: list[tuple[dict[str, Any], str]] = [
    ({"abort": {"reason": "x", "actor": "alice"}}, "abort"),
    ({"paused": {"actor": "alice"}}, "paused"),
    ({"promote": {"full": True, "actor": "alice"}}, "promote"),
]


@pytest.mark.parametrize(("asked", "field"), CLAIMS)
def test_a_tenant_cannot_wish_in_another_s_name(asked: Any, field: str, tenant: Any, admin: Gateway, team: str) -> None:
    tenant.gateway.create(CANARYROLLOUT, team, rollout())

    wish(tenant.gateway, team, **asked)

    assert spec_of(admin, team)[field]["actor"] == tenant.user


def test_a_tenant_cannot_change_a_wish_and_leave_the_old_name_under_it(tenant: Any, admin: Gateway, team: str) -> None:
    admin.create(CANARYROLLOUT, team, rollout(paused={"reason": "lunch"}))
    assert spec_of(admin, team)["paused"]["actor"] == "canary-admin"

    wish(tenant.gateway, team, paused={"reason": "dinner"})

    assert spec_of(admin, team)["paused"] == {"reason": "dinner", "actor": tenant.user}


@pytest.mark.parametrize("trigger", [None, {"by": "cli", "user": "alice", "reason": "release day"}])
def test_a_tenant_cannot_start_a_rollout_in_another_s_name(
    trigger: Any, tenant: Any, admin: Gateway, team: str
) -> None:
    tenant.gateway.create(CANARYROLLOUT, team, rollout(**({"trigger": trigger} if trigger else {})))

    assert spec_of(admin, team)["trigger"]["user"] == tenant.user


def test_before_kubernetes_1_36_a_wish_in_another_s_name_is_refused(
    guarded: Callable[[str], str], account: Callable[..., Any], admin: Gateway
) -> None:
    space = guarded("checked")
    tenant = account("tenant", space, [{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}], space)
    tenant.gateway.create(CANARYROLLOUT, space, rollout())

    with pytest.raises(Forbidden, match="says it is by alice"):
        tenant.gateway.create(CANARYROLLOUT, space, rollout("other", trigger={"user": "alice"}))
    for asked, _ in CLAIMS:
        with pytest.raises(Forbidden, match=f"made by {tenant.user}, and says it is by alice: leave the name out"):
            wish(tenant.gateway, space, **asked)

    own = {"reason": "broken", "actor": tenant.user}
    wish(tenant.gateway, space, abort=own)
    assert spec_of(admin, space)["abort"] == own


def test_a_name_under_a_wish_that_stays_as_it_is_is_nobody_s_concern(tenant: Any, admin: Gateway, team: str) -> None:
    admin.create(CANARYROLLOUT, team, rollout(paused={"reason": "lunch"}))

    wish(tenant.gateway, team, abort={"reason": "broken"})

    assert spec_of(admin, team)["paused"]["actor"] == "canary-admin"


# Row 11: numbers


def test_a_quota_keeps_a_tenant_from_storing_more_rollouts(tenant: Any, admin: Gateway, team: str) -> None:
    """As docs/security.md has it; kube-controller-manager would write the quota's status."""
    counted = {"count/canaryrollouts.canary.delivery": "2"}
    admin.create(QUOTA, team, {"metadata": {"name": "canary"}, "spec": {"hard": counted}})
    status = {"status": {"hard": counted, "used": dict.fromkeys(counted, "0")}}
    admin.patch(QUOTA, team, "canary", status, patch_type="merge", subresource="status")

    def store_until_refused() -> str:
        for number in range(50):
            try:
                tenant.gateway.create(CANARYROLLOUT, team, rollout(f"r-{number}"))
            except Forbidden as error:
                return str(error)
        return ""

    refused = store_until_refused()
    admin.delete(QUOTA, team, "canary")

    assert "exceeded quota: canary" in refused
    assert len(admin.list(CANARYROLLOUT, team)[0]) == 2
