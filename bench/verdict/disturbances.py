"""What happens to a service besides its release: outages, bursts, noise, bad pods.

Each moves the true shares of failing requests, tick by tick; none knows how they are judged.

`during` acts on the rollout, `before` on the ten minutes from which the baseline is learnt (and on the time a step is
held beyond its plan): lasting traits of a service act on both, single events on the rollout alone.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass
class Shares:
    """The true shares of failing requests, [rollout, tick], to be changed in place.

    `compared_ticks` is how many of the first ticks have both versions; `canary_latency` collects (first tick, end
    tick, factor) of times in which the canary is slower.
    """

    canary: NDArray[np.float64]
    stable: NDArray[np.float64]
    tick_s: float
    ticks_per_window: int
    compared_ticks: int
    canary_latency: list[tuple[int, int, float]] = field(default_factory=list)

    @property
    def rollouts(self) -> int:
        return len(self.canary)

    @property
    def ticks(self) -> int:
        return int(self.canary.shape[1])

    def per_window(self, of_window: NDArray[np.float64], windows: int = 1) -> NDArray[np.float64]:
        """Values by block of `windows` windows, [rollout, block], spread over the ticks."""
        return np.repeat(of_window, windows * self.ticks_per_window, axis=1)[:, : self.ticks]

    def blocks(self, windows: int = 1) -> int:
        """How many blocks of so many windows it takes."""
        return -(-self.ticks // (windows * self.ticks_per_window))


class Disturbance(Protocol):
    def during(self, shares: Shares, rng: np.random.Generator) -> None: ...

    def before(self, shares: Shares, rng: np.random.Generator) -> None: ...


class SingleEvent:
    """Something that happens once, in the rollout."""

    def before(self, shares: Shares, rng: np.random.Generator) -> None:
        """It did not happen before."""


@dataclass(frozen=True)
class ArmNoise:
    """Each version's share times gamma noise of mean 1 and CV 1, drawn anew every `windows` windows."""

    windows: int = 1

    def during(self, shares: Shares, rng: np.random.Generator) -> None:
        blocks = (shares.rollouts, shares.blocks(self.windows))
        shares.canary *= shares.per_window(rng.gamma(1.0, 1.0, blocks), self.windows)
        shares.stable *= shares.per_window(rng.gamma(1.0, 1.0, blocks), self.windows)

    before = during


@dataclass(frozen=True)
class Outage(SingleEvent):
    """The whole service fails every request for `seconds`: somewhere while both versions serve, or `at_full_weight`."""

    seconds: float = 30.0
    at_full_weight: bool = False

    def during(self, shares: Shares, rng: np.random.Generator) -> None:
        length = round(self.seconds / shares.tick_s)
        start, end = (shares.compared_ticks, shares.ticks) if self.at_full_weight else (0, shares.compared_ticks)
        first = rng.integers(start, end - length + 1, shares.rollouts)[:, None]
        ticks = np.arange(shares.ticks)[None, :]
        is_out = (ticks >= first) & (ticks < first + length)
        shares.canary[is_out] = shares.stable[is_out] = 1.0


@dataclass(frozen=True)
class Bursts(SingleEvent):
    """In a part of the windows both versions fail `share` of the requests; never before, so nothing warns of them."""

    part: float = 0.03
    share: float = 0.2

    def during(self, shares: Shares, rng: np.random.Generator) -> None:
        is_burst = shares.per_window((rng.random((shares.rollouts, shares.blocks())) < self.part).astype(float)) > 0
        shares.canary[is_burst] = shares.stable[is_burst] = self.share


@dataclass(frozen=True)
class ColdStart(SingleEvent):
    """The canary's first `seconds`: 1 % errors, and every response takes twice as long."""

    seconds: float = 30.0
    share: float = 0.01
    latency: float = 2.0

    def during(self, shares: Shares, rng: np.random.Generator) -> None:  # noqa: ARG002 - always the same
        ticks = round(self.seconds / shares.tick_s)
        shares.canary[:, :ticks] = self.share
        shares.canary_latency.append((0, ticks, self.latency))


@dataclass(frozen=True)
class Drift(SingleEvent):
    """Both versions' shares grow evenly to `factor` times over the rollout."""

    factor: float = 3.0

    def during(self, shares: Shares, rng: np.random.Generator) -> None:  # noqa: ARG002 - always the same
        grown = np.linspace(1.0, self.factor, shares.ticks)
        shares.canary *= grown
        shares.stable *= grown


@dataclass(frozen=True)
class Blip(SingleEvent):
    """One window, anywhere while both versions serve, in which the canary fails `low` to `high` of its requests."""

    low: float = 0.05
    high: float = 0.40

    def during(self, shares: Shares, rng: np.random.Generator) -> None:
        windows = shares.compared_ticks // shares.ticks_per_window
        where = rng.integers(0, windows, shares.rollouts)
        height = rng.uniform(self.low, self.high, shares.rollouts)
        for rollout, (window, share) in enumerate(zip(where, height, strict=True)):
            first = window * shares.ticks_per_window
            shares.canary[rollout, first : first + shares.ticks_per_window] = share


@dataclass(frozen=True)
class BadPods:
    """Each of `pods` pods of either version goes bad by itself now and then: about every `every_s`, for about
    `lasting_s`, failing `share` of its requests. Requests are spread evenly over the pods."""

    pods: int = 10
    every_s: float = 1200.0
    lasting_s: float = 30.0
    share: float = 0.2

    def during(self, shares: Shares, rng: np.random.Generator) -> None:
        falls, heals = shares.tick_s / self.every_s, shares.tick_s / self.lasting_s
        for arm in (shares.canary, shares.stable):
            is_bad = rng.random((shares.rollouts, self.pods)) < falls / (falls + heals)
            chances = rng.random((shares.ticks, shares.rollouts, self.pods))
            for tick, chance in enumerate(chances):
                is_bad = np.where(is_bad, chance >= heals, chance < falls)
                arm[:, tick] += self.share * is_bad.mean(axis=1)

    before = during
