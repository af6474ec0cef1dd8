"""Absolute objectives: does the canary itself keep the limit that the policy sets, whatever stable does?

H0 "the share of bad requests is at most the bound", one test martingale per objective over the whole rollout. A P99
limit is the bound "at most 1 % of the timed requests are slower than this bucket bound", which histograms count
exactly; no quantile is ever estimated to decide. What breaches in stable too is an incident of the whole service and no
evidence about the canary.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

from canary.analysis import sentence
from canary.analysis.counts import MINUTE_S, LastMinute
from canary.analysis.mixture import WORSE, Mixture
from canary.analysis.witness import FULL_WEIGHT, HEADER_STEP, PASSES_BELOW, Finding
from canary.model.policy import Policy
from canary.model.verdict import ArmCounts, Evidence, Reason, Window

SLOWER_THAN_P99 = 0.01
"""P99 is within a limit exactly when at most this share is slower than the limit."""


@dataclass(frozen=True, slots=True)
class Objective:
    """A limit on a share of requests: of failed ones, or of those slower than `slower_than_ms` (a bucket bound)."""

    metric: str
    reason: Reason
    bound: float
    slower_than_ms: float | None = None

    def count(self, arm: ArmCounts) -> tuple[int, int]:
        """(requests that count, bad ones). Raises ValueError if the arm was counted without the bucket bound."""
        if self.slower_than_ms is None:
            return arm.requests, arm.errors
        if arm.timed and self.slower_than_ms not in arm.slower:
            raise ValueError(f"a window counts no requests slower than {self.slower_than_ms:g} ms, the limit of P99")
        return arm.timed, arm.slower.get(self.slower_than_ms, 0)


def objectives_of(policy: Policy) -> tuple[Objective, ...]:
    """The absolute objectives that a policy sets: none, one or two."""
    errors, p99 = policy.analysis.error_rate.max, policy.analysis.p99.max_ms
    found = []
    if errors is not None:
        found.append(Objective("error_rate", Reason.ERROR_RATE, errors))
    if p99 is not None:
        found.append(Objective("p99", Reason.LATENCY, SLOWER_THAN_P99, p99))
    return tuple(found)


HIGHEST_BET = 0.97


@lru_cache(maxsize=4096)
def _worth(bound: float, phi: float) -> tuple[tuple[float, float], ...]:
    """What a bad and a good request are worth to each bet. Thousands of rollouts have the same few bounds, and most of
    them the same phi: kept once."""
    bets = [min(HIGHEST_BET, multiple * bound) for multiple in WORSE.multiples]
    return tuple((math.log(bet / bound) / phi, (math.log1p(-bet) - math.log1p(-bound)) / phi) for bet in bets)


class BoundedShare:
    """The mixture against H0: the share p of bad requests is at most `bound`.

    The increment of a bet on q = min(0.97, g * bound) is the binomial log-likelihood ratio of q over the bound, divided
    by the dispersion `phi` >= 1 of the counts:
    l = (s ln(q / bound) + (n - s) ln((1 - q) / (1 - bound))) / phi. For p <= bound its exponential expects at most 1.
    """

    __slots__ = ("_worth", "mixture")

    HIGHEST_BET = HIGHEST_BET

    def __init__(self, bound: float, alpha: float, phi: float = 1.0) -> None:
        """`bound` is a share in (0, 0.97); raises ValueError outside of it, or for phi below 1."""
        if not 0 < bound < self.HIGHEST_BET:
            raise ValueError(f"a bound must be a share above 0 and below {self.HIGHEST_BET}, not {bound}")
        if not 1 <= phi < math.inf:
            raise ValueError(f"dispersion must be at least 1 and finite, not {phi}")
        self.mixture = Mixture(WORSE, alpha)
        self._worth = _worth(bound, phi)

    def observe(self, step: int, total: int, bad: int, at: float = 0.0) -> None:
        """Take in one window: `bad` of `total` requests; `at` as in `Mixture.update`."""
        good = total - bad
        worth = [bad * bad_worth + good * good_worth for bad_worth, good_worth in self._worth]
        self.mixture.update(step, worth, at)


class AbsoluteLimit:
    """One objective over one rollout: the canary's evidence, and whether stable breaches the same objective.

    Stable breaches while its share over the last minute is above the bound, and for a minute after a process of its own
    has reached the limit (it then starts afresh: a long incident must be over soon after it ended). Windows in which
    stable breaches are left out of the canary's evidence. That choice looks at stable only, so the bound on false
    alarms stands; and without it, evidence that both arms gathered in an outage would outlive the outage in the arm
    with less traffic, and roll a healthy canary back.
    """

    def __init__(self, objective: Objective, alpha: float, phi: float = 1.0) -> None:
        self.objective = objective
        self.stable_breaches = False
        self._alpha, self._phi = alpha, phi
        self._canary = BoundedShare(objective.bound, alpha, phi)
        self._stable = BoundedShare(objective.bound, alpha, phi)
        self._stable_breach_until = -math.inf
        self._minute = LastMinute(figures=4)
        self._judged = [0, 0, 0, 0]
        self._step: int | None = None
        self.judged_in_step = (0, 0)
        """The canary's (requests, bad ones) of the newest step, as far as they are evidence."""

    def observe(self, window: Window) -> None:
        """Take in one window after the warm-up. At 100 % there is no stable: the canary alone decides."""
        counts = (*self.objective.count(window.canary), *self.objective.count(window.stable))
        canary_total, canary_bad, stable_total, stable_bad = counts
        self.skip(window)
        self._minute.add(window, *counts)
        self.stable_breaches = window.weight < FULL_WEIGHT and self._does_stable_breach(
            window, stable_total, stable_bad
        )
        if not self.stable_breaches:
            self._canary.observe(window.step, canary_total, canary_bad, window.start)
            self._judged = [sum(pair) for pair in zip(self._judged, counts, strict=True)]
            self.judged_in_step = (self.judged_in_step[0] + canary_total, self.judged_in_step[1] + canary_bad)

    def skip(self, window: Window) -> None:
        """A window that is no evidence: only which step it belongs to counts."""
        if window.step != self._step:
            self._step, self.judged_in_step = window.step, (0, 0)

    def _does_stable_breach(self, window: Window, total: int, bad: int) -> bool:
        self._stable.observe(window.step, total, bad, window.start)
        if self._stable.mixture.has_decided:
            self._stable = BoundedShare(self.objective.bound, self._alpha, self._phi)
            self._stable_breach_until = window.end + MINUTE_S
        _, _, minute_total, minute_bad = self._minute.sums
        return window.end < self._stable_breach_until or minute_bad > self.objective.bound * minute_total

    @property
    def e_value(self) -> float:
        return self._canary.mixture.e_value

    @property
    def is_breached(self) -> bool:
        """The canary's evidence has reached the limit: more than the bound is bad, or a chance of alpha came true."""
        return self._canary.mixture.has_decided

    @property
    def is_service_incident(self) -> bool:
        """Both arms are over the bound: the canary over the last minute, stable as above."""
        canary_total, canary_bad, _, _ = self._minute.sums
        return self.stable_breaches and canary_bad > self.objective.bound * canary_total

    def breach(self) -> Finding | None:
        """While stable breaches too, nothing is said: it is no evidence then."""
        if not self.is_breached or self.stable_breaches:
            return None
        slower_than = self.objective.slower_than_ms
        return Finding(self.objective.reason, sentence.breach(self.evidence[0], slower_than, self.judged_in_step))

    def doubt(self) -> Finding | None:
        return self._undecided() if self.e_value >= PASSES_BELOW else None

    def over_limit(self) -> Finding | None:
        """This step's plain counts are over the limit. In the header stage debug users are too few to say."""
        total, bad = self.judged_in_step
        is_over = self._step != HEADER_STEP and bad > self.objective.bound * total
        return self._undecided() if is_over else None

    def incident(self) -> Finding | None:
        """Both versions are over the limit."""
        if not self.is_service_incident:
            return None
        text = sentence.incident(self._numbers(self._minute.sums), self.objective.slower_than_ms)
        return Finding(Reason.SERVICE_INCIDENT, text)

    def _undecided(self) -> Finding:
        text = sentence.undecided(self.evidence[0], self.objective.slower_than_ms, self.judged_in_step, PASSES_BELOW)
        return Finding(Reason.INCONCLUSIVE, text)

    @property
    def evidence(self) -> tuple[Evidence, ...]:
        """Both arms' counts in all windows that were evidence, and E."""
        return (self._numbers(self._judged),)

    def _numbers(self, counts: tuple[int, ...] | list[int]) -> Evidence:
        canary_total, canary_bad, stable_total, stable_bad = counts
        mixture = self._canary.mixture
        return Evidence(
            metric=self.objective.metric,
            canary_total=canary_total,
            canary_bad=canary_bad,
            stable_total=stable_total,
            stable_bad=stable_bad,
            bound=self.objective.bound,
            e_value=mixture.e_value,
            limit=mixture.limit,
        )
