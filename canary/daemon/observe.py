"""Fills in what the engine looks at: everything one look at a rollout sees, from memory."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from canary.cluster.gateway import Gateway
from canary.cluster.kinds import DESTINATIONRULE, VIRTUALSERVICE
from canary.daemon.caches import Caches, Entry, named
from canary.daemon.evidence import Evidence
from canary.daemon.permits import Permits
from canary.daemon.policies import FrozenPolicies
from canary.daemon.rights import Rights
from canary.daemon.sourcewatch import SourceWatch
from canary.daemon.tracks import Case
from canary.engine.observed import Finding, Observed, Pods, Resolved, evidence_every
from canary.engine.retry import rollbacks_before
from canary.errors import ClusterError, FindingError
from canary.mesh.router import MeshView, Request, Router
from canary.model.policy import FULL_WEIGHT, Policy
from canary.model.rollout import ArmStatus, Phase, Rollout, RolloutStatus, RouteStatus
from canary.model.route import Arm, Route, RouteState

_CLEANED = frozenset({Phase.PAUSED, Phase.PROMOTING, Phase.ROLLING_BACK})


def kept_subsets(route: Route, *, promoted: bool) -> frozenset[str]:
    """The subsets that stay when a rollout cleans up after itself."""
    return frozenset({route.canary.subset if promoted else route.stable.subset})


@dataclass(frozen=True, slots=True)
class Observer:
    """Makes `Observed`s. Reads the API server only for a policy's first use, and for who caused a drift."""

    gateway: Gateway
    caches: Caches
    router: Router
    permits: Permits
    frozen: FrozenPolicies
    evidence: Evidence
    source: SourceWatch
    rights: Rights

    def observe(self, entry: Entry, superseded_by: str, now: datetime) -> Observed:
        """One look at a rollout. Raises ClusterError when the frozen policy cannot be read just now."""
        rollout, status = entry.rollout, entry.rollout.status
        view = self.caches.view(rollout.namespace)
        target = named(view.deployments, rollout.spec.target)
        if status.phase is Phase.PENDING:
            return self._unpinned(rollout, view, target, superseded_by)
        if status.phase.is_terminal:
            return Observed(rollout)
        policy = self.frozen.get(status.policy.digest) if status.policy else None
        route = status.pinned_route(rollout.namespace)
        state, problem = self._route(view, route, status)
        lost = self._lost_subsets(view, route, status.phase)
        verdict, observed_weight, share_problem = None, None, ""
        if policy is not None and status.phase.divides_traffic and status.tile is not None:
            case = Case(rollout, policy)
            verdict = self.evidence.verdict(case, now.timestamp())
            observed_weight, share_problem = self.evidence.share(case)
        return Observed(
            rollout,
            policy=policy,
            finding=self._metrics_finding(status.phase),
            route=state,
            route_problem=problem,
            target_revision=self._revision(rollout.namespace, target, status.target_revision),
            stable_revision=self._stable_revision(rollout, view),
            pods=self._pods(rollout, target),
            is_prepared=self._is_prepared(view, route, policy, status.phase),
            is_clean=self._is_clean(view, route, status.phase),
            verdict=verdict,
            source_problem=self._source_problem(status.phase),
            observed_weight=observed_weight,
            share_problem=share_problem,
            superseded_by=superseded_by,
            manager=self._manager(view, route, state, rollout, lost),
            lost_subsets=lost,
            tile=self.source.tile,
            rollbacks=self._rollbacks(rollout),
            refused=self.rights.problem(rollout),
            evidence_every=evidence_every(self.evidence.under_judgement, rollout.uid),
        )

    def _unpinned(self, rollout: Rollout, view: MeshView, target: Any, superseded_by: str) -> Observed:
        revision = self._revision(rollout.namespace, target, None)
        found: Resolved | None = None
        finding: Finding | None = None
        try:
            found = self._resolve(rollout, view, target)
        except FindingError as error:
            if error.reason == "AlreadyStable":
                # nothing to release: it is what the release would lead to
                superseded_by = superseded_by or f"the route: {error}"
            finding = _finding(error)
        if not revision and finding is None:
            return Observed(rollout, superseded_by=superseded_by)  # its ReplicaSet is being made: look again then
        return Observed(rollout, resolved=found, finding=finding, target_revision=revision, superseded_by=superseded_by)

    def flaw(self, rollout: Rollout) -> Finding | None:
        """What is wrong with the request itself, whoever else is on the route; None when nothing is."""
        view = self.caches.view(rollout.namespace)
        try:
            self._asked(rollout, view, named(view.deployments, rollout.spec.target))
        except FindingError as error:
            return _finding(error)
        return None

    def _asked(self, rollout: Rollout, view: MeshView, target: Any) -> tuple[Policy, str]:
        """The policy and the Service that a rollout asks for."""
        spec = rollout.spec
        if target is None:
            raise FindingError("TargetMissing", f"Deployment {rollout.namespace}/{spec.target} does not exist")
        policy = self.permits.policy(spec.policy_name, rollout.namespace)
        return policy, self.router.service_of(view, target, spec.service or "")

    def _resolve(self, rollout: Rollout, view: MeshView, target: Any) -> Resolved:
        spec = rollout.spec
        policy, service = self._asked(rollout, view, target)
        self.rights.check(rollout.namespace)
        request = Request(spec.target, service, spec.virtual_service or "", spec.route or "")
        route = self.router.resolve(view, request)
        self.router.read(view, route)
        stable = named(view.deployments, route.stable.deployment)
        stable_revision = self._revision(rollout.namespace, stable, None)
        if not stable_revision:
            raise FindingError(
                "StableMissing",
                f"Deployment {rollout.namespace}/{route.stable.deployment} (stable) has no ReplicaSet yet",
            )
        policy, thresholds = self._with_thresholds(policy, view, route)
        self.permits.check(policy, rollout.namespace, thresholds)
        forgery = self.frozen.forgery(policy)
        if forgery:
            raise FindingError(
                "PolicyForged",
                f"ConfigMap {forgery} is not the policy {policy.name} that its name stands for; delete it, and it is "
                "made again",
            )
        return Resolved(
            service=service,
            route=RouteStatus(
                virtual_service=route.virtual_service, http=route.http_name, host=route.host, port=route.port
            ),
            stable=_arm(route.stable, stable_revision),
            canary=_arm(route.canary, self._revision(rollout.namespace, target, None)),
            policy=policy,
            thresholds=thresholds,
            warning=self.router.header_from_outside(view, route, policy.strategy.match),
        )

    def _with_thresholds(self, policy: Policy, view: MeshView, route: Route) -> tuple[Policy, str]:
        """The policy to run by, and whose outlier thresholds it has: those its file leaves out the mesh may say."""
        if "outlier_detection" in policy.model_fields_set:
            return policy, "the policy"
        found = self.router.thresholds(view, route)
        if found is None:
            return policy, f"canary's defaults: neither the policy nor {route.service}'s mesh configuration has any"
        return policy.model_copy(update={"outlier_detection": found.outlier_detection}), found.source

    def _route(
        self, view: MeshView, route: Route | None, status: RolloutStatus
    ) -> tuple[RouteState | None, Finding | None]:
        if route is None:
            return None, None
        # only then may the clean-up have begun; before, a stable that is missing was taken out by somebody
        is_over = status.step is not None and status.step.index > status.step.of
        has_everything = is_over and status.weight.desired == FULL_WEIGHT
        try:
            return self.router.read(view, route, promoted=has_everything), None
        except FindingError as error:
            return None, Finding(error.reason, str(error))

    def _revision(self, namespace: str, deployment: Any, pinned: str | None) -> str:
        """The newest revision; the pinned one while a newer is only being made; "" when there is no Deployment."""
        if deployment is None:
            return ""
        return self.caches.revision(namespace, deployment) or pinned or ""

    def _stable_revision(self, rollout: Rollout, view: MeshView) -> str:
        pinned = rollout.status.stable
        if pinned is None:
            return ""
        deployment = named(view.deployments, pinned.deployment)
        return self._revision(rollout.namespace, deployment, pinned.revision)

    def _pods(self, rollout: Rollout, target: Any) -> Pods:
        if target is None or rollout.status.phase is not Phase.CHECKING:
            return Pods()
        return self.caches.pods(rollout.namespace, target, rollout.status.target_revision or "")

    def _rollbacks(self, rollout: Rollout) -> int:
        """Asked only when it is about to become one more."""
        if rollout.status.phase is not Phase.ROLLING_BACK:
            return 0
        return rollbacks_before([entry.rollout for entry in self.caches.rollouts(rollout.namespace)], rollout)

    def _metrics_finding(self, phase: Phase) -> Finding | None:
        if phase is not Phase.CHECKING:
            return None
        if self.source.problem:
            return Finding("TelemetryUnavailable", self.source.problem)
        return Finding("MetricsMissing", self.source.finding) if self.source.finding else None

    def _source_problem(self, phase: Phase) -> str:
        if phase is Phase.CHECKING:
            return self.source.problem or self.source.not_yet
        return self.source.problem

    def _is_prepared(self, view: MeshView, route: Route | None, policy: Policy | None, phase: Phase) -> bool:
        if phase is not Phase.CHECKING or route is None or policy is None:
            return True
        try:
            return not self.router.prepare(view, route, policy)
        except FindingError:
            return False

    def _is_clean(self, view: MeshView, route: Route | None, phase: Phase) -> bool:
        if phase not in _CLEANED or route is None:
            return True
        try:
            return not self.router.clean_up(
                view, route, keep=kept_subsets(route, promoted=phase is not Phase.ROLLING_BACK)
            )
        except FindingError:
            return True  # the route is gone, and what was on it

    def _lost_subsets(self, view: MeshView, route: Route | None, phase: Phase) -> frozenset[str]:
        """The subsets that are not there, by the API server's own word: what a late watch has not told of yet must not
        send anybody's traffic back. None while it does not answer."""
        if route is None or not (phase.divides_traffic or phase is Phase.ROLLING_BACK):
            return frozenset()
        if not self.router.lost_subsets(view, route):
            return frozenset()
        try:
            live, _ = self.gateway.list(DESTINATIONRULE, view.namespace)
        except ClusterError:
            return frozenset()
        for rule in live:
            self.caches.remember(DESTINATIONRULE, rule)
        return self.router.lost_subsets(replace(view, destination_rules=live), route)

    def _manager(
        self, view: MeshView, route: Route | None, state: RouteState | None, rollout: Rollout, lost: frozenset[str]
    ) -> str:
        """Who moved our weights, or took a subset out; asked only then (managedFields are not kept in memory)."""
        status = rollout.status
        changes = status.weight_changes
        settled = bool(changes) and changes[-1].reached is not None and status.phase.divides_traffic
        is_moved = settled and not (state is not None and state.says(status.weight.desired))
        if route is None or not (is_moved or lost):
            return status.drift.manager if status.drift else ""
        try:
            if is_moved:
                found = [self.gateway.get(VIRTUALSERVICE, route.namespace, route.virtual_service)]
                name, at = self.router.last_manager(replace(view, virtual_services=found), route)
            else:
                found = [
                    self.gateway.get(DESTINATIONRULE, view.namespace, rule) for rule in self.router.rules(view, route)
                ]
                name, at = self.router.last_rule_manager(replace(view, destination_rules=found), route)
        except ClusterError:
            return ""  # what was changed is known; its author is only for the sentence
        return f"{name} at {at}" if name else ""


def _finding(error: FindingError) -> Finding:
    candidates = f" (found: {', '.join(error.candidates)})" if error.candidates else ""
    return Finding(error.reason, f"{error}{candidates}")


def _arm(arm: Arm, revision: str) -> ArmStatus:
    return ArmStatus(deployment=arm.deployment, subset=arm.subset, label=arm.label, value=arm.value, revision=revision)
