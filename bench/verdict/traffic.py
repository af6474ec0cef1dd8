"""Traffic whose truth is known: counts of both versions, tick by tick, for many rollouts at once.

Requests arrive as a Poisson stream, each goes to the canary with the chance that the weight says, fails with its
version's share of the moment, and takes a lognormal time that is counted in Istio's histogram buckets. A tick is the
finest step that all judges' windows are made of; the requests that margins around a weight change would hide are not
left out here (the sandbox measures those).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from bench.verdict.disturbances import Disturbance, Shares
from canary.model.policy import ISTIO_BUCKETS_MS

Counts = NDArray[np.int64]
Floats = NDArray[np.float64]

BUCKETS_MS = np.array(ISTIO_BUCKETS_MS)
HISTORY_S = 600.0


@dataclass(frozen=True)
class Latency:
    """Lognormal response times: the median in milliseconds and sigma of the logarithm."""

    median_ms: float = 50.0
    sigma: float = 0.8

    def slower_than(self, bound_ms: float) -> float:
        """The share of requests that take longer."""
        return 0.5 * math.erfc(math.log(bound_ms / self.median_ms) / (self.sigma * math.sqrt(2)))

    @property
    def bucket_shares(self) -> Floats:
        """The share of requests in each of Istio's buckets, the last one beyond the largest bound."""
        tails = np.array([1.0, *(self.slower_than(bound) for bound in ISTIO_BUCKETS_MS), 0.0])
        found: Floats = tails[:-1] - tails[1:]
        return found


@dataclass(frozen=True)
class Plan:
    """The steps of the rollout, how long each lasts, and how time is cut (seconds)."""

    weights: tuple[int, ...] = tuple(range(10, 101, 10))
    hold_s: float = 60.0
    window_s: float = 6.0
    tick_s: float = 2.0

    @property
    def ticks_per_window(self) -> int:
        return round(self.window_s / self.tick_s)

    @property
    def windows_per_step(self) -> int:
        return round(self.hold_s / self.window_s)

    @property
    def tick_weights(self) -> Counts:
        """The canary's integer percent in every tick of the whole plan."""
        return np.repeat(np.array(self.weights), self.ticks_per_window * self.windows_per_step)


@dataclass(frozen=True)
class Clumps:
    """How failures hang together. `size`: requests come in groups of one user that fail or succeed as one, within a
    tick and a version. `attempts`: a request that fails is tried again and counted as so many failures."""

    size: int = 1
    attempts: int = 1


@dataclass(frozen=True)
class Traffic:
    """What is true of a service and its canary. `base` and `canary` are shares of failing requests (0-1)."""

    rps: float = 50.0
    base: float = 0.001
    canary: float | None = None
    latency: Latency = Latency()
    canary_latency: Latency | None = None
    bad_from_step: int = 1
    disturbances: tuple[Disturbance, ...] = ()
    clumps: Clumps = Clumps()


@dataclass(frozen=True)
class Arm:
    """One version's counts: [rollout, tick], and `slower` [rollout, tick, bucket bound]."""

    requests: Counts
    errors: Counts
    timed: Counts
    slower: Counts

    def by_window(self, ticks: int) -> Arm:
        """The same counts in windows of so many ticks."""
        return Arm(
            *(
                np.add.reduceat(counts, np.arange(0, counts.shape[1], ticks), axis=1)
                for counts in (self.requests, self.errors, self.timed, self.slower)
            )
        )

    def first(self, places: int) -> Arm:
        """The first so many ticks or windows alone."""
        return Arm(*(counts[:, :places] for counts in (self.requests, self.errors, self.timed, self.slower)))

    def of(self, rollout: int) -> Arm:
        """One rollout alone."""
        part = slice(rollout, rollout + 1)
        return Arm(self.requests[part], self.errors[part], self.timed[part], self.slower[part])


@dataclass(frozen=True)
class Drawn:
    """A batch of rollouts: both arms by tick, and stable by window in the ten minutes before."""

    plan: Plan
    canary: Arm
    stable: Arm
    before: Arm
    tick_weights: Counts = field(repr=False)


@dataclass(frozen=True)
class Truth:
    """What is true of one version, tick by tick: its part of the requests (0-1), its shares of failing ones [rollout,
    tick], and the shares of its response times by bucket ([bucket] or [tick, bucket])."""

    part: Floats
    shares: Floats
    buckets: Floats


def draw(traffic: Traffic, plan: Plan, rollouts: int, rng: np.random.Generator) -> Drawn:
    """Draw `rollouts` rollouts through the whole plan. The same generator state gives the same counts."""
    weights = plan.tick_weights
    ticks, own = len(weights), traffic.latency.bucket_shares
    is_bad = np.arange(ticks) >= (traffic.bad_from_step - 1) * ticks // len(plan.weights)
    shares = _shares(traffic, plan, (rollouts, ticks), is_bad)
    for disturbance in traffic.disturbances:
        disturbance.during(shares, rng)
    history_ticks = round(HISTORY_S / plan.tick_s)
    past = _shares(traffic, plan, (rollouts, history_ticks), np.zeros(history_ticks, dtype=bool))
    for disturbance in traffic.disturbances:
        disturbance.before(past, rng)
    canary_buckets = np.where(is_bad[:, None], (traffic.canary_latency or traffic.latency).bucket_shares, own)
    for start, end, factor in shares.canary_latency:
        slowed = Latency(factor * traffic.latency.median_ms, traffic.latency.sigma)
        canary_buckets[start:end] = slowed.bucket_shares
    before = _arm(traffic, plan.tick_s, Truth(np.ones(history_ticks), past.stable, own), rng)
    stable = _arm(traffic, plan.tick_s, Truth(1 - weights / 100, shares.stable, own), rng)
    canary = _arm(traffic, plan.tick_s, Truth(weights / 100, shares.canary, canary_buckets), rng)
    return Drawn(plan, canary, stable, before.by_window(plan.ticks_per_window), weights)


def draw_more(traffic: Traffic, plan: Plan, step: int, windows: int, rng: np.random.Generator) -> tuple[Arm, Arm]:
    """(canary, stable) of more windows by tick at one step, of one rollout: for a step that is held longer."""
    ticks = windows * plan.ticks_per_window
    is_bad = np.full(ticks, step >= traffic.bad_from_step)
    shares = _shares(traffic, plan, (1, ticks), is_bad)
    for disturbance in traffic.disturbances:
        disturbance.before(shares, rng)
    own = traffic.latency.bucket_shares
    buckets = traffic.canary_latency.bucket_shares if traffic.canary_latency and is_bad.all() else own
    part = np.full(ticks, plan.weights[step - 1] / 100)
    return (
        _arm(traffic, plan.tick_s, Truth(part, shares.canary, buckets), rng),
        _arm(traffic, plan.tick_s, Truth(1 - part, shares.stable, own), rng),
    )


def _shares(traffic: Traffic, plan: Plan, shape: tuple[int, int], is_bad: NDArray[np.bool_]) -> Shares:
    bad = traffic.base if traffic.canary is None else traffic.canary
    return Shares(
        canary=np.broadcast_to(np.where(is_bad, bad, traffic.base), shape).copy(),
        stable=np.full(shape, traffic.base),
        tick_s=plan.tick_s,
        ticks_per_window=plan.ticks_per_window,
        compared_ticks=int((plan.tick_weights < 100).sum()),
    )


def _arm(traffic: Traffic, tick_s: float, truth: Truth, rng: np.random.Generator) -> Arm:
    clumps = traffic.clumps
    groups = rng.poisson(traffic.rps * tick_s * truth.part / clumps.size, truth.shares.shape)
    failed = rng.binomial(groups, np.clip(truth.shares, 0.0, 1.0)) * clumps.size
    timed = groups * clumps.size - failed
    errors = failed * clumps.attempts
    buckets = np.broadcast_to(truth.buckets, (*timed.shape, truth.buckets.shape[-1]))
    in_buckets = rng.multinomial(timed, buckets)
    slower = timed[..., None] - np.cumsum(in_buckets, axis=-1)[..., :-1]
    return Arm(timed + errors, errors, timed, slower)
