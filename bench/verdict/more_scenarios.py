"""Beyond the targets: the rivals on the same traffic, the curve of detection, and where the assumptions end.

Below 50 requests a second, with errors that hang together (bad pods, users, retries) and with slow scrapes nobody had
said what holds; these cases say it, with the dispersion as the product learns it and without.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from bench.verdict.disturbances import ArmNoise, BadPods, Drift, Outage
from bench.verdict.drive import Driving
from bench.verdict.figures import Mean, Share, Target
from bench.verdict.rivals import RULES
from bench.verdict.scenarios import BASES, Case, caught, false_rollbacks, quantile, target_rows
from bench.verdict.traffic import Clumps, Plan, Traffic

CURVE = (0.003, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
"""The canary's shares of failing requests at which detection is drawn; stable fails 0.1 % at 50 rps."""

DETECTION = (
    caught(None),
    quantile("requests", 0.5, None),
    quantile("requests", 0.9, None),
    quantile("errors", 0.5, None),
    quantile("seconds", 0.5, None),
)


def rival_cases() -> tuple[Case, ...]:
    """Each judged by ours and by every rule; the plain A/A ones of row 1 among them."""
    plain = tuple(case for case in target_rows() if case.rules)
    return plain + tuple(_harmless()) + tuple(_bad())


def _harmless() -> Iterator[Case]:
    target = (false_rollbacks(None),)
    for name, event in (
        ("50 rps, 0.1 %, noise", ArmNoise(5)),
        ("50 rps, 0.1 %, outage of both", Outage()),
        ("50 rps, 0.1 %, both drift to 3x", Drift()),
    ):
        yield Case("rivals", name, Traffic(disturbances=(event,)), target, rules=RULES, seeds=600)


def _bad() -> Iterator[Case]:
    for share in CURVE:
        yield Case("rivals", f"→ {100 * share:g} %", Traffic(canary=share), DETECTION, rules=RULES, seeds=500)


SETTINGS: tuple[tuple[str, Traffic, Plan], ...] = (
    ("5 rps", Traffic(5.0), Plan()),
    ("10 rps", Traffic(10.0), Plan()),
    ("20 rps", Traffic(20.0), Plan()),
    ("50 rps, either version's rate wanders (gamma, CV 1, every 30 s)", Traffic(disturbances=(ArmNoise(5),)), Plan()),
    ("50 rps, pods of either version go bad now and then", Traffic(disturbances=(BadPods(),)), Plan()),
    ("50 rps, users of 5 requests each", Traffic(clumps=Clumps(size=5)), Plan()),
    ("50 rps, users of 20 requests each", Traffic(clumps=Clumps(size=20)), Plan()),
    ("50 rps, a failure counted 3 times (retries)", Traffic(clumps=Clumps(attempts=3)), Plan()),
    ("50 rps, windows of 15 s", Traffic(), Plan(window_s=15.0, tick_s=5.0)),
    ("50 rps, windows of 30 s", Traffic(), Plan(window_s=30.0, tick_s=5.0)),
)
"""Traffic of 0.1 % errors; each is simulated at both bases."""


def open_cases() -> tuple[Case, ...]:
    """For each setting and base: identical with and without phi, as the product runs, and two regressions."""
    return tuple(case for setting in SETTINGS for base in BASES for case in _open(*setting, base))


ALARMS = (false_rollbacks(None), Target(Share("by the fast abort", "fast_abort")))


def _open(name: str, traffic: Traffic, plan: Plan, base: float) -> Iterator[Case]:
    name, same = f"{name}; {100 * base:g} %", replace(traffic, base=base)
    yield Case("open", f"{name}: A/A", same, ALARMS, plan=plan, seeds=800)
    if traffic.disturbances or traffic.clumps != Clumps():
        blind = Driving(knows_phi=False)
        yield Case("open", f"{name}: A/A without phi", same, ALARMS, blind, plan, seeds=400)
    as_run = Driving(with_hold=True)
    ends = (
        Target(Share("rolled back")),
        Target(Share("paused", "paused")),
        Target(Mean("held by doubt", "held_by_doubt_s")),
        Target(Mean("held for the pass", "held_for_pass_s")),
    )
    yield Case("open", f"{name}: A/A with the hold", same, ends, as_run, plan, seeds=200)
    found = (caught(None), Target(Share("paused", "paused")), quantile("requests", 0.5, None))
    for what, share in (("→ 5 %", 0.05), ("doubled", 2 * base)):
        yield Case("open", f"{name}: {what}", replace(same, canary=share), found, as_run, plan, seeds=300)
