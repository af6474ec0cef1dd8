"""From flags to a cluster, and from a NAME to the rollout that is meant.

Only the API server is asked, with the caller's own rights.
"""

from __future__ import annotations

from dataclasses import dataclass

from canary.cli.attempt import Attempt, newest_attempt
from canary.cluster.connection import default_namespace
from canary.cluster.gateway import Gateway
from canary.cluster.kinds import CANARYROLLOUT, DEPLOYMENT
from canary.errors import Forbidden, InputError, NotFound

_ROLLOUT_WORDS = frozenset({"crol", "canaryrollout", "canaryrollouts", "canaryrollouts.canary.delivery"})
_DEPLOYMENT_WORDS = frozenset({"deploy", "deployment", "deployments", "deployment.apps", "deployments.apps"})
_ROLLOUT, _DEPLOYMENT, _EITHER = "rollout", "deployment", ""


@dataclass(frozen=True, slots=True)
class Cluster:
    """A gateway, and the namespace that commands mean (None: all)."""

    gateway: Gateway
    namespace: str | None

    def attempts(self, *, label_selector: str | None = None) -> list[Attempt]:
        """Every rollout there is, in no order. Raises InputError where the cluster does not know the kind."""
        try:
            items, _ = self.gateway.list(CANARYROLLOUT, self.namespace, label_selector=label_selector)
        except NotFound as error:
            raise InputError(
                f"this cluster ({self.gateway.server}) has no CanaryRollout: kubectl apply -f deploy/crd.yaml"
            ) from error
        return [Attempt(item) for item in items]

    def attempt(self, name: str) -> Attempt:
        """The rollout that NAME means: its own name, or a Deployment's newest attempt (`crol/x`, `deploy/x` say which).

        Raises NotFound with what was looked for, InputError for a kind that is neither.
        """
        assert self.namespace is not None, "a name needs a namespace"
        kind, plain = _split(name)
        if kind != _DEPLOYMENT:
            try:
                return Attempt(self.gateway.get(CANARYROLLOUT, self.namespace, plain))
            except NotFound:
                if kind == _ROLLOUT:
                    raise NotFound(f"there is no rollout {plain} in namespace {self.namespace}") from None
        newest = newest_attempt(self.attempts_of(plain))
        if newest is not None:
            return newest
        if self._has_deployment(plain):
            raise NotFound(
                f"Deployment {plain} in namespace {self.namespace} has no rollout yet: "
                f"canary start {plain} --policy standard"
            )
        what = "Deployment" if kind == _DEPLOYMENT else "rollout or Deployment"
        raise NotFound(f"there is no {what} {plain} in namespace {self.namespace}")

    def attempts_of(self, target: str) -> list[Attempt]:
        """All attempts for one Deployment."""
        return [attempt for attempt in self.attempts() if attempt.target == target]

    def _has_deployment(self, name: str) -> bool:
        assert self.namespace is not None
        try:
            self.gateway.get(DEPLOYMENT, self.namespace, name)
        except (NotFound, Forbidden):
            return False
        return True


def reach(
    kubeconfig: str | None, context: str | None, namespace: str | None, *, all_namespaces: bool = False
) -> Cluster:
    """The cluster of these flags. Sends nothing yet; raises InputError for a kubeconfig that cannot be used."""
    gateway = Gateway.connect(kubeconfig, context, field_manager="canary-cli", write_timeout_seconds=5.0)
    if all_namespaces:
        return Cluster(gateway, None)
    return Cluster(gateway, namespace or default_namespace(kubeconfig, context))


def deployment_name(name: str) -> str:
    """The plain name out of `payment-v2`, `deploy/payment-v2`. Raises InputError for another kind."""
    kind, plain = _split(name)
    if kind == _ROLLOUT:
        raise InputError(f"{name} is a rollout: name the Deployment to release")
    return plain


def _split(name: str) -> tuple[str, str]:
    kind, slash, plain = name.rpartition("/")
    if not plain or (slash and not kind):
        raise InputError(f"{name!r} is not a name: NAME, crol/NAME or deploy/NAME")
    word = kind.lower()
    if not slash:
        return _EITHER, plain
    if word in _ROLLOUT_WORDS:
        return _ROLLOUT, plain
    if word in _DEPLOYMENT_WORDS:
        return _DEPLOYMENT, plain
    raise InputError(f"{kind!r} is neither crol nor deploy: NAME, crol/NAME or deploy/NAME")
