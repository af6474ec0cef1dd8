"""Which Deployment is stable and which is the canary, told apart by the subsets of one service.

Stable is what the traffic says, never a name or an age: the only destination of the service with weight (decision 1).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from canary.errors import FindingError
from canary.mesh.istio.advice import subsets_to_add
from canary.mesh.istio.http_route import Destination, HttpRoute
from canary.mesh.istio.subsets import VERSION_LABELS, name_for, rules_of, subsets_of
from canary.mesh.objects import by_name, name_of, names, selects, template_labels, title
from canary.mesh.router import MeshView, Object
from canary.mesh.services import selected
from canary.model.route import Arm


@dataclass(frozen=True, slots=True)
class Stable:
    """The version that carries the traffic now: its destination, its Deployment, the labels of its subset."""

    destination: Destination
    deployment: Object
    labels: Mapping[str, Any]

    @property
    def subset(self) -> str:
        return self.destination.subset


def stable_of(view: MeshView, service: str, route: HttpRoute) -> Stable:
    """The stable version of a service on its route.

    Raises FindingError UnsafeRoute, AmbiguousStable, NoStable, NoSubsets or SubsetMissing.
    """
    destination = _carrying(service, route)
    subset = subsets_of(view, route.hosts, service).get(destination.subset)
    deployments = _deployments(view, service)
    if subset is None:
        return _by_value(view, service, route, destination, deployments)
    chosen = [deployment for deployment in deployments if _all_match(subset.labels, template_labels(deployment))]
    where = title("DestinationRule", view.namespace, name_of(subset.rule))
    if not chosen:
        raise FindingError(
            "NoStable",
            f"{where}: spec.subsets {subset.name!r} ({dict(subset.labels)}) selects no Deployment of Service "
            f"{service}; its labels must be those of the version that carries the traffic",
            candidates=names(deployments),
        )
    if len(chosen) > 1:
        raise FindingError(
            "AmbiguousStable",
            f"{where}: spec.subsets {subset.name!r} ({dict(subset.labels)}) selects {len(chosen)} Deployments "
            f"({', '.join(names(chosen))}); it must select one version only",
            candidates=names(chosen),
        )
    return Stable(destination, chosen[0], subset.labels)


def arms_of(view: MeshView, service: str, route: HttpRoute, target: Object) -> tuple[Arm, Arm]:
    """The stable arm and the canary arm of a rollout of `target`.

    Raises FindingError as `stable_of` does, and AlreadyStable, LabelMissing, AmbiguousCanary, SubsetTaken.
    """
    stable = stable_of(view, service, route)
    if name_of(stable.deployment) == name_of(target):
        raise FindingError(
            "AlreadyStable",
            f"Deployment {view.namespace}/{name_of(target)} already carries the traffic of Service {service} "
            f"(subset {stable.subset}); there is nothing to shift",
        )
    label = _telling_label(view, stable, target)
    value = str(template_labels(target)[label])
    wanted = {**stable.labels, label: value}
    _refuse_shared(view, service, target, wanted)
    subset = _existing(view, service, route, target, label) or name_for(
        value, wanted, subsets_of(view, route.hosts, service), view.namespace
    )
    return (
        Arm(name_of(stable.deployment), stable.subset, label, str(stable.labels[label])),
        Arm(name_of(target), subset, label, value),
    )


def _carrying(service: str, route: HttpRoute) -> Destination:
    own = [found for found in route.destinations if found.service == service]
    shares = dict(zip(map(id, route.destinations), route.shares, strict=True))
    carrying = [found for found in own if shares[id(found)] > 0]
    if not carrying:
        raise FindingError(
            "NoStable",
            f"{route.title}.route: no destination of Service {service} has a weight above 0, so nothing is stable; "
            f"give the version that must carry the traffic weight 100",
        )
    if len(carrying) > 1:
        listing = ", ".join(f"{found.subset or '(no subset)'} {found.weight}" for found in carrying)
        raise FindingError(
            "AmbiguousStable",
            f"{route.title}.route: {len(carrying)} destinations of Service {service} have a weight above 0 "
            f"({listing}); set all but the stable one to 0",
            candidates=tuple(found.subset for found in carrying),
        )
    if len({found.port for found in own}) > 1:
        raise FindingError(
            "UnsafeRoute",
            f"{route.title}.route: the destinations of Service {service} differ in destination.port; "
            f"one port per route",
        )
    foreign = len(own) < len(route.destinations)
    if foreign and sum(route.weights) != 100:
        raise FindingError(
            "UnsafeRoute",
            f"{route.title}.route[].weight add up to {sum(route.weights)}; beside other Services' destinations, which "
            f"stay as they are, they must add up to 100",
        )
    return carrying[0]


def _by_value(
    view: MeshView, service: str, route: HttpRoute, destination: Destination, deployments: list[Object]
) -> Stable:
    """Stable where no DestinationRule exists at all: the Deployment whose version is the subset's name.

    A rule that exists and lacks the subset is somebody's mistake to correct, not ours to guess at.
    """
    if not destination.subset:
        raise FindingError("NoSubsets", subsets_to_add(view, service, route))
    rules = rules_of(view, route.hosts, service)
    for label in VERSION_LABELS:
        chosen = [one for one in deployments if template_labels(one).get(label) == destination.subset]
        if len(chosen) == 1 and not rules:
            return Stable(destination, chosen[0], {label: destination.subset})
    place = title("DestinationRule", view.namespace, name_of(rules[0])) if rules else f"namespace {view.namespace}"
    raise FindingError(
        "SubsetMissing",
        f"{route.title}.route: subset {destination.subset!r} of Service {service} is in no DestinationRule; "
        f"define it in {place} (spec.subsets) with the labels of the version that must carry the traffic",
        candidates=names(deployments),
    )


def _telling_label(view: MeshView, stable: Stable, target: Object) -> str:
    """The one label of stable's subset that the target carries with another value."""
    labels = template_labels(target)
    where = f"Deployment {view.namespace}/{name_of(target)}: spec.template.metadata.labels"
    missing = [key for key in stable.labels if key not in labels]
    if missing:
        raise FindingError(
            "LabelMissing",
            f"{where} has no {missing[0]!r}, by which subset {stable.subset} selects "
            f"{name_of(stable.deployment)} ({dict(stable.labels)}); add it with another value",
        )
    differing = [key for key, value in stable.labels.items() if labels[key] != value]
    if len(differing) != 1:
        how = f"differ in {', '.join(differing)}" if differing else "are the same as stable's"
        raise FindingError(
            "LabelMissing",
            f"{where} {how} for subset {stable.subset} ({dict(stable.labels)}); exactly one of these labels must have "
            f"another value, to tell the canary from {name_of(stable.deployment)}",
        )
    return differing[0]


def _refuse_shared(view: MeshView, service: str, target: Object, labels: Mapping[str, Any]) -> None:
    chosen = [one for one in _deployments(view, service) if _all_match(labels, template_labels(one))]
    if names(chosen) != (name_of(target),):
        raise FindingError(
            "AmbiguousCanary",
            f"the labels {dict(labels)} that tell the canary {name_of(target)} from stable select "
            f"{len(chosen)} Deployments of Service {service} ({', '.join(names(chosen))}); only one may carry them",
            candidates=names(chosen),
        )


def _existing(view: MeshView, service: str, route: HttpRoute, target: Object, label: str) -> str:
    """The first subset that selects the target's pods by the telling label, and nobody else's; empty when none."""
    labels = template_labels(target)
    others = [one for one in _deployments(view, service) if name_of(one) != name_of(target)]
    fitting = [
        subset.name
        for subset in subsets_of(view, route.hosts, service).values()
        if subset.labels.get(label) == labels[label]
        and _all_match(subset.labels, labels)
        and not any(_all_match(subset.labels, template_labels(other)) for other in others)
    ]
    on_route = [name for name in fitting if route.position(service, name) is not None]
    return (on_route or fitting or [""])[0]


def _deployments(view: MeshView, service: str) -> list[Object]:
    found = by_name(view.services, service)
    return selected(view, found) if found else []


def _all_match(selector: Mapping[str, Any], labels: Mapping[str, Any]) -> bool:
    return not selector or selects(selector, labels)
