"""What an object will be once a write has been made, for showing plans: nothing is sent, nothing given is changed.

Covers the JSON patch operations that the routers write (RFC 6902: add, remove, replace, test), not all of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any

from canary.mesh.router import Object


def patched(thing: Object, operations: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """A copy of `thing` with the operations done, in their order. Raises ValueError where one does not fit."""
    copy: dict[str, Any] = deepcopy(dict(thing))
    for operation in operations:
        try:
            _do(copy, operation)
        except (KeyError, IndexError, TypeError) as error:
            raise ValueError(f"the operation {dict(operation)} does not fit the object") from error
    return copy


def value_at(thing: Any, path: str) -> Any:
    """What a JSON pointer leads to, None where there is nothing."""
    try:
        for part in parts_of(path):
            thing = thing[int(part)] if isinstance(thing, list) else thing[part]
    except (KeyError, IndexError, TypeError, ValueError):
        return None
    return thing


def parts_of(path: str) -> list[str]:
    """`/metadata/annotations/a~1b` -> `["metadata", "annotations", "a/b"]`."""
    return [part.replace("~1", "/").replace("~0", "~") for part in path.split("/")[1:]]


def _do(document: Any, operation: Mapping[str, Any]) -> None:
    *way, last = parts_of(operation["path"])
    for part in way:
        document = document[int(part)] if isinstance(document, list) else document[part]
    match operation["op"]:
        case "add" if isinstance(document, list):
            document.insert(len(document) if last == "-" else int(last), deepcopy(operation["value"]))
        case "add":
            document[last] = deepcopy(operation["value"])
        case "replace":
            key: Any = int(last) if isinstance(document, list) else last
            document[key]  # a replacement of nothing does not fit
            document[key] = deepcopy(operation["value"])
        case "remove":
            del document[int(last) if isinstance(document, list) else last]
        case "test":
            found = document[int(last)] if isinstance(document, list) else document[last]
            if found != operation["value"]:
                raise KeyError(last)
        case other:
            raise ValueError(f"no such operation here: {other}")
