"""Which lists are merged item by item, and by which keys.

Server-side apply and strategic merge patch both ask here. Built-in kinds follow upstream's `patchMergeKey` and
`listMapKey` markers for the commonly used lists; custom resources follow their schema. Any other list is atomic.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from canary.sandbox.apiserver.answers import Json


class Keyed(NamedTuple):
    """Items are maps told apart by `keys`; `defaults` fills a key an item leaves out. No keys: a set of scalars."""

    keys: tuple[str, ...]
    defaults: Mapping[str, Any] = MappingProxyType({})

    def key_of(self, item: Any) -> tuple[Any, ...] | None:
        """The item's identity for apply, or None when it has none (then the list is atomic)."""
        if not self.keys:
            return None if isinstance(item, dict | list) else (item,)
        if not isinstance(item, dict):
            return None
        key = tuple(item.get(name, self.defaults.get(name)) for name in self.keys)
        return None if None in key else key


ListKind = Callable[[tuple[str, ...]], Keyed | None]
"""From the field names leading to a list (without indices) to how it merges; None is atomic."""

_BY_NAME = Keyed(("name",))
_PROTOCOL = {"protocol": "TCP"}
_BY_FIELD = {
    "containers": _BY_NAME,
    "initContainers": _BY_NAME,
    "ephemeralContainers": _BY_NAME,
    "volumes": _BY_NAME,
    "env": _BY_NAME,
    "imagePullSecrets": _BY_NAME,
    "secrets": _BY_NAME,
    "volumeMounts": Keyed(("mountPath",)),
    "volumeDevices": Keyed(("devicePath",)),
    "conditions": Keyed(("type",)),
    "hostAliases": Keyed(("ip",)),
    "podIPs": Keyed(("ip",)),
    "ownerReferences": Keyed(("uid",)),
    "finalizers": Keyed(()),
}
_BY_PARENT_AND_FIELD = {
    "containers/ports": Keyed(("containerPort", "protocol"), _PROTOCOL),
    "initContainers/ports": Keyed(("containerPort", "protocol"), _PROTOCOL),
    "spec/ports": Keyed(("port", "protocol"), _PROTOCOL),
    "spec/topologySpreadConstraints": Keyed(("topologyKey", "whenUnsatisfiable")),
}


def builtin_lists(names: tuple[str, ...]) -> Keyed | None:
    """The merge keys of built-in kinds, by the last one or two field names."""
    return _BY_PARENT_AND_FIELD.get("/".join(names[-2:])) or _BY_FIELD.get(names[-1])


def schema_lists(schema: Json | None) -> ListKind:
    """The merge keys a custom resource's schema declares (`x-kubernetes-list-type`); metadata is built in."""

    def kind(names: tuple[str, ...]) -> Keyed | None:
        if names[0] == "metadata":
            return builtin_lists(names)
        node = schema or {}
        for name in names:
            node = node.get("items", node)
            extra = node.get("additionalProperties")
            node = (node.get("properties") or {}).get(name) or (extra if isinstance(extra, dict) else {})
        match node.get("x-kubernetes-list-type"):
            case "map":
                properties = (node.get("items") or {}).get("properties") or {}
                keys = tuple(node.get("x-kubernetes-list-map-keys") or ())
                defaults = {key: properties[key]["default"] for key in keys if "default" in properties.get(key, {})}
                return Keyed(keys, defaults)
            case "set":
                return Keyed(())
        return None

    return kind
