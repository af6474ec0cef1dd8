"""What a rollout under a policy would be like at this traffic: how long it takes, and how soon it sees what is wrong.

The real judge judges imagined windows (`imagined`). Nothing is derived by formula, so what the judge does is what is
forecast.

How precise: 40 to 100 imagined rollouts (as many as some 30,000 windows allow, so that a plan takes seconds). Of 100,
the median shown lies between the true 40 % and 60 % quantiles, and the 90 % shown between the true 84 % and 96 %, both
with 95 % confidence; of 40 between 34 % and 66 %, and 81 % and 99 %. Times within a step are right to a sixth: windows
grow with the time that the step has run. Latencies between two bucket bounds are interpolated. What is not imagined:
errors that come by pod or by user, callers that bypass the route, a metrics source that is away, slow rollouts of pods.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from canary.analysis.faults import FAULTS, Fault
from canary.analysis.imagined import GROWTH, Healthy, Imagined
from canary.analysis.judge import Judge
from canary.analysis.traffic import Traffic
from canary.analysis.walk import Ending, Timing, Walked
from canary.model.policy import Policy
from canary.model.verdict import Baseline

WORK = 28_000
"""Windows that a forecast is worth."""
FEWEST, MOST = 40, 100


@dataclass(frozen=True, slots=True)
class Spread:
    """A time in seconds over all runs: the median, and what 9 of 10 stay within. None where so many never got there."""

    median_s: float | None
    ninety_s: float | None


@dataclass(frozen=True, slots=True)
class Catch:
    """A fault from its beginning until the rollback is decided: in one step, or in the whole rollout.

    `share` of the runs caught it (0-1), `stopped` had no pass in time instead (the policy's `onInconclusive`); the rest
    went on. `seconds` counts from the weight's write. `requests` and `errors` are the canary's until then, on average
    over the runs that caught it, None for none; `step` is where half of these had caught it.
    """

    share: float
    stopped: float
    seconds: Spread
    requests: float | None
    errors: float | None
    step: int | None


@dataclass(frozen=True, slots=True)
class StepForecast:
    """One step of the plan. `canary` and `stable` are the requests expected in its median duration.

    `can_pass` is the time until a verdict without any fault may first be a pass; `lasts` the time until the step is
    left. `reached` is the share (0-1) of healthy runs that came to this step, `undecided` the share of those without a
    pass by hold + maxWait. `catches` is by fault: None where the fault is none here, or no run came here.
    """

    step: int
    weight: int
    hold_s: float
    canary: float
    stable: float
    can_pass: Spread
    lasts: Spread
    reached: float
    undecided: float
    catches: Mapping[str, Catch | None]


@dataclass(frozen=True, slots=True)
class Forecast:
    """A plan's figures. `total` leaves out the time that a person is waited for; `header_s` is a part of it.

    `whole` are faults that are there from the first weight on. `rolled_back` is the share (0-1) of healthy runs that
    were rolled back, `obstacle` the sentence of a typical verdict that kept healthy runs from going on, "" for none.
    """

    steps: tuple[StepForecast, ...]
    whole: Mapping[str, Catch | None]
    total: Spread
    header_s: float
    rolled_back: float
    obstacle: str
    runs: int
    seed: int


def forecast(
    policy: Policy, traffic: Traffic, baseline: Baseline, timing: Timing, *, seed: int = 1, runs: int | None = None
) -> Forecast:
    """Forecast a rollout of `policy`. Of `timing` count tile, settle and propagation; phases are drawn for each run."""
    number = runs or _affordable(policy, timing)
    imagined = Imagined(policy, traffic, baseline, timing, seed, Judge(policy, baseline).bounds)
    healthy = [imagined.healthy(run) for run in range(number)]
    steps = range(1, policy.strategy.last_step + 1)
    whole: dict[str, Catch | None] = {}
    catches: dict[int, dict[str, Catch | None]] = {step: {} for step in steps}
    for fault in FAULTS:
        whole[fault.name], in_steps = _catches(fault, imagined, healthy)
        for step in steps:
            catches[step][fault.name] = in_steps.get(step)
    return Forecast(
        tuple(_step(step, policy, traffic, healthy, catches[step]) for step in steps),
        whole,
        _spread([_total_s(policy, one) for one in healthy]),
        sum(one.walked[0].began for one in healthy) / number,
        sum(one.walked[-1].ending is Ending.FAILED for one in healthy) / number,
        _obstacle(healthy),
        number,
        seed,
    )


def _affordable(policy: Policy, timing: Timing) -> int:
    """How many runs `WORK` is enough for: T tiles make about 6 + 6 ln(T / 6) windows, for each fault once."""
    strategy, windows = policy.strategy, 0.0
    for step in range(1, strategy.last_step + 1):
        tiles = max(1.0, strategy.hold_of(step).total_seconds() / timing.tile_s)
        windows += min(tiles, (1 + max(0.0, math.log(tiles * GROWTH))) / GROWTH)
    return max(FEWEST, min(MOST, round(WORK / (windows * (1 + len(FAULTS))))))


def _catches(
    fault: Fault, imagined: Imagined, healthy: Sequence[Healthy]
) -> tuple[Catch | None, dict[int, Catch | None]]:
    """A fault from the first weight on, and one that begins with each step."""
    behaviour = fault.of(imagined.traffic.stable)
    if behaviour is None:
        return None, {}

    def catch(stories: Sequence[Sequence[Walked]]) -> Catch | None:
        return _catch(stories, imagined.traffic.requests_per_s, behaviour.error_share) if stories else None

    ill = [imagined.ill(run, fault.name, behaviour, one) for run, one in enumerate(healthy)]
    in_steps = {1: catch([walked[:1] for walked in ill])}
    for step in range(2, imagined.policy.strategy.last_step + 1):
        turned = [imagined.turned(run, step, fault.name, behaviour, one) for run, one in enumerate(healthy)]
        in_steps[step] = catch([walked for walked in turned if walked])
    return catch(ill), in_steps


def _catch(stories: Sequence[Sequence[Walked]], requests_per_s: float, error_share: float) -> Catch:
    caught = [walked for walked in stories if walked[-1].ending is Ending.FAILED]
    stopped = sum(walked[-1].ending is Ending.UNDECIDED for walked in stories)
    times: list[float | None] = [walked[-1].left - walked[0].began for walked in caught]
    exposed = [sum(one.weight / 100 * (one.left - one.began) for one in walked) for walked in caught]
    requests = requests_per_s * sum(exposed) / len(exposed) if exposed else None
    return Catch(
        share=len(caught) / len(stories),
        stopped=stopped / len(stories),
        seconds=_spread(times + [None] * (len(stories) - len(caught))),
        requests=requests,
        errors=None if requests is None else requests * error_share,
        step=sorted(walked[-1].step for walked in caught)[len(caught) // 2] if caught else None,
    )


def _step(
    step: int, policy: Policy, traffic: Traffic, healthy: Sequence[Healthy], catches: Mapping[str, Catch | None]
) -> StepForecast:
    walked = [one.walked[step - 1] for one in healthy if len(one.walked) >= step]
    lasts = _spread([one.left - one.began if one.ending is Ending.LEFT and not one.overdue else None for one in walked])
    weight = policy.weight_of(step)
    longest_s = (policy.strategy.longest_hold_of(step) + policy.analysis.max_wait).total_seconds()
    requests = traffic.requests_per_s * (longest_s if lasts.median_s is None else lasts.median_s)
    return StepForecast(
        step,
        weight,
        policy.strategy.hold_of(step).total_seconds(),
        canary=requests * weight / 100,
        stable=requests * (100 - weight) / 100,
        can_pass=_spread([None if one.first_pass is None else one.first_pass - one.began for one in walked]),
        lasts=lasts,
        reached=len(walked) / len(healthy),
        undecided=sum(one.overdue or one.ending is Ending.UNDECIDED for one in walked) / max(1, len(walked)),
        catches=catches,
    )


def _total_s(policy: Policy, one: Healthy) -> float | None:
    steps = policy.strategy.last_step + (1 if policy.strategy.bake else 0)
    is_through = len(one.walked) == steps and one.walked[-1].ending is Ending.LEFT
    return one.walked[-1].left if is_through and not any(walked.overdue for walked in one.walked) else None


def _obstacle(healthy: Sequence[Healthy]) -> str:
    ends = [one.walked[-1] for one in healthy if one.walked[-1].ending is not Ending.LEFT]
    sentences = [end.verdict.sentence for end in ends if end.verdict is not None]
    return sentences[len(sentences) // 2] if sentences else ""


def _spread(times: Sequence[float | None]) -> Spread:
    ordered = sorted(math.inf if time is None else time for time in times)

    def at(share: float) -> float | None:
        found = ordered[math.ceil(share * len(ordered)) - 1] if ordered else math.inf
        return found if math.isfinite(found) else None

    return Spread(at(0.5), at(0.9))
