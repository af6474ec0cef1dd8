"""How a policy moves traffic: the header stage, the weights, how long each step holds."""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum
from typing import Annotated, Any, Self

from pydantic import Discriminator, Field, Tag, ValidationInfo, field_validator, model_validator

from canary.model.base import HeaderName, Model, Text, not_yet
from canary.model.units import Duration, format_duration

FULL_WEIGHT = 100
"""The integer percent that is all of a service's traffic."""


class StringMatch(Model):
    """Istio's StringMatch: exactly one of exact, prefix, regex (RE2, matched by Envoy, never here)."""

    exact: Text | None = None
    prefix: Text | None = None
    regex: Text | None = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        if sum(value is not None for value in (self.exact, self.prefix, self.regex)) != 1:
            raise ValueError("needs exactly one of exact, prefix, regex")
        return self


class Match(Model):
    """The header stage: requests carrying all these headers reach the canary before any weight."""

    headers: Annotated[dict[HeaderName, StringMatch], Field(min_length=1, max_length=8)]
    hold: Duration = timedelta(minutes=5)
    keep: bool = False
    min_requests: Annotated[int, Field(ge=0, le=1_000_000)] = 0


class AdaptiveHold(Model):
    """Leave a step as soon as the evidence is there, never before `min`; `maxWait` counts from `max`."""

    min: Duration
    max: Duration

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.min > self.max:
            raise ValueError(f"min ({format_duration(self.min)}) must be at most max ({format_duration(self.max)})")
        return self


def _shape_of_hold(value: Any) -> str:
    if isinstance(value, dict | AdaptiveHold):
        return "adaptive"
    return "list" if isinstance(value, list | tuple) else "each"


Hold = Annotated[
    Annotated[Duration, Tag("each")]
    | Annotated[tuple[Duration, ...], Field(max_length=20), Tag("list")]
    | Annotated[AdaptiveHold, Tag("adaptive")],
    Discriminator(_shape_of_hold),
]


class Retry(StrEnum):
    NEVER = "never"
    BACKOFF = "backoff"


class Strategy(Model):
    """How traffic moves. `weights` in integer percent, strictly rising to 100; empty only with `match`."""

    match: Match | None = None
    weights: Annotated[tuple[Annotated[int, Field(ge=1, le=100)], ...], Field(max_length=20)] = ()
    hold: Hold = timedelta(minutes=2)
    pause_at: Annotated[tuple[Annotated[int, Field(ge=1, le=100)], ...], Field(max_length=20)] = ()
    bake: Duration = timedelta(0)
    windows: Annotated[tuple[Text, ...], Field(max_length=16)] = ()
    retry: Retry = Retry.NEVER
    progress_deadline: Duration = timedelta(minutes=10)

    @field_validator("weights")
    @classmethod
    def _rising(cls, weights: tuple[int, ...]) -> tuple[int, ...]:
        if weights and (weights[-1] != 100 or list(weights) != sorted(set(weights))):
            raise ValueError(f"must rise strictly and end with 100, not {list(weights)}")
        return weights

    @field_validator("hold")
    @classmethod
    def _one_hold_per_weight(cls, hold: Any, info: ValidationInfo) -> Any:
        plan = info.data.get("weights") or (100,)
        if isinstance(hold, tuple) and "weights" in info.data and len(hold) != len(plan):
            raise ValueError(f"must list one duration per weight: {len(plan)}, not {len(hold)}")
        return hold

    @field_validator("pause_at")
    @classmethod
    def _at_a_weight(cls, pauses: tuple[int, ...], info: ValidationInfo) -> tuple[int, ...]:
        weights = info.data.get("weights", pauses)
        strangers = [weight for weight in pauses if weight not in weights]
        if strangers:
            raise ValueError(f"must be among the weights {list(weights)}, not {strangers}")
        return pauses

    @field_validator("windows")
    @classmethod
    def _no_windows(cls, windows: tuple[str, ...]) -> tuple[str, ...]:
        if windows:
            raise not_yet("rollout windows; leave the field out")
        return windows

    @model_validator(mode="after")
    def _some_stage(self) -> Self:
        if not self.weights and self.match is None:
            raise ValueError("needs weights, or a match for a header-only canary")
        return self

    def hold_of(self, step: int) -> timedelta:
        """How long a step lasts at least: 0 is the header stage, 1..n the weights, n + 1 the bake."""
        if step == 0:
            return self.match.hold if self.match else timedelta(0)
        if step > self.last_step:
            return self.bake
        if isinstance(self.hold, tuple):
            return self.hold[step - 1]
        return self.hold.min if isinstance(self.hold, AdaptiveHold) else self.hold

    def longest_hold_of(self, step: int) -> timedelta:
        """How long a step may last by itself, before `maxWait`: its hold, or the `max` of an adaptive one."""
        is_adaptive = isinstance(self.hold, AdaptiveHold) and 0 < step <= self.last_step
        return self.hold.max if is_adaptive and isinstance(self.hold, AdaptiveHold) else self.hold_of(step)

    @property
    def plan(self) -> tuple[int, ...]:
        """The weights walked: a header-only canary goes to 100 at once when somebody promotes it."""
        return self.weights or (100,)

    @property
    def is_header_only(self) -> bool:
        return not self.weights

    @property
    def first_step(self) -> int:
        return 0 if self.match else 1

    @property
    def last_step(self) -> int:
        """The step at the last weight; one more is the bake."""
        return len(self.plan)

    def weight_of(self, step: int) -> int:
        """The plan's integer percent at a step: 0 in the header stage, 100 in the bake. See `Policy.weight_of`."""
        return (0, *self.plan, FULL_WEIGHT)[step]
