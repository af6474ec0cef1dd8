"""Bodies and query parameters of HTTP requests, decoded; what cannot be read is a 4xx here and nowhere else."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

import orjson
import yaml
from aiohttp import web

from canary.sandbox.apiserver import answers, patch, protobuf
from canary.sandbox.apiserver.answers import Json
from canary.sandbox.apiserver.objects import Request
from canary.sandbox.apiserver.rules import Target
from canary.sandbox.apiserver.store import Name

MAX_BODY_BYTES = 3 * 1024 * 1024
"""Upstream's limit on a request's body."""
JSON_PATCH = "application/json-patch+json"
MERGE_PATCH = "application/merge-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"
STRATEGIC_PATCH = "application/strategic-merge-patch+json"


class _Loader(yaml.CSafeLoader if hasattr(yaml, "CSafeLoader") else yaml.SafeLoader):  # type: ignore[misc]
    """YAML as Kubernetes reads it: a date is a string."""


_Loader.yaml_implicit_resolvers = {
    letter: [pair for pair in pairs if pair[0] != "tag:yaml.org,2002:timestamp"]
    for letter, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def flag(http: web.Request, name: str) -> bool:
    """A boolean query parameter, false when it is not there."""
    return http.query.get(name) in ("true", "True", "1")


def number(http: web.Request, name: str) -> int | None:
    """A whole number from the query, None when it is not there."""
    text = http.query.get(name, "")
    if text and not text.isdigit():
        raise answers.bad_request(f"invalid value for {name}: {text!r}")
    return int(text) if text else None


def token(revision: int, last: Name) -> str:
    """The `continue` token after a page of a list: the first page's revision and the last object's name."""
    return base64.urlsafe_b64encode(orjson.dumps([revision, *last])).decode()


def place(token: str) -> tuple[int, Name]:
    """What a `continue` token says; 400 for one that is not ours."""
    try:
        revision, namespace, name = orjson.loads(base64.urlsafe_b64decode(token))
        return int(revision), (str(namespace), str(name))
    except (ValueError, TypeError) as error:
        raise answers.bad_request("continue key is not valid") from error


def request(http: web.Request) -> Request:
    """The options of a write; a writer that gives no fieldManager is known by its User-Agent (as upstream)."""
    agent = http.headers.get("User-Agent", "unknown").split("/")[0]
    return Request(
        manager=http.query.get("fieldManager") or agent,
        field_validation=http.query.get("fieldValidation") or "Warn",
        dry_run=http.query.get("dryRun") == "All",
        force=flag(http, "force"),
    )


async def decoded(http: web.Request) -> Any:
    """The body as JSON (or YAML where the content type says so). 400 for garbage, 413 for too much."""
    raw = await _raw(http)
    try:
        if "yaml" in http.content_type and not raw.lstrip().startswith(b"{"):
            raw = orjson.dumps(yaml.load(raw, _Loader), option=orjson.OPT_NON_STR_KEYS)
        return orjson.loads(raw)
    except (ValueError, TypeError, yaml.YAMLError) as error:
        raise answers.bad_request(f"the object provided is unrecognized: {error}") from error


async def body(http: web.Request) -> Json:
    """The body as one object, from JSON, YAML or Kubernetes' protobuf."""
    if http.content_type == "application/vnd.kubernetes.protobuf":
        return protobuf.decode(await _raw(http))
    return as_object(await decoded(http))


async def _raw(http: web.Request) -> bytes:
    try:
        return await http.read()
    except web.HTTPRequestEntityTooLarge as error:
        raise answers.body_too_large(MAX_BODY_BYTES) from error


def as_object(body: Any) -> Json:
    """`body` when it is an object with readable metadata, else a 400."""
    if not isinstance(body, dict) or not isinstance(body.get("metadata") or {}, dict):
        raise answers.bad_request("the object provided is unrecognized: it must be a JSON object")
    return body


def patcher(kind: str, body: Any, target: Target) -> Callable[[Json], Any]:
    """The patch as a function of the live object."""
    if kind == JSON_PATCH:
        return lambda live: patch.json_patch(live, body)
    change = as_object(body)
    if kind == STRATEGIC_PATCH:
        lists = target.resource.lists(target.version)
        return lambda live: patch.strategic_merge_patch(live, change, lists)
    return lambda live: patch.merge_patch(live, change)
