"""Which Service, which VirtualService, which HTTP route, which arms; and every refusal that must name its object."""

from dataclasses import replace

import pytest
import yaml

from canary.errors import FindingError
from canary.mesh.istio.hosts import Hosts
from canary.mesh.istio.router import IstioRouter
from canary.mesh.router import MeshView, Request
from canary.model.route import Arm, Route

ROUTER = IstioRouter()


def deployment(name, **labels):
    return {
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"template": {"metadata": {"labels": {"app": "payment", **labels}}}},
    }


def service(name="payment", **spec):
    return {"metadata": {"name": name, "namespace": "default"}, "spec": {"selector": {"app": "payment"}, **spec}}


def to(subset=None, weight=None, host="payment", port=None):
    destination = {"host": host}
    if subset:
        destination["subset"] = subset
    if port:
        destination["port"] = {"number": port}
    return {"destination": destination} if weight is None else {"destination": destination, "weight": weight}


def virtual_service(*http, name="payment", hosts=("payment",), namespace="default", **spec):
    return {
        "metadata": {"name": name, "namespace": namespace, "resourceVersion": "1"},
        "spec": {"hosts": list(hosts), "http": list(http), **spec},
    }


def rule(subsets, name="payment", host="payment", created="2026-01-01T00:00:00Z", **spec):
    return {
        "metadata": {"name": name, "namespace": "default", "resourceVersion": "1", "creationTimestamp": created},
        "spec": {"host": host, "subsets": [{"name": key, "labels": labels} for key, labels in subsets.items()], **spec},
    }


V1_V2 = {"v1": {"version": "v1"}, "v2": {"version": "v2"}}
BOTH = ({"route": [to("v1", 100), to("v2", 0)]},)


def view(*virtual_services, rules=None, services=None, deployments=None):
    return MeshView(
        "default",
        virtual_services=virtual_services or (virtual_service(*BOTH),),
        destination_rules=(rule(V1_V2),) if rules is None else rules,
        services=(service(),) if services is None else services,
        deployments=(deployment("payment-v1", version="v1"), deployment("payment-v2", version="v2"))
        if deployments is None
        else deployments,
    )


def resolve(given, **request):
    return ROUTER.resolve(given, Request("payment-v2", **request))


def finding(given, reason, **request):
    with pytest.raises(FindingError) as caught:
        resolve(given, **request)
    assert caught.value.reason == reason, caught.value
    return caught.value


def test_the_users_way_is_resolved_without_any_annotation():
    assert resolve(view()) == Route(
        namespace="default",
        service="payment",
        virtual_service="payment",
        http_name="",
        host="payment",
        port=None,
        stable=Arm("payment-v1", "v1", "version", "v1"),
        canary=Arm("payment-v2", "v2", "version", "v2"),
    )
    assert ROUTER.stable_deployment(view(), "payment") == "payment-v1"


@pytest.mark.parametrize("weight", [None, 0, 1, 100])
def test_a_single_destination_is_stable_whatever_its_weight_says(weight):
    given = view(virtual_service({"name": "primary", "route": [to("v1", weight, port=80)]}))

    found = resolve(given)

    assert (found.stable.subset, found.canary.subset) == ("v1", "v2")
    assert (found.http_name, found.port) == ("primary", 80)


def test_after_a_promotion_the_new_version_is_stable_and_a_version_that_carries_the_traffic_is_adopted():
    given = view(virtual_service({"route": [to("v1", 0), to("v2", 100)]}))

    assert "payment-v2 already carries the traffic" in str(finding(given, "AlreadyStable"))
    assert ROUTER.stable_deployment(given, "payment") == "payment-v2"


def test_the_service_must_be_named_when_several_select_the_pods():
    given = view(services=(service(), service("payment-headless")))

    assert finding(given, "AmbiguousService").candidates == ("payment", "payment-headless")
    assert resolve(given, service="payment").service == "payment"


def test_a_service_that_does_not_select_the_target_cannot_be_named():
    given = view(services=(service(), service("orders", selector={"app": "orders"})))

    error = finding(given, "ServiceMismatch", service="orders")

    assert "Service default/orders: spec.selector" in str(error)
    assert error.candidates == ("payment",)


def test_no_service_and_an_unknown_service_list_those_that_exist():
    others = (service("orders", selector={"app": "orders"}),)

    assert finding(view(services=others), "ServiceMissing").candidates == ("orders",)
    assert finding(view(), "ServiceMissing", service="paiment").candidates == ("payment",)


@pytest.mark.parametrize(
    "spec", [{"type": "ExternalName", "externalName": "bank.b.svc.cluster.local"}, {"selector": None}, {"selector": {}}]
)
def test_external_names_and_services_without_a_selector_are_refused(spec):
    given = view(services=(service(**spec),))

    finding(given, "UnusableService", service="payment")
    finding(given, "ServiceMissing")


@pytest.mark.parametrize("name", ["b/payment", "payment.b", "payment.b.svc.cluster.local", "PAYMENT", "-a", "a" * 64])
def test_names_that_could_point_out_of_the_namespace_are_no_names(name):
    finding(view(), "InvalidName", service=name)
    finding(view(), "InvalidName", virtual_service=name)


def test_a_target_that_does_not_exist_is_named():
    with pytest.raises(FindingError, match="Deployment default/payment-v9 does not exist"):
        ROUTER.resolve(view(), Request("payment-v9"))


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("payment", "payment"),
        ("payment.default.svc.cluster.local", "payment"),
        ("payment.default", None),
        ("payment.default.svc", None),
        ("payment.b.svc.cluster.local", None),
        ("a.payment.default.svc.cluster.local", None),
        ("*", None),
        ("*.default.svc.cluster.local", None),
        ("", None),
        (None, None),
        (7, None),
    ],
)
def test_a_host_with_a_dot_is_literal_as_in_istio(host, expected):
    assert Hosts("default").service(host) == expected


@pytest.mark.parametrize(
    ("host", "in_mesh", "at_gateway"),
    [
        ("payment", False, False),
        ("payment.default.svc.cluster.local", False, False),
        ("payment.default", False, False),
        ("payment.example.com", False, False),
        ("example.com", True, False),  # in the mesh it may be what a caller writes for Service example of ns com
        ("bank.b", True, False),
        ("bank.b.svc", True, True),
        ("bank.b.svc.cluster.local", True, True),
        ("BANK.B.svc.cluster.local.", True, True),
        ("*.b.svc.cluster.local", True, True),
        ("*.svc.cluster.local", True, True),
        ("*.default.svc.cluster.local", False, False),
        ("*.local", True, False),
        ("*", True, False),
        ("*.example.com", False, False),
        (None, True, True),
    ],
)
def test_hosts_that_take_another_namespaces_requests_are_foreign(host, in_mesh, at_gateway):
    assert Hosts("default").is_foreign(host, in_mesh=True) is in_mesh
    assert Hosts("default").is_foreign(host, in_mesh=False) is at_gateway


def test_the_cluster_domain_is_a_setting():
    given = view(virtual_service({"route": [to("v1", host="payment.default.svc.corp.example")]}))

    assert IstioRouter("corp.example").resolve(given, Request("payment-v2")).host == "payment.default.svc.corp.example"
    finding(given, "ForeignHost")


def test_a_virtual_service_for_another_namespaces_host_is_refused():
    given = view(virtual_service(*BOTH, hosts=("payment", "bank.b.svc.cluster.local")))

    assert "VirtualService default/payment: spec.hosts[1] 'bank.b.svc.cluster.local'" in str(
        finding(given, "ForeignHost")
    )


@pytest.mark.parametrize("host", ["bank.b.svc.cluster.local", "bank.b", "missing", None])
def test_a_destination_that_is_no_service_of_the_namespace_is_refused(host):
    given = view(virtual_service({"route": [to("v1", 90), to(weight=10, host=host)]}))

    assert "spec.http[0].route[1].destination.host" in str(finding(given, "ForeignHost"))


def test_a_public_host_at_a_gateway_is_the_common_case_and_works():
    given = view(
        virtual_service(*BOTH, name="ingress", hosts=("*", "pay.example.com"), gateways=["istio-system/public"])
    )

    assert resolve(given).virtual_service == "ingress"


def test_a_wildcard_in_the_mesh_covers_other_tenants_and_is_refused():
    finding(view(virtual_service(*BOTH, hosts=("*",), gateways=["public", "mesh"])), "ForeignHost")


def test_objects_of_another_namespace_in_the_view_are_not_there():
    foreign = virtual_service(*BOTH, namespace="b")

    finding(view(foreign), "VirtualServiceMissing")


def test_two_virtual_services_of_the_mesh_for_one_host_are_undefined_also_when_one_is_named():
    given = view(
        virtual_service(*BOTH),
        virtual_service(*BOTH, name="payment-again", hosts=("payment.default.svc.cluster.local",)),
    )

    assert finding(given, "TwoVirtualServices").candidates == ("payment", "payment-again")
    finding(given, "TwoVirtualServices", virtual_service="payment")


def test_one_in_the_mesh_and_one_at_a_gateway_must_be_told_apart_by_name():
    given = view(
        virtual_service(*BOTH), virtual_service(*BOTH, name="ingress", hosts=("pay.example.com",), gateways=["public"])
    )

    error = finding(given, "AmbiguousVirtualService")

    assert error.candidates == ("ingress", "payment")
    assert "canary.delivery/virtual-service" in str(error)
    assert resolve(given, virtual_service="ingress").virtual_service == "ingress"


def test_a_virtual_service_without_subsets_does_not_stand_in_the_way_of_the_one_with():
    given = view(
        virtual_service(*BOTH),
        virtual_service({"route": [to()]}, name="ingress", hosts=("x.example.com",), gateways=["g"]),
    )

    assert resolve(given).virtual_service == "payment"


def test_a_missing_virtual_service_lists_those_that_exist():
    given = view(virtual_service({"route": [to("v1", host="orders")]}, name="orders", hosts=("orders",)))

    assert finding(given, "VirtualServiceMissing").candidates == ("orders",)
    assert finding(given, "VirtualServiceMissing", virtual_service="nope").candidates == ("orders",)


def test_a_delegate_in_the_namespace_holds_the_route():
    root = virtual_service({"delegate": {"name": "payment-routes"}}, name="root")
    delegate = virtual_service(*BOTH, name="payment-routes", hosts=())

    assert resolve(view(root, delegate)).virtual_service == "payment-routes"
    assert "payment-routes" in str(finding(view(root, delegate), "UnsafeRoute", virtual_service="root"))


def test_a_delegate_takes_the_hosts_of_its_root():
    root = virtual_service({"delegate": {"name": "routes"}}, name="root", hosts=("bank.b.svc.cluster.local",))

    finding(view(root, virtual_service(*BOTH, name="routes", hosts=())), "ForeignHost")


def test_a_delegate_elsewhere_is_not_followed():
    given = view(virtual_service({"delegate": {"name": "routes", "namespace": "b"}}))

    assert "VirtualService b/routes, outside namespace default" in str(finding(given, "ForeignDelegate"))


def test_two_routes_to_subsets_must_be_told_apart_by_name():
    given = view(
        virtual_service(
            {"name": "debug", "match": [{"headers": {"x-me": {"exact": "1"}}}], "route": [to("v2")]},
            {"route": [to("v1", 100), to("v2", 0)]},
        )
    )

    error = finding(given, "AmbiguousRoute")

    assert error.candidates == ("debug", "spec.http[1]")
    assert "canary.delivery/route" in str(error)


def test_the_named_route_is_taken():
    given = view(
        virtual_service({"name": "a", "route": [to("v2")]}, {"name": "b", "route": [to("v1", 1), to("v2", 0)]})
    )

    assert resolve(given, route="b").http_name == "b"
    assert finding(given, "RouteMissing", route="c").candidates == ("a", "b")


def test_our_own_header_route_is_no_candidate():
    body = virtual_service({"name": "canary-v2-header", "route": [to("v2", 100)]}, *BOTH)
    body["metadata"]["annotations"] = {"canary.delivery/added": '{"payment":{"v2":{"headerRoute":"canary-v2-header"}}}'}

    assert resolve(view(body)).stable.subset == "v1"


@pytest.mark.parametrize("kind", ["redirect", "directResponse", "delegate"])
def test_routes_without_weights_are_unsafe(kind):
    given = view(virtual_service({"name": "x", kind: {"status": 200, "name": "y"}}, *BOTH))

    assert kind in str(finding(given, "UnsafeRoute", route="x"))


@pytest.mark.parametrize("kind", ["tcp", "tls"])
def test_routes_per_connection_are_refused(kind):
    given = view({**virtual_service(), "spec": {"hosts": ["payment"], kind: [{"route": [to("v1")]}]}})

    assert f"only spec.{kind} routes" in str(finding(given, "UnsafeRoute"))


@pytest.mark.parametrize("weight", [-1, 1.5, "90", True])
def test_weights_that_are_no_whole_percent_are_named(weight):
    given = view(virtual_service({"route": [to("v1", 100), to("v2", weight)]}))

    assert "VirtualService default/payment: spec.http[0].route[1].weight" in str(finding(given, "UnsafeRoute"))


def test_weights_beside_another_services_destination_must_add_up_to_100():
    services = (service(), service("legacy", selector={"app": "legacy"}))
    given = view(virtual_service({"route": [to("v1", 5), to(weight=5, host="legacy")]}), services=services)

    assert "add up to 10" in str(finding(given, "UnsafeRoute"))


def test_two_ports_on_one_route_are_refused():
    finding(view(virtual_service({"route": [to("v1", 100, port=80), to("v2", 0, port=90)]})), "UnsafeRoute")


def test_no_subsets_prints_yaml_that_resolves_once_added():
    given = view(virtual_service({"timeout": "2s", "route": [to(port=80)]}), rules=())

    text = str(finding(given, "NoSubsets"))

    start = text.index("apiVersion:")
    made, _, advice = text[start:].partition("and this in")
    http = yaml.safe_load(advice[advice.index("route:") :])
    repaired = view(virtual_service({"timeout": "2s", **http}), rules=(yaml.safe_load(made),))
    found = resolve(repaired)
    assert (found.stable.subset, found.canary.subset, found.port) == ("v1", "v2", 80)


def test_nothing_has_weight():
    finding(view(virtual_service({"route": [to("v1", 0), to("v2", 0)]})), "NoStable")


def test_two_versions_with_weight_leave_stable_open():
    error = finding(view(virtual_service({"route": [to("v1", 90), to("v2", 10)]})), "AmbiguousStable")

    assert error.candidates == ("v1", "v2")


def test_the_first_of_duplicate_subsets_wins_and_the_oldest_rule_is_the_first():
    newer = rule({"v1": {"version": "nonsense"}}, name="a", created="2026-02-01T00:00:00Z")

    assert resolve(view(rules=(newer, rule(V1_V2)))).stable.deployment == "payment-v1"


def test_rules_for_some_callers_only_or_for_other_hosts_do_not_count():
    others = (rule(V1_V2, workloadSelector={"matchLabels": {"a": "b"}}), rule(V1_V2, name="orders", host="orders"))
    broken = rule({"v9": {"version": "v9"}}, name="broken")

    assert "DestinationRule default/broken" in str(finding(view(rules=(*others, broken)), "SubsetMissing"))


def test_where_no_rule_exists_stable_is_the_version_the_subset_is_named_after():
    assert resolve(view(rules=())).stable == Arm("payment-v1", "v1", "version", "v1")

    unknown = view(virtual_service({"route": [to("blue")]}), rules=())
    assert "subset 'blue'" in str(finding(unknown, "SubsetMissing"))


def test_a_subset_that_selects_several_or_no_deployments_is_refused():
    assert finding(view(rules=(rule({"v1": {"app": "payment"}}),)), "AmbiguousStable").candidates == (
        "payment-v1",
        "payment-v2",
    )
    finding(view(rules=(rule({"v1": {"version": "gone"}}),)), "NoStable")


def test_the_target_needs_the_label_that_tells_versions_apart():
    unlabelled = view(deployments=(deployment("payment-v1", version="v1"), deployment("payment-v2")))

    assert "spec.template.metadata.labels has no 'version'" in str(finding(unlabelled, "LabelMissing"))


def test_two_labels_that_differ_do_not_tell_which_one_counts():
    given = view(
        rules=(rule({"v1": {"version": "v1", "track": "old"}}),),
        deployments=(
            deployment("payment-v1", version="v1", track="old"),
            deployment("payment-v2", version="v2", track="new"),
        ),
    )

    finding(given, "LabelMissing")


def test_another_deployment_with_the_canarys_label_is_refused():
    given = view()
    given = replace(given, deployments=(*given.deployments, deployment("payment-v2-copy", version="v2")))

    assert finding(given, "AmbiguousCanary").candidates == ("payment-v2", "payment-v2-copy")


@pytest.mark.parametrize(
    ("subsets", "value", "expected"),
    [
        ({"green": {"version": "v2"}}, "v2", "green"),
        ({"everybody": {"app": "payment"}}, "v2", "v2"),
        ({"v2": {"version": "other"}}, "v2", "v2-canary"),
        ({}, "V2.1_rc", "v2-1-rc"),
    ],
)
def test_a_subset_that_selects_the_canary_is_reused_and_else_named_after_its_version(subsets, value, expected):
    given = view(
        virtual_service({"route": [to("v1")]}),
        rules=(rule({"v1": {"version": "v1"}, **subsets}),),
        deployments=(deployment("payment-v1", version="v1"), deployment("payment-v2", version=value)),
    )

    assert resolve(given).canary == Arm("payment-v2", expected, "version", value)


def test_both_names_for_a_new_subset_are_somebody_elses():
    taken = rule({"v1": {"version": "v1"}, "v2": {"version": "x"}, "v2-canary": {"version": "y"}})

    assert "DestinationRule default/payment: spec.subsets" in str(
        finding(view(virtual_service({"route": [to("v1")]}), rules=(taken,)), "SubsetTaken")
    )


def test_a_subset_that_selects_somebody_else_too_is_not_reused():
    given = view(
        virtual_service({"route": [to("v1")]}),
        rules=(rule({"v1": {"version": "v1", "region": "eu"}, "every-v2": {"version": "v2"}}),),
        deployments=(
            deployment("payment-v1", version="v1", region="eu"),
            deployment("payment-v2", version="v2", region="eu"),
            deployment("payment-v2-us", version="v2", region="us"),
        ),
    )

    assert resolve(given).canary.subset == "v2"
