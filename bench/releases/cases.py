"""The releases, what each must not cost, and what the same releases cost with other controllers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from canary.model.phase import Phase
from canary.sandbox import example

RATE = 50.0
"""Requests per second of the callers, over all versions."""

SCRAPE_S = 5.0
SLOW_S = 0.5
"""Seconds above which an answer is a bad one: the policy's limit on P99."""


@dataclass(frozen=True, slots=True)
class Rival:
    """Another controller's release of the same: seconds to traffic off, user-visible errors, requests exposed.

    Measured on a real Istio control plane with real requests at 50 rps (design note "peers", of Flagger 1.44 with
    interval 10 s, threshold 5, stepWeight 10, success rate >= 99 %; of Argo Rollouts 1.10 with background analysis
    every 10 s, failureLimit 0, steps of 10 s). None: not measured.
    """

    name: str
    seconds: float | None = None
    errors: int | None = None
    exposed: int | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Case:
    """One kind of release. Limits hold for the median of the runs; None where nothing is promised."""

    name: str
    what: str
    behaviour: Mapping[str, str]
    expected: Phase
    seconds: float | None = None
    """From the first bad response to the last request that the canary was given."""
    errors: int | None = None
    exposed: int | None = None
    rivals: tuple[Rival, ...] = field(default_factory=tuple)


CASES = (
    Case(
        "failing",
        "every request fails",
        example.FAILS_ALWAYS,
        Phase.ROLLED_BACK,
        seconds=8.0,
        errors=40,
        rivals=(Rival("Flagger", 60.0, 298), Rival("Argo Rollouts", 38.0, 453)),
    ),
    Case(
        "errors",
        "5 % of requests fail",
        example.FAILS_SOMETIMES,
        Phase.ROLLED_BACK,
        errors=10,
        exposed=250,
        rivals=(Rival("Flagger", 80.0, 51, 1089),),
    ),
    Case(
        "slow",
        "3 % of requests take 800 ms longer",
        example.HEALTHY | {"SLOW_SHARE": "3%", "SLOW_BY": "800ms"},
        Phase.ROLLED_BACK,
        exposed=400,
        rivals=(Rival("Flagger", 70.0, exposed=633),),
    ),
    Case("identical", "nothing is different", example.HEALTHY, Phase.SUCCEEDED),
)
