"""DestinationRules to Envoy clusters: subsets, connection pools, outlier detection. Pure.

Field by field what istiod writes, with its defaults where they are not Envoy's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from canary.sandbox.envoy.durations import envoy_duration
from canary.sandbox.envoy.endpoints import endpoints
from canary.sandbox.envoy.names import (
    ROOT_NAMESPACE,
    Client,
    Json,
    Warnings,
    age_order,
    cluster_name,
    is_exported,
    matches_host,
    resolve_host,
    service_host,
    title,
)

_UNLIMITED = 4294967295  # istiod's default for every circuit breaker: Envoy's own 1024 would fail a busy service
_BLOCKS = ("connectionPool", "loadBalancer", "outlierDetection", "tls")
_LB_POLICIES = {
    "UNSPECIFIED": "LEAST_REQUEST",
    "LEAST_REQUEST": "LEAST_REQUEST",
    "LEAST_CONN": "LEAST_REQUEST",
    "ROUND_ROBIN": "ROUND_ROBIN",
    "RANDOM": "RANDOM",
}
_HTTP_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"


def is_http(port: Mapping[str, Any]) -> bool:
    """Whether a Service's port carries HTTP, by Istio's rules: appProtocol, then the prefix of the port's name.

    A port that says nothing is taken for HTTP, as Istio's detection would find.
    """
    if port.get("protocol", "TCP") != "TCP":
        return False
    said = (port.get("appProtocol") or port.get("name") or "http").removeprefix("kubernetes.io/").split("-")[0].lower()
    return said not in {"tcp", "tls", "https", "udp", "mongo", "mysql", "redis"}


def _is_http2(port: Mapping[str, Any]) -> bool:
    said = (port.get("appProtocol") or port.get("name") or "").removeprefix("kubernetes.io/").split("-")[0].lower()
    return said in {"grpc", "http2", "h2c"}


class Rules:
    """The DestinationRules as one client sees them.

    Istio looks in the client's namespace, then the service's, then the root's, and uses the first that has rules for
    the host. Rules of one namespace for one host are merged: the oldest wins, subset by subset.
    """

    def __init__(self, destination_rules: Iterable[Json], client: Client, warnings: Warnings) -> None:
        self._rules: list[tuple[str, Json]] = []
        """With the host or wildcard each is for, the oldest first."""
        for rule in sorted(destination_rules, key=age_order):
            try:
                if is_exported(rule, client.namespace):
                    self._rules.append((resolve_host(rule["spec"]["host"], rule["metadata"]["namespace"]), rule))
            except (KeyError, TypeError, AttributeError) as error:
                warnings.add(title(rule, "DestinationRule"), f"left out, it is broken: {error!r}")
        self._client = client
        self._warnings = warnings

    def merged(self, host: str, service_namespace: str) -> Json:
        """`{trafficPolicy, subsets}` for a host; empty when no rule covers it."""
        for namespace in dict.fromkeys((self._client.namespace, service_namespace, ROOT_NAMESPACE)):
            covering = [
                (pattern, rule)
                for pattern, rule in self._rules
                if rule["metadata"]["namespace"] == namespace and matches_host(pattern, host)
            ]
            if covering:
                most_specific = max((pattern for pattern, _ in covering), key=lambda p: (not p.startswith("*"), len(p)))
                return self._merge([rule for pattern, rule in covering if pattern == most_specific])
        return {}

    def _merge(self, rules: list[Json]) -> Json:
        merged: Json = {"trafficPolicy": {}, "subsets": {}}
        for rule in rules:
            where = title(rule, "DestinationRule")
            self._warnings.ignored(where, rule["spec"], "host", "subsets", "trafficPolicy", "exportTo")
            merged["trafficPolicy"] = merged["trafficPolicy"] or rule["spec"].get("trafficPolicy") or {}
            for subset in rule["spec"].get("subsets") or []:
                self._warnings.ignored(f"{where} subset {subset['name']}", subset, "name", "labels", "trafficPolicy")
                if subset["name"] in merged["subsets"]:
                    self._warnings.add(where, f"subset {subset['name']} is defined twice; the first one is used")
                merged["subsets"].setdefault(subset["name"], subset)
        return merged


def effective_policy(port: int, *policies: Mapping[str, Any]) -> Json:
    """Traffic policies merged as Istio does: a later one (the subset's) replaces whole blocks, never single fields,
    and settings for the port replace all of their own policy."""
    merged: Json = {}
    for policy in policies:
        own = policy
        for setting in policy.get("portLevelSettings") or []:
            if setting.get("port", {}).get("number") == port:
                own = setting
        merged |= {block: own[block] for block in _BLOCKS if own.get(block)}
    return merged


def clusters_of(service: Json, pods: Iterable[Json], rules: Rules, warnings: Warnings) -> list[Json]:
    """The clusters of every HTTP port of a Service: the whole service, and one per subset."""
    host, namespace = service_host(service), service["metadata"]["namespace"]
    rule = rules.merged(host, namespace)
    subsets = {"": {}, **rule.get("subsets", {})}
    pods = list(pods)
    clusters = []
    for port in service.get("spec", {}).get("ports") or []:
        if not is_http(port):
            continue
        for subset, definition in subsets.items():
            policy = effective_policy(
                port["port"], rule.get("trafficPolicy") or {}, definition.get("trafficPolicy") or {}
            )
            name = cluster_name(port["port"], subset, host)
            hosts = endpoints(service, port, definition.get("labels") or {}, pods)
            metadata = {
                "destination_service": host,
                "destination_service_name": service["metadata"]["name"],
                "destination_service_namespace": namespace,
                **({"subset": subset} if subset else {}),
            }
            _note_ignored(name, policy, warnings)
            clusters.append(_cluster(name, hosts, policy, metadata, _is_http2(port)))
    return clusters


def _cluster(name: str, hosts: list[Json], policy: Json, metadata: Json, is_http2: bool) -> Json:
    pool = policy.get("connectionPool") or {}
    tcp, http = pool.get("tcp") or {}, pool.get("http") or {}
    outlier = policy.get("outlierDetection")
    return {
        "@type": "type.googleapis.com/envoy.config.cluster.v3.Cluster",
        "name": name,
        "alt_stat_name": f"{name};",  # ";" ends the name for the bootstrap's tag expression: names hold dots
        "type": "STATIC",
        "connect_timeout": envoy_duration(tcp.get("connectTimeout", "10s")),
        "lb_policy": _LB_POLICIES.get((policy.get("loadBalancer") or {}).get("simple", ""), "LEAST_REQUEST"),
        "metadata": {"filter_metadata": {"istio": metadata}},
        "common_lb_config": {
            "healthy_panic_threshold": {"value": (outlier or {}).get("minHealthPercent", 0)},
            # Without this, a burst of health changes (an ejection) reaches the workers a second late.
            "update_merge_window": "0s",
        },
        "circuit_breakers": {
            "thresholds": [
                {
                    "max_connections": tcp.get("maxConnections", _UNLIMITED),
                    "max_pending_requests": http.get("http1MaxPendingRequests", _UNLIMITED),
                    "max_requests": http.get("http2MaxRequests", _UNLIMITED),
                    "max_retries": http.get("maxRetries", _UNLIMITED),
                    "track_remaining": True,
                }
            ]
        },
        **({"outlier_detection": _outlier_detection(outlier)} if outlier is not None else {}),
        "typed_extension_protocol_options": {_HTTP_OPTIONS: _http_options(http, is_http2)},
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": hosts}]},
    }


def _http_options(http: Json, is_http2: bool) -> Json:
    common: Json = {"idle_timeout": envoy_duration(http.get("idleTimeout", "1h"))}
    if http.get("maxRequestsPerConnection"):
        common["max_requests_per_connection"] = http["maxRequestsPerConnection"]
    upgrade = is_http2 or http.get("h2UpgradePolicy") == "UPGRADE"
    return {
        "@type": f"type.googleapis.com/{_HTTP_OPTIONS}",
        "common_http_protocol_options": common,
        "explicit_http_config": {"http2_protocol_options" if upgrade else "http_protocol_options": {}},
    }


def _outlier_detection(given: Json) -> Json:
    """Only what was set; success-rate ejection, which Istio never uses, is off."""
    detection: Json = {"enforcing_success_rate": 0}
    for field, name, enforcing in (
        ("consecutive5xxErrors", "consecutive_5xx", "enforcing_consecutive_5xx"),
        ("consecutiveGatewayErrors", "consecutive_gateway_failure", "enforcing_consecutive_gateway_failure"),
        (
            "consecutiveLocalOriginFailures",
            "consecutive_local_origin_failure",
            "enforcing_consecutive_local_origin_failure",
        ),
    ):
        if field in given:
            detection |= {name: given[field], enforcing: 100 if given[field] > 0 else 0}
    for field, name in (("interval", "interval"), ("baseEjectionTime", "base_ejection_time")):
        if field in given:
            detection[name] = envoy_duration(given[field])
    if given.get("maxEjectionPercent", 0) > 0:
        detection["max_ejection_percent"] = given["maxEjectionPercent"]
    if given.get("splitExternalLocalOriginErrors"):
        detection["split_external_local_origin_errors"] = True
    return detection


def _note_ignored(name: str, policy: Json, warnings: Warnings) -> None:
    pool = policy.get("connectionPool") or {}
    warnings.ignored(f"{name} connectionPool", pool, "tcp", "http")
    warnings.ignored(f"{name} connectionPool.tcp", pool.get("tcp") or {}, "maxConnections", "connectTimeout")
    warnings.ignored(
        f"{name} connectionPool.http",
        pool.get("http") or {},
        "http1MaxPendingRequests",
        "http2MaxRequests",
        "maxRequestsPerConnection",
        "maxRetries",
        "idleTimeout",
        "h2UpgradePolicy",
    )
    balancer = policy.get("loadBalancer") or {}
    warnings.ignored(f"{name} loadBalancer", balancer, "simple")
    if balancer.get("simple") and balancer["simple"] not in _LB_POLICIES:
        warnings.add(f"{name} loadBalancer", f"{balancer['simple']} is not supported by the sandbox: LEAST_REQUEST")
    warnings.ignored(
        f"{name} outlierDetection",
        policy.get("outlierDetection") or {},
        "consecutive5xxErrors",
        "consecutiveGatewayErrors",
        "consecutiveLocalOriginFailures",
        "splitExternalLocalOriginErrors",
        "interval",
        "baseEjectionTime",
        "maxEjectionPercent",
        "minHealthPercent",
    )
    mode = (policy.get("tls") or {}).get("mode", "DISABLE")
    if mode not in ("DISABLE", "ISTIO_MUTUAL"):
        warnings.add(f"{name} tls", f"mode {mode} is ignored: pods of the sandbox speak plain HTTP")
