"""The judges' bookkeeping: who is fed which tiles, by how many questions, and what a restart changes: nothing."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest

from canary.daemon.evidence import CATCH_UP_TILES, Case, Evidence
from canary.errors import TelemetryAnswer, TelemetryUnavailable
from canary.model.policy import Policy
from canary.model.rollout import ArmStatus, Phase, Rollout, RolloutSpec, RolloutStatus, StepStatus, WeightChange
from canary.model.verdict import Outcome, Reason
from canary.telemetry.queries import Workload
from canary.telemetry.tiles import StatusCounts, Tile, TileBatch

BEGIN = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
TILE_S, SETTLE_S = 5.0, 2.0
POLICY = Policy.model_validate(
    {
        "name": "quick",
        "strategy": {"weights": [10, 50, 100], "hold": "1m"},
        "analysis": {"warmup": "0s", "minRequests": 50, "errorRate": {"max": "1%"}, "p99": {"max": "500ms"}},
    }
)


def unix(seconds: float) -> float:
    return BEGIN.timestamp() + seconds


def healthy(_workload: Workload, end: float) -> dict[tuple[str, str], int]:
    """Some requests, never the same number twice."""
    return {("200", ""): 200 + round(end) % 37}


def failing_now_and_then(workload: Workload, end: float) -> dict[tuple[str, str], int]:
    return healthy(workload, end) | ({("503", ""): round(end) % 4} if workload.name == "payment-v2" else {})


@dataclass
class Source:
    """Tiles as a function of workload and end; `odd` workloads make an answer unusable."""

    statuses: Callable[[Workload, float], Mapping[tuple[str, str], int]] = healthy
    odd: frozenset[Workload] = frozenset()
    away: str = ""
    asked: list[tuple[frozenset[Workload], float, float]] = field(default_factory=list)
    """(workloads, first end, last end) of each batch."""

    def tiles(
        self, workloads: Collection[Workload], bounds_ms: Collection[float], *, first_end: float, last_end: float,
        tile_s: float,
    ) -> TileBatch:  # fmt: skip
        self.asked.append((frozenset(workloads), first_end, last_end))
        self._answer(workloads)
        ends = [first_end + index * tile_s for index in range(round((last_end - first_end) / tile_s) + 1)]
        tiles = {
            workload: tuple(
                Tile(end - tile_s, end, (found := self.statuses(workload, end)), found.get(("200", ""), 0),
                     dict.fromkeys(bounds_ms, 1))
                for end in ends
            )
            for workload in workloads
        }  # fmt: skip
        return TileBatch(tiles, last_end, frozenset(workloads), "source", dict.fromkeys(workloads, last_end))

    def recent(
        self, workloads: Collection[Workload], *, now: float, interval_s: float
    ) -> Mapping[Workload, StatusCounts]:
        del interval_s
        self._answer(workloads)
        return {workload: StatusCounts(self.statuses(workload, now)) for workload in workloads}

    def _answer(self, workloads: Collection[Workload]) -> None:
        if self.away:
            raise TelemetryUnavailable(self.away)
        if self.odd & set(workloads):
            raise TelemetryAnswer("no bucket le=123")


def case(name: str = "payment-v2-x-1", namespace: str = "shop", *, step: int = 1, policy: Policy = POLICY) -> Case:
    """A rollout whose steps began a minute after each other, the first at 0 s."""
    weights = policy.strategy.weights
    changes = tuple(
        WeightChange(
            step=number, weight=weights[number - 1], asked=BEGIN + timedelta(seconds=60 * (number - 1)),
            reached=BEGIN + timedelta(seconds=60 * (number - 1) + 0.4),
        )
        for number in range(1, step + 1)
    )  # fmt: skip
    arms = {
        role: ArmStatus(deployment=f"payment-{version}", subset=version, label="version", value=version)
        for role, version in (("stable", "v1"), ("canary", "v2"))
    }
    status = RolloutStatus(
        phase=Phase.PROGRESSING, step=StepStatus(index=step, of=3), tile=timedelta(seconds=TILE_S),
        weight_changes=changes, **arms,
    )  # fmt: skip
    rollout = Rollout(
        namespace=namespace, name=name, uid=f"{namespace}/{name}", resource_version="1", generation=1, created=BEGIN,
        deleting=False, finalizers=(), spec=RolloutSpec(target="payment-v2", policy_name="quick"), status=status,
    )  # fmt: skip
    return Case(rollout, policy)


def evidence_on(source: Source) -> Evidence:
    return Evidence(source)  # type: ignore[arg-type]  # what it needs of a source


def canary_of(one: Case) -> Workload:
    return one.canary


def test_judges_rebuilt_from_tiles_after_a_restart_have_the_same_evidence_bit_for_bit() -> None:
    source = Source(failing_now_and_then)
    live, restarted = evidence_on(source), evidence_on(source)
    for second in range(1, 175):
        live.tick([case(step=min(3, 1 + second // 60))], unix(second), SETTLE_S)

    restarted.tick([case(step=3)], unix(174), SETTLE_S)

    of_live, of_restarted = (one.verdict(case(step=3), unix(174)) for one in (live, restarted))
    assert of_live is not None
    assert of_live == of_restarted
    assert of_live.evidence[0].canary_bad > 0
    assert live.share(case(step=3)) == restarted.share(case(step=3))


def test_a_tick_asks_once_for_all_rollouts_whatever_their_number() -> None:
    for number in (1, 20):
        source = Source()
        evidence = evidence_on(source)
        cases = [case(namespace=f"shop-{index}") for index in range(number)]
        evidence.tick(cases, unix(30), SETTLE_S)
        source.asked.clear()

        evidence.tick(cases, unix(35), SETTLE_S)

        ((workloads, first_end, last_end),) = source.asked
        assert len(workloads) == 2 * number
        assert first_end == last_end


def test_a_tick_without_a_new_tile_changes_no_evidence() -> None:
    source = Source()
    evidence = evidence_on(source)
    evidence.tick([case()], unix(31), SETTLE_S)
    before = evidence.verdict(case(), unix(31))

    evidence.tick([case()], unix(31.5), SETTLE_S)

    after = evidence.verdict(case(), unix(31.5))
    assert before is not None
    assert after is not None
    assert after.evidence == before.evidence


def test_who_is_far_behind_gets_a_question_of_his_own() -> None:
    source = Source()
    evidence = evidence_on(source)
    late, new = case(namespace="late"), case(namespace="new")
    now = (CATCH_UP_TILES + 10) * TILE_S
    evidence.tick([new], unix(20), SETTLE_S)
    for second in range(20, round(now), 5):
        evidence.tick([new], unix(second), SETTLE_S)
    source.asked.clear()

    evidence.tick([late, new], unix(now), SETTLE_S)

    assert [len(workloads) for workloads, _, _ in source.asked] == [2, 2]
    short, long = source.asked
    assert (short[2] - short[1]) / TILE_S <= 2
    assert (long[2] - long[1]) / TILE_S > CATCH_UP_TILES


def test_one_workload_whose_answer_cannot_be_used_blinds_nobody_else() -> None:
    cases = [case(namespace=f"shop-{index}") for index in range(8)]
    source = Source(odd=frozenset({canary_of(cases[3])}))
    evidence = evidence_on(source)

    problem = evidence.tick(cases, unix(60), SETTLE_S)

    verdicts = [evidence.verdict(one, unix(60)) for one in cases]
    assert problem == ""  # the source itself is well
    assert [verdict.reason for verdict in verdicts if verdict].count(Reason.UNAVAILABLE) == 1
    unlucky = verdicts[3]
    assert unlucky is not None
    assert "le=123" in unlucky.sentence
    assert len(source.asked) <= 7  # halved, not one by one
    assert evidence.look_for_disasters(cases, unix(60)) == []


def test_an_outage_is_told_and_holds_and_what_it_missed_is_caught_up() -> None:
    source = Source()
    evidence = evidence_on(source)
    evidence.tick([case()], unix(31), SETTLE_S)
    source.away = "connection refused"

    problem = evidence.tick([case()], unix(36), SETTLE_S)

    held = evidence.verdict(case(), unix(36))
    assert problem == "connection refused"
    assert held is not None
    assert (held.outcome, held.reason) == (Outcome.HOLD, Reason.UNAVAILABLE)
    source.away = ""
    assert evidence.tick([case()], unix(56), SETTLE_S) == ""
    uninterrupted = evidence_on(Source())
    for second in (31, 36, 41, 46, 51, 56):
        uninterrupted.tick([case()], unix(second), SETTLE_S)
    assert evidence.verdict(case(), unix(56)) == uninterrupted.verdict(case(), unix(56))


def test_nothing_is_judged_before_the_first_traffic() -> None:
    source = Source()
    evidence = evidence_on(source)
    one = case()
    waiting = one.rollout.model_copy(update={"status": one.rollout.status.model_copy(update={"weight_changes": ()})})

    evidence.tick([Case(waiting, POLICY)], unix(30), SETTLE_S)

    assert source.asked == []
    assert evidence.verdict(Case(waiting, POLICY), unix(30)) is None


def test_a_disaster_is_seen_between_two_tiles_and_stays_seen() -> None:
    source = Source()
    evidence = evidence_on(source)
    good, bad = case(namespace="good"), case(namespace="bad")
    evidence.tick([good, bad], unix(31), SETTLE_S)

    def broken(workload: Workload, end: float) -> Mapping[tuple[str, str], int]:
        return {("503", ""): 40} if workload == bad.canary else healthy(workload, end)

    source.statuses = broken
    aborted = evidence.look_for_disasters([good, bad], unix(32))
    source.statuses = healthy

    assert [one.rollout.namespace for one in aborted] == ["bad"]
    verdict = evidence.verdict(bad, unix(33))
    assert verdict is not None
    assert (verdict.outcome, verdict.reason) == (Outcome.FAIL, Reason.FAST_ABORT)
    assert evidence.look_for_disasters([good, bad], unix(33)) == []
    source.away = "gone"
    with pytest.raises(TelemetryUnavailable):
        evidence.look_for_disasters([good, bad], unix(34))


def test_the_judge_of_an_ended_rollout_is_forgotten() -> None:
    evidence = evidence_on(Source())
    evidence.tick([case()], unix(31), SETTLE_S)

    evidence.forget_all_but([])

    assert evidence.verdict(case(), unix(31)) is None


def test_the_first_step_does_not_speak_for_the_second() -> None:
    evidence = evidence_on(Source())
    evidence.tick([case(step=1)], unix(58), SETTLE_S)

    verdict = evidence.verdict(case(step=2), unix(61))

    assert verdict is not None
    assert (verdict.outcome, verdict.reason) == (Outcome.HOLD, Reason.NO_DATA)
