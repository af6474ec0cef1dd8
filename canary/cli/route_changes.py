"""What a rollout would write to the mesh, step by step: decided by the router itself, on the objects as they are now.

Nothing is written. The object that each step leaves behind is what the next one is decided on.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from canary.mesh.istio import find
from canary.mesh.istio.hosts import Hosts
from canary.mesh.istio.router import IstioRouter
from canary.mesh.objects import by_name, name_of, title
from canary.mesh.patched import parts_of, patched, value_at
from canary.mesh.router import MeshView, Write
from canary.model.policy import Policy
from canary.model.route import Route

SHORT = 100
"""Characters of a value that is shown in a line."""


@dataclass(frozen=True, slots=True)
class Change:
    """The write with which a step begins, None where there is nothing to write; `lines` say what changes in it.

    `step` 0 is the header stage; None is what must be there before any traffic moves.
    """

    step: int | None
    weight: int
    write: Write | None
    lines: tuple[str, ...]


def changes_of(view: MeshView, route: Route, policy: Policy) -> list[Change]:
    """Every write of a rollout of `policy` up to its last weight. Raises FindingError as the router does."""
    router = IstioRouter()
    changes = [Change(None, 0, write, _lines(view, write)) for write in router.prepare(view, route, policy)]
    strategy = policy.strategy
    for step in range(strategy.first_step, strategy.last_step + 1):
        match = strategy.match
        wanted = match if match is not None and (step == 0 or match.keep) else None
        weight = policy.weight_of(step)
        write = router.shift(view, route, weight, wanted)
        changes.append(Change(step, weight, write, _lines(view, write) if write else ()))
        if write:
            view = _after(view, write)
    return changes


def retries_of(view: MeshView, route: Route) -> tuple[int, str] | None:
    """(attempts, conditions) where the route itself asks for retries, None where it leaves them to the mesh."""
    retries = find.again(view, Hosts(view.namespace), route).body.get("retries")
    if not isinstance(retries, Mapping):
        return None
    attempts, conditions = retries.get("attempts", 2), retries.get("retryOn", "")
    return (attempts, str(conditions)) if isinstance(attempts, int) and attempts > 0 else None


def _after(view: MeshView, write: Write) -> MeshView:
    services = [
        patched(found, write.body) if name_of(found) == write.name else found for found in view.virtual_services
    ]
    return replace(view, virtual_services=services)


def _lines(view: MeshView, write: Write) -> tuple[str, ...]:
    if write.verb != "patch":
        return (f"{write.verb} {title(write.kind, write.namespace, write.name)}: {_short(write.body)}",)
    things = view.virtual_services if write.kind == "VirtualService" else view.destination_rules
    before = by_name(things, write.name) or {}
    named = title(write.kind, write.namespace, write.name)
    return tuple(f"{named} {line}" for operation in write.body if (line := _line(before, operation)))


def _line(before: Mapping[str, Any], operation: Mapping[str, Any]) -> str:
    """One operation in words, "" for what only guards the patch."""
    path, verb = operation["path"], operation["op"]
    if verb == "test" or path == "/metadata/resourceVersion":
        return ""
    where = _dotted(parts_of(path))
    if path.startswith("/metadata/annotations"):
        return f"{verb} {where} (what a clean-up will need)"
    was = value_at(before, path)
    subset = value_at(before, f"{path.rsplit('/', 1)[0]}/destination/subset")
    about = f" (subset {subset})" if isinstance(subset, str) else ""
    if verb == "replace" or (verb == "add" and path.endswith("/weight")):
        return f"{where}{about}: {_short('unset' if was is None else was)} -> {_short(operation['value'])}"
    if verb == "remove":
        return f"remove {where}{about}: {_short(was.get('name', was) if isinstance(was, dict) else was)}"
    if path.endswith("/-"):
        return f"add to {_dotted(parts_of(path)[:-1])}: {_short(operation['value'])}"
    return f"add {where}: {_short(operation['value'])}"


def _dotted(parts: Sequence[str]) -> str:
    """`["spec", "http", "0", "route"]` -> `spec.http[0].route`."""
    text = ""
    for part in parts:
        text += f"[{part}]" if part.isdigit() else f".{part}" if text else part
    return text


def _short(value: Any) -> str:
    """A value in one line; a long document by its name."""
    text = value if isinstance(value, str) else json.dumps(value, sort_keys=True)
    if len(text) > SHORT and isinstance(value, Mapping) and isinstance(value.get("name"), str):
        text = f"the route {value['name']}"
    return text if len(text) <= SHORT else f"{text[: SHORT - 1]}…"
