"""The policy: how a release is shifted and by what it is judged.

Field names follow Istio, Envoy and Kubernetes where they have one. Unknown keys are errors. A field whose behaviour
does not exist yet is validated, then refused: a policy must never promise what nobody carries out.
"""

from __future__ import annotations

import hashlib
import json
from datetime import timedelta
from enum import StrEnum
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    StringConstraints,
    Tag,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic.alias_generators import to_camel

from canary.model.units import Duration, Percent, format_duration

ISTIO_BUCKETS_MS: tuple[float, ...] = (
    0.5, 1, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10000, 30000, 60000, 300000, 600000, 1800000, 3600000,
)  # fmt: skip
"""Upper bounds of istio_request_duration_milliseconds (Istio's and Envoy's default histogram buckets)."""

DNS_LABEL = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"
HEADER_NAME = r"^[a-z0-9!#$&'*+.^_|~-]+$"
PRINTABLE = r"^[^\x00-\x1f\x7f-\x9f]*$"

DnsLabel = Annotated[str, StringConstraints(pattern=DNS_LABEL, max_length=63)]
HeaderName = Annotated[str, StringConstraints(pattern=HEADER_NAME, max_length=128)]
Text = Annotated[str, StringConstraints(pattern=PRINTABLE, max_length=256)]


class Model(BaseModel):
    """camelCase outside, snake_case inside, frozen, unknown keys refused."""

    model_config = ConfigDict(
        alias_generator=to_camel, validate_by_name=True, validate_by_alias=True, frozen=True, extra="forbid"
    )

    def document(self) -> dict[str, Any]:
        """The camelCase document without what was not set."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


def _not_yet(what: str) -> ValueError:
    return ValueError(f"not supported yet: {what}")


class StringMatch(Model):
    """Istio's StringMatch: exactly one of exact, prefix, regex (RE2, matched by Envoy, never here)."""

    exact: Text | None = None
    prefix: Text | None = None
    regex: Text | None = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        if sum(value is not None for value in (self.exact, self.prefix, self.regex)) != 1:
            raise ValueError("needs exactly one of exact, prefix, regex")
        return self


class Match(Model):
    """The header stage: requests carrying all these headers reach the canary before any weight."""

    headers: Annotated[dict[HeaderName, StringMatch], Field(min_length=1, max_length=8)]
    hold: Duration = timedelta(minutes=5)
    keep: bool = False
    min_requests: Annotated[int, Field(ge=0, le=1_000_000)] = 0


class AdaptiveHold(Model):
    min: Duration
    max: Duration


def _shape_of_hold(value: Any) -> str:
    if isinstance(value, dict | AdaptiveHold):
        return "adaptive"
    return "list" if isinstance(value, list | tuple) else "each"


Hold = Annotated[
    Annotated[Duration, Tag("each")]
    | Annotated[tuple[Duration, ...], Field(max_length=20), Tag("list")]
    | Annotated[AdaptiveHold, Tag("adaptive")],
    Discriminator(_shape_of_hold),
]


class Retry(StrEnum):
    NEVER = "never"
    BACKOFF = "backoff"


class Strategy(Model):
    """How traffic moves. `weights` in integer percent, strictly rising to 100; empty only with `match`."""

    match: Match | None = None
    weights: Annotated[tuple[Annotated[int, Field(ge=1, le=100)], ...], Field(max_length=20)] = ()
    hold: Hold = timedelta(minutes=2)
    pause_at: Annotated[tuple[Annotated[int, Field(ge=1, le=100)], ...], Field(max_length=20)] = ()
    bake: Duration = timedelta(0)
    windows: Annotated[tuple[Text, ...], Field(max_length=16)] = ()
    retry: Retry = Retry.NEVER
    progress_deadline: Duration = timedelta(minutes=10)

    @field_validator("weights")
    @classmethod
    def _rising(cls, weights: tuple[int, ...]) -> tuple[int, ...]:
        if weights and (weights[-1] != 100 or list(weights) != sorted(set(weights))):
            raise ValueError(f"must rise strictly and end with 100, not {list(weights)}")
        return weights

    @field_validator("hold")
    @classmethod
    def _one_hold_per_weight(cls, hold: Any, info: ValidationInfo) -> Any:
        if isinstance(hold, AdaptiveHold):
            raise _not_yet('adaptive steps; give one duration ("2m") or a list of one per weight')
        plan = info.data.get("weights") or (100,)
        if isinstance(hold, tuple) and "weights" in info.data and len(hold) != len(plan):
            raise ValueError(f"must list one duration per weight: {len(plan)}, not {len(hold)}")
        return hold

    @field_validator("pause_at")
    @classmethod
    def _at_a_weight(cls, pauses: tuple[int, ...], info: ValidationInfo) -> tuple[int, ...]:
        weights = info.data.get("weights", pauses)
        strangers = [weight for weight in pauses if weight not in weights]
        if strangers:
            raise ValueError(f"must be among the weights {list(weights)}, not {strangers}")
        return pauses

    @field_validator("windows")
    @classmethod
    def _no_windows(cls, windows: tuple[str, ...]) -> tuple[str, ...]:
        if windows:
            raise _not_yet("rollout windows; leave the field out")
        return windows

    @field_validator("retry")
    @classmethod
    def _no_retry(cls, retry: Retry) -> Retry:
        if retry is not Retry.NEVER:
            raise _not_yet("automatic retry; use never, and `canary retry` by hand")
        return retry

    @model_validator(mode="after")
    def _some_stage(self) -> Self:
        if not self.weights and self.match is None:
            raise ValueError("needs weights, or a match for a header-only canary")
        return self

    def hold_of(self, step: int) -> timedelta:
        """How long a step lasts: 0 is the header stage, 1..n the weights, n + 1 the bake."""
        if step == 0:
            return self.match.hold if self.match else timedelta(0)
        if step > self.last_step:
            return self.bake
        if isinstance(self.hold, tuple):
            return self.hold[step - 1]
        assert isinstance(self.hold, timedelta)
        return self.hold

    @property
    def plan(self) -> tuple[int, ...]:
        """The weights walked: a header-only canary goes to 100 at once when somebody promotes it."""
        return self.weights or (100,)

    @property
    def is_header_only(self) -> bool:
        return not self.weights

    @property
    def first_step(self) -> int:
        return 0 if self.match else 1

    @property
    def last_step(self) -> int:
        """The step at 100 %; one more is the bake."""
        return len(self.plan)

    def weight_of(self, step: int) -> int:
        """The canary's integer percent at a step: 0 in the header stage, 100 in the bake."""
        return (0, *self.plan, 100)[step]


class GrpcStatus(StrEnum):
    """gRPC status codes by name; `number` is what Istio's grpc_response_status label carries."""

    CANCELLED = "CANCELLED"
    UNKNOWN = "UNKNOWN"
    INVALID_ARGUMENT = "INVALID_ARGUMENT"
    DEADLINE_EXCEEDED = "DEADLINE_EXCEEDED"
    NOT_FOUND = "NOT_FOUND"
    ALREADY_EXISTS = "ALREADY_EXISTS"
    PERMISSION_DENIED = "PERMISSION_DENIED"
    RESOURCE_EXHAUSTED = "RESOURCE_EXHAUSTED"
    FAILED_PRECONDITION = "FAILED_PRECONDITION"
    ABORTED = "ABORTED"
    OUT_OF_RANGE = "OUT_OF_RANGE"
    UNIMPLEMENTED = "UNIMPLEMENTED"
    INTERNAL = "INTERNAL"
    UNAVAILABLE = "UNAVAILABLE"
    DATA_LOSS = "DATA_LOSS"
    UNAUTHENTICATED = "UNAUTHENTICATED"

    @property
    def number(self) -> int:
        return list(GrpcStatus).index(self) + 1


class Tolerance(Model):
    """How much worse than stable is tolerated: p_c <= ratio p_b + slack."""

    ratio: Annotated[float, Field(ge=1, le=100)]
    slack: Percent


VsStable = Annotated[
    Annotated[Literal["default", "strict", "lenient"], Tag("named")] | Annotated[Tolerance, Tag("own")],
    Discriminator(lambda value: "own" if isinstance(value, dict | Tolerance) else "named"),
]


class ErrorRate(Model):
    """Absolute objective on the share of failed requests, and how it may compare with stable."""

    max: Percent | None = None
    vs_stable: VsStable | None = None

    @field_validator("max")
    @classmethod
    def _testable(cls, share: float | None) -> float | None:
        if share is not None and not 0 < share < 0.97:
            raise ValueError("must be above 0% and below 97%: no evidence can be weighed against a limit of 0")
        return share


class P99(Model):
    """Absolute objective on P99: at most 1 % of requests slower than `max`, which must be a bucket bound."""

    max: Duration | None = None
    vs_stable: VsStable | None = None

    @field_validator("max")
    @classmethod
    def _bucket_bound(cls, limit: timedelta | None) -> timedelta | None:
        if limit is None:
            return None
        milliseconds = limit.total_seconds() * 1000
        if milliseconds in ISTIO_BUCKETS_MS:
            return limit
        below = [bound for bound in ISTIO_BUCKETS_MS if bound < milliseconds][-1:]
        above = [bound for bound in ISTIO_BUCKETS_MS if bound > milliseconds][:1]
        near = " or ".join(format_duration(timedelta(milliseconds=bound)) for bound in below + above)
        raise ValueError(
            f"{format_duration(limit)} is not a bucket bound of Istio's latency histogram, so it cannot be counted "
            f"exactly; the nearest are {near}"
        )

    @property
    def max_ms(self) -> float | None:
        return None if self.max is None else self.max.total_seconds() * 1000


class CustomMetric(Model):
    name: DnsLabel
    query: Annotated[str, StringConstraints(max_length=4096)]
    max: float


class HarmBudget(Model):
    errors: Annotated[int, Field(ge=1)]


class OnInconclusive(StrEnum):
    PAUSE = "pause"
    ROLLBACK = "rollback"
    PROMOTE = "promote"


_GRPC_DEFAULT = tuple(
    GrpcStatus(name) for name in ("UNKNOWN", "DEADLINE_EXCEEDED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS")
)


class Analysis(Model):
    """By what a step is judged, at every settled tile."""

    warmup: Duration = timedelta(seconds=30)
    min_requests: Annotated[int, Field(ge=1, le=10_000_000)] = 50
    harm_budget: HarmBudget | None = None
    keep_stable: Percent = 0.0
    grpc_errors: Annotated[tuple[GrpcStatus, ...], Field(max_length=16)] = _GRPC_DEFAULT
    error_rate: ErrorRate = ErrorRate()
    p99: P99 = P99()
    metrics: Annotated[tuple[CustomMetric, ...], Field(max_length=16)] = ()
    confidence: Percent = 0.99
    on_inconclusive: OnInconclusive = OnInconclusive.PAUSE
    max_wait: Duration = timedelta(minutes=10)

    @field_validator("harm_budget")
    @classmethod
    def _no_harm_budget(cls, budget: HarmBudget | None) -> HarmBudget | None:
        if budget is not None:
            raise _not_yet("the harm budget; leave the field out")
        return budget

    @field_validator("keep_stable")
    @classmethod
    def _no_keep_stable(cls, share: float) -> float:
        if share:
            raise _not_yet('keeping a share on stable; use "0%" or leave the field out')
        return share

    @field_validator("metrics")
    @classmethod
    def _no_metrics(cls, metrics: tuple[CustomMetric, ...]) -> tuple[CustomMetric, ...]:
        if metrics:
            raise _not_yet("custom metrics; leave the field out")
        return metrics

    @field_validator("confidence")
    @classmethod
    def _confident(cls, share: float) -> float:
        if not 0.5 <= share < 1:
            raise ValueError('must be at least "50%" and below "100%"')
        return share

    @property
    def alpha(self) -> float:
        """The chance of a false rollback that each judged metric may spend: (1 - confidence) / 2."""
        return (1 - self.confidence) / 2


class OutlierDetection(Model):
    """Istio's outlierDetection (networking/v1 DestinationRule), in its own names and defaults of the usual breaker."""

    consecutive5xx_errors: Annotated[int, Field(ge=1, le=10_000, alias="consecutive5xxErrors")] = 5
    interval: Duration = timedelta(seconds=10)
    base_ejection_time: Duration = timedelta(seconds=30)
    max_ejection_percent: Annotated[int, Field(ge=0, le=100)] = 100

    @field_validator("interval", "base_ejection_time")
    @classmethod
    def _at_least_a_millisecond(cls, duration: timedelta) -> timedelta:
        if duration < timedelta(milliseconds=1):
            raise ValueError("must be at least 1ms (Istio refuses less)")
        return duration


class TcpPool(Model):
    max_connections: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    connect_timeout: Duration | None = None


class HttpPool(Model):
    http1_max_pending_requests: Annotated[int | None, Field(ge=1, le=1_000_000, alias="http1MaxPendingRequests")] = None
    http2_max_requests: Annotated[int | None, Field(ge=1, le=1_000_000, alias="http2MaxRequests")] = None
    max_requests_per_connection: Annotated[int, Field(ge=0, le=1_000_000)] | None = None
    max_retries: Annotated[int, Field(ge=0, le=1_000_000)] | None = None


class ConnectionPool(Model):
    """Istio's connectionPool, opt-in: it limits production's stable too."""

    tcp: TcpPool | None = None
    http: HttpPool | None = None


class OnDrift(StrEnum):
    HOLD = "hold"
    ABORT = "abort"


class Policy(Model):
    """A whole policy file."""

    name: DnsLabel
    strategy: Strategy
    analysis: Analysis = Analysis()
    on_drift: OnDrift = OnDrift.HOLD
    allowed_namespaces: Annotated[tuple[Text, ...], Field(min_length=1, max_length=256)] = ("*",)
    outlier_detection: OutlierDetection = OutlierDetection()
    connection_pool: ConnectionPool | None = None

    @field_validator("allowed_namespaces")
    @classmethod
    def _everywhere(cls, namespaces: tuple[str, ...]) -> tuple[str, ...]:
        if namespaces != ("*",):
            raise _not_yet('restricting a policy to namespaces; use ["*"] or leave the field out')
        return namespaces

    @property
    def canonical_json(self) -> str:
        """The resolved policy, every default spelled out, as one line that is the same for equal policies."""
        return json.dumps(self.document(), sort_keys=True, separators=(",", ":"))

    @property
    def digest(self) -> str:
        """The first 16 hex digits of SHA-256 over the canonical JSON."""
        return hashlib.sha256(self.canonical_json.encode()).hexdigest()[:16]

    @property
    def not_judged(self) -> tuple[str, ...]:
        """Fields this policy sets that no judge acts on yet; `canary status` says so."""
        judged = (("errorRate.vsStable", self.analysis.error_rate), ("p99.vsStable", self.analysis.p99))
        return tuple(name for name, objective in judged if objective.vs_stable is not None)
