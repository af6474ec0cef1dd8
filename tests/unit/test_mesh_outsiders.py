"""A header stage on a route that takes requests from outside is worth a word."""

from __future__ import annotations

from typing import Any

import pytest

from canary.mesh.istio.outsiders import header_from_outside
from canary.mesh.istio.router import IstioRouter
from canary.mesh.router import MeshView
from canary.model.policy import Match
from canary.model.route import Arm, Route

ROUTE = Route(
    namespace="shop", service="payment", virtual_service="payment", http_name="", host="payment", port=None,
    stable=Arm("payment-v1", "v1", "version", "v1"), canary=Arm("payment-v2", "v2", "version", "v2"),
)  # fmt: skip
MATCH = Match.model_validate({"headers": {"x-debug-user": {"exact": "true"}}})


def virtual_service(name: str = "payment", **spec: Any) -> dict[str, Any]:
    return {"metadata": {"namespace": "shop", "name": name}, "spec": spec}


def view(*virtual_services: dict[str, Any]) -> MeshView:
    return MeshView("shop", virtual_services=virtual_services)


@pytest.mark.parametrize("gateways", [None, [], ["mesh"], "istio-system/public", [None, 3]])
def test_requests_of_the_mesh_alone_are_no_reason_to_say_anything(gateways: Any) -> None:
    assert header_from_outside(view(virtual_service(gateways=gateways)), ROUTE, MATCH) == ""


def test_a_route_that_is_bound_to_a_gateway_is_named_with_the_header() -> None:
    found = view(virtual_service(gateways=["mesh", "istio-system/public"]))

    assert IstioRouter().header_from_outside(found, ROUTE, MATCH) == (
        "VirtualService shop/payment is bound to istio-system/public: whoever sends x-debug-user from outside reaches "
        "the new version before it is judged; have the gateway take the header off"
    )
    assert header_from_outside(found, ROUTE, None) == ""


def test_a_gateway_of_the_virtual_service_that_delegates_to_it_counts() -> None:
    root = virtual_service("root", gateways=["public"], http=[{"delegate": {"name": "payment"}}])
    other = virtual_service(
        "other", gateways=["partners"], http=[{"delegate": {"name": "payment", "namespace": "bank"}}]
    )

    assert "is bound to public:" in header_from_outside(view(virtual_service(), root, other), ROUTE, MATCH)
    assert header_from_outside(view(virtual_service(), other), ROUTE, MATCH) == ""
