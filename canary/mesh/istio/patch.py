"""JSON patches (RFC 6902) that hold only for the object they were decided on."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from canary.mesh.objects import section
from canary.mesh.router import Object

Operation = dict[str, Any]

_PLAIN = re.compile(r"[A-Za-z0-9 ._:/*-]*")


def pointer(*parts: str | int) -> str:
    """`("metadata", "annotations", "a/b")` -> `/metadata/annotations/a~1b`."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in parts)


def version_of(thing: Object) -> str:
    """`metadata.resourceVersion`; every object from an API server has one."""
    return str(thing["metadata"]["resourceVersion"])


def pin(thing: Object) -> Operation:
    """Makes the write fail with 409 when the object changed: the API server compares this with what is stored."""
    return {"op": "replace", "path": "/metadata/resourceVersion", "value": version_of(thing)}


def expect(path: str, value: Any) -> list[Operation]:
    """An operation that refuses the patch when `path` holds something else; none for text that is not plain.

    The API server compares the raw JSON, and its own has `<`, `>` and `&` escaped (Go's encoder): a test on text with
    those in it would fail for ever, and block a rollback (kubernetes/apiserver#100). The resourceVersion covers what
    is left out.
    """
    if isinstance(value, str) and not _PLAIN.fullmatch(value):
        return []
    return [{"op": "test", "path": path, "value": value}]


def annotate(thing: Object, changes: Mapping[str, str | None]) -> list[Operation]:
    """Operations that set annotations (None: take away), and leave no empty map behind."""
    now = section(thing, "metadata", "annotations")
    after = {key: value for key, value in {**now, **changes}.items() if value is not None}
    if after == now:
        return []
    if not now:
        return [{"op": "add", "path": "/metadata/annotations", "value": after}]
    if not after:
        return [{"op": "remove", "path": "/metadata/annotations"}]
    operations: list[Operation] = []
    for key, value in changes.items():
        path = pointer("metadata", "annotations", key)
        if value is None and key in now:
            operations.append({"op": "remove", "path": path})
        elif value is not None and now.get(key) != value:
            operations.append({"op": "add", "path": path, "value": value})
    return operations
