"""What is read off many endings: shares with exact intervals, quantiles, means; and what each should come to.

Rollouts that were never rolled back count as infinitely many requests, so a quantile never looks only at those that
were caught.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from canary.analysis.interval import upper_bound

Endings = NDArray[np.void]
CONFIDENCE = 0.95
DEVIATIONS = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)


@dataclass(frozen=True)
class Estimate:
    """A figure with its 95 % interval; `of` is how many rollouts it is read off. Infinite: not reached by enough."""

    value: float
    low: float
    high: float
    of: int
    unit: Literal["share", "requests", "errors", "seconds"]

    @property
    def text(self) -> str:
        """For people: "0.05 % (0.00 to 0.28)"."""
        return f"{self._one(self.value)} ({self._bare(self.low)} to {self._bare(self.high)})"

    def _one(self, value: float) -> str:
        if math.isinf(value):
            return "not reached"
        return {
            "share": f"{100 * value:.2f} %",
            "requests": f"{value:,.0f} requests",
            "errors": f"{value:,.0f} errors",
            "seconds": f"{value:,.1f} s".replace(".0 s", " s"),
        }[self.unit]

    def _bare(self, value: float) -> str:
        return "∞" if math.isinf(value) else self._one(value).split(" ")[0]


class Figure(Protocol):
    @property
    def name(self) -> str: ...

    def of(self, endings: Endings) -> Estimate: ...


@dataclass(frozen=True)
class Share:
    """The share of rollouts for which a condition holds, with Clopper and Pearson's interval.

    Each rollout is rolled back, still paused, or promoted.
    """

    name: str
    of_what: Literal["rolled_back", "paused", "promoted", "passed", "fast_abort", "aborted_at_first_look"] = (
        "rolled_back"
    )

    def of(self, endings: Endings) -> Estimate:
        if self.of_what == "passed":
            holds = np.isfinite(endings["requests_to_pass"])
        elif self.of_what == "aborted_at_first_look":
            holds = endings["looks_with_five"] == 1
        elif self.of_what == "fast_abort":
            holds = endings["reason"] == "fast_abort"
        elif self.of_what == "promoted":
            holds = ~(endings["rolled_back"] | endings["paused"])
        elif self.of_what == "paused":
            holds = endings["paused"] & ~endings["rolled_back"]
        else:
            holds = endings["rolled_back"]
        count, total = int(holds.sum()), len(endings)
        return Estimate(count / total, *clopper_pearson(count, total), total, "share")


@dataclass(frozen=True)
class Quantile:
    """A quantile of a figure of the endings, with the order statistics that bracket it (their ranks by the normal
    approximation of the binomial)."""

    name: str
    figure: str
    level: float
    unit: Literal["requests", "errors", "seconds"]

    def of(self, endings: Endings) -> Estimate:
        values = np.sort(endings[self.figure].astype(float))
        total = len(values)
        at = math.ceil(self.level * total) - 1
        spread = DEVIATIONS * math.sqrt(total * self.level * (1 - self.level))
        low, high = math.floor(at - spread), math.ceil(at + spread)
        bracket = float(values[max(low, 0)]), float(values[min(high, total - 1)])
        return Estimate(float(values[at]), *bracket, total, self.unit)


@dataclass(frozen=True)
class Mean:
    """The mean of a figure of the endings, with the normal interval of the mean."""

    name: str
    figure: str
    unit: Literal["requests", "errors", "seconds"] = "seconds"

    def of(self, endings: Endings) -> Estimate:
        values = endings[self.figure].astype(float)
        mean, spread = float(values.mean()), DEVIATIONS * float(values.std()) / math.sqrt(len(values))
        return Estimate(mean, max(0.0, mean - spread), mean + spread, len(values), self.unit)


@dataclass(frozen=True)
class Target:
    """A figure, and what it should come to. Without a target it is told, not asked."""

    figure: Figure
    at_most: float | None = None
    at_least: float | None = None

    def is_met(self, estimate: Estimate) -> bool | None:
        """None without a target. The figure itself is compared, not its interval."""
        if self.at_most is not None:
            return estimate.value <= self.at_most
        return estimate.value >= self.at_least if self.at_least is not None else None

    def text(self, unit: str) -> str:
        """ "<= 0.50 %"."""
        bound = self.at_most if self.at_most is not None else self.at_least
        if bound is None:
            return ""
        sign = "≤" if self.at_most is not None else "≥"
        return f"{sign} {100 * bound:g} %" if unit == "share" else f"{sign} {bound:,g} {unit}".replace("seconds", "s")


def clopper_pearson(count: int, total: int) -> tuple[float, float]:
    """The exact two-sided 95 % interval of a share."""
    tail = (1 - CONFIDENCE) / 2
    return 1 - upper_bound(total, total - count, tail), upper_bound(total, count, tail)
