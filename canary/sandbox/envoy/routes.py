"""HTTPRoutes of a VirtualService to Envoy routes: destinations and weights, timeout, retries, rewrites, headers. Pure.

The first match wins in both, so order is kept as written.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from canary.sandbox.envoy.durations import envoy_duration
from canary.sandbox.envoy.filters import filter_config, fraction
from canary.sandbox.envoy.matches import applies, route_match, safe_regex
from canary.sandbox.envoy.names import Client, Json, Warnings, cluster_name, resolve_host, title

DEFAULT_RETRY_ON = "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes"
DEFAULT_ATTEMPTS = 2
_REDIRECT_CODES = {
    301: "MOVED_PERMANENTLY",
    302: "FOUND",
    303: "SEE_OTHER",
    307: "TEMPORARY_REDIRECT",
    308: "PERMANENT_REDIRECT",
}
_SUPPORTED = (
    "name",
    "match",
    "route",
    "redirect",
    "directResponse",
    "rewrite",
    "timeout",
    "retries",
    "fault",
    "mirror",
    "mirrorPercentage",
    "mirrors",
    "corsPolicy",
    "headers",
)


@dataclass(frozen=True, slots=True)
class RouteContext:
    """What a route's translation needs to know beside the route."""

    namespace: str
    """Of the VirtualService: its short host names belong there."""
    port: int
    """The port the client called."""
    service_ports: Mapping[str, tuple[int, ...]]
    """HTTP ports by fully qualified host."""
    client: Client
    warnings: Warnings

    def cluster(self, destination: Mapping[str, Any]) -> str:
        """The cluster of a Destination, whether or not it exists: a missing one answers 503 NC, as in a real mesh."""
        host = resolve_host(destination["host"], self.namespace)
        ports = self.service_ports.get(host, ())
        number = (destination.get("port") or {}).get("number") or (ports[0] if len(ports) == 1 else self.port)
        return cluster_name(number, destination.get("subset") or "", host)


def default_route(port: int, host: str) -> Json:
    """The route of a service that no VirtualService names."""
    return {
        "name": "default",
        "match": {"prefix": "/"},
        "route": {
            "cluster": cluster_name(port, "", host),
            "timeout": "0s",
            "retry_policy": _retry_policy({}),
        },
    }


def virtual_service_routes(virtual_service: Json, context: RouteContext) -> list[Json]:
    """The Envoy routes of `spec.http`, one per match, in the order written."""
    routes = []
    for index, http in enumerate(virtual_service["spec"].get("http") or []):
        where = f"{title(virtual_service, 'VirtualService')} http[{index}]"
        context.warnings.ignored(where, http, *_SUPPORTED)
        for match in http.get("match") or [{}]:
            if applies(match, context.port, context.client.namespace):
                name = ".".join(filter(None, (http.get("name") or "default", match.get("name"))))
                matched = route_match(match, f"{where}.match", context.warnings)
                routes.append({"name": name, "match": matched, **_action(http, match, where, context)})
    return routes


def _action(http: Json, match: Json, where: str, context: RouteContext) -> Json:
    per_filter = filter_config(http, where, context.warnings)
    route: Json = {"typed_per_filter_config": per_filter} if per_filter else {}
    headers = _header_operations(http.get("headers") or {})
    if redirect := http.get("redirect"):
        return route | headers.on_route | {"redirect": _redirect(redirect, match)}
    if direct := http.get("directResponse"):
        return route | headers.on_route | {"direct_response": _direct_response(direct)}
    targets, own_headers = _targets(http.get("route") or [], where, context)
    headers = headers.merged(own_headers)
    if not targets:
        # Istio's webhook refuses such a route; nobody may be sent anywhere by guesswork.
        context.warnings.add(where, "has no destination with a weight above 0; it answers 503")
        return route | headers.on_route | {"direct_response": {"status": 503}}
    retries = http.get("retries") or {}
    context.warnings.ignored(f"{where}.retries", retries, "attempts", "perTryTimeout", "retryOn", "backoff")
    action: Json = {
        **targets,
        "timeout": envoy_duration(http.get("timeout", "0s")),  # Istio disables Envoy's 15 s unless a timeout is set
        **({"host_rewrite_literal": headers.authority} if headers.authority else {}),
        **_rewrite(http.get("rewrite") or {}, match),
    }
    if retries.get("attempts", DEFAULT_ATTEMPTS) > 0:
        action["retry_policy"] = _retry_policy(retries)
    if mirrors := _mirrors(http, context):
        action["request_mirror_policies"] = mirrors
    return route | headers.on_route | {"route": action}


def _targets(destinations: list[Json], where: str, context: RouteContext) -> tuple[Json, _HeaderOperations]:
    """The cluster or weighted clusters of a route, and the header operations of a single destination.

    A single destination gets everything, even at weight 0; of several, those at 0 are left out. Shares are weight/sum:
    Envoy divides.
    """
    for destination in destinations:
        context.warnings.ignored(f"{where}.route", destination, "destination", "weight", "headers")
    if len(destinations) == 1:
        only = destinations[0]
        return {"cluster": context.cluster(only["destination"])}, _header_operations(only.get("headers") or {})
    nothing = _HeaderOperations({}, None)
    weighted = [
        {
            "name": context.cluster(destination["destination"]),
            "weight": destination["weight"],
            **_header_operations(destination.get("headers") or {}).on_cluster,
        }
        for destination in destinations
        if destination.get("weight", 0) > 0
    ]
    return ({"weighted_clusters": {"clusters": weighted}} if weighted else {}), nothing


def _retry_policy(retries: Mapping[str, Any]) -> Json:
    conditions = str(retries.get("retryOn") or DEFAULT_RETRY_ON).split(",")
    codes = [int(condition) for condition in conditions if condition.strip().isdigit()]
    policy: Json = {
        "retry_on": ",".join(condition for condition in conditions if not condition.strip().isdigit()),
        "num_retries": retries.get("attempts", DEFAULT_ATTEMPTS),
        "retry_host_predicate": [
            {
                "name": "envoy.retry_host_predicates.previous_hosts",
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"
                },
            }
        ],
        "host_selection_retry_max_attempts": 5,
    }
    if codes:
        policy["retriable_status_codes"] = codes
        if "retriable-status-codes" not in policy["retry_on"]:
            policy["retry_on"] = ",".join(filter(None, (policy["retry_on"], "retriable-status-codes")))
    if "perTryTimeout" in retries:
        policy["per_try_timeout"] = envoy_duration(retries["perTryTimeout"])
    if "backoff" in retries:
        policy["retry_back_off"] = {"base_interval": envoy_duration(retries["backoff"])}
    return policy


@dataclass(frozen=True, slots=True)
class _HeaderOperations:
    """Istio's `headers.{request,response}.{set,add,remove}`; setting the authority is a rewrite of its own in Envoy."""

    on_route: Json
    authority: str | None

    @property
    def on_cluster(self) -> Json:
        return self.on_route | ({"host_rewrite_literal": self.authority} if self.authority else {})

    def merged(self, own: _HeaderOperations) -> _HeaderOperations:
        """Of a route and its single destination: both apply, the destination's authority wins."""
        both = self.on_route | {key: self.on_route.get(key, []) + value for key, value in own.on_route.items()}
        return _HeaderOperations(both, own.authority or self.authority)


def _header_operations(headers: Mapping[str, Any]) -> _HeaderOperations:
    operations: Json = {}
    for side in ("request", "response"):
        given = headers.get(side) or {}
        to_add = [
            {"header": {"key": key, "value": value}, "append_action": action}
            for verb, action in (("set", "OVERWRITE_IF_EXISTS_OR_ADD"), ("add", "APPEND_IF_EXISTS_OR_ADD"))
            for key, value in (given.get(verb) or {}).items()
            if not _is_authority(key)
        ]
        if to_add:
            operations[f"{side}_headers_to_add"] = to_add
        if given.get("remove"):
            operations[f"{side}_headers_to_remove"] = list(given["remove"])
    set_on_request = (headers.get("request") or {}).get("set") or {}
    return _HeaderOperations(operations, next((v for k, v in set_on_request.items() if _is_authority(k)), None))


def _is_authority(header: str) -> bool:
    return header.lower() in ("host", ":authority")


def _rewrite(rewrite: Json, match: Json) -> Json:
    action: Json = {}
    if pattern := rewrite.get("uriRegexRewrite"):
        action["regex_rewrite"] = {"pattern": safe_regex(pattern["match"]), "substitution": pattern["rewrite"]}
    elif rewrite.get("uri"):
        if (match.get("uri") or {}).get("regex"):
            whole = safe_regex(match["uri"]["regex"])
            action["regex_rewrite"] = {"pattern": whole, "substitution": rewrite["uri"]}
        else:
            action["prefix_rewrite"] = rewrite["uri"]
    if rewrite.get("authority"):
        action["host_rewrite_literal"] = rewrite["authority"]
    return action


def _redirect(redirect: Json, match: Json) -> Json:
    action: Json = {"response_code": _REDIRECT_CODES.get(redirect.get("redirectCode", 301), "MOVED_PERMANENTLY")}
    if redirect.get("authority"):
        action["host_redirect"] = redirect["authority"]
    if redirect.get("scheme"):
        action["scheme_redirect"] = redirect["scheme"]
    if redirect.get("port"):
        action["port_redirect"] = redirect["port"]
    if uri := redirect.get("uri"):
        if uri.startswith("%PREFIX()%"):
            action["prefix_rewrite"] = uri.removeprefix("%PREFIX()%") or (match.get("uri") or {}).get("prefix", "/")
        else:
            action["path_redirect"] = uri
    return action


def _direct_response(direct: Json) -> Json:
    body = direct.get("body") or {}
    response: Json = {"status": direct["status"]}
    if "string" in body:
        response["body"] = {"inline_string": body["string"]}
    elif "bytes" in body:
        response["body"] = {"inline_bytes": body["bytes"]}
    return response


def _mirrors(http: Json, context: RouteContext) -> list[Json]:
    given = [{"destination": http["mirror"], "percentage": http.get("mirrorPercentage")}] if http.get("mirror") else []
    return [
        {
            "cluster": context.cluster(mirror["destination"]),
            "runtime_fraction": {"default_value": fraction(mirror.get("percentage"))},
        }
        for mirror in given + (http.get("mirrors") or [])
    ]
