"""What one window costs the judge: processor time of `Judge.observe` with both metrics over ten steps."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from bench.verdict.drive import START, counts_of
from bench.verdict.policies import policy
from bench.verdict.traffic import BUCKETS_MS, Plan, Traffic, draw
from canary.analysis import Judge
from canary.analysis.baseline import baseline_of
from canary.model.verdict import Window

TARGET_US = 150.0


@dataclass(frozen=True)
class Speed:
    """Microseconds of processor time per window: the least of several runs, which load disturbs least, and the median.

    `windows` per run, of ten steps; `bounds` is at how many bucket bounds latency was compared.
    """

    least_us: float
    median_us: float
    windows: int
    bounds: int


def observe_speed(runs: int = 15) -> Speed:
    """Measure on made-up traffic of 50 rps under the shipped limits and tolerances (two metrics, each twice)."""
    plan = Plan()
    drawn = draw(Traffic(), plan, 1, np.random.default_rng(0))
    rules = policy("standard", plan)
    baseline = baseline_of(counts_of(drawn.before, list(BUCKETS_MS))[0], plan.window_s, rules)
    bounds = sorted(Judge(rules, baseline).bounds)
    arms = [counts_of(arm.by_window(plan.ticks_per_window), bounds)[0] for arm in (drawn.canary, drawn.stable)]
    windows = [
        Window(
            start=START + place * plan.window_s,
            end=START + (place + 1) * plan.window_s,
            step=1 + place // plan.windows_per_step,
            weight=plan.weights[place // plan.windows_per_step],
            canary=canary,
            stable=stable,
        )
        for place, (canary, stable) in enumerate(zip(*arms, strict=True))
    ]
    spent = []
    for _ in range(runs):
        judge = Judge(rules, baseline)
        before = time.process_time()
        for window in windows:
            judge.observe(window, window.end)
        spent.append(1e6 * (time.process_time() - before) / len(windows))
    return Speed(min(spent), sorted(spent)[runs // 2], len(windows), len(baseline.latency_phi))
