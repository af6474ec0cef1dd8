"""The placeholders of a metric's PromQL, and what is put in their place.

Only names that the API server has checked and one duration are ever filled in, so that no value can end a quoted string
of the query. A placeholder that nobody fills in is refused when the policy is read, not when it is asked.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta

PLACEHOLDERS = ("namespace", "service", "canary", "stable", "tile")

_PLACEHOLDER = re.compile(r"\{\{ *([a-zA-Z_]*) *\}\}")
_DNS_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?")


def check_placeholders(query: str) -> None:
    """Raises ValueError, naming the valid ones, for a placeholder that is none of them, or that is not closed."""
    valid = ", ".join(f"{{{{{name}}}}}" for name in PLACEHOLDERS)
    for name in _PLACEHOLDER.findall(query):
        if name not in PLACEHOLDERS:
            raise ValueError(f"unknown placeholder {{{{{name}}}}}; there are {valid}")
    rest = _PLACEHOLDER.sub("", query)
    if "{{" in rest:
        at = rest.index("{{")
        raise ValueError(f"not a placeholder: {rest[at : at + 20]!r}; there are {valid}")


def fill(query: str, *, namespace: str, service: str, canary: str, stable: str, tile: timedelta) -> str:
    """The query with every placeholder filled in; `canary` and `stable` are Deployments, `tile` becomes "15000ms".

    Raises ValueError for a placeholder that does not exist, and for a name that Kubernetes would not have accepted.
    A dot in a name matches any character where the query compares with `=~`.
    """
    check_placeholders(query)
    names = {"namespace": namespace, "service": service, "canary": canary, "stable": stable}
    for placeholder, name in names.items():
        if len(name) > 253 or not _DNS_NAME.fullmatch(name):
            raise ValueError(f"not a name that can stand in a query ({placeholder}): {name!r}")
    values: Mapping[str, str] = names | {"tile": f"{round(tile / timedelta(milliseconds=1))}ms"}
    return _PLACEHOLDER.sub(lambda match: values[match[1]], query)
