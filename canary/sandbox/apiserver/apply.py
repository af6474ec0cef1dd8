"""Server-side apply: merge an applied configuration into the live object, with owners and conflicts.

Follows upstream's structured-merge-diff: what a manager applied before and leaves out now is removed unless somebody
else owns it; a field owned by another with another value is a conflict unless forced.
"""

from __future__ import annotations

from typing import Any

import orjson

from canary.sandbox.apiserver import managed
from canary.sandbox.apiserver.answers import Cause, Json, apply_conflict
from canary.sandbox.apiserver.lists import ListKind
from canary.sandbox.apiserver.managed import FieldSet, Manager, Managers, Owned, Path
from canary.sandbox.apiserver.patch import copied

_LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"


def apply(
    live: Json, config: Json, managers: Managers, who: Manager, lists: ListKind, *, force: bool, now: str
) -> tuple[Json, dict[Manager, Owned]]:
    """The merged object and its managers. Raises a 409 naming each field and its manager on a conflict.

    `live` is a bare object of the same name for the first apply.
    """
    have, want = managed.leaves(live, lists), managed.leaves(config, lists)
    wanted: FieldSet = frozenset(want)
    # An applier is the same one in whatever version it applied before (as upstream).
    mine = {manager for manager in managers if manager._replace(api_version=who.api_version) == who}
    others = {manager: owned for manager, owned in managers.items() if manager not in mine}
    contested = {
        manager: {path for path in owned.fields & wanted if path in have and have[path] != want[path]}
        for manager, owned in others.items()
    }
    if not (force or set().union(*contested.values()) <= _client_side_applied(live, who, have, lists)):
        raise apply_conflict(
            [
                Cause("FieldManagerConflict", f"conflict with {manager.told()}", dotted(path))
                for manager, paths in contested.items()
                for path in sorted(paths)
            ]
        )
    result = {manager: Owned(owned.fields - contested[manager], owned.time) for manager, owned in others.items()}
    merged = copied(live)
    before = frozenset(path for manager in mine for path in managers[manager].fields)
    for path in sorted(before - wanted, key=len, reverse=True):
        if not any(_owns(owned.fields, path) for owned in result.values()) and not _owns(wanted, path):
            _drop(merged, path)
    merged = _merge(merged, config, lists)
    same = merged == live and before == wanted and who in managers
    result[who] = Owned(wanted, managers[who].time if same else now)
    return merged, result


def _client_side_applied(live: Json, who: Manager, have: dict[Path, Any], lists: ListKind) -> FieldSet:
    """What `kubectl apply --server-side` takes over without a conflict: what `kubectl apply` wrote, if it is still so.

    Upstream knows it by kubectl's name and by its annotation.
    """
    last = ((live.get("metadata") or {}).get("annotations") or {}).get(_LAST_APPLIED)
    if who.name != "kubectl" or not last:
        return frozenset()
    wrote = managed.leaves(orjson.loads(last), lists)
    return frozenset(path for path, value in wrote.items() if path in have and have[path] == value)


def dotted(path: Path) -> str:
    """A path as conflicts name it: `.spec.template.spec.containers[name="web"].image`."""
    text = ""
    for element in path:
        kind, _, rest = element.partition(":")
        text += f".{rest}" if kind == "f" else f"[={rest}]" if kind == "v" else _told_key(rest)
    return text


def _told_key(text: str) -> str:
    return "[" + text.strip("{}").replace('":', "=").replace(',"', ",").lstrip('"') + "]"


def _owns(fields: FieldSet, path: Path) -> bool:
    return path in fields or any(other[: len(path)] == path for other in fields)


def _merge(live: Any, config: Any, lists: ListKind, names: tuple[str, ...] = ()) -> Any:
    if isinstance(config, dict) and isinstance(live, dict):
        merged = dict(live)
        for name, value in config.items():
            merged[name] = _merge(live[name], value, lists, (*names, name)) if name in live else value
        return merged
    keyed = lists(names) if isinstance(config, list) and isinstance(live, list) else None
    if keyed is None:
        return config
    here, there = managed.keyed_elements(live, keyed), managed.keyed_elements(config, keyed)
    if here is None or there is None:
        return config
    for element, item in there.items():
        here[element] = _merge(here[element], item, lists, names) if element in here else item
    return list(here.values())


def _drop(node: Any, path: Path) -> None:
    """Remove what `path` names, and the maps and lists that this empties."""
    head, rest = path[0], path[1:]
    kind, _, text = head.partition(":")
    if kind == "f" and isinstance(node, dict) and text in node:
        if rest:
            _drop(node[text], rest)
        if not rest or node[text] in ({}, []):
            del node[text]
    elif kind in ("k", "v") and isinstance(node, list):
        keys = orjson.loads(text)
        for item in list(node):
            if not _is_item(item, keys):
                continue
            if rest:
                _drop(item, rest)
            else:
                node.remove(item)


def _is_item(item: Any, keys: Any) -> bool:
    if not isinstance(keys, dict):
        return bool(item == keys)
    return isinstance(item, dict) and all(name not in item or item[name] == value for name, value in keys.items())
