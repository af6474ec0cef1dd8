"""CanaryRollout: what was asked (spec), and what the controller resolved and did (status).

One object per attempt; it ends in one terminal phase and stays as the record. Only the controller writes status.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import StrEnum
from typing import Annotated, Any, Self

from pydantic import Field, StringConstraints, model_validator

from canary.model.phase import TERMINAL as TERMINAL  # noqa: PLC0414  part of this module's vocabulary
from canary.model.phase import Phase as Phase  # noqa: PLC0414
from canary.model.policy import PRINTABLE, DnsLabel, Model, Text
from canary.model.route import Arm, Route
from canary.model.units import Duration, Time
from canary.model.verdict import Outcome, Reason

GROUP = "canary.delivery"
API_VERSION = f"{GROUP}/v1alpha1"
KIND = "CanaryRollout"
FINALIZER = f"{GROUP}/route-back"
HISTORY_LIMIT = 20
CORRELATION_ID = r"^[A-Za-z0-9._:/@+=-]*$"

Sentence = Annotated[str, StringConstraints(pattern=PRINTABLE, max_length=2048)]
Name = Annotated[str, StringConstraints(pattern=PRINTABLE, max_length=253)]
StepIndex = Annotated[int, Field(ge=0, le=32)]
Weight = Annotated[int, Field(ge=0, le=100)]


class TriggerBy(StrEnum):
    ANNOTATION = "annotation"
    CLI = "cli"
    API = "api"
    RETRY = "retry"


class Trigger(Model):
    """Who or what asked for this attempt; `id` is the pipeline's correlation id."""

    by: TriggerBy = TriggerBy.API
    user: Text = ""
    reason: Text = ""
    id: Annotated[str, StringConstraints(pattern=CORRELATION_ID, max_length=128)] = ""


class Wish(Model):
    """Something an operator wants, why, and who says so (unverified)."""

    reason: Text = ""
    actor: Text = ""


class PromoteWish(Wish):
    """Go past the pause of exactly this step, or to 100 % at once."""

    step: StepIndex | None = None
    full: bool | None = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.step is None) == (self.full is not True):
            raise ValueError("needs exactly one of step: <number> and full: true")
        return self


class RolloutSpec(Model):
    """What was asked. Everything but `paused`, `abort` and `promote` is immutable."""

    target: DnsLabel
    policy_name: DnsLabel
    service: DnsLabel | None = None
    virtual_service: DnsLabel | None = None
    route: Name | None = None
    trigger: Trigger = Trigger()
    paused: Wish | None = None
    abort: Wish | None = None
    promote: PromoteWish | None = None


class StepStatus(Model):
    """`index` 0 is the header stage, 1..of the weights, of + 1 the bake."""

    index: StepIndex
    of: StepIndex


class WeightStatus(Model):
    """Canary's integer percent of the service's own traffic: wanted, on the route, and seen in requests."""

    desired: Weight = 0
    configured: Weight | None = None
    observed: Weight | None = None


class ArmStatus(Model):
    deployment: Name
    subset: Name
    label: Name
    value: Name
    revision: Name = ""


class RouteStatus(Model):
    """The route found, pinned for the whole rollout."""

    virtual_service: Name
    http: Name = ""
    host: Name
    port: Annotated[int, Field(ge=1, le=65535)] | None = None


class PolicyStatus(Model):
    """For display only: the controller runs the copy it froze itself."""

    name: Name
    digest: Name
    resolved: dict[str, Any] = Field(default_factory=dict)


class EvidenceStatus(Model):
    metric: Name
    canary: tuple[int, int]
    stable: tuple[int, int]
    bound: float
    e_value: float
    limit: float


class VerdictStatus(Model):
    outcome: Outcome
    reason: Reason
    sentence: Sentence
    at: Time
    evidence: Annotated[tuple[EvidenceStatus, ...], Field(max_length=16)] = ()


class WeightChange(Model):
    """When a step's weight was asked for, and when it was on the route. What lies between is no evidence."""

    step: StepIndex
    weight: Weight
    asked: Time
    reached: Time | None = None


class HistoryEntry(Model):
    at: Time
    phase: Phase
    step: StepIndex | None = None
    weight: Weight | None = None
    sentence: Annotated[str, StringConstraints(pattern=PRINTABLE, max_length=300)]


class Cause(StrEnum):
    """Why a rollout goes back, which decides the phase it ends in."""

    VERDICT = "Verdict"
    INCONCLUSIVE = "Inconclusive"
    ABORT = "Abort"
    DELETED = "Deleted"
    DRIFT = "Drift"
    SUPERSEDED = "Superseded"
    TARGET_GONE = "TargetGone"
    STABLE_CHANGED = "StableChanged"
    NOT_READY = "NotReady"
    ROUTE_LOST = "RouteLost"
    SUBSET_LOST = "SubsetLost"
    BROKEN = "Broken"

    @property
    def ends_in(self) -> Phase:
        if self in (Cause.VERDICT, Cause.INCONCLUSIVE):
            return Phase.ROLLED_BACK
        if self in (Cause.ABORT, Cause.DELETED, Cause.DRIFT):
            return Phase.ABORTED
        return Phase.SUPERSEDED if self is Cause.SUPERSEDED else Phase.FAILED


class CauseStatus(Model):
    reason: Cause
    sentence: Sentence


class PausedFor(StrEnum):
    WISH = "Wish"
    PAUSE_AT = "PauseAt"
    HEADER_ONLY = "HeaderOnly"
    INCONCLUSIVE = "Inconclusive"


class DriftStatus(Model):
    """Somebody else moved our weights: since when, who (unauthenticated), how often we set them again."""

    since: Time
    manager: Name = ""
    reasserted: Annotated[int, Field(ge=0)] = 0
    next_try: Time


class RetryStatus(Model):
    """What becomes of a revision that was rolled back, by itself: when it is tried again (absent: not any more)."""

    at: Time | None = None
    sentence: Sentence


class Condition(Model):
    type: Name
    status: Annotated[str, StringConstraints(pattern="^(True|False|Unknown)$")]
    reason: Annotated[str, StringConstraints(pattern="^[A-Za-z][A-Za-z0-9]*$", max_length=64)]
    message: Sentence = ""
    last_transition_time: Time
    observed_generation: int | None = None


class RolloutStatus(Model):
    """What the controller resolved and did. An empty status is a rollout nobody has looked at yet."""

    observed_generation: int | None = None
    phase: Phase = Phase.PENDING
    message: Sentence = ""
    service: Name | None = None
    step: StepStatus | None = None
    weight: WeightStatus = WeightStatus()
    phase_started_at: Time | None = None
    step_elapsed: Duration = timedelta(0)
    resumed_at: Time | None = None
    target_revision: Name | None = None
    stable: ArmStatus | None = None
    canary: ArmStatus | None = None
    route: RouteStatus | None = None
    policy: PolicyStatus | None = None
    tile: Duration | None = None
    verdict: VerdictStatus | None = None
    paused_for: PausedFor | None = None
    cause: CauseStatus | None = None
    drift: DriftStatus | None = None
    retry: RetryStatus | None = None
    weight_changes: Annotated[tuple[WeightChange, ...], Field(max_length=40)] = ()
    history: Annotated[tuple[HistoryEntry, ...], Field(max_length=40)] = ()
    history_dropped: Annotated[int, Field(ge=0)] | None = None
    conditions: Annotated[tuple[Condition, ...], Field(max_length=8)] = ()

    def pinned_route(self, namespace: str) -> Route | None:
        """The route as it was resolved when the rollout was checked, None before."""
        if self.route is None or self.stable is None or self.canary is None or self.service is None:
            return None
        return Route(
            namespace=namespace,
            service=self.service,
            virtual_service=self.route.virtual_service,
            http_name=self.route.http,
            host=self.route.host,
            port=self.route.port,
            stable=Arm(self.stable.deployment, self.stable.subset, self.stable.label, self.stable.value),
            canary=Arm(self.canary.deployment, self.canary.subset, self.canary.label, self.canary.value),
        )


class Rollout(Model):
    """A CanaryRollout as the controller uses it: identity, spec, status."""

    namespace: str
    name: str
    uid: str
    resource_version: str
    generation: int
    created: datetime
    deleting: bool
    finalizers: tuple[str, ...]
    spec: RolloutSpec
    status: RolloutStatus

    @classmethod
    def parse(cls, document: dict[str, Any]) -> Rollout:
        """Read a Kubernetes object. Raises pydantic.ValidationError when spec or status is not ours to read."""
        meta = document["metadata"]
        return cls(
            namespace=meta["namespace"],
            name=meta["name"],
            uid=meta["uid"],
            resource_version=meta["resourceVersion"],
            generation=meta.get("generation", 1),
            created=meta["creationTimestamp"],
            deleting="deletionTimestamp" in meta,
            finalizers=tuple(meta.get("finalizers", ())),
            spec=RolloutSpec.model_validate(document["spec"]),
            status=RolloutStatus.model_validate(document.get("status") or {}),
        )

    @property
    def full_name(self) -> str:
        return f"{self.namespace}/{self.name}"
