"""JSON patch, merge patch and strategic merge patch: pure functions from an object to a new one.

Server-side apply is apply.py. Nothing here knows about versions, metadata or the store.
"""

from __future__ import annotations

from typing import Any

import jsonpatch
import jsonpointer
import orjson

from canary.sandbox.apiserver.answers import ApiError, Json, bad_request, patch_failed
from canary.sandbox.apiserver.lists import Keyed, ListKind

_MAX_OPERATIONS = 10_000
"""Upstream's limit on the operations of one JSON patch."""


def copied(value: Any) -> Any:
    """A deep copy of decoded JSON (several times faster than copy.deepcopy)."""
    return orjson.loads(orjson.dumps(value))


def json_patch(obj: Json, operations: Any) -> Any:
    """RFC 6902. Raises a 422 without causes when it does not fit the object (a failed `test` too) or names no operation
    there is; a 400 when it is no list of operations."""
    if not isinstance(operations, list) or not all(isinstance(operation, dict) for operation in operations):
        raise bad_request("json: cannot unmarshal the body into Go value of type jsonpatch.Patch")
    if len(operations) > _MAX_OPERATIONS:
        raise ApiError(413, "RequestEntityTooLarge", f"at most {_MAX_OPERATIONS} operations are allowed in a patch")
    try:
        return jsonpatch.apply_patch(copied(obj), operations, in_place=True)
    except (jsonpatch.JsonPatchException, jsonpointer.JsonPointerException, TypeError, AttributeError) as error:
        raise patch_failed() from error


def merge_patch(value: Any, patch: Any) -> Any:
    """RFC 7386: maps merge, null removes, anything else replaces. `value` is left as it was."""
    if not isinstance(patch, dict):
        return patch
    merged = dict(value) if isinstance(value, dict) else {}
    for name, change in patch.items():
        if change is None:
            merged.pop(name, None)
        else:
            merged[name] = merge_patch(merged.get(name), change)
    return merged


def strategic_merge_patch(value: Json, patch: Json, lists: ListKind, names: tuple[str, ...] = ()) -> Json:
    """Kubernetes' merge patch that merges keyed lists, with its `$patch` and `$deleteFromPrimitiveList` directives.

    `$setElementOrder` is accepted and ignored: existing items keep their order, and a new one goes before those that
    the patch does not name.
    """
    match patch.get("$patch"):
        case "replace":
            return {name: change for name, change in patch.items() if name != "$patch"}
        case "delete":
            return {}
    merged = dict(value)
    if "$retainKeys" in patch:
        merged = {name: kept for name, kept in merged.items() if name in patch["$retainKeys"]}
    for name, change in patch.items():
        where = (*names, name)
        if name.startswith("$deleteFromPrimitiveList/"):
            field = name.partition("/")[2]
            merged[field] = [item for item in merged.get(field) or [] if item not in change]
        elif name.startswith("$"):
            continue
        elif change is None:
            merged.pop(name, None)
        elif isinstance(change, dict):
            before = merged.get(name)
            merged[name] = strategic_merge_patch(before if isinstance(before, dict) else {}, change, lists, where)
        elif isinstance(change, list) and (keyed := lists(where)):
            merged[name] = _merge_list(merged.get(name) or [], change, keyed, lists, where)
        else:
            merged[name] = change
    return merged


def _merge_list(
    before: list[Any], patch: list[Any], keyed: Keyed, lists: ListKind, names: tuple[str, ...]
) -> list[Any]:
    if not keyed.keys:
        return [*before, *(item for item in patch if item not in before)]
    directives = [item.get("$patch") for item in patch if isinstance(item, dict)]
    if "replace" in directives:
        return [item for item in patch if item.get("$patch") != "replace"]
    key = keyed.keys[0]  # strategic merge knows one key per list
    merged = list(before)
    for item in patch:
        if not isinstance(item, dict) or key not in item:
            raise bad_request(f"map: {item} does not contain declared merge key: {key}")
        at = next((index for index, old in enumerate(merged) if old.get(key) == item[key]), None)
        if item.get("$patch") == "delete":
            merged = [old for old in merged if old.get(key) != item[key]]
        elif at is None:
            merged.append(strategic_merge_patch({}, item, lists, names))
        else:
            merged[at] = strategic_merge_patch(merged[at], item, lists, names)
    return _in_order(merged, [item[key] for item in patch], [item.get(key) for item in before], key)


def _in_order(merged: list[Any], patched: list[Any], before: list[Any], key: str) -> list[Any]:
    """Upstream's order: items of the patch as in the patch, the others as they were; two that were there both keep
    their order, and a new item goes before whatever the patch does not name."""
    ours = [item for name in dict.fromkeys(patched) for item in merged if item.get(key) == name]
    theirs = [item for item in merged if item.get(key) not in patched]
    ordered: list[Any] = []
    for item in theirs:
        place = before.index(item.get(key))
        while ours and not (ours[0].get(key) in before and place <= before.index(ours[0].get(key))):
            ordered.append(ours.pop(0))
        ordered.append(item)
    return ordered + ours
