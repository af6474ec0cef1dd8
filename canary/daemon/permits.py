"""Which policies a namespace may use: those that allow it, and that are at least as strict as its floor.

The floor is the policy that the Namespace's label names, or the controller's own default (`--floor`) where there is no
label or Namespaces cannot be read. It is looked at while a rollout is Pending: what is pinned runs by the policy that
was frozen then, whatever becomes of the label.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from canary.daemon.policies import PolicyFolder
from canary.errors import FindingError
from canary.model.annotations import FLOOR
from canary.model.floor import below
from canary.model.policy import Policy

FloorOf = Callable[[str], str | None]
"""The policy's name that a Namespace's label gives: "" for a namespace that is to have none, None for no label."""


@dataclass(frozen=True, slots=True)
class Permits:
    """`default` is the name of the floor where no label says which; "" for none."""

    folder: PolicyFolder
    floor_of: FloorOf
    default: str = ""

    def policy(self, name: str, namespace: str) -> Policy:
        """The policy of this name, as its file has it.

        Raises FindingError UnknownPolicy, PolicyNotAllowed, UnknownFloor or BelowFloor. Outlier thresholds that the
        file leaves out are not compared here: they are not known yet.
        """
        policy = self.folder.get(name)
        if policy is None:
            broken = f"; {self.folder.errors[0]}" if self.folder.errors else ""
            raise FindingError("UnknownPolicy", f'there is no policy "{name}"{broken}', candidates=self.folder.names)
        if not policy.may_be_used_in(namespace):
            raise FindingError(
                "PolicyNotAllowed",
                f'policy "{name}" is not for namespace {namespace}: its allowedNamespaces are '
                f"{', '.join(policy.allowed_namespaces)}{self._instead(namespace)}",
            )
        floor = self._floor(namespace)
        if floor is not None:
            self._refuse_below(_but_for_the_mesh(policy, floor), floor, namespace)
        return policy

    def check(self, policy: Policy, namespace: str, thresholds: str) -> None:
        """The same for a policy with all its thresholds, which are those of `thresholds`.

        Raises FindingError UnknownFloor or BelowFloor.
        """
        floor = self._floor(namespace)
        if floor is not None:
            self._refuse_below(policy, floor, namespace, thresholds)

    def usable(self, namespace: str) -> tuple[str, ...]:
        """The names of the policies that a rollout in this namespace may name."""
        floor = self._floor(namespace)
        policies = [policy for name in self.folder.names if (policy := self.folder.get(name)) is not None]
        return tuple(
            policy.name
            for policy in policies
            if policy.may_be_used_in(namespace)
            and (floor is None or not below(_but_for_the_mesh(policy, floor), floor))
        )

    def _floor(self, namespace: str) -> Policy | None:
        label = self.floor_of(namespace)
        name = self.default if label is None else label
        if not name:
            return None
        floor = self.folder.get(name)
        if floor is None:  # nobody can tell what is strict enough: nothing is
            source = f"the label {FLOOR} of namespace {namespace}" if label is not None else "the controller's --floor"
            raise FindingError(
                "UnknownFloor",
                f'{source} names the policy "{name}", which does not exist',
                candidates=self.folder.names,
            )
        return floor

    def _refuse_below(self, policy: Policy, floor: Policy, namespace: str, thresholds: str = "") -> None:
        found = below(policy, floor)
        if found:
            of = f"; its outlier thresholds are those of {thresholds}" if thresholds else ""
            raise FindingError(
                "BelowFloor",
                f'policy "{policy.name}" is less strict than "{floor.name}", the floor of namespace {namespace}: '
                f"{found}{of}{self._instead(namespace)}",
            )

    def _instead(self, namespace: str) -> str:
        names = self.usable(namespace)
        return f"; policies that are: {', '.join(names)}" if names else "; no policy is"


def _but_for_the_mesh(policy: Policy, floor: Policy) -> Policy:
    """Thresholds that the file leaves out may turn out to be the floor's own."""
    if "outlier_detection" in policy.model_fields_set:
        return policy
    return policy.model_copy(update={"outlier_detection": floor.outlier_detection})
