"""What our own account cannot do, whoever holds its token: rows 3, 4, 5, 6, 12 and 16 of docs/security.md.

The account has `*` on everything in these namespaces: whatever is refused here is refused by admission, not by RBAC.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from canary.cluster.gateway import Gateway
from canary.cluster.kinds import CANARYROLLOUT, CONFIGMAP, DESTINATIONRULE, NAMESPACE, VIRTUALSERVICE
from canary.errors import ClusterError, Forbidden, Invalid, SandboxError
from canary.sandbox.realapi.server import RealApiServer
from tests.real.security.objects import destination_rule, rollout, virtual_service

ROUTE = "/spec/http/0"
DESTINATION = {"host": "payment", "subset": "v2"}
HEADER = {
    "name": "canary-v2-header", "match": [{"headers": {"x-debug-user": {"exact": "true"}}}], "timeout": "2s",
    "route": [{"destination": DESTINATION, "weight": 100}],
}  # fmt: skip


def add(path: str, value: Any) -> dict[str, Any]:
    return {"op": "add", "path": path, "value": value}


# Row 3: status


def test_a_tenant_cannot_write_a_status(tenant: Any, admin: Gateway, team: str) -> None:
    tenant.gateway.create(CANARYROLLOUT, team, {**rollout(), "status": {"phase": "Succeeded"}})
    assert "status" not in admin.get(CANARYROLLOUT, team, "payment-v2-abc-1")
    forged = {"phase": "Progressing", "policy": {"name": "x", "digest": "y", "resolved": {"query": "up"}}}

    with pytest.raises(Forbidden, match="only the canary controller writes the status of a CanaryRollout"):
        tenant.gateway.patch(
            CANARYROLLOUT, team, "payment-v2-abc-1", {"status": forged}, patch_type="merge", subresource="status"
        )

    assert "status" not in admin.get(CANARYROLLOUT, team, "payment-v2-abc-1")


def test_the_controller_writes_a_status(stolen: Any, admin: Gateway, team: str) -> None:
    admin.create(CANARYROLLOUT, team, rollout())

    written = stolen.gateway.patch(
        CANARYROLLOUT, team, "payment-v2-abc-1", {"status": {"phase": "Checking"}}, patch_type="merge",
        subresource="status",
    )  # fmt: skip

    assert written["status"] == {"phase": "Checking"}


# Rows 4, 5 and 16: routes


THEFTS = {
    "a host of another namespace": [add("/spec/hosts/-", "bank.other.svc.cluster.local")],
    "all hosts": [add("/spec/hosts", ["*"])],
    "a gateway": [add("/spec/gateways", ["istio-system/public"])],
    "exportTo": [add("/spec/exportTo", ["*"])],
    "tls routes": [add("/spec/tls", [{"match": [{"sniHosts": ["x"]}], "route": [{"destination": {"host": "x"}}]}])],
    "tcp routes": [add("/spec/tcp", [{"route": [{"destination": {"host": "x"}}]}])],
    "a destination elsewhere": [add(f"{ROUTE}/route/-", {"destination": {"host": "bank.other.svc.cluster.local"}})],
    "another port": [add(f"{ROUTE}/route/0/destination/port", {"number": 9999})],
    "headers of a destination": [add(f"{ROUTE}/route/0/headers", {"request": {"set": {"x-user": "admin"}}})],
    "a mirror": [add(f"{ROUTE}/mirror", {"host": "spy"})],
    "a delegate in another namespace": [
        {"op": "remove", "path": f"{ROUTE}/route"},
        add(f"{ROUTE}/delegate", {"name": "x", "namespace": "other"}),
    ],
    "a redirect": [
        {"op": "remove", "path": f"{ROUTE}/route"},
        add(f"{ROUTE}/redirect", {"authority": "evil.example"}),
    ],
    "a timeout": [add(f"{ROUTE}/timeout", "1ms")],
    "a fault": [add(f"{ROUTE}/fault", {"abort": {"httpStatus": 500, "percentage": {"value": 100}}})],
    "a match": [add(f"{ROUTE}/match", [{"uri": {"prefix": "/nothing"}}])],
    "a route of its own": [add("/spec/http/0", {**HEADER, "name": "mine"})],
    "no route at all": [add("/spec/http", [])],
    "a header route that mirrors": [add("/spec/http/0", {**HEADER, "mirror": {"host": "payment"}})],
    "a header route to elsewhere": [add("/spec/http/0", {**HEADER, "route": [{"destination": {"host": "spy"}}]})],
    "an owner that is soon deleted": [
        add("/metadata/ownerReferences", [{"apiVersion": "v1", "kind": "Pod", "name": "gone", "uid": "u"}])
    ],
    "an annotation of others": [add("/metadata/annotations", {"argocd.argoproj.io/sync-options": "Prune=false"})],
}  # fmt: skip


@pytest.mark.parametrize("theft", THEFTS)
def test_with_our_token_nobody_can_give_a_route(theft: str, stolen: Any, admin: Gateway, team: str) -> None:
    before = admin.create(VIRTUALSERVICE, team, virtual_service())

    with pytest.raises(Forbidden, match="canary controller"):
        stolen.gateway.patch(VIRTUALSERVICE, team, "payment", THEFTS[theft], patch_type="json")

    assert admin.get(VIRTUALSERVICE, team, "payment")["spec"] == before["spec"]


def test_with_our_token_nobody_can_create_or_delete_a_route(stolen: Any, admin: Gateway, team: str) -> None:
    admin.create(VIRTUALSERVICE, team, virtual_service())

    with pytest.raises(Forbidden, match="neither creates nor deletes VirtualServices"):
        stolen.gateway.create(VIRTUALSERVICE, team, virtual_service("mine"))
    with pytest.raises(Forbidden, match="neither creates nor deletes VirtualServices"):
        stolen.gateway.delete(VIRTUALSERVICE, team, "payment")


def test_what_the_controller_does_to_a_route_passes(stolen: Any, admin: Gateway, team: str) -> None:
    admin.create(VIRTUALSERVICE, team, virtual_service())
    steps = [
        [add(f"{ROUTE}/route/-", {"destination": DESTINATION, "weight": 0})],
        [add("/spec/http/0", HEADER), add("/metadata/annotations", {"canary.delivery/added": "{}"})],
        [add("/spec/http/1/route/0/weight", 90), add("/spec/http/1/route/1/weight", 10)],
        [{"op": "remove", "path": "/spec/http/0"}, {"op": "remove", "path": "/metadata/annotations"}],
        [{"op": "remove", "path": "/spec/http/0/route/0"}],
    ]

    for operations in steps:
        stolen.gateway.patch(VIRTUALSERVICE, team, "payment", operations, patch_type="json")

    assert admin.get(VIRTUALSERVICE, team, "payment")["spec"]["http"][0]["route"] == [
        {"destination": DESTINATION, "weight": 10}
    ]


def test_a_virtual_service_with_hundreds_of_routes_is_still_moved(stolen: Any, admin: Gateway, team: str) -> None:
    """What the guard costs grows with the routes; a VirtualService that it cannot check cannot roll back."""
    body, routes = virtual_service(), 300
    body["spec"]["http"] = [
        {
            "name": f"r{index}", "match": [{"uri": {"prefix": f"/{index}"}}],
            "route": [{"destination": {"host": f"service-{index}", "subset": "v1"}, "weight": 100}],
        }
        for index in range(routes)
    ]  # fmt: skip
    admin.create(VIRTUALSERVICE, team, body)
    new = {"destination": {"host": f"service-{routes - 1}", "subset": "v2"}, "weight": 0}

    stolen.gateway.patch(
        VIRTUALSERVICE, team, "payment", [add(f"/spec/http/{routes - 1}/route/-", new)], patch_type="json"
    )


# Row 6: DestinationRules


FQDN = "payment.{}.svc.cluster.local"
SHADOWS: dict[str, dict[str, Any]] = {
    "for a Service of another namespace": {"host": "bank.other.svc.cluster.local"},
    "for every host": {"host": "*.cluster.local"},
    "by a short name": {"host": "payment"},
    "exported": {"exportTo": ["*"]},
    "for some callers": {"workloadSelector": {"matchLabels": {"app": "x"}}},
    "with TLS settings": {"trafficPolicy": {"tls": {"mode": "DISABLE"}}},
    "with a subset's own policy": {
        "subsets": [{"name": "v1", "labels": {"version": "v1"}, "trafficPolicy": {"tls": {"mode": "DISABLE"}}}]
    },
}


@pytest.mark.parametrize("shadow", SHADOWS)
def test_with_our_token_nobody_can_make_a_rule(shadow: str, stolen: Any, team: str) -> None:
    with pytest.raises(Forbidden, match="canary controller"):
        stolen.gateway.create(DESTINATIONRULE, team, destination_rule(**{"host": FQDN.format(team), **SHADOWS[shadow]}))


RULE_CHANGES = {
    "its host": [add("/spec/host", "bank.other.svc.cluster.local")],
    "its traffic policy": [add("/spec/trafficPolicy", {"tls": {"mode": "DISABLE"}})],
    "its reach": [add("/spec/exportTo", ["*"])],
    "a subset that has a policy": [{"op": "remove", "path": "/spec/subsets/0"}],
    "a subset's policy": [add("/spec/subsets/0/trafficPolicy", {"tls": {"mode": "DISABLE"}})],
}


@pytest.mark.parametrize("change", RULE_CHANGES)
def test_with_our_token_nobody_can_change_of_a_rule(change: str, stolen: Any, admin: Gateway, team: str) -> None:
    strict = {"name": "v1", "labels": {"version": "v1"}, "trafficPolicy": {"tls": {"mode": "ISTIO_MUTUAL"}}}
    before = admin.create(DESTINATIONRULE, team, destination_rule(subsets=[strict]))

    with pytest.raises(Forbidden, match="canary controller"):
        stolen.gateway.patch(DESTINATIONRULE, team, "payment", RULE_CHANGES[change], patch_type="json")
    with pytest.raises(Forbidden, match="deletes only DestinationRules that it made"):
        stolen.gateway.delete(DESTINATIONRULE, team, "payment")

    assert admin.get(DESTINATIONRULE, team, "payment")["spec"] == before["spec"]


def test_what_the_controller_does_to_rules_passes(stolen: Any, admin: Gateway, team: str) -> None:
    admin.create(DESTINATIONRULE, team, destination_rule())
    plain = {"name": "v2", "labels": {"version": "v2"}}
    made = destination_rule("other", host=FQDN.format(team), trafficPolicy={"outlierDetection": {"interval": "10s"}})
    made["metadata"] |= {
        "labels": {"app.kubernetes.io/managed-by": "canary"}, "annotations": {"canary.delivery/added": '{"rule":true}'},
    }  # fmt: skip

    noted = add("/metadata/annotations", {"canary.delivery/added": "{}"})
    stolen.gateway.patch(DESTINATIONRULE, team, "payment", [add("/spec/subsets/-", plain), noted], patch_type="json")
    stolen.gateway.patch(
        DESTINATIONRULE, team, "payment", [{"op": "remove", "path": "/spec/subsets/1"}], patch_type="json"
    )
    stolen.gateway.create(DESTINATIONRULE, team, made)
    stolen.gateway.delete(DESTINATIONRULE, team, "other")

    assert admin.get(DESTINATIONRULE, team, "payment")["spec"]["subsets"] == destination_rule()["spec"]["subsets"]


# Row 16: ConfigMaps


def evidence(name: str, owner: str) -> dict[str, Any]:
    reference = {"apiVersion": "canary.delivery/v1alpha1", "kind": "CanaryRollout", "name": owner, "uid": "u"}
    return {"metadata": {"name": name, "ownerReferences": [reference]}, "data": {"a": "b"}}


def test_with_our_token_nobody_can_touch_a_tenant_s_config_maps(stolen: Any, admin: Gateway, team: str) -> None:
    admin.create(CONFIGMAP, team, {"metadata": {"name": "settings"}, "data": {"url": "https://bank"}})

    attempts: list[Callable[[], Any]] = [
        lambda: stolen.gateway.patch(CONFIGMAP, team, "settings", {"data": {"url": "x"}}, patch_type="merge"),
        lambda: stolen.gateway.create(CONFIGMAP, team, {"metadata": {"name": "mine"}}),
        lambda: stolen.gateway.create(CONFIGMAP, team, evidence("canary-evidence-a", owner="b")),
        lambda: stolen.gateway.create(CONFIGMAP, team, {"metadata": {"name": "canary-policy-abc"}}),
        lambda: stolen.gateway.delete(CONFIGMAP, team, "settings"),
    ]
    for attempt in attempts:
        with pytest.raises(Forbidden, match="writes its own ConfigMaps only"):
            attempt()

    made = stolen.gateway.create(CONFIGMAP, team, evidence("canary-evidence-a", owner="a"))
    assert made["data"] == {"a": "b"}


# Row 12: the floor


def test_a_tenant_cannot_lower_the_floor_of_its_own_namespace(
    tenant: Any, admin: Gateway, real: RealApiServer, team: str
) -> None:
    """A Role that grants everything in a namespace grants patching the Namespace itself."""
    label = "canary.delivery/floor"
    admin.patch(NAMESPACE, None, team, {"metadata": {"labels": {label: "strict"}}}, patch_type="merge")

    for value in (None, "lenient", ""):
        with pytest.raises(Forbidden, match=f"{tenant.user} may not change the label {label} of namespace {team}"):
            tenant.gateway.patch(NAMESPACE, None, team, {"metadata": {"labels": {label: value}}}, patch_type="merge")
    for subresource in ("status", "finalize"):
        lowered = admin.get(NAMESPACE, None, team)
        lowered["metadata"]["labels"][label] = "lenient"
        with pytest.raises(SandboxError, match="may not change the label"):
            real.kubectl(
                "replace", "--raw", f"/api/v1/namespaces/{team}/{subresource}", "-f", "-", input=json.dumps(lowered),
                kubeconfig=tenant.kubeconfig,
            )  # fmt: skip
    tenant.gateway.patch(NAMESPACE, None, team, {"metadata": {"labels": {"team": "a"}}}, patch_type="merge")

    assert admin.get(NAMESPACE, None, team)["metadata"]["labels"][label] == "strict"


def test_a_tenant_that_may_create_namespaces_cannot_make_one_without_the_default_floor(
    tenant: Any, real: RealApiServer, team: str
) -> None:
    real.kubectl("create", "clusterrole", f"creates-{team}", "--verb=create", "--resource=namespaces")
    who = f"--serviceaccount={team}:tenant"
    real.kubectl("create", "clusterrolebinding", f"creates-{team}", f"--clusterrole=creates-{team}", who)
    real.wait_allowed(tenant.kubeconfig, "create", "namespaces")
    labels = {"canary.test/guarded": "stamped"}
    body = {"metadata": {"name": f"{team}-own", "labels": {**labels, "canary.delivery/floor": ""}}}

    with pytest.raises(Forbidden, match="may not change the label"):
        tenant.gateway.create(NAMESPACE, None, body)

    made = tenant.gateway.create(NAMESPACE, None, {"metadata": {"name": f"{team}-own", "labels": labels}})
    assert "canary.delivery/floor" not in made["metadata"]["labels"]


# Rows 7, 10 and 11: names and sizes


@pytest.mark.parametrize("field", ["service", "virtualService", "target", "policyName"])
@pytest.mark.parametrize("name", ["bank.other.svc.cluster.local", "other/bank", "Payment", "a\nb", "a" * 64, ""])
def test_a_tenant_cannot_name_what_is_not_in_its_namespace(field: str, name: str, tenant: Any, team: str) -> None:
    with pytest.raises(Invalid, match=f"spec.{field}"):
        tenant.gateway.create(CANARYROLLOUT, team, rollout(**{field: name}))


@pytest.mark.parametrize("text", ["\x1b[31mred", "line\nbreak", "\x9b2J", "x" * 257])
@pytest.mark.parametrize("field", ["abort", "paused", "promote", "trigger"])
def test_a_tenant_cannot_store_what_acts_on_a_terminal(field: str, text: str, tenant: Any, team: str) -> None:
    asked: dict[str, Any] = {field: {"reason": text, "step": 1}}
    with pytest.raises(Invalid, match=f"spec.{field}.reason"):
        tenant.gateway.create(CANARYROLLOUT, team, rollout(**asked))


@pytest.mark.parametrize("id_", ["a b", "::set-output name=x::y\n", "\u202e", "x" * 129, "$(rm)"])
def test_a_tenant_cannot_hide_a_command_in_a_release_id(id_: str, tenant: Any, team: str) -> None:
    with pytest.raises(Invalid, match=r"spec\.trigger\.id"):
        tenant.gateway.create(CANARYROLLOUT, team, rollout(trigger={"id": id_}))


def test_a_tenant_cannot_store_a_large_rollout(tenant: Any, team: str) -> None:
    large: list[dict[str, Any]] = [{"route": "x" * 1_000_000}, {"trigger": {"reason": "x" * 1_000_000}}]
    for spec in large:
        with pytest.raises((Invalid, ClusterError), match="spec"):
            tenant.gateway.create(CANARYROLLOUT, team, rollout(**spec))
