"""By what a policy judges a release: objectives on errors and latency, and how sure a verdict must be."""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Discriminator, Field, StringConstraints, Tag, field_validator

from canary.model.base import DnsLabel, Model, not_yet
from canary.model.units import Duration, Percent, format_duration

ISTIO_BUCKETS_MS: tuple[float, ...] = (
    0.5, 1, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10000, 30000, 60000, 300000, 600000, 1800000, 3600000,
)  # fmt: skip
"""Upper bounds of istio_request_duration_milliseconds (Istio's and Envoy's default histogram buckets)."""


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
            raise not_yet("the harm budget; leave the field out")
        return budget

    @field_validator("keep_stable")
    @classmethod
    def _no_keep_stable(cls, share: float) -> float:
        if share:
            raise not_yet('keeping a share on stable; use "0%" or leave the field out')
        return share

    @field_validator("metrics")
    @classmethod
    def _no_metrics(cls, metrics: tuple[CustomMetric, ...]) -> tuple[CustomMetric, ...]:
        if metrics:
            raise not_yet("custom metrics; leave the field out")
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
