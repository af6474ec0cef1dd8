"""From a name, or a rollout's file, to what would be released in place of what by which policy, as the daemon finds it.

Read only, with the caller's own rights, and inside one namespace.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from canary.cli.policy import chosen
from canary.cli.reach import Cluster
from canary.cluster.gateway import Gateway
from canary.cluster.kinds import DEPLOYMENT, DESTINATIONRULE, SERVICE, VIRTUALSERVICE
from canary.errors import FindingError, InputError, NotFound
from canary.mesh.istio.router import IstioRouter
from canary.mesh.objects import by_name
from canary.mesh.router import MeshView, Request
from canary.model.annotations import opt_in
from canary.model.policy import Policy
from canary.model.rollout import API_VERSION, KIND, Rollout, RolloutSpec
from canary.model.route import Route

LARGEST_FILE = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Release:
    """`target` in place of `stable`. `route` is None where the target is stable itself or is not there yet: then it is
    about whatever version comes next."""

    view: MeshView
    target: str
    service: str
    stable: str
    policy: Policy
    route: Route | None
    rollout: Rollout | None = None

    @property
    def namespace(self) -> str:
        return self.view.namespace


def view_of(gateway: Gateway, namespace: str) -> MeshView:
    """One namespace as the routers look at it. Raises ClusterError."""
    kinds = (VIRTUALSERVICE, DESTINATIONRULE, SERVICE, DEPLOYMENT)
    virtual_services, rules, services, deployments = (_all(gateway, kind, namespace) for kind in kinds)
    return MeshView(namespace, virtual_services, rules, services, deployments)


def _all(gateway: Gateway, kind: Any, namespace: str) -> list[dict[str, Any]]:
    try:
        return gateway.list(kind, namespace)[0]
    except NotFound as error:
        raise InputError(f"this cluster ({gateway.server}) has no {kind.resource}: is Istio installed?") from error


def release_of(cluster: Cluster, name: str, policy: str | None, policies: Path | None) -> Release:
    """What a rollout of this name is about, or would be: a rollout, or a Deployment (opted in, or `policy` given).

    Raises NotFound for a name that is neither, FindingError and InputError as the daemon would refuse it.
    """
    assert cluster.namespace is not None, "a name needs a namespace"
    view = view_of(cluster.gateway, cluster.namespace)
    kind, _, plain = name.rpartition("/")
    target = by_name(view.deployments, plain)
    if target is None or kind.startswith(("crol", "canaryrollout")):
        try:
            rollout = _parsed(cluster.attempt(name).document)
        except NotFound:
            raise NotFound(f"there is no Deployment or rollout {plain} in namespace {cluster.namespace}") from None
        return _of_rollout(view, rollout, policy, policies)
    asks = opt_in(target["metadata"].get("annotations"))
    if asks is None and policy is None:
        raise InputError(
            f"Deployment {plain} does not name a policy (annotation canary.delivery/policy): say --policy NAME"
        )
    request = Request(plain, asks.service, asks.virtual_service, asks.route) if asks else Request(plain)
    return _resolved(view, request, chosen(policy or (asks.policy if asks else ""), policies))


def release_of_file(cluster: Cluster, file: Path, policy: str | None, policies: Path | None) -> Release:
    """What a rollout in a YAML file, not yet created, would be about. Raises InputError, FindingError."""
    spec, namespace = _spec(file)
    assert cluster.namespace is not None
    view = view_of(cluster.gateway, namespace or cluster.namespace)
    return _resolved(view, _request(spec), chosen(policy or spec.policy_name, policies))


def rollout_of(cluster: Cluster, name: str) -> Rollout | None:
    """The rollout of this name, or a Deployment's newest attempt; None for a Deployment that has none.

    Raises NotFound for a name that is neither.
    """
    assert cluster.namespace is not None, "a name needs a namespace"
    try:
        return _parsed(cluster.attempt(name).document)
    except NotFound:
        plain = name.rpartition("/")[2]
        try:
            cluster.gateway.get(DEPLOYMENT, cluster.namespace, plain)
        except NotFound:
            raise NotFound(f"there is no rollout or Deployment {plain} in namespace {cluster.namespace}") from None
        return None


def policy_of(rollout: Rollout, policy: str | None, policies: Path | None) -> Policy:
    """The named policy; without a name the one that the rollout was judged by, or asks for."""
    frozen = rollout.status.policy
    if policy is None and frozen is not None and frozen.resolved:
        try:
            return Policy.model_validate(frozen.resolved)
        except ValidationError as error:
            raise InputError(f"the policy in {rollout.name}'s status cannot be read: {_first(error)}") from error
    return chosen(policy or rollout.spec.policy_name, policies)


def _of_rollout(view: MeshView, rollout: Rollout, policy: str | None, policies: Path | None) -> Release:
    found = policy_of(rollout, policy, policies)
    route = rollout.status.pinned_route(view.namespace)
    if route is None or rollout.status.phase.is_terminal:  # one that has ended is planned as the next attempt would be
        return _resolved(view, _request(rollout.spec), found, rollout)
    return Release(view, rollout.spec.target, route.service, route.stable.deployment, found, route, rollout)


def _request(spec: RolloutSpec) -> Request:
    return Request(spec.target, spec.service or "", spec.virtual_service or "", spec.route or "")


def _resolved(view: MeshView, request: Request, policy: Policy, rollout: Rollout | None = None) -> Release:
    router = IstioRouter()
    target = by_name(view.deployments, request.target)
    if target is None and request.service:
        stable = router.stable_deployment(view, request.service, request.virtual_service, request.route)
        return Release(view, request.target, request.service, stable, policy, None, rollout)
    try:
        route = router.resolve(view, request)
    except FindingError as error:
        if error.reason != "AlreadyStable" or target is None:
            raise
        service = router.service_of(view, target, request.service)
        return Release(view, request.target, service, request.target, policy, None, rollout)
    if "outlier_detection" not in policy.model_fields_set and (thresholds := router.thresholds(view, route)):
        policy = policy.model_copy(update={"outlier_detection": thresholds.outlier_detection})
    return Release(view, request.target, route.service, route.stable.deployment, policy, route, rollout)


def _parsed(document: Any) -> Rollout:
    try:
        return Rollout.parse(dict(document))
    except (ValidationError, KeyError) as error:
        raise InputError(f"this CanaryRollout cannot be read: {_first(error)}") from error


def _spec(file: Path) -> tuple[RolloutSpec, str]:
    if file.stat().st_size > LARGEST_FILE:
        raise InputError(f"{file} is no CanaryRollout: it is larger than {LARGEST_FILE} bytes")
    try:
        document = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{file} is no YAML: {' '.join(str(error).split())}") from error
    if not isinstance(document, dict) or (document.get("apiVersion"), document.get("kind")) != (API_VERSION, KIND):
        raise InputError(f"{file} must hold one object of kind {KIND} ({API_VERSION})")
    metadata = document.get("metadata")
    namespace = metadata.get("namespace") if isinstance(metadata, dict) else None
    try:
        return RolloutSpec.model_validate(document.get("spec") or {}), str(namespace or "")
    except ValidationError as error:
        raise InputError(f"{file}: {_first(error)}") from error


def _first(error: Exception) -> str:
    if isinstance(error, ValidationError):
        wrong = error.errors()[0]
        return f"{'.'.join(str(part) for part in wrong['loc'])}: {wrong['msg']}"
    return f"it has no {error}"
