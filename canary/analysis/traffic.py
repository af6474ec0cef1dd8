"""A service's traffic in a few figures, and imagined requests drawn from them.

Measured on stable, and what a version that is worse would make of it. For forecasts only: what is drawn here is never
shown as measured, and no real rollout is judged by it.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from random import Random
from statistics import NormalDist

from canary.analysis.draws import binomial, clumped
from canary.model.verdict import ArmCounts

OCTAVE = 2.0
"""Where the fastest requests are taken to be: within a factor of two below the histogram's first bound."""

NORMAL, RAREST = NormalDist(), 1e-6


@dataclass(frozen=True, slots=True)
class Behaviour:
    """How a version treats its requests. Shares are 0-1.

    `error_share` of the requests fail; `timed_share` of them are in the latency histogram (those with 5xx are not);
    `slower` maps each bucket bound (ms) to the share of the timed ones that take longer. `phi` >= 1 is the dispersion
    of the errors.
    """

    error_share: float
    timed_share: float = 1.0
    slower: Mapping[float, float] = field(default_factory=dict)
    phi: float = 1.0

    def failing(self, error_share: float) -> Behaviour:
        """The same with this share of errors; what fails is not timed."""
        alive = 1 - self.error_share
        timed = self.timed_share * (1 - error_share) / alive if alive else 0.0
        return replace(self, error_share=error_share, timed_share=timed)

    def slowed(self, factor: float) -> Behaviour:
        """The same with every latency multiplied by `factor` >= 1."""
        return replace(self, slower=slowed(self.slower, factor))

    def at(self, bounds: Collection[float]) -> Behaviour:
        """The same with its latencies at these bounds (ms), interpolated where the histogram has no such bucket."""
        points = _points(self.slower)
        return replace(self, slower={bound: _between(points, math.log(bound)) for bound in bounds} if points else {})

    def draw(self, rng: Random, requests: int, bounds: Collection[float]) -> ArmCounts:
        """The counts of `requests` imagined ones, `slower` at these bounds (ms): see `at`."""
        errors = clumped(rng, requests, self.error_share, self.phi)
        alive = 1 - self.error_share
        timed = binomial(rng, requests - errors, min(1.0, self.timed_share / alive)) if alive else 0
        slower, left, share_left = {}, timed, 1.0
        for bound in sorted(bounds):
            share = self.slower.get(bound, 0.0)
            left = binomial(rng, left, min(1.0, share / share_left)) if share_left else 0
            slower[bound], share_left = left, share
        return ArmCounts(requests, errors, timed, slower)


@dataclass(frozen=True, slots=True)
class Traffic:
    """What the callers of a service send, and how stable answers; `requests` is how many figures are made of."""

    requests_per_s: float
    stable: Behaviour
    requests: int = 0


def traffic_of(stable: Sequence[ArmCounts], seconds: float, others: int = 0, phi: float = 1.0) -> Traffic:
    """The traffic of a service over `seconds`, from stable's counts and the requests of its `others`.

    Raises ValueError when stable had no request: there is nothing to tell anything from.
    """
    total = sum(tile.requests for tile in stable)
    if not total or seconds <= 0:
        raise ValueError("stable had no requests")
    errors, timed = sum(tile.errors for tile in stable), sum(tile.timed for tile in stable)
    bounds = sorted({bound for tile in stable for bound in tile.slower})
    slow = {bound: sum(tile.slower.get(bound, 0) for tile in stable) for bound in bounds}
    behaviour = Behaviour(
        error_share=errors / total,
        timed_share=min(timed / total, 1 - errors / total),
        slower={bound: count / timed for bound, count in slow.items()} if timed else {},
        phi=phi,
    )
    return Traffic((total + others) / seconds, behaviour, total)


def slowed(slower: Mapping[float, float], factor: float) -> dict[float, float]:
    """The shares slower than each bound (ms) once every latency is multiplied by `factor` >= 1.

    A request is slower than L then when it was slower than L / factor before. Between two bounds, and within `OCTAVE`
    below the first, latencies are taken to be lognormal (the share's normal quantile is even in the logarithm of the
    latency): exact where they are, a guess of the usual shape elsewhere.
    """
    if not 1 <= factor < math.inf:
        raise ValueError(f"a factor must be at least 1 and finite, not {factor}")
    points = _points(slower)
    return {bound: _between(points, math.log(bound / factor)) for bound in slower}


def _points(slower: Mapping[float, float]) -> list[tuple[float, float]]:
    """(ln ms, share slower than that) in order, none without a histogram."""
    bounds = sorted(slower)
    if not bounds:
        return []
    return [(math.log(bounds[0] / OCTAVE), 1.0), *((math.log(bound), slower[bound]) for bound in bounds)]


def _between(points: Sequence[tuple[float, float]], where: float) -> float:
    if where <= points[0][0]:
        return points[0][1]
    for (low, before), (high, after) in pairwise(points):
        if where == high:
            return after
        if where < high:
            part = (where - low) / (high - low)
            share = 1 - NORMAL.cdf(_deviate(before) + part * (_deviate(after) - _deviate(before)))
            return min(before, max(after, share))  # none stays none: the deviate of it is only as good as none
    return points[-1][1]


def _deviate(share: float) -> float:
    """The normal quantile that `share` lies above; none and all are as good as one in a million."""
    return NORMAL.inv_cdf(min(1 - RAREST, max(RAREST, 1 - share)))


def quantile_ms(slower: Mapping[float, float], share: float) -> float | None:
    """The latency (ms) that `share` of the requests exceed, interpolated as in `slowed`: for people to read only.

    None when that is beyond the last bound, or nothing was timed.
    """
    for (low, before), (high, after) in pairwise(_points(slower)):
        if after <= share:
            fall = _deviate(after) - _deviate(before)
            part = (_deviate(share) - _deviate(before)) / fall if fall else 1.0
            return math.exp(low + min(1.0, max(0.0, part)) * (high - low))
    return None
