from typing import Any

import pytest

from canary.sandbox.envoy.endpoints import peer_metadata, workload_name
from canary.sandbox.envoy.names import Client
from canary.sandbox.envoy.translate import Resources, translate

Json = dict[str, Any]

HOST = "payment.default.svc.cluster.local"


def service(**port: Any) -> Json:
    return {
        "metadata": {"name": "payment", "namespace": "default"},
        "spec": {
            "selector": {"app": "payment"},
            "ports": [{"name": "http", "port": 80, "targetPort": "web", **port}],
        },
    }


def pod(version: str, ip: str, name: str = "", **changes: Any) -> Json:
    owner = {"kind": "ReplicaSet", "name": f"payment-{version}-7d9f", "controller": True}
    return {
        "metadata": {
            "name": name or f"payment-{version}-7d9f-{ip.rpartition('.')[2]}",
            "namespace": "default",
            "labels": {"app": "payment", "version": version, "pod-template-hash": "7d9f"},
            "ownerReferences": [owner],
            **changes.pop("metadata", {}),
        },
        "spec": {"containers": [{"ports": [{"name": "web", "containerPort": 8080}]}]},
        "status": {"podIP": ip, "conditions": [{"type": "Ready", "status": "True"}], **changes.pop("status", {})},
    }


def rule(name: str = "payment", namespace: str = "default", **spec: Any) -> Json:
    subsets = [{"name": version, "labels": {"version": version}} for version in ("v1", "v2")]
    return {"metadata": {"name": name, "namespace": namespace}, "spec": {"host": HOST, "subsets": subsets, **spec}}


def clusters_of(resources: Resources) -> dict[str, Json]:
    return {cluster["name"]: cluster for cluster in resources.clusters}


def hosts_of(cluster: Json) -> list[str]:
    addresses = [
        endpoint["endpoint"]["address"]["socket_address"]
        for endpoint in cluster["load_assignment"]["endpoints"][0]["lb_endpoints"]
    ]
    return [f"{address['address']}:{address['port_value']}" for address in addresses]


def translated(*rules: Json, pods: tuple[Json, ...] = (), client: Client | None = None) -> dict[str, Json]:
    resources = translate([], rules, [service()], pods, client)
    assert resources.warnings == ()
    return clusters_of(resources)


def test_subsets_hold_the_ready_pods_with_their_labels_and_the_whole_service_holds_all() -> None:
    pods = (pod("v2", "127.0.1.3"), pod("v1", "127.0.1.2"), pod("v1", "127.0.1.1"))
    clusters = translated(rule(), pods=pods)

    assert hosts_of(clusters[f"outbound|80|v1|{HOST}"]) == ["127.0.1.1:8080", "127.0.1.2:8080"]
    assert hosts_of(clusters[f"outbound|80|v2|{HOST}"]) == ["127.0.1.3:8080"]
    assert len(hosts_of(clusters[f"outbound|80||{HOST}"])) == 3


@pytest.mark.parametrize(
    "changes",
    [
        {"status": {"conditions": [{"type": "Ready", "status": "False"}]}},
        {"status": {"podIP": None}},
        {"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}},
        {"metadata": {"namespace": "shop"}},
        {"metadata": {"labels": {"app": "cart", "version": "v1"}}},
    ],
)
def test_a_pod_that_kubernetes_would_not_send_traffic_to_gets_none(changes: Json) -> None:
    clusters = translated(rule(), pods=(pod("v1", "127.0.1.1", **changes),))

    assert hosts_of(clusters[f"outbound|80|v1|{HOST}"]) == []


@pytest.mark.parametrize(
    ("port", "expected"),
    [
        ({"targetPort": 9000}, ["127.0.1.1:9000"]),
        ({"targetPort": "web"}, ["127.0.1.1:8080"]),
        ({"targetPort": "x"}, []),
    ],
)
def test_target_ports_are_numbers_or_names_of_the_pods_own_ports(port: Json, expected: list[str]) -> None:
    clusters = clusters_of(translate([], [], [service(**port)], [pod("v1", "127.0.1.1")]))

    assert hosts_of(clusters[f"outbound|80||{HOST}"]) == expected


def test_a_pod_that_listens_elsewhere_than_declared_is_called_there() -> None:
    moved = pod("v1", "127.0.0.1", metadata={"annotations": {"sandbox.canary.delivery/port": "41234"}})
    moved["metadata"]["labels"] = {"app": "payment"}
    clusters = clusters_of(translate([], [], [service()], [moved]))

    assert hosts_of(clusters[f"outbound|80||{HOST}"]) == ["127.0.0.1:41234"]


def test_a_port_without_target_port_is_the_pods_own_and_one_that_is_not_http_has_no_cluster() -> None:
    plain = service()
    plain["spec"]["ports"] = [{"port": 80}, {"name": "tcp-audit", "port": 9999}, {"port": 53, "protocol": "UDP"}]
    clusters = clusters_of(translate([], [], [plain], [pod("v1", "127.0.1.1")]))

    assert {name: hosts_of(cluster) for name, cluster in clusters.items()} == {f"outbound|80||{HOST}": ["127.0.1.1:80"]}


def test_endpoints_carry_the_labels_of_istios_metrics() -> None:
    clusters = translated(rule(), pods=(pod("v2", "127.0.1.3", name="payment-v2-7d9f-x"),))

    (endpoint,) = clusters[f"outbound|80|v2|{HOST}"]["load_assignment"]["endpoints"][0]["lb_endpoints"]
    assert endpoint["metadata"]["filter_metadata"]["istio"] == {
        "destination_workload": "payment-v2",
        "destination_workload_namespace": "default",
        "destination_version": "v2",
        "destination_canonical_service": "payment",
        "destination_canonical_revision": "v2",
        "pod": "payment-v2-7d9f-x",
    }


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        ({"labels": {"service.istio.io/workload-name": "told"}}, "told"),
        ({"ownerReferences": [{"kind": "StatefulSet", "name": "db", "controller": True}]}, "db"),
        ({"ownerReferences": [{"kind": "ReplicaSet", "name": "bare", "controller": True}]}, "bare"),
        ({"ownerReferences": []}, "payment-v1-7d9f-1"),
    ],
)
def test_the_workload_is_who_controls_the_pod(metadata: Json, expected: str) -> None:
    assert workload_name(pod("v1", "127.0.1.1", metadata=metadata)) == expected


def test_canonical_names_follow_istios_order_of_labels() -> None:
    labels = {"app": "a", "app.kubernetes.io/name": "b", "service.istio.io/canonical-revision": "r", "version": "v"}
    known = peer_metadata(pod("v1", "127.0.1.1", metadata={"labels": labels}))

    assert known["destination_canonical_service"] == "b"
    assert known["destination_canonical_revision"] == "r"
    assert known["destination_version"] == "v"
    assert peer_metadata(pod("v1", "127.0.1.1", metadata={"labels": {}}))["destination_canonical_revision"] == "latest"


def test_the_usual_breaker_is_translated_field_by_field() -> None:
    policy = {
        "connectionPool": {
            "tcp": {"maxConnections": 100, "connectTimeout": "250ms"},
            "http": {"http1MaxPendingRequests": 1024, "maxRequestsPerConnection": 10},
        },
        "outlierDetection": {
            "consecutive5xxErrors": 5,
            "consecutiveGatewayErrors": 0,
            "interval": "10s",
            "baseEjectionTime": "30s",
            "maxEjectionPercent": 100,
        },
        "loadBalancer": {"simple": "ROUND_ROBIN"},
    }
    cluster = translated(rule(trafficPolicy=policy))[f"outbound|80|v2|{HOST}"]

    assert cluster["alt_stat_name"] == f"outbound|80|v2|{HOST};"
    assert cluster["connect_timeout"] == "0.25s"
    assert cluster["lb_policy"] == "ROUND_ROBIN"
    assert cluster["common_lb_config"] == {"healthy_panic_threshold": {"value": 0}, "update_merge_window": "0s"}
    (thresholds,) = cluster["circuit_breakers"]["thresholds"]
    assert (thresholds["max_connections"], thresholds["max_pending_requests"]) == (100, 1024)
    assert thresholds["max_requests"] == thresholds["max_retries"] == 4294967295
    assert cluster["outlier_detection"] == {
        "enforcing_success_rate": 0,
        "consecutive_5xx": 5,
        "enforcing_consecutive_5xx": 100,
        "consecutive_gateway_failure": 0,
        "enforcing_consecutive_gateway_failure": 0,
        "interval": "10s",
        "base_ejection_time": "30s",
        "max_ejection_percent": 100,
    }
    (options,) = cluster["typed_extension_protocol_options"].values()
    assert options["common_http_protocol_options"]["max_requests_per_connection"] == 10


def test_a_subsets_policy_replaces_whole_blocks_never_single_fields() -> None:
    own = {"outlierDetection": {"consecutive5xxErrors": 2}}
    subsets = [{"name": "v2", "labels": {"version": "v2"}, "trafficPolicy": own}]
    general = {
        "connectionPool": {"tcp": {"maxConnections": 7}},
        "outlierDetection": {"consecutive5xxErrors": 5, "interval": "10s"},
    }
    cluster = translated(rule(subsets=subsets, trafficPolicy=general))[f"outbound|80|v2|{HOST}"]

    assert "interval" not in cluster["outlier_detection"]
    assert cluster["outlier_detection"]["consecutive_5xx"] == 2
    assert cluster["circuit_breakers"]["thresholds"][0]["max_connections"] == 7


def test_without_a_rule_there_is_no_ejection_and_no_limit() -> None:
    cluster = translated()[f"outbound|80||{HOST}"]

    assert "outlier_detection" not in cluster
    assert cluster["circuit_breakers"]["thresholds"][0]["max_connections"] == 4294967295
    assert cluster["connect_timeout"] == "10s"


def test_the_callers_own_rule_shadows_the_services_subsets() -> None:
    shadowing = rule(namespace="shop", subsets=[])
    of_the_service = rule()

    assert f"outbound|80|v2|{HOST}" in translated(shadowing, of_the_service, client=Client(namespace="default"))
    assert f"outbound|80|v2|{HOST}" not in translated(shadowing, of_the_service, client=Client(namespace="shop"))


def test_rules_of_one_host_merge_and_the_first_traffic_policy_wins() -> None:
    first = rule("a", subsets=[{"name": "v1", "labels": {"version": "v1"}}])
    first["spec"]["trafficPolicy"] = {"connectionPool": {"tcp": {"maxConnections": 1}}}
    second = rule("b", subsets=[{"name": "v2", "labels": {"version": "v2"}}])
    second["spec"]["trafficPolicy"] = {"connectionPool": {"tcp": {"maxConnections": 2}}}
    clusters = translated(second, first)

    assert {f"outbound|80|v1|{HOST}", f"outbound|80|v2|{HOST}"} <= clusters.keys()
    assert clusters[f"outbound|80|v2|{HOST}"]["circuit_breakers"]["thresholds"][0]["max_connections"] == 1


def test_a_broken_rule_costs_its_own_service_only_and_says_so() -> None:
    broken = rule(trafficPolicy={"outlierDetection": {"interval": "now and then"}})
    cart = {
        "metadata": {"name": "cart", "namespace": "default"},
        "spec": {"selector": {"a": "b"}, "ports": [{"port": 80}]},
    }
    resources = translate([], [broken], [service(), cart], [])

    assert list(clusters_of(resources)) == ["outbound|80||cart.default.svc.cluster.local"]
    (warning,) = resources.warnings
    assert warning.startswith(f"{HOST}: left out, its Service or DestinationRule is broken")
    assert "now and then" in warning


def test_what_is_ignored_of_a_rule_is_named() -> None:
    policy = {"loadBalancer": {"consistentHash": {"useSourceIp": True}}, "tls": {"mode": "SIMPLE"}}
    resources = translate([], [rule(subsets=[], trafficPolicy=policy)], [service()], [])

    name = f"outbound|80||{HOST}"
    assert resources.warnings == (
        f"{name} loadBalancer: consistentHash is not supported by the sandbox and was ignored",
        f"{name} tls: mode SIMPLE is ignored: pods of the sandbox speak plain HTTP",
    )


def test_a_grpc_port_speaks_http2_to_its_pods() -> None:
    clusters = clusters_of(translate([], [], [service(name="grpc-api")], []))

    (options,) = clusters[f"outbound|80||{HOST}"]["typed_extension_protocol_options"].values()
    assert "http2_protocol_options" in options["explicit_http_config"]
