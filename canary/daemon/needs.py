"""Every right that the controller uses, the role that grants it, and what is lost without it.

The rules in deploy/rbac are the same list with the reasons in comments; a test compares the two, and docs/rights.md.
Nothing is asked or decided here.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from canary.cluster.access import Right
from canary.cluster.kinds import (
    CANARYROLLOUT,
    CONFIGMAP,
    DEPLOYMENT,
    DESTINATIONRULE,
    EVENT,
    LEASE,
    NAMESPACE,
    POD,
    REPLICASET,
    SERVICE,
    VIRTUALSERVICE,
    Kind,
)


class Role(StrEnum):
    """Who grants it. READS and REPORTS hold wherever the controller serves, WRITES where a namespace lets it in, OWN
    in the controller's own namespace."""

    READS = "canary-reads"
    REPORTS = "canary-reports"
    WRITES = "canary-writes"
    OWN = "canary-own"


@dataclass(frozen=True, slots=True)
class Need:
    """A right of one role. `without` says what is lost, as a clause; `stops` that no release goes on then."""

    role: Role
    right: Right
    without: str
    stops: bool = True
    of_cluster: bool = False
    """On a kind that belongs to the cluster: a controller of one namespace has no such right, and does without."""

    @property
    def rule(self) -> str:
        """The rule that grants it, as YAML has it in one line."""
        right = self.right
        group = right.group or '""'
        return f"{{apiGroups: [{group}], resources: [{right.rbac_resource}], verbs: [{right.verb}]}}"


def _needs(
    role: Role, kind: Kind, verbs: str, without: str, *, subresource: str = "", stops: bool = True
) -> Iterable[Need]:
    for verb in verbs.split():
        right = Right(verb, kind.group, kind.plural, subresource)
        yield Need(role, right, without, stops, of_cluster=not kind.namespaced)


_READS, _REPORTS, _WRITES, _OWN = Role
_BLIND = "nothing is looked at"
_OUTDATED = "what is known of them grows old"

NEEDS: tuple[Need, ...] = (
    *(
        need
        for kind in (DEPLOYMENT, REPLICASET, POD, SERVICE, VIRTUALSERVICE, DESTINATIONRULE, CANARYROLLOUT, NAMESPACE)
        for verb, without in (("list", _BLIND), ("watch", _OUTDATED))
        for need in _needs(_READS, kind, verb, without)
    ),
    *_needs(_READS, VIRTUALSERVICE, "get", "a write that met somebody else's cannot be decided again"),
    *_needs(_READS, DESTINATIONRULE, "get", "a write that met somebody else's cannot be decided again"),
    *_needs(_READS, CANARYROLLOUT, "get", "a write that met somebody else's cannot be decided again"),
    *_needs(_REPORTS, CANARYROLLOUT, "create", "an annotated Deployment starts no rollout", stops=False),
    *_needs(
        _REPORTS, CANARYROLLOUT, "patch", "nothing can be said of a rollout, and none goes on", subresource="status"
    ),
    *_needs(_REPORTS, EVENT, "create", "no Events are shown; releases go on", stops=False),
    *_needs(_REPORTS, EVENT, "patch", "Events that happen again are not counted; releases go on", stops=False),
    *_needs(_WRITES, VIRTUALSERVICE, "patch", "no weight can be set, neither forward nor back"),
    *_needs(_WRITES, DESTINATIONRULE, "create", "a service without a rule cannot be released"),
    *_needs(_WRITES, DESTINATIONRULE, "patch", "the new version gets no subset"),
    *_needs(_WRITES, DESTINATIONRULE, "delete", "a rule that was made for a rollout stays"),
    *_needs(_WRITES, CANARYROLLOUT, "patch", "a deleted rollout could leave the traffic divided, so none starts"),
    *_needs(_WRITES, CANARYROLLOUT, "delete", "attempts that are over pile up; releases go on", stops=False),
    *_needs(
        _WRITES, CONFIGMAP, "get", "evidence kept before a restart is not gone on with; releases go on", stops=False
    ),
    *_needs(_WRITES, CONFIGMAP, "create", "no evidence is kept; releases go on", stops=False),
    *_needs(_WRITES, CONFIGMAP, "patch", "evidence stays as it was first kept; releases go on", stops=False),
    *_needs(_OWN, LEASE, "list watch", "replicas do not see each other, and nobody drives anything"),
    *_needs(_OWN, LEASE, "get", "a lost answer about a Lease cannot be looked up"),
    *_needs(_OWN, LEASE, "create update", "this replica cannot say that it lives, and drives nothing"),
    *_needs(_OWN, CONFIGMAP, "get", "frozen policies cannot be read"),
    *_needs(_OWN, CONFIGMAP, "create", "no policy can be frozen, so no rollout starts"),
)


def of(*roles: Role) -> tuple[Need, ...]:
    """The needs of some roles."""
    return tuple(need for need in NEEDS if need.role in roles)


def need_of(verb: str, resource: str, *roles: Role) -> Need | None:
    """The need that a refusal is about, by verb and full resource name; None for one that nobody foresaw."""
    return next(
        (need for need in of(*roles or Role) if need.right.verb == verb and need.right.resource == resource), None
    )
