"""Prometheus: counts of requests, errors and slow requests per version, for all rollouts in one batch of queries, and
what disturbs them.

Counts, never rates, and never a decision: what the numbers mean is `canary.analysis`'s question. Nothing here
may turn "no answer" or "an answer we do not understand" into zeros.
"""

from canary.telemetry.breaker import BreakerState
from canary.telemetry.preflight import SourceFacts
from canary.telemetry.queries import ServiceName, SubsetName, Workload
from canary.telemetry.settings import SourceSettings
from canary.telemetry.source import PrometheusSource
from canary.telemetry.tiles import StatusCounts, Tile, TileBatch, arm_counts

__all__ = [
    "BreakerState",
    "PrometheusSource",
    "ServiceName",
    "SourceFacts",
    "SourceSettings",
    "StatusCounts",
    "SubsetName",
    "Tile",
    "TileBatch",
    "Workload",
    "arm_counts",
]
