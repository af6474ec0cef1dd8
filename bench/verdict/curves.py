"""Row 9 as curves: how much of a small regression is caught by when, by two processes, by one, and at best.

Drawn with the reference processes, which are many times quicker than the judge and equal to it (a test compares them).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bench.verdict import bound
from bench.verdict.reference import BEYOND, LIMIT, TOLERATED_LIMIT, WORSE, OneWindow, Process, dispersion, trace
from bench.verdict.traffic import Plan, Traffic, draw

Floats = NDArray[np.float64]
TOLERANCE = (1.2, 0.0005)
REGRESSIONS = ((0.001, 0.005), (0.01, 0.02))
RPS = 50.0
ROLLOUTS = 4000
BATCH = 500
BOUND_EVERY_S = 30.0


@dataclass(frozen=True)
class Curve:
    """The share caught after each window by the two processes together and by one at the tolerance; `bound` is what no
    rule at the tolerance can exceed, and `bound_if_constant` if stable's rate may be taken as constant."""

    stable: float
    canary: float
    seconds: Floats
    two: Floats
    one: Floats
    bound_seconds: Floats
    bound: Floats
    bound_if_constant: float
    bound_of_worse: float
    bound_of_tolerated: float


def curves(seed: int, rollouts: int = ROLLOUTS) -> tuple[Curve, ...]:
    """The curves of both regressions of row 9."""
    return tuple(_curve(stable, canary, seed, rollouts) for stable, canary in REGRESSIONS)


def _curve(stable: float, canary: float, seed: int, rollouts: int) -> Curve:
    plan, traffic = Plan(), Traffic(RPS, stable, canary)
    steps = np.repeat(np.arange(1, len(plan.weights) + 1), plan.windows_per_step)
    two, one = [], []
    for number, first in enumerate(range(0, rollouts, BATCH)):
        rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(round(1e6 * canary), number)))
        drawn = draw(traffic, plan, min(BATCH, rollouts - first), rng)
        arms = [arm.by_window(plan.ticks_per_window) for arm in (drawn.canary, drawn.stable)]
        counts = (arms[0].requests, arms[0].errors, arms[1].requests, arms[1].errors)
        phi = dispersion(drawn.before.errors, drawn.before.requests, plan.window_s)
        two.append(np.logical_or.accumulate(trace(counts, steps, phi, TOLERANCE).fails, axis=1))
        one.append(np.logical_or.accumulate(single(counts, steps, phi), axis=1))
    at_most = bound.regression(stable, canary, RPS, plan.weights, plan.hold_s)
    ends = np.asarray(plan.window_s * np.arange(1, len(steps) + 1), dtype=np.float64)
    at = np.arange(BOUND_EVERY_S, ends[-1] + 1, BOUND_EVERY_S)
    rho, eps = TOLERANCE
    return Curve(
        stable,
        canary,
        ends,
        np.mean(np.concatenate(two), axis=0, dtype=np.float64),
        np.mean(np.concatenate(one), axis=0, dtype=np.float64),
        at,
        np.array([bound.bound(at_most.until(end, plan.hold_s), rho, eps, 1 / LIMIT) for end in at]),
        bound.bound_if_constant(at_most, rho, eps, 1 / LIMIT),
        bound.bound(at_most, 1.0, 0.0, 1 / LIMIT),
        bound.bound(at_most, rho, eps, 1 / TOLERATED_LIMIT),
    )


def single(counts: tuple[NDArray[np.int64], ...], steps: NDArray[np.int64], phi: Floats) -> NDArray[np.bool_]:
    """Where one process at the tolerance says roll back at 200, [rollout, window]: the better of the two grids, each as
    in the judge (one-window rule, re-mixed at each step)."""
    found = []
    for grid in (WORSE, BEYOND):
        process, one_window = Process(grid, *TOLERANCE, phi), OneWindow(len(phi))
        fails = np.zeros(counts[0].shape, dtype=bool)
        for window, step in enumerate(steps):
            new = tuple(figure[:, window, None].astype(float) for figure in counts)
            is_pair = (new[0] > 0)[:, 0] & (new[2] > 0)[:, 0]
            safe = tuple(np.where(is_pair[:, None], figure, 1.0) for figure in new)
            fails[:, window] = one_window.starred(process.observe(int(step), safe, is_pair)) >= np.log(LIMIT)
        found.append(fails)
    return max(found, key=lambda fails: float(fails.any(axis=1).mean()))
