"""How often disasters are looked for: as often as is asked for, as long as that is cheap."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from canary.daemon.caches import Entry
from canary.daemon.keys import Key
from canary.daemon.metrics import Metrics
from canary.daemon.pulse import ABORT, LONGEST_REST_S, Pulse
from canary.daemon.surroundings import Exported
from canary.daemon.tracks import Case
from canary.errors import TelemetryUnavailable
from canary.model.policy import Policy
from canary.model.rollout import (
    ArmStatus,
    Phase,
    PolicyStatus,
    Rollout,
    RolloutSpec,
    RolloutStatus,
    StepStatus,
    WeightChange,
)

BEGIN = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
POLICY = Policy.model_validate({"name": "quick", "strategy": {"weights": [50, 100]}})


def entry(name: str, phase: Phase = Phase.PROGRESSING, changes: tuple[WeightChange, ...] | None = None) -> Entry:
    arms = {
        role: ArmStatus(deployment=f"payment-{version}", subset=version, label="version", value=version, revision="r")
        for role, version in (("stable", "v1"), ("canary", "v2"))
    }
    status = RolloutStatus(
        phase=phase, service="payment", step=StepStatus(index=1, of=2), tile=timedelta(seconds=1),
        policy=PolicyStatus(name="quick", digest="d"),
        weight_changes=(WeightChange(step=1, weight=50, asked=BEGIN, reached=BEGIN),) if changes is None else changes,
        **arms,
    )  # fmt: skip
    rollout = Rollout(
        namespace="shop", name=name, uid=name, resource_version="1", generation=1, created=BEGIN, deleting=False,
        finalizers=(), spec=RolloutSpec(target="payment-v2", policy_name="quick"), status=status,
    )  # fmt: skip
    return Entry({}, rollout)


@dataclass
class World:
    """A pulse with time of its own: `look_s` is what a look takes."""

    look_s: float = 0.0
    entries: list[Entry] = field(default_factory=lambda: [entry("one")])
    error: str = ""
    time_s: float = 0.0
    looks: list[tuple[float, list[str]]] = field(default_factory=list)
    queued: list[Key] = field(default_factory=list)
    aborts: bool = False

    def __post_init__(self) -> None:
        self.metrics = Metrics()
        evidence = SimpleNamespace(look_for_disasters=self._look, is_behind=False)
        self.pulse = Pulse(
            SimpleNamespace(rollouts=lambda _: self.entries),  # type: ignore[arg-type]
            None,  # type: ignore[arg-type]  # the key is in the status
            SimpleNamespace(get=lambda _: POLICY),  # type: ignore[arg-type]
            evidence,  # type: ignore[arg-type]
            SimpleNamespace(problem="", exported=Exported()),  # type: ignore[arg-type]
            SimpleNamespace(add=self.queued.append),  # type: ignore[arg-type]
            self.metrics,
            wall=lambda: BEGIN.timestamp() + 60 + self.time_s,
            clock=lambda: self.time_s,
        )

    def _look(self, cases: Iterable[Case], _now: float) -> list[Case]:
        found = list(cases)
        self.looks.append((self.time_s, [case.rollout.name for case in found]))
        self.time_s += self.look_s
        if self.error:
            raise TelemetryUnavailable(self.error)
        return found if self.aborts else []

    def beats(self, seconds: float, period_s: float = 0.25) -> list[float]:
        """When disasters were looked for within so many seconds of the scheduler's beats."""
        beat = self.time_s
        end = beat + seconds
        while beat < end:
            self.time_s = max(self.time_s, beat)
            self.pulse.beat(ABORT)
            beat += period_s
        return [at for at, _ in self.looks]

    def value(self, name: str) -> Any:
        return self.metrics.registry.get_sample_value(name)


def test_a_cheap_look_comes_at_every_beat() -> None:
    world = World(look_s=0.004)

    assert len(world.beats(10)) == 40
    assert world.value("canary_abort_period_seconds") == pytest.approx(0.25, abs=0.01)


@pytest.mark.parametrize("look_s", [0.02, 0.05, 0.15])
def test_looks_that_take_longer_come_less_often_and_the_metrics_say_so(look_s: float) -> None:
    world = World(look_s=look_s)

    looks = world.beats(60)

    assert look_s * len(looks) <= 0.035 * 60
    pauses = [after - before for before, after in itertools.pairwise(looks)]
    assert min(pauses) >= look_s / 0.03 - 1e-9
    assert max(pauses) <= look_s / 0.03 + 0.26
    assert world.value("canary_abort_period_seconds") == pytest.approx(pauses[-1])


def test_one_slow_look_hardly_delays_the_next_ones() -> None:
    world = World(look_s=0.01)
    world.beats(10)
    world.look_s = 0.2
    world.beats(0.5)
    world.look_s = 0.01

    looks = world.beats(10)

    assert max(after - before for before, after in itertools.pairwise(looks)) <= 1.5


def test_after_a_look_that_hangs_for_its_whole_time_limit_the_next_one_comes_all_the_same() -> None:
    world = World(look_s=5.0, error="no answer within 5 s")

    looks = world.beats(31)

    assert looks[1] <= 5.0 + LONGEST_REST_S + 0.25
    assert world.value("canary_source_failures_total") == len(looks)


def test_with_nothing_under_way_nothing_is_asked() -> None:
    world = World(entries=[entry("ended", Phase.SUCCEEDED), entry("new", Phase.PENDING, ())])

    assert world.beats(5) == []


def test_who_must_go_back_is_looked_at_at_once_and_counted() -> None:
    world = World(aborts=True)

    world.pulse.beat(ABORT)

    assert world.queued == [Key("shop", "payment")]
    assert world.value("canary_fast_aborts_total") == 1


def test_failures_of_an_attempt_that_just_ended_do_not_abort_a_quick_retry() -> None:
    back = WeightChange(step=1, weight=0, asked=BEGIN + timedelta(seconds=58), reached=BEGIN + timedelta(seconds=58))
    fresh = WeightChange(step=1, weight=50, asked=BEGIN + timedelta(seconds=59), reached=BEGIN + timedelta(seconds=59))
    world = World(entries=[entry("failed", Phase.ROLLED_BACK, (back,)), entry("again", changes=(fresh,))])

    looks = world.beats(12, period_s=1.0)

    assert looks[0] == 10.0  # interval 10 s and a tile after the first one lost its traffic at 58 s; now was 60 s
