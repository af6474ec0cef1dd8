"""Counts that go into a judgement, and the judgement that comes out.

Frozen values only: what decides lives in `canary.analysis`. Times are Unix seconds, because tile boundaries are
exact multiples of the tile length and must compare equal after a restart.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class Outcome(StrEnum):
    PASS = "pass"
    FAIL = "fail"
    HOLD = "hold"


class Reason(StrEnum):
    """Why, in one word. A pass has `HEALTHY`; a fail one of the breaches; a hold one of the data states.

    `NO_TRAFFIC` is a service that is idle altogether; `NO_CANARY_TRAFFIC` a routing fault: stable has requests, and
    enough of them should have reached the canary.
    """

    HEALTHY = "healthy"

    FAST_ABORT = "fast_abort"
    ERROR_RATE = "error_rate"
    LATENCY = "latency"
    UNATTRIBUTED = "unattributed"
    HARM_BUDGET = "harm_budget"
    METRIC = "metric"

    INCONCLUSIVE = "inconclusive"
    NO_DATA = "no_data"
    NO_TRAFFIC = "no_traffic"
    NO_CANARY_TRAFFIC = "no_canary_traffic"
    STALE = "stale"
    WARMING_UP = "warming_up"
    UNAVAILABLE = "unavailable"
    SERVICE_INCIDENT = "service_incident"
    NOISY = "noisy"


@dataclass(frozen=True, slots=True)
class ArmCounts:
    """What one version did in a stretch of time.

    `requests` and `errors` are counts (errors <= requests); `timed` is the latency histogram's own count without 5xx;
    `slower` maps a bucket bound in milliseconds to how many of the `timed` ones took longer.
    """

    requests: int = 0
    errors: int = 0
    timed: int = 0
    slower: Mapping[float, int] = field(default_factory=dict)

    def __add__(self, other: ArmCounts) -> ArmCounts:
        bounds = self.slower.keys() | other.slower.keys()
        return ArmCounts(
            self.requests + other.requests,
            self.errors + other.errors,
            self.timed + other.timed,
            {bound: self.slower.get(bound, 0) + other.slower.get(bound, 0) for bound in bounds},
        )

    @property
    def error_share(self) -> float:
        """Errors per request, 0 when there was none."""
        return self.errors / self.requests if self.requests else 0.0


@dataclass(frozen=True, slots=True)
class Ejections:
    """Hosts that Envoy's outlier detection has ejected, of `members` hosts, per arm: as the caller that sees most of
    them ejected sees it (each caller's proxy ejects by itself). Read where exported."""

    canary: int = 0
    canary_members: int = 0
    stable: int = 0
    stable_members: int = 0


@dataclass(frozen=True, slots=True)
class Window:
    """One settled tile of one rollout: (`start`, `end`] in Unix seconds, at one step and one weight.

    `step` counts from 1, 0 is the header stage; `weight` is the canary's integer percent. `warm` is false inside the
    warm-up. `unattributed` are requests of the service that reached no version (`destination_workload="unknown"`), its
    `errors` those that failed for want of a host (response flags UH, NC, UO). `noise` names a disturbance outside the
    canary, empty when there is none. `metrics` are the policy's own ones by name, those that had a value.
    """

    start: float
    end: float
    step: int
    weight: int
    canary: ArmCounts
    stable: ArmCounts
    unattributed: ArmCounts = field(default_factory=ArmCounts)
    ejections: Ejections | None = None
    warm: bool = True
    noise: str = ""
    metrics: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Baseline:
    """What is known of stable from before the rollout. Dispersions phi >= 1 divide the evidence.

    `errors_phi` is that of stable's errors. `latency_phi` holds that of slow requests for each bucket bound (ms) at
    which canary and stable are compared: none, and the absolute limit alone judges latency. `p99_phi` is that at the
    policy's absolute limit. `unattributed_bound` is the share (0-1) of the service's requests that may reach no
    version, None when there was nothing to tell it from. `history_s` says from how many seconds all this was learnt.
    """

    errors_phi: float = 1.0
    latency_phi: Mapping[float, float] = field(default_factory=dict)
    p99_phi: float = 1.0
    unattributed_bound: float | None = None
    history_s: float = 0.0


@dataclass(frozen=True, slots=True)
class SourceState:
    """How the metrics source is doing, as of the judgement.

    `available` is false after a failed query, `detail` then says how it failed. `newest_tile_end` is the end of the
    newest settled tile the source had an answer for (Unix seconds), None before the first. `series_seen` says whether
    any series of this service's workloads exists at all. `tile_s` and `settle_s` are seconds.
    """

    available: bool
    tile_s: float
    settle_s: float
    newest_tile_end: float | None = None
    series_seen: bool = True
    detail: str = ""

    def is_fresh(self, now: float) -> bool:
        """Fresh: the newest settled tile is younger than settle + 2 tiles. One from far in the future is not: the
        clocks differ, and nothing newer would be seen until they agree."""
        return self.newest_tile_end is not None and abs(now - self.newest_tile_end) <= self.settle_s + 2 * self.tile_s


@dataclass(frozen=True, slots=True)
class Evidence:
    """The numbers behind a verdict, for one metric.

    `bound` is the share that the canary must not exceed (0-1); `e_value` the evidence against it and `limit` the value
    at which it decides; `anytime_p` is min(1, 1/e_value), valid at every look.
    """

    metric: str
    canary_total: int
    canary_bad: int
    stable_total: int
    stable_bad: int
    bound: float
    e_value: float = 1.0
    limit: float = 200.0

    @property
    def anytime_p(self) -> float:
        return min(1.0, 1.0 / self.e_value) if self.e_value > 0 else 1.0


@dataclass(frozen=True, slots=True)
class Verdict:
    """One judgement: what, why in a word, why in a sentence, and the numbers."""

    outcome: Outcome
    reason: Reason
    sentence: str
    evidence: tuple[Evidence, ...] = ()
