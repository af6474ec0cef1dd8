"""By what a policy judges a release: objectives on errors and latency, and how sure a verdict must be."""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum
from typing import Annotated, Literal, Self

from pydantic import Discriminator, Field, StringConstraints, Tag, ValidationInfo, field_validator, model_validator

from canary.model.base import DnsLabel, Model
from canary.model.placeholders import check_placeholders
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


def _tolerance(ratio: float, slack: str) -> Tolerance:
    return Tolerance.model_validate({"ratio": ratio, "slack": slack})


ERROR_TOLERANCES = {
    "default": _tolerance(1.2, "0.05%"),
    "lenient": _tolerance(1.5, "0.1%"),
    "strict": _tolerance(1.0, "0%"),
}
LATENCY_TOLERANCES = {
    "default": _tolerance(1.25, "0.2%"),
    "lenient": _tolerance(1.5, "0.5%"),
    "strict": _tolerance(1.0, "0%"),
}

VsStable = Annotated[
    Annotated[Literal["default", "strict", "lenient", "off"], Tag("named")] | Annotated[Tolerance, Tag("own")],
    Discriminator(lambda value: "own" if isinstance(value, dict | Tolerance) else "named"),
]
"""How the canary may compare with stable: a named tolerance, one's own, or `off`, the absolute limit alone."""


class ErrorRate(Model):
    """Absolute objective on the share of failed requests, and how it may compare with stable."""

    max: Percent | None = None
    vs_stable: VsStable = "default"

    @property
    def tolerance(self) -> Tolerance | None:
        """How much worse than stable is tolerated, None when it is not compared."""
        return self.vs_stable if isinstance(self.vs_stable, Tolerance) else ERROR_TOLERANCES.get(self.vs_stable)

    @field_validator("max")
    @classmethod
    def _testable(cls, share: float | None) -> float | None:
        if share is not None and not 0 < share < 0.97:
            raise ValueError("must be above 0% and below 97%: no evidence can be weighed against a limit of 0")
        return share


class P99(Model):
    """Absolute objective on P99: at most 1 % of requests slower than `max`, which must be a bucket bound."""

    max: Duration | None = None
    vs_stable: VsStable = "default"

    @property
    def tolerance(self) -> Tolerance | None:
        """How many more slow requests than stable are tolerated, None when it is not compared."""
        return self.vs_stable if isinstance(self.vs_stable, Tolerance) else LATENCY_TOLERANCES.get(self.vs_stable)

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
    """Any PromQL with a limit, admin-written: over `max` in `breaches` of the last `of` settled tiles is a failure.

    `{{namespace}}`, `{{service}}`, `{{canary}}`, `{{stable}}` (Deployments) and `{{tile}}` (a duration) are filled in.
    Carries no bound on false rollbacks: nothing is known of what it counts.
    """

    name: DnsLabel
    query: Annotated[str, StringConstraints(min_length=1, max_length=4096)]
    max: Annotated[float, Field(allow_inf_nan=False)]
    breaches: Annotated[int, Field(ge=1, le=100)] = 3
    of: Annotated[int, Field(ge=1, le=100)] = 5

    @field_validator("query")
    @classmethod
    def _known_placeholders(cls, query: str) -> str:
        check_placeholders(query)
        return query

    @model_validator(mode="after")
    def _can_be_reached(self) -> Self:
        if self.breaches > self.of:
            raise ValueError(f"breaches ({self.breaches}) must be at most of ({self.of}): no rollout could breach it")
        return self


class HarmBudget(Model):
    """Roll back once the canary has cost this many more errors than stable's rate explains."""

    errors: Annotated[int, Field(ge=1, le=1_000_000_000)]


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
    frozen_bound: bool = False
    grpc_errors: Annotated[tuple[GrpcStatus, ...], Field(max_length=16)] = _GRPC_DEFAULT
    error_rate: ErrorRate = ErrorRate()
    p99: P99 = P99()
    metrics: Annotated[tuple[CustomMetric, ...], Field(max_length=16)] = ()
    confidence: Percent = 0.99
    on_inconclusive: OnInconclusive = OnInconclusive.PAUSE
    max_wait: Duration = timedelta(minutes=10)

    @field_validator("keep_stable")
    @classmethod
    def _whole_percent(cls, share: float) -> float:
        if share and not (0.01 <= share <= 0.5 and abs(share * 100 - round(share * 100)) < 1e-9):
            raise ValueError('must be "0%", or a whole percentage from "1%" to "50%" that stays on stable to the end')
        return share

    @field_validator("frozen_bound")
    @classmethod
    def _one_way_at_full_weight(cls, is_frozen: bool, info: ValidationInfo) -> bool:
        if is_frozen and info.data.get("keep_stable"):
            raise ValueError("keepStable judges to the end against stable itself: leave out frozenBound")
        return is_frozen

    @field_validator("metrics")
    @classmethod
    def _named_apart(cls, metrics: tuple[CustomMetric, ...]) -> tuple[CustomMetric, ...]:
        names = [metric.name for metric in metrics]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"names must differ, {twice[0]} is there twice")
        return metrics

    @field_validator("confidence")
    @classmethod
    def _confident(cls, share: float) -> float:
        if not 0.5 <= share < 1:
            raise ValueError('must be at least "50%" and below "100%"')
        return share

    @property
    def keep_stable_weight(self) -> int:
        """The integer percent that stays on stable until the rollout ends, 0 for none."""
        return round(self.keep_stable * 100)

    @property
    def alpha(self) -> float:
        """The chance of a false rollback that each judged metric may spend: (1 - confidence) / 2."""
        return (1 - self.confidence) / 2
