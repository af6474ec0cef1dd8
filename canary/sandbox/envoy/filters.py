"""What a route asks of HTTP filters: injected faults and CORS, as Envoy's per-route filter configuration. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from canary.sandbox.envoy.durations import envoy_duration
from canary.sandbox.envoy.matches import string_match
from canary.sandbox.envoy.names import Json, Warnings

FAULT = "envoy.filters.http.fault"
CORS = "envoy.filters.http.cors"


def fraction(percentage: Mapping[str, Any] | None) -> Json:
    """Istio's Percent (`{value: 0.5}` is half a percent, absent is everything) as Envoy's FractionalPercent."""
    value = 100.0 if percentage is None else float(percentage.get("value", 0))
    return {"numerator": round(value * 10_000), "denominator": "MILLION"}


def filter_config(http: Mapping[str, Any], where: str, warnings: Warnings) -> Json:
    """`typed_per_filter_config` of an HTTPRoute; empty when it asks for nothing."""
    config: Json = {}
    if fault := http.get("fault"):
        config[FAULT] = _fault(fault, where, warnings)
    if cors := http.get("corsPolicy"):
        config[CORS] = _cors(cors, where, warnings)
    return config


def _fault(given: Json, where: str, warnings: Warnings) -> Json:
    fault: Json = {"@type": "type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault"}
    if abort := given.get("abort"):
        warnings.ignored(f"{where}.fault.abort", abort, "httpStatus", "percentage")
        fault["abort"] = {
            "http_status": abort.get("httpStatus", 503),
            "percentage": fraction(abort.get("percentage")),
        }
    if delay := given.get("delay"):
        warnings.ignored(f"{where}.fault.delay", delay, "fixedDelay", "percentage")
        fault["delay"] = {
            "fixed_delay": envoy_duration(delay["fixedDelay"]),
            "percentage": fraction(delay.get("percentage")),
        }
    return fault


def _cors(given: Json, where: str, warnings: Warnings) -> Json:
    warnings.ignored(
        f"{where}.corsPolicy",
        given,
        *("allowOrigins", "allowOrigin", "allowMethods", "allowHeaders", "exposeHeaders", "maxAge", "allowCredentials"),
    )
    origins = [string_match(origin) for origin in given.get("allowOrigins") or []]
    origins += [{"safe_regex": {"regex": ".*"}} if o == "*" else {"exact": o} for o in given.get("allowOrigin") or []]
    cors: Json = {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.cors.v3.CorsPolicy",
        "allow_origin_string_match": [origin for origin in origins if origin],
    }
    for field, name in (
        ("allowMethods", "allow_methods"),
        ("allowHeaders", "allow_headers"),
        ("exposeHeaders", "expose_headers"),
    ):
        if given.get(field):
            cors[name] = ",".join(given[field])
    if "maxAge" in given:
        cors["max_age"] = envoy_duration(given["maxAge"]).removesuffix("s")
    if "allowCredentials" in given:
        cors["allow_credentials"] = given["allowCredentials"]
    return cors
