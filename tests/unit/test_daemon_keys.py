"""Where is looked after a change: at the services that it is about, at a whole namespace only where that is open."""

from __future__ import annotations

from typing import Any

import pytest

from canary.cluster.kinds import (
    CANARYROLLOUT,
    DEPLOYMENT,
    DESTINATIONRULE,
    NAMESPACE,
    POD,
    VIRTUALSERVICE,
    Kind,
)
from canary.cluster.reflector import Change
from canary.daemon.keys import Key, keys_of_change
from canary.mesh.istio.router import IstioRouter

Object = dict[str, Any]
WHOLE = {Key("shop")}


def looked_at(kind: Kind, old: Object | None, new: Object | None) -> set[Key]:
    type_ = "added" if old is None else "deleted" if new is None else "modified"
    return keys_of_change(IstioRouter(), kind, Change(type_, ("shop", "payment"), old, new))  # type: ignore[arg-type]


def virtual_service(*destinations: str, hosts: tuple[str, ...] = ("payment",)) -> Object:
    route = [{"destination": {"host": host, "subset": "v1"}, "weight": 50} for host in destinations]
    return {"metadata": {"name": "payment"}, "spec": {"hosts": list(hosts), "http": [{"route": route}]}}


def attempt(phase: str, service: str = "payment", **status: object) -> Object:
    return {"metadata": {"name": "payment"}, "status": {"phase": phase, "service": service, **status}}


def test_our_own_writes_are_looked_at_where_they_belong_and_nowhere_else() -> None:
    moved = virtual_service("payment", "payment.shop.svc.cluster.local")

    assert looked_at(VIRTUALSERVICE, virtual_service("payment"), moved) == {Key("shop", "payment")}
    assert looked_at(CANARYROLLOUT, attempt("Progressing"), attempt("Progressing", message="5 %")) == {
        Key("shop", "payment")
    }


def test_a_route_that_changes_hands_is_news_for_both_services() -> None:
    old, new = virtual_service("payment", hosts=()), virtual_service("checkout", hosts=())

    assert looked_at(VIRTUALSERVICE, old, new) == {Key("shop", "payment"), Key("shop", "checkout")}


def test_a_destination_rule_is_about_its_host() -> None:
    old = {"metadata": {"name": "payment"}, "spec": {"host": "payment.shop.svc.cluster.local"}}
    new = {"metadata": {"name": "payment"}, "spec": {"host": "payment", "subsets": []}}

    assert looked_at(DESTINATIONRULE, old, new) == {Key("shop", "payment")}


def test_other_namespaces_hosts_are_nobodys_news() -> None:
    foreign = virtual_service("payment.bank.svc.cluster.local", hosts=("*.example.com",))

    assert looked_at(VIRTUALSERVICE, foreign, foreign) == set()


@pytest.mark.parametrize(
    ("kind", "old", "new"),
    [
        (CANARYROLLOUT, None, attempt("Pending")),
        (CANARYROLLOUT, attempt("Pending", service=""), attempt("Checking")),
        (CANARYROLLOUT, attempt("Promoting"), attempt("Succeeded")),
        (CANARYROLLOUT, attempt("Succeeded"), None),
        (VIRTUALSERVICE, None, virtual_service("payment")),
        (VIRTUALSERVICE, virtual_service("payment"), None),
        (DEPLOYMENT, {"metadata": {}}, {"metadata": {}}),
        (POD, {"metadata": {}}, {"metadata": {}}),
    ],
)
def test_what_may_concern_anybody_is_looked_at_by_everybody(kind: Kind, old: Object | None, new: Object | None) -> None:
    assert looked_at(kind, old, new) == WHOLE


def test_a_namespace_is_looked_at_under_its_own_name() -> None:
    assert looked_at(NAMESPACE, {"metadata": {}}, {"metadata": {}}) == {Key("payment")}


def test_objects_of_any_shape_are_read_without_a_stumble() -> None:
    strange: list[Object] = [
        {},
        {"spec": None},
        {"spec": {"hosts": "payment", "http": [None, {"route": [3]}], "tcp": 1}},
    ]

    for one in strange:
        assert looked_at(VIRTUALSERVICE, one, one) == set()
