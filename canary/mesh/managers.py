"""Who last wrote a field, from `metadata.managedFields`.

The names are what clients say of themselves (`fieldManager` is free text): good for a sentence, never for a decision.
"""

from __future__ import annotations

from canary.mesh.objects import listed, section
from canary.mesh.router import Object


def last_manager(thing: Object, *path: str) -> tuple[str, str]:
    """The manager that last changed the field at `path`, and when (RFC 3339 as the API server wrote it).

    Lists of Istio's kinds are atomic, so whoever changed anything inside one owns the whole list. Two empty strings
    when nobody is named: the object may be projected without managedFields, or they were erased.
    """
    owners = [
        (str(entry.get("time") or ""), str(entry.get("manager") or ""))
        for entry in listed(thing, "metadata", "managedFields")
        if not entry.get("subresource") and _owns(entry, path)
    ]
    time, manager = max(owners, default=("", ""))
    return manager, time


def _owns(entry: Object, path: tuple[str, ...]) -> bool:
    *parents, last = (f"f:{part}" for part in path)
    return last in section(entry, "fieldsV1", *parents)
