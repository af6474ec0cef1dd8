"""What a request asks of an API server, in RBAC's words: a path and a method in, verb and resource out.

The words are those of Kubernetes' own request info, so that a rule about requests reads as a rule about rights.
It does no I/O.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import orjson

_WRITES = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
_OF_A_NAMESPACE = frozenset({"status", "finalize"})
"""What may follow a Namespace's name and is no resource in it."""


@dataclass(frozen=True)
class Asked:
    """One request. Without a resource (`/version`, Prometheus) the verb is the method in small letters."""

    verb: str
    resource: str
    """Plural; "" for what is no resource."""
    subresource: str
    namespace: str
    name: str
    """From the path; a create's from its body ("" with generateName)."""
    nth: int
    """The n-th of this verb, resource and subresource since the proxy's reset, from 1."""
    path: str
    query: Mapping[str, str]
    body: bytes

    @property
    def is_write(self) -> bool:
        """A review (`selfsubjectaccessreviews`) and a dry run are kept nowhere: they are questions."""
        if self.query.get("dryRun"):
            return False
        return self.verb in _VERBS_THAT_WRITE and bool(self.resource) and not self.resource.endswith("reviews")

    @property
    def kind_of_request(self) -> tuple[str, str, str]:
        """What `nth` counts."""
        return self.verb, self.resource, self.subresource

    def document(self) -> Any:
        """The body, parsed. Raises ValueError where it is not JSON."""
        return orjson.loads(self.body)

    def __str__(self) -> str:
        resource = f"{self.resource}/{self.subresource}" if self.subresource else self.resource or self.path
        where = "/".join(part for part in (self.namespace, self.name) if part)
        return f"{self.verb} {resource} #{self.nth}" + (f" ({where})" if where else "")


_VERBS_THAT_WRITE = frozenset({*_WRITES.values(), "deletecollection"})


def classify(method: str, target: str, body: bytes = b"") -> Asked:
    """The request with `nth` 0: who sees them all counts them. `target` is path and query as sent."""
    split = urlsplit(target)
    query = dict(parse_qsl(split.query, keep_blank_values=True))
    resource, subresource, namespace, name = _resource(unquote(split.path))
    verb = _verb(method, query, named=bool(name)) if resource else method.lower()
    if verb == "create" and not name:
        name = _name_inside(body)
    return Asked(verb, resource, subresource, namespace, name, 0, split.path, query, body)


def _verb(method: str, query: Mapping[str, str], *, named: bool) -> str:
    if method in ("GET", "HEAD"):
        if query.get("watch") in ("1", "true"):
            return "watch"
        return "get" if named else "list"
    if method == "DELETE" and not named:
        return "deletecollection"
    return _WRITES.get(method, method.lower())


def _resource(path: str) -> tuple[str, str, str, str]:
    """(resource, subresource, namespace, name) of a path below /api/VERSION or /apis/GROUP/VERSION."""
    root, *parts = path.strip("/").split("/")
    prefix = {"api": 1, "apis": 2}.get(root)
    if prefix is None or len(parts) <= prefix:
        return "", "", "", ""
    parts, namespace = parts[prefix:], ""
    if parts[0] == "namespaces" and len(parts) > 2 and parts[2] not in _OF_A_NAMESPACE:
        namespace, parts = parts[1], parts[2:]
    resource, name, *rest = [*parts, ""]
    return resource, "/".join(part for part in rest if part), namespace, name


def _name_inside(body: bytes) -> str:
    try:
        metadata = orjson.loads(body).get("metadata") or {}
    except (ValueError, AttributeError):  # protobuf, a list, nothing
        return ""
    return str(metadata.get("name") or "")
