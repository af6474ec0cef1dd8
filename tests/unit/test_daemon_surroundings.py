"""What a window carries besides counts: asked once for all, never at the counts' expense, and as it was recorded."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest

from canary.daemon.metrics import Metrics
from canary.daemon.pauses import LONGEST_PAUSE_S
from canary.daemon.surroundings import Exported, Surroundings
from canary.daemon.tracks import Case
from canary.errors import TelemetryAnswer, TelemetryUnavailable
from canary.model.policy import Policy
from canary.model.rollout import ArmStatus, Phase, Rollout, RolloutSpec, RolloutStatus, StepStatus
from canary.model.verdict import ArmCounts, Ejections, Window
from canary.telemetry.queries import ServiceName, SubsetName

BEGIN = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
NOW = BEGIN.timestamp()
END = NOW + 5
ALL = Exported(ejections=True, steal=True, control_plane=True)
PLAIN = Policy.model_validate({"name": "plain", "strategy": {"weights": [50, 100]}})
METERED = Policy.model_validate(
    {
        "name": "metered",
        "strategy": {"weights": [50, 100]},
        "analysis": {"metrics": [
            {"name": "depth", "query": 'max(queue{ns="{{namespace}}", app="{{canary}}"}[{{tile}}])', "max": 10},
            {"name": "refunds", "query": 'sum(refunds{service="{{service}}", not="{{stable}}"})', "max": 1},
        ]},
    }
)  # fmt: skip


@dataclass
class Source:
    """Answers what it is given; `failing` are the questions that are not answered."""

    failing: dict[str, Exception] = field(default_factory=dict)
    asked: list[tuple[str, Any]] = field(default_factory=list)

    def unattributed(self, services: Collection[ServiceName], **_: float) -> Mapping[Any, Any]:
        return self._answer("unattributed", services, {one: {END: ArmCounts(4, 3)} for one in services})

    def ejections(self, subsets: Collection[SubsetName], *, last_end: float, **_: float) -> Mapping[Any, Any]:
        return self._answer("ejections", subsets, {one: {last_end: (len(one.subset), 3)} for one in subsets})

    def steal(self, nodes: Collection[str], **_: float) -> Mapping[Any, Any]:
        return self._answer("steal", nodes, {"busy": {END: 0.4}, "quiet": {END: 0.01}})

    def control_plane(self, **_: float) -> Mapping[Any, Any]:
        return self._answer("control_plane", (), {END: "proxies rejected 2 configurations"})

    def metric(self, query: str, **_: float) -> Mapping[Any, Any]:
        return self._answer("metric", query, {END: 7.0})

    def _answer(self, what: str, about: Any, answer: Mapping[Any, Any]) -> Mapping[Any, Any]:
        self.asked.append((what, about))
        if what in self.failing:
            raise self.failing[what]
        return answer


def case(number: int = 1, policy: Policy = PLAIN, nodes: tuple[str, str] = ("busy", "quiet")) -> Case:
    arms = {
        role: ArmStatus(deployment=f"payment-{version}", subset=version, label="version", value=version)
        for role, version in (("stable", "s"), ("canary", "cc"))
    }
    status = RolloutStatus(
        phase=Phase.PROGRESSING, service="payment", step=StepStatus(index=1, of=2), tile=timedelta(seconds=5), **arms
    )
    rollout = Rollout(
        namespace=f"shop-{number}", name="payment-1", uid=f"u-{number}", resource_version="1", generation=1,
        created=BEGIN, deleting=False, finalizers=(), spec=RolloutSpec(target="payment-cc", policy_name="plain"),
        status=status,
    )  # fmt: skip
    return Case(rollout, policy, frozenset({nodes[0]}), frozenset({nodes[1]}))


def ask(surroundings: Surroundings, *cases: Case) -> Any:
    return surroundings.ask(cases, first_end=END, last_end=END, tile_s=5.0)


def made(source: Source, exported: Exported = ALL) -> tuple[Surroundings, Metrics, list[float]]:
    clock, metrics = [0.0], Metrics()
    surroundings = Surroundings(source, metrics, lambda: clock[0])  # type: ignore[arg-type]  # what it needs of one
    surroundings.exported = exported
    return surroundings, metrics, clock


def empty_window() -> Window:
    return Window(NOW, END, 1, 50, ArmCounts(10), ArmCounts(10))


def left_out(metrics: Metrics, what: str) -> float:
    return metrics.registry.get_sample_value("canary_left_out_total", {"what": what}) or 0.0


def test_a_window_carries_all_that_is_known_of_its_time() -> None:
    one = case()
    surroundings, _, _ = made(Source())

    window = ask(surroundings, one).put_on(empty_window(), one)

    assert window.unattributed == ArmCounts(4, 3)
    assert window.ejections == Ejections(2, 3, 1, 3)  # "cc" is the canary, "s" is stable
    assert "CPU steal on the canary's nodes 40 % against 1 %" in window.noise
    assert "proxies rejected 2 configurations" in window.noise
    assert window.canary == ArmCounts(10)


def test_who_has_another_time_another_service_or_another_node_gets_nothing_of_it() -> None:
    one, stranger = case(1), case(2, nodes=("elsewhere", "nowhere"))
    surroundings, _, _ = made(Source())
    around = ask(surroundings, one)

    of_stranger = around.put_on(empty_window(), stranger)
    later = around.put_on(Window(END, END + 5, 1, 50, ArmCounts(10), ArmCounts(10)), one)

    assert of_stranger.unattributed == ArmCounts()
    assert of_stranger.ejections is None
    assert "steal" not in of_stranger.noise
    assert (later.unattributed, later.ejections, later.noise) == (ArmCounts(), None, "")


@pytest.mark.parametrize("number", [1, 50])
def test_it_is_asked_once_for_all_rollouts_whatever_their_number(number: int) -> None:
    source = Source()
    surroundings, _, _ = made(source)

    ask(surroundings, *(case(index) for index in range(number)))

    assert [what for what, _ in source.asked] == ["unattributed", "ejections", "steal", "control_plane"]
    assert [len(about) for _, about in source.asked[:3]] == [number, 2 * number, 2]


def test_what_the_source_does_not_have_costs_no_question() -> None:
    source = Source()
    surroundings, _, _ = made(source, Exported())

    around = ask(surroundings, case())
    now = surroundings.ejected_now([case()], NOW)

    assert [what for what, _ in source.asked] == ["unattributed"]  # a failure for want of a host makes its own series
    assert now == {}
    assert around.put_on(empty_window(), case()).ejections is None


@pytest.mark.parametrize("error", [TelemetryUnavailable("no answer within 5 s"), TelemetryAnswer("three quarters")])
@pytest.mark.parametrize("what", ["unattributed", "ejections", "steal", "control_plane"])
def test_a_question_that_fails_leaves_the_others_alone_and_is_counted(what: str, error: Exception) -> None:
    source = Source({what: error})
    surroundings, metrics, _ = made(source)
    one = case()

    window = ask(surroundings, one).put_on(empty_window(), one)

    assert len(source.asked) == 4
    assert left_out(metrics, what) == 1
    assert (window.unattributed == ArmCounts()) == (what == "unattributed")
    assert (window.ejections is None) == (what == "ejections")
    assert ("steal" not in window.noise) == (what == "steal")
    assert ("rejected" not in window.noise) == (what == "control_plane")


def test_what_goes_on_failing_is_asked_less_and_less_often_said_once_and_heard_again(
    capsys: pytest.CaptureFixture[str],
) -> None:
    source = Source({"steal": TelemetryUnavailable("no answer within 5 s")})
    surroundings, metrics, clock = made(source)
    capsys.readouterr()

    asked_at = []
    for second in range(0, 1200, 5):
        clock[0] = float(second)
        before = len([1 for what, _ in source.asked if what == "steal"])
        ask(surroundings, case())
        if len([1 for what, _ in source.asked if what == "steal"]) > before:
            asked_at.append(second)

    pauses = [after - before for before, after in pairwise(asked_at)]
    assert pauses[0] == 5  # at the very next tick
    assert pauses == sorted(pauses)
    assert max(pauses) == LONGEST_PAUSE_S
    assert left_out(metrics, "steal") == len(asked_at)
    assert capsys.readouterr().out.count("judged without") == 1
    source.failing.clear()
    clock[0] += LONGEST_PAUSE_S
    one = case()
    assert "steal" in ask(surroundings, one).put_on(empty_window(), one).noise


def test_a_policys_own_metrics_are_asked_with_the_rollouts_names_in_them() -> None:
    source = Source()
    surroundings, _, _ = made(source)

    values = surroundings.own_metrics(case(policy=METERED), first_end=END, last_end=END)

    assert [query for _, query in source.asked] == [
        'max(queue{ns="shop-1", app="payment-cc"}[5000ms])',
        'sum(refunds{service="payment", not="payment-s"})',
    ]
    assert values == {"depth": {END: 7.0}, "refunds": {END: 7.0}}


def test_a_metric_that_cannot_be_read_is_absent_and_is_one_rollouts_problem() -> None:
    source = Source({"metric": TelemetryAnswer("two series: aggregate them to one")})
    surroundings, metrics, _ = made(source)
    broken, other = case(1, METERED), case(2, METERED)

    assert surroundings.own_metrics(broken, first_end=END, last_end=END) == {"depth": {}, "refunds": {}}
    source.failing.clear()
    assert surroundings.own_metrics(other, first_end=END, last_end=END)["depth"] == {END: 7.0}
    assert left_out(metrics, "metric") == 2
    surroundings.forget("u-1")
    assert surroundings.own_metrics(broken, first_end=END, last_end=END)["depth"] == {END: 7.0}


def test_the_look_for_disasters_asks_for_ejections_as_of_now() -> None:
    source = Source()
    surroundings, _, _ = made(source)
    cases = [case(1), case(2)]

    now = surroundings.ejected_now(cases, NOW + 3.987)

    assert len(source.asked) == 1
    assert now == {"u-1": Ejections(2, 3, 1, 3), "u-2": Ejections(2, 3, 1, 3)}
