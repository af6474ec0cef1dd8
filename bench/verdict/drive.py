"""Drive the product's own judge through a batch of drawn rollouts, and write down how each ended.

Nothing of the judge is repeated here. It gets what the daemon would give it: a baseline from stable's ten minutes
before, every settled window at its end, marked warm or not, and between them the fast abort's counts of the outlier
interval at every tick. A step ends with its hold, or as in the product: not before the verdict is a pass, and when that
takes `maxWait` longer than the hold the rollout pauses for a person, and is judged on.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from bench.verdict.policies import MAX_WAIT_S, policy
from bench.verdict.traffic import BUCKETS_MS, Arm, Drawn, Plan, Traffic, draw_more
from canary.analysis import Judge
from canary.analysis.baseline import baseline_of
from canary.model.policy import Policy
from canary.model.verdict import ArmCounts, Baseline, Outcome, Verdict, Window

NEVER = float("inf")
WATCHED_PAUSE_S = 600.0
"""How long a pause is watched: it ends when somebody answers, and the judge goes on until then."""

START = 1_000_000.0
"""Unix seconds at which every simulated rollout begins; nothing depends on it."""

ENDING = np.dtype(
    [
        ("rolled_back", "?"),
        ("paused", "?"),
        ("reason", "U20"),
        ("seconds", "f8"),
        ("requests", "f8"),
        ("errors", "f8"),
        ("looks_with_five", "f8"),
        ("held_by_doubt_s", "f8"),
        ("held_for_pass_s", "f8"),
        ("requests_to_pass", "f8"),
        ("phi", "f8"),
    ]
)
"""How a rollout ended. `requests`, `errors` are the canary's up to the rollback, `seconds` those since it turned bad
(the plan's start, when it never did), all infinite without one. `looks_with_five` is how many looks for a disaster saw
at least five canary requests until then. The two `held` are seconds beyond the plan. `requests_to_pass` are the
canary's requests when the pass evidence first sufficed, infinite when it never did."""


@dataclass(frozen=True)
class Driving:
    """How to drive. `with_hold`: steps end as in the product. `knows_phi`: counts are divided by their dispersion, as
    the product does; without it they are taken as independent."""

    policy: str = "relative"
    with_hold: bool = False
    knows_phi: bool = True


def drive(drawn: Drawn, traffic: Traffic, driving: Driving, seeds: list[np.random.SeedSequence]) -> NDArray[np.void]:
    """One `ENDING` per rollout. `seeds` has one seed per rollout, for what happens beyond the plan."""
    rules = policy(driving.policy, drawn.plan)
    tiles = counts_of(drawn.before, list(BUCKETS_MS))
    endings = np.zeros(len(seeds), dtype=ENDING)
    ticks = list(zip(_rolling(drawn.canary, drawn.plan, rules), _rolling(drawn.stable, drawn.plan, rules), strict=True))
    windows = [arm.by_window(drawn.plan.ticks_per_window) for arm in (drawn.canary, drawn.stable)]
    for number, seed in enumerate(seeds):
        baseline = baseline_of(tiles[number], drawn.plan.window_s, rules)
        if not driving.knows_phi:
            baseline = replace(
                baseline, errors_phi=1.0, p99_phi=1.0, latency_phi=dict.fromkeys(baseline.latency_phi, 1.0)
            )
        rollout = _Rollout(rules, baseline, drawn.plan, traffic, driving.with_hold)
        bounds = rollout.bounds
        rollout.run(
            counts_of(windows[0].of(number), bounds)[0],
            counts_of(windows[1].of(number), bounds)[0],
            ticks[number],
            seed,
        )
        endings[number] = rollout.ending(baseline)
    return endings


class _Rollout:
    """One rollout on its way."""

    def __init__(self, rules: Policy, baseline: Baseline, plan: Plan, traffic: Traffic, with_hold: bool) -> None:
        self.rules, self.plan, self.traffic, self.with_hold = rules, plan, traffic, with_hold
        self.judge = Judge(rules, baseline)
        self.bounds = sorted(self.judge.bounds)
        self.now = START
        self.verdict: Verdict | None = None
        self.rolled_back: Verdict | None = None
        self.is_paused = False
        self.requests = self.errors = self.looks_with_five = 0
        self.held_by_doubt_s = self.held_for_pass_s = 0.0
        self.requests_to_pass = NEVER

    def run(
        self,
        canary: list[ArmCounts],
        stable: list[ArmCounts],
        ticks: tuple[list[_Tick], list[_Tick]],
        seed: np.random.SeedSequence,
    ) -> None:
        """Walk the plan: both arms by window, and by tick for the fast abort."""
        a_step, a_window = self.plan.windows_per_step, self.plan.ticks_per_window
        rng = np.random.default_rng(seed) if self.with_hold else None
        for step in range(1, len(self.plan.weights) + 1):
            for place in range((step - 1) * a_step, step * a_step):
                looks = slice(place * a_window, (place + 1) * a_window)
                if self._window(step, canary[place], stable[place], ticks[0][looks], ticks[1][looks]):
                    return
            if rng is not None and self._held(step, rng):
                return

    def _held(self, step: int, rng: np.random.Generator) -> bool:
        """Stay in a step until its verdict is a pass, then true if the rollout ended there: rolled back or paused."""
        waited_s = 0.0
        more = self._more(step, rng)
        while not self._passes and waited_s < MAX_WAIT_S:
            if self._is_in_doubt:
                self.held_by_doubt_s += self.plan.window_s
            else:
                self.held_for_pass_s += self.plan.window_s
            waited_s += self.plan.window_s
            if self._window(step, *next(more)):
                return True
        self.is_paused = not self._passes
        if self.is_paused:
            windows = round(WATCHED_PAUSE_S / self.plan.window_s)
            any(self._window(step, *next(more)) for _ in range(windows))
        return self.is_paused

    def _more(self, step: int, rng: np.random.Generator) -> Iterator[_Seen]:
        """Windows of a step beyond its plan, as long as somebody asks for them."""
        a_window = self.plan.ticks_per_window
        while True:
            arms = draw_more(self.traffic, self.plan, step, self.plan.windows_per_step, rng)
            looks = [_rolling(arm, self.plan, self.rules)[0] for arm in arms]
            windows = [counts_of(arm.by_window(a_window), self.bounds)[0] for arm in arms]
            for place in range(self.plan.windows_per_step):
                part = slice(place * a_window, (place + 1) * a_window)
                yield windows[0][place], windows[1][place], looks[0][part], looks[1][part]

    def _window(
        self, step: int, canary: ArmCounts, stable: ArmCounts, canary_ticks: list[_Tick], stable_ticks: list[_Tick]
    ) -> bool:
        """Look for a disaster at each tick, then judge the window; true when the rollout is rolled back."""
        for canary_tick, stable_tick in zip(canary_ticks, stable_ticks, strict=True):
            self.now += self.plan.tick_s
            self.requests += canary_tick.requests
            self.errors += canary_tick.errors
            self.looks_with_five += canary_tick.interval.requests >= 5
            if canary_tick.has_enough_errors:
                self.rolled_back = self.judge.abort(canary_tick.interval, stable_tick.interval)
                if self.rolled_back is not None:
                    return True
        start = self.now - self.plan.window_s
        window = Window(
            start=start,
            end=self.now,
            step=step,
            weight=self.plan.weights[step - 1],
            canary=canary,
            stable=stable,
            warm=start >= START + self.rules.analysis.warmup.total_seconds(),
        )
        self.verdict = self.judge.observe(window, self.now)
        if self.requests_to_pass == NEVER and has_passed(self.verdict):
            self.requests_to_pass = self.requests
        if self.verdict.outcome is Outcome.FAIL:
            self.rolled_back = self.verdict
        return self.rolled_back is not None

    @property
    def _passes(self) -> bool:
        return self.verdict is not None and self.verdict.outcome is Outcome.PASS

    @property
    def _is_in_doubt(self) -> bool:
        """Evidence against the canary holds the step, not a want of evidence for it."""
        assert self.verdict is not None
        against = ("error_rate_vs_stable", "latency_vs_stable", "error_rate", "p99")
        return any(entry.metric in against and entry.e_value >= 5 for entry in self.verdict.evidence)

    def ending(self, baseline: Baseline) -> tuple[object, ...]:
        """A row of `ENDING`."""
        healthy_s = (self.traffic.bad_from_step - 1) * self.plan.hold_s
        seconds, requests, errors, looks = (
            (self.now - START - healthy_s, self.requests, self.errors, self.looks_with_five)
            if self.rolled_back
            else [NEVER] * 4
        )
        return (
            self.rolled_back is not None,
            self.is_paused,
            self.rolled_back.reason.value if self.rolled_back else "",
            seconds,
            requests,
            errors,
            looks,
            self.held_by_doubt_s,
            self.held_for_pass_s,
            self.requests_to_pass,
            baseline.errors_phi,
        )


_Seen = tuple[ArmCounts, ArmCounts, list["_Tick"], list["_Tick"]]
"""A window of canary and stable, and the ticks in it."""


@dataclass(frozen=True, slots=True)
class _Tick:
    """A tick of one version: its own counts, and those of the outlier interval that ends with it."""

    requests: int
    errors: int
    interval: ArmCounts
    has_enough_errors: bool


def _rolling(arm: Arm, plan: Plan, rules: Policy) -> list[list[_Tick]]:
    """Ticks by rollout. `has_enough_errors` only spares calls that cannot answer: fewer errors never abort."""
    thresholds = rules.outlier_detection
    length = round(thresholds.interval.total_seconds() / plan.tick_s)
    sums = []
    for counts in (arm.requests, arm.errors):
        cumulated = np.cumsum(counts, axis=1)
        sums.append(cumulated - np.pad(cumulated, ((0, 0), (length, 0)))[:, : counts.shape[1]])
    least = thresholds.consecutive5xx_errors
    return [
        [
            _Tick(own, bad, ArmCounts(requests, errors), errors >= least)
            for own, bad, requests, errors in zip(*figures, strict=True)
        ]
        for figures in zip(*(counts.tolist() for counts in (arm.requests, arm.errors, *sums)), strict=True)
    ]


def counts_of(arm: Arm, bounds: list[float]) -> list[list[ArmCounts]]:
    """The product's counts, by rollout and window, with the slow requests at these bounds."""
    places = np.searchsorted(BUCKETS_MS, bounds)
    figures = (arm.requests.tolist(), arm.errors.tolist(), arm.timed.tolist(), arm.slower[:, :, places].tolist())
    return [
        [
            ArmCounts(requests, errors, timed, dict(zip(bounds, slower, strict=True)))
            for requests, errors, timed, slower in zip(*rollout, strict=True)
        ]
        for rollout in zip(*figures, strict=True)
    ]


def has_passed(verdict: Verdict) -> bool:
    return any(entry.metric == "pass" and entry.e_value >= entry.limit for entry in verdict.evidence)
