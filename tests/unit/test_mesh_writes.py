"""Moving traffic, making and dropping subsets: what each write says, on objects a user could have written."""

import json
from copy import deepcopy
from dataclasses import replace

import jsonpatch
import pytest

from canary.errors import FindingError
from canary.mesh.istio.router import IstioRouter
from canary.mesh.managers import last_manager
from canary.mesh.router import MeshView
from canary.model.policy import Match, Policy
from canary.model.route import Arm, Route

ROUTER = IstioRouter()
POLICY = Policy.model_validate({"name": "standard", "strategy": {"weights": [10, 100]}})
DEBUG = Match.model_validate({"headers": {"x-debug-user": {"exact": "true"}}})
ADDED, ROLLBACK = "canary.delivery/added", "canary.delivery/rollback"


def to(subset=None, weight=None, host="payment"):
    destination = {"host": host} | ({"subset": subset} if subset else {})
    return {"destination": destination} | ({} if weight is None else {"weight": weight})


def virtual_service(*http, name="payment", **spec):
    metadata = {"name": name, "namespace": "default", "resourceVersion": "1"}
    return {"metadata": metadata, "spec": {"hosts": ["payment"], "http": list(http), **spec}}


def rule(*subsets, name="payment", host="payment", **spec):
    metadata = {"name": name, "namespace": "default", "resourceVersion": "1"}
    made = [{"name": version, "labels": {"version": version}} for version in subsets]
    return {"metadata": metadata, "spec": {"host": host, "subsets": made, **spec}}


def view(*virtual_services, rules=()):
    return MeshView("default", virtual_services=virtual_services, destination_rules=rules)


def route(stable="v1", canary="v2", http_name=""):
    arms = [Arm(f"payment-{subset}", subset, "version", subset) for subset in (stable, canary)]
    return Route("default", "payment", "payment", http_name, "payment", None, *arms)


def apply(given, write):
    """What the API server does with a write: pinned to the resourceVersion, which moves on."""

    def written(things, kind):
        if write.kind != kind:
            return things
        if write.verb == "create":
            body = deepcopy(write.body)
            body["metadata"]["resourceVersion"] = "1"
            return (*things, body)
        (old,) = [thing for thing in things if thing["metadata"]["name"] == write.name]
        assert write.pins == old["metadata"]["resourceVersion"]
        others = [thing for thing in things if thing is not old]
        if write.verb == "delete":
            return tuple(others)
        pin = {"op": "replace", "path": "/metadata/resourceVersion", "value": write.pins}
        assert pin in write.body
        new = jsonpatch.apply_patch(old, write.body)
        new["metadata"]["resourceVersion"] = str(int(write.pins) + 1)
        return (*others, new)

    return replace(
        given,
        virtual_services=written(given.virtual_services, "VirtualService"),
        destination_rules=written(given.destination_rules, "DestinationRule"),
    )


def shifted(given, weight, match=None, mark="", of=None):
    write = ROUTER.shift(given, of or route(), weight, match, mark)
    assert write is not None
    return apply(given, write)


def http(given, index=0):
    return given.virtual_services[0]["spec"]["http"][index]


def weights(given, index=0):
    return {one["destination"].get("subset"): one.get("weight") for one in http(given, index)["route"]}


def annotations(thing):
    return thing["metadata"].get("annotations", {})


def test_a_step_changes_the_two_weights_and_nothing_else():
    given = view(virtual_service({"route": [to("v1", 100), to("v2", 0)]}))

    write = ROUTER.shift(given, route(), 10, None)

    assert [operation for operation in write.body if operation["op"] != "test"] == [
        {"op": "replace", "path": "/metadata/resourceVersion", "value": "1"},
        {"op": "replace", "path": "/spec/http/0/route/0/weight", "value": 90},
        {"op": "replace", "path": "/spec/http/0/route/1/weight", "value": 10},
    ]
    assert write.pins == "1"


def test_a_route_that_lists_only_stable_gets_the_canarys_destination_with_the_same_port():
    stable = {"destination": {"host": "payment", "subset": "v1", "port": {"number": 80}}}
    given = shifted(view(virtual_service({"route": [stable]})), 25)

    assert http(given)["route"] == [
        {**stable, "weight": 75},
        {"destination": {"host": "payment", "subset": "v2", "port": {"number": 80}}, "weight": 25},
    ]


@pytest.mark.parametrize(("weight", "canary", "stable"), [(10, 9, 81), (25, 22, 68), (99, 89, 1), (100, 90, 0)])
def test_steps_are_a_part_of_what_is_not_foreign_rounded_down_for_the_canary(weight, canary, stable):
    given = view(virtual_service({"route": [to("v1", 90), to(weight=10, host="legacy")]}))

    moved = shifted(given, weight)

    assert weights(moved) == {"v1": stable, None: 10, "v2": canary}
    assert (ROUTER.read(moved, route()).weight, ROUTER.read(moved, route()).foreign_weight) == (weight, 10)
    assert ROUTER.shift(moved, route(), weight, None) is None


@pytest.mark.parametrize("written", [(1, 1), (50, 50), (7, 7)])
def test_a_route_that_says_the_same_shares_in_other_numbers_is_left_alone(written):
    given = view(virtual_service({"route": [to("v1", written[0]), to("v2", written[1])]}))

    assert ROUTER.read(given, route()).weight == 50
    assert ROUTER.shift(given, route(), 50, None) is None
    assert weights(shifted(given, 75)) == {"v1": 25, "v2": 75}


def test_nothing_is_written_for_a_canary_that_is_not_on_the_route_and_gets_nothing():
    assert ROUTER.shift(view(virtual_service({"route": [to("v1", 0)]})), route(), 0, None) is None


@pytest.mark.parametrize("weight", [-1, 101])
def test_a_weight_outside_0_to_100_is_never_written_though_the_crd_would_take_it(weight):
    with pytest.raises(ValueError, match="0 to 100"):
        ROUTER.shift(view(virtual_service({"route": [to("v1")]})), route(), weight, None)


def test_the_header_route_is_a_clone_right_before_the_primary_with_the_headers_in_every_match():
    other = {"name": "other", "match": [{"uri": {"prefix": "/admin"}}], "route": [to(host="admin")]}
    primary = {
        "name": "primary",
        "match": [{"uri": {"prefix": "/a"}, "headers": {"x-tier": {"exact": "gold"}}}, {"uri": {"prefix": "/b"}}],
        "route": [to("v1", 100), {**to("v2", 0), "headers": {"request": {"set": {"x-new": "1"}}}}],
        "timeout": "2s",
        "retries": {"attempts": 2},
        "mirror": {"host": "shadow"},
        "corsPolicy": {"allowOrigins": [{"exact": "*"}]},
    }
    match = Match.model_validate({"headers": {"x-debug-user": {"exact": "true"}, "x-team": {"prefix": "pay"}}})

    given = shifted(view(virtual_service(other, primary)), 0, match)

    ours = {"x-debug-user": {"exact": "true"}, "x-team": {"prefix": "pay"}}
    assert given.virtual_services[0]["spec"]["http"] == [
        other,
        {
            **primary,
            "name": "canary-v2-header",
            "match": [
                {"uri": {"prefix": "/a"}, "headers": {"x-tier": {"exact": "gold"}, **ours}},
                {"uri": {"prefix": "/b"}, "headers": ours},
            ],
            "route": [{**primary["route"][1], "weight": 100}],
        },
        primary,
    ]
    assert ROUTER.read(given, route()).header
    assert ROUTER.shift(given, route(), 0, match) is None


def test_the_header_route_ends_in_the_same_write_that_moves_the_weight():
    given = shifted(view(virtual_service({"route": [to("v1", 100), to("v2", 0)]})), 0, DEBUG)
    assert json.loads(annotations(given.virtual_services[0])[ADDED]) == {
        "payment": {"v2": {"headerRoute": "canary-v2-header"}}
    }

    given = shifted(given, 10)

    assert [weights(given)] == [{"v1": 90, "v2": 10}]
    assert len(given.virtual_services[0]["spec"]["http"]) == 1
    assert annotations(given.virtual_services[0]) == {}


def test_the_header_route_may_stay_while_weights_move():
    given = shifted(view(virtual_service({"route": [to("v1", 100)]})), 0, DEBUG)

    given = shifted(given, 50, DEBUG)

    assert http(given, 0)["name"] == "canary-v2-header"
    assert weights(given, 1) == {"v1": 50, "v2": 50}
    assert ROUTER.shift(given, route(), 50, DEBUG) is None


def test_a_header_route_that_somebody_moved_or_changed_is_put_right():
    given = shifted(view(virtual_service({"name": "primary", "route": [to("v1", 100)]})), 0, DEBUG)
    right = deepcopy(given.virtual_services[0]["spec"]["http"])
    of = route(http_name="primary")

    for wrong in (
        right[::-1],
        [{**right[0], "timeout": "9s"}, right[1]],
        [right[0], {"route": [to(host="admin")]}, right[1]],
    ):
        changed = deepcopy(given.virtual_services[0])
        changed["spec"]["http"] = deepcopy(wrong)
        put_right = shifted(replace(given, virtual_services=(changed,)), 0, DEBUG, of=of)

        https = put_right.virtual_services[0]["spec"]["http"]
        assert https[https.index(right[1]) - 1] == right[0]
        assert len(https) == len(wrong)


def test_a_users_route_of_the_same_name_stays_the_users():
    users = {"name": "canary-v2-header", "match": [{"uri": {"exact": "/x"}}], "route": [to(host="admin")]}
    before = view(virtual_service(users, {"route": [to("v1", 100), to("v2", 0)]}))

    given = shifted(before, 0, DEBUG)

    assert [one.get("name") for one in given.virtual_services[0]["spec"]["http"]] == [
        "canary-v2-header",
        "canary-v2-header-2",
        None,
    ]
    ended = shifted(given, 0)
    assert ended.virtual_services[0]["spec"] == before.virtual_services[0]["spec"]


def test_a_header_that_the_route_matches_otherwise_is_refused_by_name():
    own = {"headers": {"X-Debug-User": {"prefix": "team-"}}}
    given = view(virtual_service({"match": [{}, own], "route": [to("v1", 100)]}))

    with pytest.raises(
        FindingError, match=r"VirtualService default/payment: spec.http\[0\].match\[1\].headers"
    ) as caught:
        ROUTER.shift(given, route(), 0, DEBUG)

    assert caught.value.reason == "HeaderConflict"


def test_a_rollbacks_mark_travels_with_its_write_and_is_this_services_own():
    before = virtual_service({"route": [to("v1", 90), to("v2", 10)]})
    before["metadata"]["annotations"] = {ROLLBACK: '{"orders":"theirs"}', "team": "pay"}

    given = shifted(view(before), 0, mark="errors")

    assert ROUTER.read(given, route()).mark == "errors"
    assert ROUTER.shift(given, route(), 0, None, mark="errors") is None
    assert json.loads(annotations(given.virtual_services[0])[ROLLBACK]) == {"orders": "theirs", "payment": "errors"}
    taken_away = shifted(given, 0)
    assert annotations(taken_away.virtual_services[0]) == annotations(before)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda spec: spec["http"].clear(), "RouteGone"),
        (lambda spec: spec["http"][0].update(name="other"), "RouteGone"),
        (lambda spec: spec["http"][0].update(route=[to("v2", 100)]), "SubsetGone"),
        (lambda spec: spec["http"].append(spec["http"][0]), "AmbiguousRoute"),
    ],
)
def test_a_route_that_is_gone_is_said_so(change, reason):
    changed = virtual_service({"name": "primary", "route": [to("v1", 90), to("v2", 10)]})
    change(changed["spec"])

    of = route(http_name="primary")
    for act in (lambda: ROUTER.read(view(changed), of), lambda: ROUTER.shift(view(changed), of, 0, None)):
        with pytest.raises(FindingError, match="VirtualService default/payment") as caught:
            act()
        assert caught.value.reason == reason


def test_a_virtual_service_that_is_gone_is_said_so():
    with pytest.raises(FindingError, match="VirtualService default/payment is gone"):
        ROUTER.read(view(), route())


def test_after_a_promotion_the_canary_may_be_alone_on_the_route():
    alone = view(virtual_service({"name": "primary", "route": [to("v2", 100)]}))
    nobody = view(virtual_service({"name": "primary", "route": [to("v3", 100)]}))

    state = ROUTER.read(alone, route(http_name="primary"), promoted=True)
    assert (state.weight, state.without_stable) == (100, True)
    for given, promoted in ((alone, False), (nobody, True)):
        with pytest.raises(FindingError, match="put it back"):
            ROUTER.read(given, route(http_name="primary"), promoted=promoted)


def test_a_nameless_route_is_found_again_beside_a_route_added_to_the_canary_only():
    added = {"match": [{"uri": {"exact": "/new"}}], "route": [to("v2")]}
    given = view(virtual_service(added, {"route": [to("v1", 50), to("v2", 50)]}))

    assert ROUTER.read(given, route()).weight == 50
    assert weights(shifted(given, 0), 1) == {"v1": 100, "v2": 0}


def test_subsets_are_there_before_traffic():
    assert ROUTER.prepare(view(rules=(rule("v1", "v2"),)), route(), POLICY) == []

    given = view(rules=(rule("v1", trafficPolicy={"tls": {"mode": "ISTIO_MUTUAL"}}, exportTo=["."]),))
    (write,) = ROUTER.prepare(given, route(), POLICY)
    prepared = apply(given, write)

    expected = rule("v1", "v2", trafficPolicy={"tls": {"mode": "ISTIO_MUTUAL"}}, exportTo=["."])
    assert prepared.destination_rules[0]["spec"] == expected["spec"]
    assert ROUTER.prepare(prepared, route(), POLICY) == []


@pytest.mark.parametrize("subsets", [[], None])
def test_an_existing_rule_without_subsets_gets_both(subsets):
    given = rule()
    given["spec"]["subsets"] = subsets

    prepared = apply(view(rules=(given,)), ROUTER.prepare(view(rules=(given,)), route(), POLICY)[0])

    assert prepared.destination_rules[0]["spec"] == rule("v1", "v2")["spec"]


def test_a_new_subset_keeps_stables_other_labels():
    given = rule()
    given["spec"]["subsets"] = [{"name": "v1", "labels": {"region": "eu", "version": "v1"}}]

    (write,) = ROUTER.prepare(view(rules=(given,)), route(), POLICY)

    assert {"name": "v2", "labels": {"region": "eu", "version": "v2"}} in [one.get("value") for one in write.body]


def test_a_made_rule_has_the_policys_breaker_in_istios_names_and_a_pool_only_when_asked_for():
    (write,) = ROUTER.prepare(view(rules=(rule(host="orders"),)), route(), POLICY)

    assert (write.verb, write.name) == ("create", "payment-canary")
    assert write.body["metadata"]["labels"] == {"app.kubernetes.io/managed-by": "canary"}
    assert write.body["spec"] == {
        "host": "payment.default.svc.cluster.local",
        "subsets": rule("v1", "v2")["spec"]["subsets"],
        "trafficPolicy": {
            "outlierDetection": {
                "consecutive5xxErrors": 5,
                "interval": "10s",
                "baseEjectionTime": "30s",
                "maxEjectionPercent": 100,
            }
        },
    }

    pool = {"tcp": {"maxConnections": 100}, "http": {"http1MaxPendingRequests": 1024, "maxRequestsPerConnection": 10}}
    with_pool = Policy.model_validate({**POLICY.document(), "connectionPool": pool})
    (write,) = ROUTER.prepare(view(), route(), with_pool)
    assert (write.name, write.body["spec"]["trafficPolicy"]["connectionPool"]) == ("payment", pool)


@pytest.mark.parametrize(
    ("rules", "reason"),
    [
        (
            (rule("v1"), rule(name="a", host="payment", subsets=[{"name": "v2", "labels": {"version": "x"}}])),
            "SubsetTaken",
        ),
        ((rule(host="*.default.svc.cluster.local", name="all"),), "ShadowedRule"),
        ((rule(host="orders"), rule(host="orders", name="payment-canary")), "RuleNameTaken"),
    ],
)
def test_what_is_somebody_elses_is_not_taken(rules, reason):
    with pytest.raises(FindingError, match="DestinationRule default/") as caught:
        ROUTER.prepare(view(rules=rules), route(), POLICY)
    assert caught.value.reason == reason


def clean(given, of, *keep):
    """Calls until nothing is left to do, as the daemon does; the kinds written, in order, and what remains."""
    kinds = []
    while writes := ROUTER.clean_up(given, of, keep=frozenset(keep)):
        assert len(kinds) < 5
        for write in writes:
            kinds.append((write.verb, write.kind))
            given = apply(given, write)
    return kinds, given


def test_a_rollback_is_cleaned_up_routes_first_and_subsets_after():
    before = view(virtual_service({"route": [to("v1")]}), rules=(rule("v1"),))
    given = apply(before, ROUTER.prepare(before, route(), POLICY)[0])
    for weight, match, mark in ((0, DEBUG, ""), (10, None, ""), (0, None, "errors")):
        given = shifted(given, weight, match, mark)

    kinds, after = clean(given, route(), "v1")

    assert kinds == [("patch", "VirtualService"), ("patch", "DestinationRule")]
    for kind in ("virtual_services", "destination_rules"):
        (old,), (new,) = getattr(before, kind), getattr(after, kind)
        assert {**new, "metadata": {**new["metadata"], "resourceVersion": "1"}} == old


def test_after_the_next_promotion_what_was_added_for_the_older_version_goes_and_the_users_stays():
    given = view(virtual_service({"route": [to("v1", 100)]}), rules=(rule("v1"),))
    for stable, canary in (("v1", "v2"), ("v2", "v3")):
        of = route(stable, canary)
        given = apply(given, ROUTER.prepare(given, of, POLICY)[0])
        given = shifted(given, 100, of=of)
        _, given = clean(given, of, canary)

    assert weights(given) == {"v1": 0, "v3": 100}
    assert [subset["name"] for subset in given.destination_rules[0]["spec"]["subsets"]] == ["v1", "v3"]
    assert set(json.loads(annotations(given.virtual_services[0])[ADDED])["payment"]) == {"v3"}


def test_a_destination_of_ours_with_weight_is_never_taken_away_and_stays_on_record():
    given = shifted(view(virtual_service({"route": [to("v1", 100)]})), 10)

    assert ROUTER.clean_up(given, route(), keep=frozenset({"v1"})) == []
    assert clean(shifted(given, 0), route(), "v1")[1].virtual_services[0]["spec"]["http"] == [
        {"route": [to("v1", 100)]}
    ]


def test_clean_up_never_moves_traffic_back_to_the_weights_that_were_there_before():
    given = shifted(view(virtual_service({"route": [to("v1", 3), to("v2", 0)]})), 100)

    _, after = clean(given, route(), "v1")

    assert weights(after) == {"v1": 0, "v2": 100}
    assert annotations(after.virtual_services[0]) == {}


def test_a_rule_of_ours_goes_when_no_route_uses_it():
    given = view(virtual_service({"route": [to("v1", 100), to("v2", 0)]}))
    given = apply(given, ROUTER.prepare(given, route(), POLICY)[0])

    assert clean(given, route())[0] == []
    unused = replace(given, virtual_services=(virtual_service({"route": [to("v9", 100)]}),))
    assert clean(unused, route())[0] == [("delete", "DestinationRule")]


@pytest.mark.parametrize(
    "entry",
    [
        {"http": [{"route": [to("v2")]}]},
        {"tcp": [{"route": [to("v2")]}]},
        {"tls": [{"route": [to("v2", host="payment.default.svc.cluster.local")]}]},
        {"http": [{"route": [to("v1")], "mirror": {"host": "payment", "subset": "v2"}}]},
        {"http": [{"route": [to("v1")], "mirrors": [{"destination": {"host": "payment", "subset": "v2"}}]}]},
    ],
)
def test_a_subset_that_any_route_still_uses_stays(entry):
    given = view(rules=(rule("v1"),))
    given = apply(given, ROUTER.prepare(given, route(), POLICY)[0])
    other = {"metadata": {"name": "other", "namespace": "default", "resourceVersion": "1"}, "spec": entry}

    assert clean(replace(given, virtual_services=(other,)), route(), "v1")[0] == []


def test_a_subset_of_ours_that_somebody_changed_is_theirs_from_then_on():
    given = view(rules=(rule("v1"),))
    given = apply(given, ROUTER.prepare(given, route(), POLICY)[0])
    changed = deepcopy(given.destination_rules[0])
    changed["spec"]["subsets"][1]["trafficPolicy"] = {"loadBalancer": {"simple": "RANDOM"}}

    _, after = clean(replace(given, destination_rules=(changed,)), route(), "v1")

    assert after.destination_rules[0]["spec"] == changed["spec"]
    assert annotations(after.destination_rules[0]) == {}


@pytest.mark.parametrize("text", ["", "{", "[]", "7", '{"payment": 7}', '{"payment": {"v2": 7}, "subsets": 7}'])
def test_a_record_that_cannot_be_read_takes_nothing_away(text):
    body, destinations = virtual_service({"route": [to("v1", 100), to("v2", 0)]}), rule("v1", "v2")
    for thing in (body, destinations):
        thing["metadata"]["annotations"] = {ADDED: text, ROLLBACK: text}
    given = view(body, rules=(destinations,))

    assert ROUTER.read(given, route()).mark == ""
    _, after = clean(given, route(), "v1")
    assert after.virtual_services[0]["spec"] == body["spec"]
    assert after.destination_rules[0]["spec"] == destinations["spec"]


def test_text_that_the_api_server_escapes_is_not_tested_but_pinned():
    given = view(virtual_service({"name": "a<b&c", "route": [to("v1", 100), to("v2", 0)]}))

    write = ROUTER.shift(given, route(http_name="a<b&c"), 10, None)

    assert "/spec/http/0/name" not in [operation["path"] for operation in write.body]
    assert weights(apply(given, write)) == {"v1": 90, "v2": 10}


def test_the_last_manager_is_the_youngest_owner_of_the_atomic_route_list():
    http_list = {"f:spec": {"f:http": {}}}
    thing = virtual_service()
    thing["metadata"]["managedFields"] = [
        {"manager": "canary", "time": "2026-01-01T00:00:00Z", "fieldsV1": http_list},
        {"manager": "kubectl-edit", "time": "2026-01-02T00:00:00Z", "fieldsV1": http_list},
        {"manager": "labeller", "time": "2026-01-03T00:00:00Z", "fieldsV1": {"f:metadata": {}}},
        {"manager": "istiod", "time": "2026-01-04T00:00:00Z", "subresource": "status", "fieldsV1": http_list},
    ]

    assert ROUTER.last_manager(view(thing), route()) == ("kubectl-edit", "2026-01-02T00:00:00Z")
    assert last_manager(virtual_service(), "spec", "http") == ("", "")
    assert ROUTER.last_manager(view(), route()) == ("", "")


@pytest.mark.parametrize("annotation", ["[" * 100_000, "{", '"text"', '{"payment": 7}', "null"])
def test_a_hostile_annotation_never_stops_a_rollback(annotation):
    hostile = virtual_service({"route": [to("v1", 50), to("v2", 50)]})
    hostile["metadata"]["annotations"] = {ADDED: annotation, ROLLBACK: annotation}
    given = view(hostile, rules=[rule("v1", "v2")])

    write = ROUTER.shift(given, route(), 0, None, "back")

    assert ROUTER.read(given, route()).mark == ""
    assert ROUTER.read(apply(given, write), route()).weight == 0
