"""Which namespaces a policy is for: plain names, or names with `*` for any characters. Pure; nothing is looked up."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

from pydantic import StringConstraints

NAMESPACE_GLOB = r"^[a-z0-9*]([-a-z0-9*]*[a-z0-9*])?$"

NamespaceGlob = Annotated[str, StringConstraints(pattern=NAMESPACE_GLOB, max_length=63)]
"""`shop`, `team-*`, `*`."""


def is_among(namespace: str, globs: Iterable[str]) -> bool:
    """Whether a namespace is one of these."""
    return any(_matches(namespace, glob) for glob in globs)


def _matches(name: str, glob: str) -> bool:
    """Each part between two `*` where it first fits: in time linear in the name for every part, whatever is written."""
    first, *rest = glob.split("*")
    if not rest:
        return name == glob
    if not name.startswith(first):
        return False
    position = len(first)
    for part in rest[:-1]:
        found = name.find(part, position)
        if found < 0:
            return False
        position = found + len(part)
    return name.endswith(rest[-1]) and len(name) - len(rest[-1]) >= position
