"""Envoy's static configuration: where it listens, where it reads its routes and clusters, what it reports. Pure.

The metrics are Istio's: names, labels and meaning as its stats filter gives them to a client's sidecar
(`reporter="source"`), so that the controller sees here what it sees in a mesh.
"""

from __future__ import annotations

from pathlib import Path

from canary.sandbox.envoy.filters import CORS, FAULT
from canary.sandbox.envoy.names import Client, Json
from canary.sandbox.envoy.translate import ROUTE_CONFIGURATION

CLUSTERS_FILE = Path("cds", "clusters.json")
ROUTES_FILE = Path("rds", "routes.json")
"""Relative to the xDS directory. Each in a folder of its own: a watched directory reports every move in it."""

_ROUTER = "envoy.filters.http.router"
_FILTER_TYPES = {
    CORS: "envoy.extensions.filters.http.cors.v3.Cors",
    FAULT: "envoy.extensions.filters.http.fault.v3.HTTPFault",
    _ROUTER: "envoy.extensions.filters.http.router.v3.Router",
}
_HCM = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"

# Istio's proxies report a selection too: what callers of a mesh report when asked for outlier detection, and what says
# which configuration is in force. Everything else would make each scrape of every cluster hundreds of lines.
_REPORTED = (
    r"^istio\..*",
    r"^cluster\..*\.(outlier_detection\.ejections_(active|enforced_total)|membership_(total|healthy))$",
    r"^cluster_manager\.(cds\.(version_text|update_rejected)|active_clusters)$",
    r"^http\..*\.rds\..*\.(version_text|update_rejected)$",
    r"^http\.outbound\.(downstream_rq_total|no_route|no_cluster)$",
    r"^server\.(live|state|uptime|memory_allocated)$",
)


def bootstrap(directory: Path, listen: tuple[str, int], admin: tuple[str, int], client: Client) -> Json:
    """The bootstrap of an Envoy that reads clusters and routes from `directory` and serves `client` on `listen`."""
    return {
        "node": {
            "id": f"sidecar~{listen[0]}~{client.workload}.{client.namespace}~{client.namespace}.svc.cluster.local",
            "cluster": f"{client.workload}.{client.namespace}",
        },
        "admin": {"address": _address(admin)},
        "stats_flush_interval": "1s",  # histograms reach a scrape only at a flush; the default of 5 s hides latency
        "stats_config": {
            "use_all_default_tags": False,
            "stats_tags": [{"tag_name": "cluster_name", "regex": r"^cluster(\.(.+);)"}],
            "stats_matcher": {
                "inclusion_list": {"patterns": [{"safe_regex": {"regex": pattern}} for pattern in _REPORTED]}
            },
        },
        "dynamic_resources": {"cds_config": _source(directory, CLUSTERS_FILE)},
        "static_resources": {"listeners": [_listener(directory, listen, client)]},
    }


def _address(at: tuple[str, int]) -> Json:
    return {"socket_address": {"address": at[0], "port_value": at[1]}}


def _source(directory: Path, file: Path) -> Json:
    path = directory / file
    watched = {"path": str(path), "watched_directory": {"path": str(path.parent)}}
    return {"resource_api_version": "V3", "path_config_source": watched}


def _listener(directory: Path, listen: tuple[str, int], client: Client) -> Json:
    connection_manager = {
        "@type": f"type.googleapis.com/{_HCM}",
        "stat_prefix": "outbound",
        "codec_type": "AUTO",
        "stream_idle_timeout": "0s",
        "normalize_path": True,
        "upgrade_configs": [{"upgrade_type": "websocket"}],
        "rds": {
            "route_config_name": ROUTE_CONFIGURATION,
            "config_source": _source(directory, ROUTES_FILE),
        },
        "access_log": _istio_metrics(client),
        # Envoy's own answers say why (NC, UH, UT, ...), so that a load generator can tell them from a backend's.
        "local_reply_config": {
            "mappers": [
                {
                    "filter": {"response_flag_filter": {}},
                    "headers_to_add": [{"header": {"key": "x-envoy-response-flags", "value": "%RESPONSE_FLAGS%"}}],
                }
            ]
        },
        "http_filters": [
            {"name": name, "typed_config": {"@type": f"type.googleapis.com/{kind}"}}
            for name, kind in _FILTER_TYPES.items()
        ],
    }
    manager = {"name": "envoy.filters.network.http_connection_manager", "typed_config": connection_manager}
    return {"name": "outbound", "address": _address(listen), "filter_chains": [{"filters": [manager]}]}


def _istio_metrics(client: Client) -> list[Json]:
    """Four stats loggers that share their series; each request is counted by exactly one.

    gRPC requests carry their protocol and status. A request that reached no cluster (NR, NC, a direct response) is
    filed under the Host it asked for, as Istio's filter does; NC would otherwise belong to no service.
    """
    by_cluster = {
        "destination_service": _of_cluster("destination_service"),
        "destination_service_name": _of_cluster("destination_service_name"),
        "destination_service_namespace": _of_cluster("destination_service_namespace"),
    }
    by_host = {"destination_service": "%REQ(:AUTHORITY)%", "destination_service_name": "%REQ(:AUTHORITY)%"}
    grpc = {"request_protocol": "grpc", "grpc_response_status": "%GRPC_STATUS_NUMBER%"}
    http = {"request_protocol": "http"}
    return [
        _stats_logger(client, [_HAS_CLUSTER, _IS_GRPC], by_cluster | grpc),
        _stats_logger(client, [_HAS_CLUSTER, _IS_NOT_GRPC], by_cluster | http),
        _stats_logger(client, [_HAS_NO_CLUSTER, _IS_GRPC], by_host | grpc),
        _stats_logger(client, [_HAS_NO_CLUSTER, _IS_NOT_GRPC], by_host | http),
    ]


def _expression(condition: str) -> Json:
    kind = "envoy.extensions.access_loggers.filters.cel.v3.ExpressionFilter"
    config = {"@type": f"type.googleapis.com/{kind}", "expression": condition}
    return {"extension_filter": {"name": "envoy.access_loggers.extension_filters.cel", "typed_config": config}}


_GRPC_TYPE = {"name": "content-type", "string_match": {"prefix": "application/grpc"}}
_IS_GRPC: Json = {"header_filter": {"header": _GRPC_TYPE}}
_IS_NOT_GRPC: Json = {
    "header_filter": {"header": _GRPC_TYPE | {"invert_match": True, "treat_missing_header_as_empty": True}}
}
_HAS_CLUSTER = _expression("has(xds.cluster_name)")
_HAS_NO_CLUSTER = _expression("!has(xds.cluster_name)")


def _stats_logger(client: Client, filters: list[Json], own_labels: dict[str, str]) -> Json:
    labels = {
        "reporter": "source",
        "source_workload": client.workload,
        "source_workload_namespace": client.namespace,
        # The peer: known only once a host was picked. UH, UO and NC leave these empty, which Istio calls "unknown".
        "destination_workload": _of_host("destination_workload"),
        "destination_workload_namespace": _of_host("destination_workload_namespace"),
        "destination_version": _of_host("destination_version"),
        "destination_canonical_service": _of_host("destination_canonical_service"),
        "destination_canonical_revision": _of_host("destination_canonical_revision"),
        "response_code": "%RESPONSE_CODE%",
        "response_flags": "%RESPONSE_FLAGS%",
        "connection_security_policy": "unknown",  # what a client's sidecar always says
        **own_labels,
    }
    tags = [{"name": name, "value_format": value} for name, value in labels.items()]
    return {
        "name": "envoy.access_loggers.stats",
        "filter": {"and_filter": {"filters": filters}},
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.access_loggers.stats.v3.Config",
            "stats_scope": {"prefix": "istio"},
            "counters": [{"stat": {"name": "requests_total", "tags": tags}, "value_fixed": 1}],
            "histograms": [
                {
                    "stat": {"name": "request_duration_milliseconds", "tags": tags},
                    "unit": "Milliseconds",
                    "value_format": "%DURATION%",
                }
            ],
        },
    }


def _of_host(key: str) -> str:
    return f"%METADATA(UPSTREAM_HOST:istio:{key})%"


def _of_cluster(key: str) -> str:
    return f"%METADATA(CLUSTER:istio:{key})%"
