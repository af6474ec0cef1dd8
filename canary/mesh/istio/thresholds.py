"""When a host of the canary is ejected, as the service's own DestinationRules say it. Only reads.

A policy that leaves `outlierDetection` out takes these for its fast abort, so that the thresholds stand in one place.
The order is Istio's: a subset's block wins over the rule's, and settings for the port replace those without one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from canary.errors import FindingError
from canary.mesh.istio.hosts import Hosts
from canary.mesh.istio.subsets import rules_of
from canary.mesh.objects import by_name, listed, name_of, section, title
from canary.mesh.router import MeshView, Object, Thresholds
from canary.model.policy import OutlierDetection
from canary.model.route import Route

ISTIO_DEFAULTS: Mapping[str, Any] = {
    "consecutive5xxErrors": 5,
    "interval": "10s",
    "baseEjectionTime": "30s",
    "maxEjectionPercent": 10,
}
"""What Istio and Envoy take for a field that an outlierDetection block leaves out."""

_OURS = OutlierDetection()


def thresholds_of(view: MeshView, hosts: Hosts, route: Route) -> Thresholds | None:
    """The outlierDetection that callers' proxies apply to the canary, None where there is none.

    Raises FindingError BadOutlierDetection naming the field that cannot be read.
    """
    found: tuple[Any, str] | None = None
    rules, port = rules_of(view, hosts, route.service), _port(view, route)
    top = next((rule for rule in rules if section(rule, "spec", "trafficPolicy")), None)
    if top is not None:
        where = f"{title('DestinationRule', view.namespace, name_of(top))}: spec.trafficPolicy"
        found = _of_top(section(top, "spec", "trafficPolicy"), port, where)
    own = _subset(rules, route.canary.subset)
    if own is not None:
        rule, index, subset = own
        where = f"{title('DestinationRule', view.namespace, name_of(rule))}: spec.subsets[{index}].trafficPolicy"
        policy = section(subset, "trafficPolicy")
        found = _block(policy, where) or found
        found = _of_port(policy, port, where) or found
    return _read(*found) if found else None


def _of_top(policy: Object, port: int | None, where: str) -> tuple[Any, str] | None:
    """Settings for the port replace the others altogether: what they leave out is Istio's default, not inherited."""
    numbers = [section(setting, "port").get("number") for setting in listed(policy, "portLevelSettings")]
    return _of_port(policy, port, where) if port is not None and port in numbers else _block(policy, where)


def _of_port(policy: Object, port: int | None, where: str) -> tuple[Any, str] | None:
    for index, setting in enumerate(listed(policy, "portLevelSettings")):
        if port is not None and section(setting, "port").get("number") == port:
            return _block(setting, f"{where}.portLevelSettings[{index}]")
    return None


def _block(policy: Object, where: str) -> tuple[Any, str] | None:
    given = policy.get("outlierDetection")
    return None if given is None else (given, f"{where}.outlierDetection")


def _port(view: MeshView, route: Route) -> int | None:
    """The port of the Service that the route goes to, also where the route leaves it to the Service's only one."""
    if route.port is not None:
        return route.port
    service = by_name(view.services, route.service)
    ports = listed(service, "spec", "ports") if service else []
    number = ports[0].get("port") if len(ports) == 1 else None
    return number if isinstance(number, int) else None


def _subset(rules: list[Object], name: str) -> tuple[Object, int, Object] | None:
    """The first definition of a subset, which is the one that Istio takes."""
    for rule in rules:
        for index, subset in enumerate(listed(rule, "spec", "subsets")):
            if subset.get("name") == name:
                return rule, index, subset
    return None


def _read(given: Any, where: str) -> Thresholds:
    if not isinstance(given, Mapping):
        raise _unreadable(where, "must be a mapping", given)
    fields = {field: default if given.get(field) is None else given[field] for field, default in ISTIO_DEFAULTS.items()}
    note = ""
    if _is_zero(fields["maxEjectionPercent"]):
        fields["maxEjectionPercent"] = ISTIO_DEFAULTS["maxEjectionPercent"]  # Istio takes 0 for not set
    if _is_zero(fields["consecutive5xxErrors"]):
        fields["consecutive5xxErrors"] = _OURS.consecutive5xx_errors
        note = f", whose consecutive5xxErrors: 0 ejects nobody: {_OURS.consecutive5xx_errors} is taken"
    try:
        read = OutlierDetection.model_validate(fields)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        message = re.sub("^(Input|String|Value) should ", "must ", problem["msg"].removeprefix("Value error, "))
        raise _unreadable(".".join([where, *map(str, problem["loc"])]), message, problem.get("input")) from None
    return Thresholds(read, f"{where}{note}")


def _is_zero(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value == 0


def _unreadable(where: str, message: str, given: Any) -> FindingError:
    shown = "" if repr(given) in message else f", not {repr(given)[:80]}"
    return FindingError(
        "BadOutlierDetection",
        f"{where} {message}{shown}; correct it, or give the policy an outlierDetection of its own",
    )
