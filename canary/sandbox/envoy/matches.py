"""HTTPMatchRequest to Envoy's RouteMatch. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from canary.sandbox.envoy.names import Json, Warnings

_SUPPORTED = (
    "name",
    "uri",
    "scheme",
    "method",
    "authority",
    "headers",
    "withoutHeaders",
    "queryParams",
    "ignoreUriCase",
    "port",
    "gateways",
    "sourceNamespace",
)


_NOT_RE2 = re.compile(r"\(\?(?:[=!]|<[=!])|\\[1-9]")


def safe_regex(text: str) -> Json:
    """A regular expression for Envoy. Raises ValueError when it is none: Envoy would refuse all routes for one.

    RE2 has neither look-around nor back-references, which Python has.
    """
    try:
        re.compile(text)
    except re.error as error:
        raise ValueError(f"{text!r} is no regular expression: {error}") from error
    if _NOT_RE2.search(text):
        raise ValueError(f"{text!r} is no RE2 expression: no look-around, no back-references")
    return {"regex": text}


def string_match(given: Mapping[str, Any]) -> Json | None:
    """Istio's StringMatch as Envoy's StringMatcher; None for an empty one, which asks for presence only."""
    if "exact" in given:
        return {"exact": given["exact"]}
    if given.get("prefix"):
        return {"prefix": given["prefix"]}
    if given.get("regex"):
        return {"safe_regex": safe_regex(given["regex"])}
    return None


def applies(match: Mapping[str, Any], port: int, client_namespace: str) -> bool:
    """Whether a client's sidecar gets this match at all: its port, source namespace and gateways are settled when the
    configuration is built, not per request."""
    return (
        match.get("port", port) == port
        and match.get("sourceNamespace", client_namespace) == client_namespace
        and "mesh" in (match.get("gateways") or ["mesh"])
    )


def route_match(match: Mapping[str, Any], where: str, warnings: Warnings) -> Json:
    """An Envoy RouteMatch; an empty match is the catch-all."""
    warnings.ignored(where, match, *_SUPPORTED)
    route: Json = _path(match.get("uri") or {})
    if match.get("ignoreUriCase"):
        route["case_sensitive"] = False
    headers = [_header(f":{field}", match[field]) for field in ("method", "authority", "scheme") if match.get(field)]
    headers += [_header(name, value or {}) for name, value in (match.get("headers") or {}).items()]
    headers += [_without(name, value or {}) for name, value in (match.get("withoutHeaders") or {}).items()]
    if headers:
        route["headers"] = headers
    if parameters := match.get("queryParams"):
        route["query_parameters"] = [_parameter(name, value or {}) for name, value in parameters.items()]
    return route


def _path(uri: Mapping[str, Any]) -> Json:
    if "exact" in uri:
        return {"path": uri["exact"]}
    if uri.get("regex"):
        return {"safe_regex": safe_regex(uri["regex"])}
    return {"prefix": uri.get("prefix") or "/"}


def _header(name: str, value: Mapping[str, Any]) -> Json:
    matcher = string_match(value)
    return {"name": name.lower(), **({"string_match": matcher} if matcher else {"present_match": True})}


def _without(name: str, value: Mapping[str, Any]) -> Json:
    header = _header(name, value) | {"invert_match": True}
    # Envoy lets no value matcher pass on a missing header, inverted or not, unless told that missing means empty.
    return header if "present_match" in header else header | {"treat_missing_header_as_empty": True}


def _parameter(name: str, value: Mapping[str, Any]) -> Json:
    matcher = string_match(value)
    return {"name": name, **({"string_match": matcher} if matcher else {"present_match": True})}
