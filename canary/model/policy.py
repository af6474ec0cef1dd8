"""The policy: how a release is shifted and by what it is judged.

Field names follow Istio, Envoy and Kubernetes where they have one. Unknown keys are errors. A field whose behaviour
does not exist yet is validated, then refused: a policy must never promise what nobody carries out. The two big parts
are in strategy.py and objectives.py; their names are this module's too.
"""

from __future__ import annotations

import hashlib
import json
from datetime import timedelta
from enum import StrEnum
from typing import Annotated

from pydantic import Field, ValidationError, ValidationInfo, field_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

from canary.model.base import DNS_LABEL, HEADER_NAME, PRINTABLE, DnsLabel, Model, Text
from canary.model.namespaces import NamespaceGlob, is_among
from canary.model.objectives import (
    ISTIO_BUCKETS_MS,
    P99,
    Analysis,
    CustomMetric,
    ErrorRate,
    GrpcStatus,
    HarmBudget,
    OnInconclusive,
    Tolerance,
)
from canary.model.strategy import FULL_WEIGHT, AdaptiveHold, Match, Retry, Strategy, StringMatch
from canary.model.units import Duration

__all__ = [
    "DNS_LABEL",
    "FULL_WEIGHT",
    "HEADER_NAME",
    "ISTIO_BUCKETS_MS",
    "P99",
    "PRINTABLE",
    "AdaptiveHold",
    "Analysis",
    "ConnectionPool",
    "CustomMetric",
    "DnsLabel",
    "ErrorRate",
    "GrpcStatus",
    "HarmBudget",
    "HttpPool",
    "Match",
    "Model",
    "OnDrift",
    "OnInconclusive",
    "OutlierDetection",
    "Policy",
    "Retry",
    "Strategy",
    "StringMatch",
    "TcpPool",
    "Text",
    "Tolerance",
]


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
    allowed_namespaces: Annotated[tuple[NamespaceGlob, ...], Field(min_length=1, max_length=256)] = ("*",)
    outlier_detection: OutlierDetection = OutlierDetection()
    connection_pool: ConnectionPool | None = None

    @field_validator("analysis")
    @classmethod
    def _room_for_stable(cls, analysis: Analysis, info: ValidationInfo) -> Analysis:
        strategy, most = info.data.get("strategy"), FULL_WEIGHT - analysis.keep_stable_weight
        over = [weight for weight in strategy.weights[:-1] if weight >= most] if strategy else []
        if over:
            text = f"leaves the canary {most}% in the last step, so every weight before it must be less, not {over}"
            flaw = InitErrorDetails(type=PydanticCustomError("value_error", text), loc=("keepStable",), input=most)
            raise ValidationError.from_exception_data("Analysis", [flaw])
        return analysis

    def may_be_used_in(self, namespace: str) -> bool:
        """Whether `allowedNamespaces` has this namespace."""
        return is_among(namespace, self.allowed_namespaces)

    def weight_of(self, step: int) -> int:
        """The canary's integer percent at a step; what `keepStable` says stays on stable, in the bake too."""
        return min(self.strategy.weight_of(step), FULL_WEIGHT - self.analysis.keep_stable_weight)

    @property
    def canonical_json(self) -> str:
        """The resolved policy, every default spelled out, as one line that is the same for equal policies."""
        return json.dumps(self.document(), sort_keys=True, separators=(",", ":"))

    @property
    def digest(self) -> str:
        """The first 16 hex digits of SHA-256 over the canonical JSON."""
        return hashlib.sha256(self.canonical_json.encode()).hexdigest()[:16]
