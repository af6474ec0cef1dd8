"""The columns kubectl prints for each kind, as upstream's printers have them, and how ages are written."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import orjson

from canary.sandbox.apiserver import jsonpath
from canary.sandbox.apiserver.answers import Json
from canary.sandbox.apiserver.resources import Column, Resource, Version


class Printer(NamedTuple):
    """Column definitions and the function from an object to its cells."""

    columns: tuple[Column, ...]
    cells: Callable[[Json], list[Any]]

    def definitions(self) -> list[Json]:
        return [
            {
                "name": column.name,
                "type": "string" if column.type == "date" else column.type,
                "format": column.format,
                "description": column.description,
                "priority": column.priority,
            }
            for column in self.columns
        ]


def printer(resource: Resource, version: Version) -> Printer:
    """How objects of this kind are printed; the name and the age for kinds nobody described."""
    if resource.custom:
        columns = (Column("Name", ".metadata.name", format="name"), *version.columns)
        return Printer(columns, lambda obj: [_cell(column, obj) for column in columns])
    return _BUILTIN.get(resource.key) or _PLAIN


def age(since: str | None) -> str:
    """An RFC 3339 instant as upstream's HumanDuration writes the time since: `42s`, `3m5s`, `5h`, `7d`."""
    if not since:
        return "<unknown>"
    try:
        passed = datetime.datetime.now(datetime.UTC) - datetime.datetime.fromisoformat(since)
    except (ValueError, TypeError):
        return "<invalid>"
    seconds = int(passed.total_seconds())
    minutes, hours, days = seconds // 60, seconds // 3600, seconds // 86400
    for limit, whole, unit, rest, small in (
        (120, seconds, "s", 0, ""),
        (600, minutes, "m", seconds % 60, "s"),
        (3 * 3600, minutes, "m", 0, ""),
        (8 * 3600, hours, "h", minutes % 60, "m"),
        (2 * 86400, hours, "h", 0, ""),
        (8 * 86400, days, "d", hours % 24, "h"),
        (2 * 365 * 86400, days, "d", 0, ""),
    ):
        if seconds < limit:
            return f"{max(whole, 0)}{unit}" + (f"{rest}{small}" if rest else "")
    return f"{days // 365}y"


def _cell(column: Column, obj: Json) -> Any:
    found = jsonpath.find(column.path, obj)
    if column.type == "date":
        return age(found[0] if found else None)
    if not found or found[0] is None:
        return None
    value = found[0]
    if column.type in ("integer", "number", "boolean"):
        return value if isinstance(value, bool | int | float) else None
    if isinstance(value, dict | list):
        return orjson.dumps(value).decode()
    return str(value).lower() if isinstance(value, bool) else str(value)


def _columns(*described: str) -> tuple[Column, ...]:
    """`Name`, `Ready:string`, `IP:string:1` (name, type, priority)."""
    split = [(*text.split(":"), "", "")[:3] for text in described]
    columns = [Column(name, "", kind or "string", priority=int(priority or 0)) for name, kind, priority in split]
    return (Column("Name", "", format="name"), *columns)


def _name(obj: Json) -> str:
    return str(obj["metadata"]["name"])


def _born(obj: Json) -> str:
    return age(obj["metadata"].get("creationTimestamp"))


def _spec(obj: Json) -> Json:
    return obj.get("spec") or {}


def _status(obj: Json) -> Json:
    return obj.get("status") or {}


def _selector(labels: Json | None) -> str:
    return ",".join(f"{key}={value}" for key, value in sorted((labels or {}).items())) or "<none>"


def _containers(spec: Json) -> list[Any]:
    containers = spec.get("containers") or []
    return [",".join(container.get(key, "") for container in containers) for key in ("name", "image")]


def _pod(obj: Json) -> list[Any]:
    status, metadata = _status(obj), obj["metadata"]
    states = status.get("containerStatuses") or []
    ready = sum(bool(state.get("ready")) for state in states)
    waiting = [state.get("state", {}).get("waiting", {}).get("reason") for state in states]
    phase = "Terminating" if metadata.get("deletionTimestamp") else next(filter(None, waiting), None)
    gates = _spec(obj).get("readinessGates") or []
    return [
        _name(obj),
        f"{ready}/{len(_spec(obj).get('containers') or states)}",
        phase or status.get("reason") or status.get("phase", "Unknown"),
        str(sum(state.get("restartCount", 0) for state in states)),
        _born(obj),
        status.get("podIP") or "<none>",
        _spec(obj).get("nodeName") or "<none>",
        status.get("nominatedNodeName") or "<none>",
        str(len(gates)) if gates else "<none>",
    ]


def _deployment(obj: Json) -> list[Any]:
    spec, status = _spec(obj), _status(obj)
    return [
        _name(obj),
        f"{status.get('readyReplicas', 0)}/{spec.get('replicas', 1)}",
        status.get("updatedReplicas", 0),
        status.get("availableReplicas", 0),
        _born(obj),
        *_containers(spec["template"]["spec"]),
        _selector((spec.get("selector") or {}).get("matchLabels")),
    ]


def _replica_set(obj: Json) -> list[Any]:
    spec, status = _spec(obj), _status(obj)
    counts = [spec.get("replicas", 1), status.get("replicas", 0), status.get("readyReplicas", 0)]
    selector = _selector((spec.get("selector") or {}).get("matchLabels"))
    return [_name(obj), *counts, _born(obj), *_containers(spec["template"]["spec"]), selector]


def _service(obj: Json) -> list[Any]:
    spec = _spec(obj)
    ports = [
        f"{port['port']}" + (f":{port['nodePort']}" if port.get("nodePort") else "") + f"/{port.get('protocol', 'TCP')}"
        for port in spec.get("ports") or ()
    ]
    outside = spec.get("externalName") or ",".join(spec.get("externalIPs") or ()) or "<none>"
    inside = spec.get("clusterIP") or "<none>"
    return [
        *(_name(obj), spec.get("type", "ClusterIP"), inside, outside, ",".join(ports) or "<none>", _born(obj)),
        _selector(spec.get("selector")),
    ]


def _event(obj: Json) -> list[Any]:
    about = obj.get("involvedObject") or {}
    first = obj.get("firstTimestamp") or obj.get("eventTime") or obj["metadata"].get("creationTimestamp")
    series = obj.get("series") or {}
    last = series.get("lastObservedTime") or obj.get("lastTimestamp") or first
    source = obj.get("source") or {}
    component = source.get("component") or obj.get("reportingComponent") or ""
    return [
        age(last),
        obj.get("type", ""),
        obj.get("reason", ""),
        f"{str(about.get('kind', '')).lower()}/{about.get('name', '')}",
        about.get("fieldPath", ""),
        ", ".join(filter(None, (component, source.get("host") or obj.get("reportingInstance")))),
        str(obj.get("message", "")).strip(),
        age(first),
        series.get("count") or obj.get("count") or 1,
        _name(obj),
    ]


def _config_map(obj: Json) -> list[Any]:
    return [_name(obj), len(obj.get("data") or ()) + len(obj.get("binaryData") or ()), _born(obj)]


def _secret(obj: Json) -> list[Any]:
    return [_name(obj), obj.get("type", ""), len(obj.get("data") or ()), _born(obj)]


def _node(obj: Json) -> list[Any]:
    prefix = "node-role.kubernetes.io/"
    labels: Sequence[str] = list(obj["metadata"].get("labels") or ())
    roles = ",".join(sorted(label.removeprefix(prefix) for label in labels if label.startswith(prefix)))
    conditions = _status(obj).get("conditions") or []
    ready = any(condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions)
    version = (_status(obj).get("nodeInfo") or {}).get("kubeletVersion", "")
    return [_name(obj), "Ready" if ready else "NotReady", roles or "<none>", _born(obj), version]


def _endpoints(obj: Json) -> list[Any]:
    pairs = [
        f"{address.get('ip')}:{port.get('port')}"
        for subset in obj.get("subsets") or ()
        for address in subset.get("addresses") or ()
        for port in subset.get("ports") or ()
    ]
    return [_name(obj), ",".join(pairs) or "<none>", _born(obj)]


def _endpoint_slice(obj: Json) -> list[Any]:
    ports = ",".join(str(port.get("port")) for port in obj.get("ports") or ())
    addresses = ",".join(
        address for endpoint in obj.get("endpoints") or () for address in endpoint.get("addresses") or ()
    )
    return [_name(obj), obj.get("addressType", ""), ports or "<unset>", addresses or "<unset>", _born(obj)]


_EVENT_COLUMNS = _columns(
    "Last Seen", "Type", "Reason", "Object", "Subobject::1", "Source::1", "Message", "First Seen::1", "Count:integer:1"
)
_WIDE = ("Containers::1", "Images::1", "Selector::1")
_PLAIN = Printer(_columns("Age"), lambda obj: [_name(obj), _born(obj)])
_BUILTIN = {
    ("", "pods"): Printer(
        _columns(
            *("Ready", "Status", "Restarts", "Age", "IP::1", "Node::1", "Nominated Node::1", "Readiness Gates::1")
        ),
        _pod,
    ),
    ("apps", "deployments"): Printer(
        _columns("Ready", "Up-to-date:integer", "Available:integer", "Age", *_WIDE), _deployment
    ),
    ("apps", "replicasets"): Printer(
        _columns("Desired:integer", "Current:integer", "Ready:integer", "Age", *_WIDE), _replica_set
    ),
    ("", "services"): Printer(_columns("Type", "Cluster-IP", "External-IP", "Port(s)", "Age", "Selector::1"), _service),
    ("", "events"): Printer((*_EVENT_COLUMNS[1:], Column("Name", "", format="name", priority=1)), _event),
    ("", "configmaps"): Printer(_columns("Data:integer", "Age"), _config_map),
    ("", "secrets"): Printer(_columns("Type", "Data:integer", "Age"), _secret),
    ("", "namespaces"): Printer(
        _columns("Status", "Age"), lambda obj: [_name(obj), _status(obj).get("phase", ""), _born(obj)]
    ),
    ("", "nodes"): Printer(_columns("Status", "Roles", "Age", "Version"), _node),
    ("", "serviceaccounts"): Printer(
        _columns("Secrets:integer", "Age"), lambda obj: [_name(obj), len(obj.get("secrets") or ()), _born(obj)]
    ),
    ("", "endpoints"): Printer(_columns("Endpoints", "Age"), _endpoints),
    ("discovery.k8s.io", "endpointslices"): Printer(
        _columns("AddressType", "Ports", "Endpoints", "Age"), _endpoint_slice
    ),
    ("coordination.k8s.io", "leases"): Printer(
        _columns("Holder", "Age"), lambda obj: [_name(obj), _spec(obj).get("holderIdentity", ""), _born(obj)]
    ),
    ("apiextensions.k8s.io", "customresourcedefinitions"): Printer(
        _columns("Created At:date"), lambda obj: [_name(obj), obj["metadata"]["creationTimestamp"]]
    ),
}
