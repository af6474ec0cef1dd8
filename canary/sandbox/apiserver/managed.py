"""Who owns which field: `metadata.managedFields`, as sets of paths in the FieldsV1 notation.

A path is a tuple of FieldsV1 elements: `f:name` a field, `k:{"name":"web"}` an item of a keyed list, `v:"x"` an item
of a set. A set holds leaves and keyed items; maps in between are not owned.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import orjson

from canary.sandbox.apiserver.answers import Json
from canary.sandbox.apiserver.lists import Keyed, ListKind

Path = tuple[str, ...]
FieldSet = frozenset[Path]

_ITEM = object()
"""The value of a keyed item itself: equal for as long as the item exists."""
_SYSTEM_METADATA = (
    *("name", "namespace", "uid", "resourceVersion", "generation", "creationTimestamp", "deletionTimestamp"),
    *("deletionGracePeriodSeconds", "selfLink", "managedFields", "generateName"),
)


class Manager(NamedTuple):
    """Identity of one entry. `operation` is "Apply" or "Update"; `subresource` is "" for the main endpoint."""

    name: str
    operation: str
    api_version: str
    subresource: str = ""

    def told(self) -> str:
        """As upstream names it in a conflict."""
        with_subresource = f' with subresource "{self.subresource}"' if self.subresource else ""
        if self.operation == "Apply":
            return f'"{self.name}"{with_subresource}'
        return f'"{self.name}"{with_subresource} using {self.api_version}'


class Owned(NamedTuple):
    """What a manager owns and when it last changed it (RFC 3339, seconds)."""

    fields: FieldSet
    time: str


Managers = Mapping[Manager, Owned]


def leaves(obj: Json, lists: ListKind) -> dict[Path, Any]:
    """Every path of an object that can be owned, with its value; system metadata, apiVersion and kind left out."""
    found: dict[Path, Any] = {}
    metadata = {key: value for key, value in (obj.get("metadata") or {}).items() if key not in _SYSTEM_METADATA}
    body = {key: value for key, value in obj.items() if key not in ("apiVersion", "kind", "metadata")}
    if metadata:
        body["metadata"] = metadata
    _collect(body, (), (), lists, found)
    return found


def _collect(value: Any, path: Path, names: tuple[str, ...], lists: ListKind, found: dict[Path, Any]) -> None:
    if isinstance(value, dict) and value:
        for name, child in value.items():
            _collect(child, (*path, f"f:{name}"), (*names, name), lists, found)
        return
    keyed = lists(names) if isinstance(value, list) and value else None
    elements = keyed_elements(value, keyed) if keyed else None
    if keyed is None or elements is None:
        if path:
            found[path] = value
        return
    for element, item in elements.items():
        found[(*path, element)] = _ITEM
        if keyed.keys:
            for name, child in item.items():
                _collect(child, (*path, element, f"f:{name}"), (*names, name), lists, found)


def keyed_elements(items: list[Any], keyed: Keyed) -> dict[str, Any] | None:
    """Items by their path element; None when one has no key or two share it (the list is then atomic)."""
    elements: dict[str, Any] = {}
    for item in items:
        key = keyed.key_of(item)
        if key is None:
            return None
        named = dict(zip(keyed.keys, key, strict=True)) if keyed.keys else item
        text = orjson.dumps(named, option=orjson.OPT_SORT_KEYS).decode()
        elements[f"{'k' if keyed.keys else 'v'}:{text}"] = item
    return elements if len(elements) == len(items) else None


def to_fields_v1(paths: Iterable[Path]) -> Json:
    """A field set as the nested map of FieldsV1."""
    root: Json = {}
    ends: list[Json] = []
    for path in sorted(paths):
        node = root
        for element in path:
            node = node.setdefault(element, {})
        ends.append(node)
    for node in ends:
        if node:
            node["."] = {}
    return root


def from_fields_v1(node: Json, path: Path = ()) -> Iterable[Path]:
    """The paths of a FieldsV1 map."""
    if path and (not node or "." in node):
        yield path
    for element, child in node.items():
        if element != ".":
            yield from from_fields_v1(child, (*path, element))


def read(obj: Json) -> dict[Manager, Owned]:
    """The managers an object records."""
    managers: dict[Manager, Owned] = {}
    for entry in obj["metadata"].get("managedFields") or ():
        manager = Manager(entry["manager"], entry["operation"], entry["apiVersion"], entry.get("subresource", ""))
        managers[manager] = Owned(frozenset(from_fields_v1(entry["fieldsV1"])), entry["time"])
    return managers


def entries(managers: Managers) -> list[Json]:
    """The `managedFields` list: applies first, then by time, as upstream sorts it. Managers of nothing are dropped."""
    kept = [(manager, owned) for manager, owned in managers.items() if owned.fields]
    kept.sort(key=lambda pair: (pair[0].operation, pair[1].time, pair[0].name, pair[0].subresource))
    return [
        {
            "manager": manager.name,
            "operation": manager.operation,
            "apiVersion": manager.api_version,
            "time": owned.time,
            "fieldsType": "FieldsV1",
            "fieldsV1": to_fields_v1(owned.fields),
            **({"subresource": manager.subresource} if manager.subresource else {}),
        }
        for manager, owned in kept
    ]


def read_written(live: Json, metadata: Json) -> dict[Manager, Owned]:
    """The managers as a write's own `managedFields` says (kubectl moves entries that way), else those of `live`.

    `[{}]` forgets all managers; what cannot be read, or nothing, changes nothing (as upstream).
    """
    written = metadata.get("managedFields")
    if written == [{}]:
        return {}
    try:
        if not written:
            return read(live)
        managers = read({"metadata": metadata})
        return {manager: Owned(owned.fields, _in_seconds(owned.time)) for manager, owned in managers.items()}
    except (KeyError, TypeError, AttributeError, ValueError):
        return read(live)


def _in_seconds(time: str) -> str:
    """An instant as this server writes it; the official client sends `+00:00` for `Z`."""
    return datetime.datetime.fromisoformat(time).astimezone(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def after_update(
    managers: Managers, live: Json, new: Json, lists: ListKind, *, who: Manager, now: str
) -> dict[Manager, Owned]:
    """The managers after `who` changed `live` into `new` by anything but apply: it takes what it changed from all."""
    before, after = leaves(live, lists), leaves(new, lists)
    changed = {path for path, value in after.items() if path not in before or before[path] != value}
    result = {manager: Owned(owned.fields - changed, owned.time) for manager, owned in managers.items()}
    if changed:
        mine = result[who].fields if who in result else frozenset()
        result[who] = Owned(mine | changed, now)
    return result


def keep_existing(managers: Managers, obj: Json, lists: ListKind) -> dict[Manager, Owned]:
    """The managers without what is not in the object (any more)."""
    paths = leaves(obj, lists).keys()
    return {manager: Owned(owned.fields & paths, owned.time) for manager, owned in managers.items()}
