"""Which service an object belongs to: the key under which the work on it is queued."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from canary.cluster.kinds import (
    CANARYROLLOUT,
    DEPLOYMENT,
    DESTINATIONRULE,
    NAMESPACE,
    SERVICE,
    VIRTUALSERVICE,
    Kind,
)
from canary.cluster.reflector import Change
from canary.daemon.caches import Caches, Object
from canary.errors import FindingError
from canary.mesh.router import MeshView, Router
from canary.model.annotations import POLICY, opt_in
from canary.model.rollout import Phase, Rollout

_OVER = frozenset(phase.value for phase in Phase if phase.is_terminal)


class Key(NamedTuple):
    """One service of one namespace; `~name` stands for a Deployment whose service cannot be told yet.

    `service` "" stands for every service of the namespace: something changed there, and which of them it is about is
    found out by a worker, not by the thread that heard of it.
    """

    namespace: str
    service: str = ""


def key_of_deployment(router: Router, view: MeshView, deployment: Object) -> Key:
    """The service a Deployment says or shows it belongs to."""
    try:
        asks = opt_in(deployment["metadata"].get("annotations"))
    except FindingError:
        return _unknown(view.namespace, deployment["metadata"]["name"])
    return _key(router, view, deployment, asks.service if asks else "")


def _key(router: Router, view: MeshView, deployment: Object, service: str) -> Key:
    try:
        return Key(view.namespace, router.service_of(view, deployment, service))
    except FindingError:
        return _unknown(view.namespace, deployment["metadata"]["name"])


def _unknown(namespace: str, deployment: str) -> Key:
    return Key(namespace, f"~{deployment}")


def key_of_rollout(router: Router, caches: Caches, rollout: Rollout) -> Key:
    """What was resolved, else what was asked if it is the target's, else what its target shows.

    A Service that does not select the target's pods is not its service: an attempt that names another's must not
    supersede that one's attempts.
    """
    if rollout.status.service:
        return Key(rollout.namespace, rollout.status.service)
    target = caches.object(DEPLOYMENT, rollout.namespace, rollout.spec.target)
    if target is None:
        return _unknown(rollout.namespace, rollout.spec.target)
    view = MeshView(rollout.namespace, services=caches.objects(SERVICE, rollout.namespace))
    if not rollout.spec.service:
        return key_of_deployment(router, view, target)
    return _key(router, view, target, rollout.spec.service)


def keys_of_change(router: Router, kind: Kind, change: Change[Object]) -> set[Key]:
    """Where to look after a change: at the services that it is about where it tells them, else at all of its namespace.

    A look at every service of a namespace for each of our own writes would be most of the work.
    """
    namespace, name = change.key
    if kind is NAMESPACE:
        return {Key(name)}
    if change.old is not None and change.new is not None:
        if kind is CANARYROLLOUT:
            (before, had_ended), (now, has_ended) = map(_attempt, (change.old, change.new))
            # an end makes room for those that wait (`engine.crowd`)
            if now and before == now and had_ended == has_ended:
                return {Key(namespace, now)}
        elif kind in (VIRTUALSERVICE, DESTINATIONRULE):
            services = router.mentions(namespace, change.old) | router.mentions(namespace, change.new)
            return {Key(namespace, service) for service in services}
    return {Key(namespace)}


def _attempt(raw: Object) -> tuple[str, bool]:
    """The service that an attempt was resolved to, "" while it was not, and whether it is over."""
    status = raw.get("status") or {}
    return status.get("service") or "", status.get("phase") in _OVER


def releasing(caches: Caches) -> set[str]:
    """The namespaces where something is released, or may be at any time."""
    asking = {one["metadata"]["namespace"] for one in caches.objects(DEPLOYMENT, None) if is_opted_in(one)}
    running = {entry.rollout.namespace for entry in caches.rollouts(None) if not entry.rollout.status.phase.is_terminal}
    return asking | running


def is_opted_in(deployment: Mapping[str, Any]) -> bool:
    """Whether a Deployment carries the opt-in annotation, well-formed or not."""
    return POLICY in (deployment["metadata"].get("annotations") or {})
