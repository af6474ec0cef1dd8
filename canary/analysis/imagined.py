"""Imagined rollouts: the real judge on windows that are drawn, one rollout at a time, healthy or with a fault.

Poisson arrivals, each request to the canary with the chance of the weight, errors and latencies as `traffic` draws
them. The policy's own metrics are taken to keep their limits: nothing is known of what they count.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace
from random import Random

from canary.analysis.abort import FAILING_SHARE
from canary.analysis.branches import Branch
from canary.analysis.draws import binomial, poisson
from canary.analysis.judge import Judge
from canary.analysis.traffic import Behaviour, Traffic
from canary.analysis.walk import Ending, Supply, Timing, Walk, Walked, goes_on
from canary.model.policy import Policy
from canary.model.verdict import ArmCounts, Baseline, Window

GROWTH = 1 / 6
PATIENCE = 20
"""So many times hold + maxWait is waited for a pass that does not come in time, to say when it would."""


@dataclass(slots=True)
class Healthy:
    """One imagined rollout without a fault: its steps, and its judge as it was at the beginning of each."""

    timing: Timing
    walked: list[Walked]
    branches: dict[int, Branch]


@dataclass(frozen=True, slots=True)
class Imagined:
    """Makes rollouts up. The same `seed` makes the same ones; `run` numbers them."""

    policy: Policy
    traffic: Traffic
    baseline: Baseline
    timing: Timing
    seed: int
    bounds: frozenset[float]
    """The bucket bounds (ms) that the judge asks for."""

    def healthy(self, run: int) -> Healthy:
        rng = Random(f"{self.seed}/{run}/healthy")
        timing = self._phases(rng)
        judge = Judge(self.policy, self.baseline)
        walk = self._walk(judge, timing, rng, self.traffic.stable)
        story = Healthy(timing, [], {})
        began = self._first_weight(timing)
        last = self.policy.strategy.last_step
        for step in range(1, last + (2 if self.policy.strategy.bake else 1)):
            if step > 1:
                story.branches[step] = Branch(judge, self.policy)
            hold_s = self.policy.strategy.longest_hold_of(step) + self.policy.analysis.max_wait
            walked = walk.step(step, began, self._warm_from(), patience_s=PATIENCE * hold_s.total_seconds())
            story.walked.append(walked)
            if walked.ending is not Ending.LEFT:
                break
            began = walked.left
        return story

    def ill(self, run: int, fault: str, behaviour: Behaviour, healthy: Healthy) -> list[Walked]:
        """A rollout that is bad from its first weight on, until it is caught, stopped or through."""
        rng = Random(f"{self.seed}/{run}/{fault}")
        walk = self._walk(Judge(self.policy, self.baseline), healthy.timing, rng, behaviour)
        began, walked = self._first_weight(healthy.timing), []
        for step in range(1, self.policy.strategy.last_step + 1):
            found = walk.step(step, began, self._warm_from())
            walked.append(self._or_aborted(rng, found, walk.judge, behaviour))
            if not goes_on(self.policy, walked[-1]):
                break
            began = walked[-1].left
        return walked

    def turned(self, run: int, step: int, fault: str, behaviour: Behaviour, healthy: Healthy) -> list[Walked]:
        """One step in which a rollout that was healthy so far turns bad; empty when it never got there."""
        if step not in healthy.branches:
            return []
        rng = Random(f"{self.seed}/{run}/{fault}/{step}")
        walk = self._walk(healthy.branches[step].judge(), healthy.timing, rng, behaviour)
        found = walk.step(step, healthy.walked[step - 1].began, self._warm_from())
        return [self._or_aborted(rng, found, walk.judge, behaviour)]

    def _or_aborted(self, rng: Random, walked: Walked, judge: Judge, canary: Behaviour) -> Walked:
        """The same, or ended by the fast abort before: it looks at the newest scrape, settled or not."""
        if canary.error_share < FAILING_SHARE:
            return walked
        tile_s, to_canary = self.timing.tile_s, walked.weight / 100
        scrapes = max(1, int(self.policy.outlier_detection.interval.total_seconds() / tile_s))
        recent: deque[tuple[ArmCounts, ArmCounts]] = deque(maxlen=scrapes)
        before, scrape = walked.began, walked.began + tile_s * rng.random()
        while (looked := scrape + self.timing.abort_s * rng.random()) < walked.left:
            expected = self.traffic.requests_per_s * (scrape - before)
            recent.append(
                (
                    canary.draw(rng, poisson(rng, expected * to_canary), ()),
                    self.traffic.stable.draw(rng, poisson(rng, expected * (1 - to_canary)), ()),
                )
            )
            counts = [sum(arm, ArmCounts()) for arm in zip(*recent, strict=True)]
            verdict = judge.abort(counts[0], counts[1])
            if verdict is not None:
                return replace(walked, left=looked, ending=Ending.FAILED, verdict=verdict)
            before, scrape = scrape, scrape + tile_s
        return walked

    def _walk(self, judge: Judge, timing: Timing, rng: Random, canary: Behaviour) -> Walk:
        return Walk(self.policy, judge, timing, self._supply(rng, canary), growth=GROWTH)

    def _supply(self, rng: Random, canary: Behaviour) -> Supply:
        rate, bounds = self.traffic.requests_per_s, sorted(self.bounds)
        stable, canary = self.traffic.stable.at(bounds), canary.at(bounds)
        kept = {metric.name: metric.max for metric in self.policy.analysis.metrics}

        def supply(window: Window) -> Window:
            total = poisson(rng, rate * (window.end - window.start))
            to_canary = binomial(rng, total, window.weight / 100)
            return replace(
                window,
                canary=canary.draw(rng, to_canary, bounds),
                stable=stable.draw(rng, total - to_canary, bounds),
                metrics=kept,
            )

        return supply

    def _phases(self, rng: Random) -> Timing:
        """A weight is written and a verdict looked for at any moment of a tile."""
        tile_s = self.timing.tile_s
        return replace(self.timing, phase_s=tile_s * rng.random(), look_s=tile_s * rng.random())

    def _first_weight(self, timing: Timing) -> float:
        """When the header stage, if any, is over: seconds after its beginning."""
        match = self.policy.strategy.match
        if match is None or self.policy.strategy.is_header_only:
            return 0.0
        return max(match.hold.total_seconds(), timing.seen(timing.first_start(0) + timing.tile_s))

    def _warm_from(self) -> float:
        return self.policy.analysis.warmup.total_seconds()  # from the first traffic, be it the header stage's
