"""What one look at a rollout saw. The daemon fills it in; `step` decides on nothing else."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from zlib import crc32

from canary.model.policy import Policy
from canary.model.rollout import ArmStatus, Rollout, RouteStatus
from canary.model.route import RouteState
from canary.model.verdict import Verdict

EVIDENCE_EVERY = timedelta(seconds=60)
"""Between two writes of one status for fresher figures alone, at least: an 8 KB patch costs the API server 4 ms."""

EVIDENCE_TOGETHER, EVIDENCE_LONGEST_MEAN = timedelta(seconds=1), timedelta(seconds=300)
"""Between two such writes of all rollouts together, and the longest that one waits for its own, both by the mean."""

ROUTE_GONE = "RouteGone"
"""The reason of a `route_problem` that says there is no route any more, as opposed to one nobody can make sense of."""


def evidence_every(rollouts: int, uid: str) -> timedelta:
    """How often one of so many rollouts has fresher figures alone written to its status.

    The more there are, the more each one's time is its own: those that began together must not write together.
    """
    mean = min(max(rollouts * EVIDENCE_TOGETHER, EVIDENCE_EVERY), EVIDENCE_LONGEST_MEAN)
    place = crc32(uid.encode()) / 2**32
    return EVIDENCE_EVERY + (0.5 + place) * (mean - EVIDENCE_EVERY)


@dataclass(frozen=True, slots=True)
class Finding:
    """Why something cannot be done, for a condition: CamelCase reason and one sentence."""

    reason: str
    sentence: str


@dataclass(frozen=True, slots=True)
class Resolved:
    """What a rollout is pinned to when it is checked; `thresholds` says whose the policy's outlier thresholds are.

    `warning` is what its owner should know before it begins, "" for nothing.
    """

    service: str
    route: RouteStatus
    stable: ArmStatus
    canary: ArmStatus
    policy: Policy
    thresholds: str = "the policy"
    warning: str = ""


@dataclass(frozen=True, slots=True)
class Pods:
    """Pods of the pinned revision: ready of wanted."""

    ready: int = 0
    wanted: int = 0

    @property
    def are_ready(self) -> bool:
        return self.wanted > 0 and self.ready >= self.wanted


@dataclass(frozen=True, slots=True)
class Observed:
    """One look.

    `policy` is the frozen one, None before the rollout is pinned. `resolved` or `finding` answers a rollout that is not
    pinned yet. `route` is what the pinned route says now, or `route_problem` why it cannot be read.
    `target_revision` is the target's newest revision, "" when the Deployment is gone; `stable_revision` likewise.
    `is_prepared` means the subsets exist, `is_clean` that nothing we added is left to take away. `source_problem` says
    why the metrics source cannot be used, "" when it can. `share_problem` says when the requests do not follow the
    weight. `waits_for` names the older attempt that is still on the route, `superseded_by` the attempt or revision that
    takes over. `manager` is who last changed the route, or the rule that lacks a subset, when somebody else did.
    `lost_subsets` are those of the two arms that the mesh does not know any more. `tile` is the length of a tile that
    the rollout's evidence is cut into from its first traffic on. `rollbacks` counts the earlier attempts at this
    revision that were rolled back. `refused` says what the API server does not let us do, None for nothing.
    `evidence_every` is how often fresher figures alone are worth a write of the status.
    """

    rollout: Rollout
    policy: Policy | None = None
    resolved: Resolved | None = None
    finding: Finding | None = None
    route: RouteState | None = None
    route_problem: Finding | None = None
    target_revision: str = ""
    stable_revision: str = ""
    pods: Pods = field(default_factory=Pods)
    is_prepared: bool = False
    is_clean: bool = True
    verdict: Verdict | None = None
    source_problem: str = ""
    observed_weight: float | None = None
    share_problem: str = ""
    superseded_by: str = ""
    waits_for: str = ""
    manager: str = ""
    lost_subsets: frozenset[str] = frozenset()
    tile: timedelta | None = None
    rollbacks: int = 0
    refused: Finding | None = None
    evidence_every: timedelta = EVIDENCE_EVERY
