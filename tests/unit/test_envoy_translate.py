from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from canary.sandbox.envoy.names import Client
from canary.sandbox.envoy.translate import Resources, translate

Json = dict[str, Any]

V1 = "outbound|80|v1|payment.default.svc.cluster.local"
V2 = "outbound|80|v2|payment.default.svc.cluster.local"


def service(name: str = "payment", namespace: str = "default", ports: tuple[int, ...] = (80,)) -> Json:
    return {
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"selector": {"app": name}, "ports": [{"name": f"http-{p}", "port": p} for p in ports]},
    }


def virtual_service(*http: Json, name: str = "payment", namespace: str = "default", **spec: Any) -> Json:
    return {
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"hosts": ["payment"], "http": list(http), **spec},
    }


def to(subset: str | None, weight: int | None = None, host: str = "payment", **more: Any) -> Json:
    destination = {"host": host, **({"subset": subset} if subset else {})}
    return {"destination": destination, **({} if weight is None else {"weight": weight}), **more}


def routes_of(resources: Resources, host: str = "payment.default.svc.cluster.local:80") -> list[Json]:
    found: list[Json] = next(v["routes"] for v in resources.routes["virtual_hosts"] if v["name"] == host)
    return found


def translated(*http: Json) -> tuple[list[Json], tuple[str, ...]]:
    resources = translate([virtual_service(*http)], [], [service()], [])
    return routes_of(resources), resources.warnings


def only_action(*http: Json) -> Json:
    (route,), warnings = translated(*http)
    assert warnings == ()
    action: Json = route["route"]
    return action


def test_weights_are_shares_of_their_sum_and_a_destination_at_zero_is_left_out() -> None:
    action = only_action({"route": [to("v1", 90), to("v2", 10), to("v3", 0)]})

    assert action["weighted_clusters"]["clusters"] == [{"name": V1, "weight": 90}, {"name": V2, "weight": 10}]


def test_a_single_destination_gets_everything_even_at_weight_zero() -> None:
    assert only_action({"route": [to("v2", 0)]})["cluster"] == V2


def test_several_destinations_that_all_have_weight_zero_send_nobody_anywhere() -> None:
    (route,), warnings = translated({"route": [to("v1", 0), to("v2", 0)]})

    assert route["direct_response"] == {"status": 503}
    assert warnings == (
        "VirtualService default/payment http[0]: has no destination with a weight above 0; it answers 503",
    )


def test_the_header_route_stays_before_the_primary_one() -> None:
    debug = {"name": "debug", "match": [{"headers": {"X-Debug-User": {"exact": "true"}}}], "route": [to("v2")]}
    routes, _ = translated(debug, {"name": "primary", "route": [to("v1")]})

    assert [route["name"] for route in routes] == ["debug", "primary"]
    assert routes[0]["match"] == {
        "prefix": "/",
        "headers": [{"name": "x-debug-user", "string_match": {"exact": "true"}}],
    }
    assert routes[1]["match"] == {"prefix": "/"}


def test_each_match_of_a_route_is_a_route_of_its_own() -> None:
    http = {"name": "api", "match": [{"uri": {"exact": "/a"}, "name": "a"}, {"uri": {"regex": "/b.*"}}]}
    routes, _ = translated({**http, "route": [to("v1")]})

    assert [route["name"] for route in routes] == ["api.a", "api"]
    assert [route["match"] for route in routes] == [{"path": "/a"}, {"safe_regex": {"regex": "/b.*"}}]


def test_every_supported_kind_of_match() -> None:
    match = {
        "uri": {"prefix": "/pay"},
        "ignoreUriCase": True,
        "method": {"exact": "POST"},
        "headers": {"x-team": {"prefix": "pay"}, "x-any": {}},
        "withoutHeaders": {"x-bot": {"exact": "yes"}, "x-none": {}},
        "queryParams": {"v": {"exact": "2"}, "debug": {}},
    }
    (route,), warnings = translated({"match": [match], "route": [to("v1")]})

    assert warnings == ()
    assert route["match"] == {
        "prefix": "/pay",
        "case_sensitive": False,
        "headers": [
            {"name": ":method", "string_match": {"exact": "POST"}},
            {"name": "x-team", "string_match": {"prefix": "pay"}},
            {"name": "x-any", "present_match": True},
            {
                "name": "x-bot",
                "string_match": {"exact": "yes"},
                "invert_match": True,
                "treat_missing_header_as_empty": True,
            },
            {"name": "x-none", "present_match": True, "invert_match": True},
        ],
        "query_parameters": [
            {"name": "v", "string_match": {"exact": "2"}},
            {"name": "debug", "present_match": True},
        ],
    }


@pytest.mark.parametrize("match", [{"port": 8080}, {"sourceNamespace": "shop"}, {"gateways": ["istio-ingress/public"]}])
def test_a_match_for_other_callers_is_no_route_of_this_client(match: Json) -> None:
    routes, warnings = translated({"match": [match], "route": [to("v2")]}, {"route": [to("v1")]})

    assert [route["route"]["cluster"] for route in routes] == [V1]
    assert warnings == ()


def test_timeout_and_retries_have_istios_defaults() -> None:
    action = only_action({"route": [to("v1")]})

    assert action["timeout"] == "0s"
    assert action["retry_policy"]["num_retries"] == 2
    assert action["retry_policy"]["retry_on"] == (
        "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes"
    )


def test_timeout_and_retries_are_taken_over() -> None:
    retries = {"attempts": 3, "perTryTimeout": "250ms", "retryOn": "gateway-error,503"}
    action = only_action({"route": [to("v1")], "timeout": "1m2s", "retries": retries})

    assert action["timeout"] == "62s"
    assert action["retry_policy"]["num_retries"] == 3
    assert action["retry_policy"]["per_try_timeout"] == "0.25s"
    assert action["retry_policy"]["retry_on"] == "gateway-error,retriable-status-codes"
    assert action["retry_policy"]["retriable_status_codes"] == [503]


def test_no_attempts_means_no_retry() -> None:
    assert "retry_policy" not in only_action({"route": [to("v1")], "retries": {"attempts": 0}})


def test_rewrites_mirrors_and_header_operations() -> None:
    http = {
        "match": [{"uri": {"prefix": "/api"}}],
        "rewrite": {"uri": "/v2", "authority": "inner"},
        "mirror": {"host": "payment", "subset": "v2"},
        "mirrorPercentage": {"value": 12.5},
        "headers": {
            "request": {"set": {"x-a": "1"}, "remove": ["x-b"]},
            "response": {"add": {"x-c": "2"}},
        },
        "route": [to("v1", headers={"request": {"set": {"x-d": "3"}}})],
    }
    (route,), warnings = translated(http)

    assert warnings == ()
    assert route["route"]["prefix_rewrite"] == "/v2"
    assert route["route"]["host_rewrite_literal"] == "inner"
    assert route["route"]["request_mirror_policies"] == [
        {"cluster": V2, "runtime_fraction": {"default_value": {"numerator": 125_000, "denominator": "MILLION"}}}
    ]
    assert route["request_headers_to_add"] == [
        {"header": {"key": "x-a", "value": "1"}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"},
        {"header": {"key": "x-d", "value": "3"}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"},
    ]
    assert route["request_headers_to_remove"] == ["x-b"]
    assert route["response_headers_to_add"] == [
        {"header": {"key": "x-c", "value": "2"}, "append_action": "APPEND_IF_EXISTS_OR_ADD"}
    ]


def test_redirects_and_direct_responses_need_no_destination() -> None:
    routes, warnings = translated(
        {"match": [{"uri": {"prefix": "/old"}}], "redirect": {"uri": "/new", "redirectCode": 308}},
        {"directResponse": {"status": 418, "body": {"string": "teapot"}}},
    )

    assert warnings == ()
    assert routes[0]["redirect"] == {"response_code": "PERMANENT_REDIRECT", "path_redirect": "/new"}
    assert routes[1]["direct_response"] == {"status": 418, "body": {"inline_string": "teapot"}}


def test_what_is_not_supported_is_named_and_the_rest_still_works() -> None:
    routes, warnings = translated({"route": [to("v1")], "delegate": {"name": "x"}, "match": [{"statPrefix": "p"}]})

    assert routes[0]["route"]["cluster"] == V1
    assert warnings == (
        "VirtualService default/payment http[0]: delegate is not supported by the sandbox and was ignored",
        "VirtualService default/payment http[0].match: statPrefix is not supported by the sandbox and was ignored",
    )


def test_a_broken_virtual_service_leaves_the_service_reachable_and_the_others_alone() -> None:
    broken = virtual_service({"route": [{"weight": 1}]}, {"route": [to("v1")], "timeout": "soon"})
    other = virtual_service({"route": [to("v2", host="cart")]}, name="cart", hosts=["cart"])
    resources = translate([broken, other], [], [service(), service("cart")], [])

    assert routes_of(resources)[0]["route"]["cluster"] == "outbound|80||payment.default.svc.cluster.local"
    assert routes_of(resources, "cart.default.svc.cluster.local:80")[0]["route"]["cluster"] == (
        "outbound|80|v2|cart.default.svc.cluster.local"
    )
    assert resources.warnings == ("VirtualService default/payment: left out, it is broken: KeyError('destination')",)


@pytest.mark.parametrize("regex", ["(", "(?=lookahead)", r"(a)\1"])
def test_an_expression_that_envoy_would_refuse_takes_only_its_own_object_with_it(regex: str) -> None:
    (route,), (warning,) = translated({"match": [{"uri": {"regex": regex}}], "route": [to("v2")]})

    assert route["route"]["cluster"] == "outbound|80||payment.default.svc.cluster.local"
    assert warning.startswith("VirtualService default/payment: left out, it is broken")


_NAMES = (
    "hosts",
    "host",
    "http",
    "route",
    "match",
    "uri",
    "headers",
    "destination",
    "subsets",
    "trafficPolicy",
    "ports",
)
_ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.sampled_from(["", "payment", "2s"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(_NAMES), inner, max_size=4),
    max_leaves=12,
)


@given(spec=_ANYTHING, kind=st.sampled_from(["VirtualService", "DestinationRule", "Service"]))
def test_no_object_however_broken_costs_another_service_its_route(spec: Any, kind: str) -> None:
    broken = {"metadata": {"name": "odd", "namespace": "default"}, "spec": spec}
    cart = virtual_service({"route": [to("v2", host="cart")]}, name="a-cart", hosts=["cart"])
    resources = translate(
        [cart, *([broken] if kind == "VirtualService" else [])],
        [broken] if kind == "DestinationRule" else [],
        [service("cart"), *([broken] if kind == "Service" else [])],
        [],
    )

    assert routes_of(resources, "cart.default.svc.cluster.local:80")[0]["route"]["cluster"] == (
        "outbound|80|v2|cart.default.svc.cluster.local"
    )


def test_a_service_answers_to_all_the_names_that_cluster_dns_knows() -> None:
    resources = translate([], [], [service(), service("cart", "shop")], [], Client(namespace="default"))

    domains = {host["name"]: host["domains"] for host in resources.routes["virtual_hosts"]}
    assert domains["payment.default.svc.cluster.local:80"] == [
        "payment.default.svc.cluster.local",
        "payment.default.svc",
        "payment.default",
        "payment",
        "payment.default.svc.cluster.local:80",
        "payment.default.svc:80",
        "payment.default:80",
        "payment:80",
    ]
    assert "cart" not in domains["cart.shop.svc.cluster.local:80"]
    assert "cart.shop" in domains["cart.shop.svc.cluster.local:80"]


def test_a_second_port_is_asked_for_by_number_and_destinations_keep_to_the_port_called() -> None:
    resources = translate([virtual_service({"route": [to("v1")]})], [], [service(ports=(80, 8080))], [])

    by_name = {host["name"]: host for host in resources.routes["virtual_hosts"]}
    second = by_name["payment.default.svc.cluster.local:8080"]
    assert "payment" not in second["domains"]
    assert "payment:8080" in second["domains"]
    assert second["routes"][0]["route"]["cluster"] == "outbound|8080|v1|payment.default.svc.cluster.local"


def test_a_short_host_belongs_to_the_namespace_of_its_virtual_service() -> None:
    elsewhere = virtual_service({"route": [to("v2")]}, namespace="shop")
    resources = translate([elsewhere], [], [service(), service(namespace="shop")], [])

    assert routes_of(resources)[0]["route"]["cluster"] == "outbound|80||payment.default.svc.cluster.local"
    assert routes_of(resources, "payment.shop.svc.cluster.local:80")[0]["route"]["cluster"] == (
        "outbound|80|v2|payment.shop.svc.cluster.local"
    )


def test_of_two_virtual_services_for_one_host_the_older_wins_and_it_is_said() -> None:
    young = virtual_service({"route": [to("v2")]}, name="young")
    young["metadata"]["creationTimestamp"] = "2026-02-01T00:00:00Z"
    old = virtual_service({"route": [to("v1")]}, name="old")
    old["metadata"]["creationTimestamp"] = "2026-01-01T00:00:00Z"
    resources = translate([young, old], [], [service()], [])

    assert routes_of(resources)[0]["route"]["cluster"] == V1
    assert resources.warnings == (
        "VirtualService default/young: host payment.default.svc.cluster.local already belongs to VirtualService "
        "default/old",
    )


@pytest.mark.parametrize("spec", [{"gateways": ["istio-ingress/public"]}, {"exportTo": ["shop"]}])
def test_a_virtual_service_that_is_not_for_this_client_changes_nothing(spec: Json) -> None:
    resources = translate([virtual_service({"route": [to("v2")]}, **spec)], [], [service()], [])

    assert routes_of(resources)[0]["route"]["cluster"] == "outbound|80||payment.default.svc.cluster.local"


def test_a_host_that_is_no_service_is_routed_on_port_80_and_a_wildcard_covers_services() -> None:
    outside = virtual_service({"route": [to("v1")]}, name="outside", hosts=["pay.example.com"])
    all_hosts = virtual_service({"route": [to("v2")]}, name="all", hosts=["*.default.svc.cluster.local"])
    resources = translate([outside, all_hosts], [], [service()], [])

    assert routes_of(resources)[0]["route"]["cluster"] == V2
    assert routes_of(resources, "pay.example.com:80")[0]["route"]["cluster"] == V1


def test_no_domain_is_given_twice_which_envoy_would_refuse_as_a_whole() -> None:
    literal = virtual_service({"route": [to("v1")]}, hosts=["payment.default"])
    resources = translate([literal], [], [service(), service("default", "payment")], [])

    domains = [domain for host in resources.routes["virtual_hosts"] for domain in host["domains"]]
    assert len(domains) == len(set(domains))


def test_the_order_in_which_objects_arrive_changes_nothing() -> None:
    objects = [virtual_service({"route": [to("v1")]}), virtual_service({"route": [to("v2")]}, name="b")]
    services = [service(), service("cart")]

    assert translate(objects, [], services, []) == translate(objects[::-1], [], services[::-1], [])
