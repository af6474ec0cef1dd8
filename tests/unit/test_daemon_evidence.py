"""The judges' bookkeeping: who is fed which tiles, by how many questions, and what a restart changes: nothing."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from canary.analysis.state import dump
from canary.daemon.evidence import ALONE_S, CATCH_UP_TILES, Evidence
from canary.daemon.surroundings import Exported
from canary.daemon.tracks import Case
from canary.engine.step import verdict_status
from canary.errors import TelemetryAnswer, TelemetryUnavailable
from canary.model.policy import GrpcStatus, Policy
from canary.model.rollout import ArmStatus, Phase, Rollout, RolloutSpec, RolloutStatus, StepStatus, WeightChange
from canary.model.verdict import ArmCounts, Outcome, Reason
from canary.telemetry.queries import ServiceName, SubsetName, Workload
from canary.telemetry.tiles import Bounds, StatusCounts, Tile, TileBatch, bounds_of

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
    no_history: str = ""
    """Why stable's past cannot be read."""
    scraped_before_s: float = TILE_S
    """How long before the beginning of a tile the scrape was that it counts from."""
    kept_since: float = 0.0
    """The end of the oldest tile that has not been dropped for its age (Unix seconds)."""
    asked: list[tuple[frozenset[Workload], float, float]] = field(default_factory=list)
    """(workloads, first end, last end) of each batch."""
    asked_bounds: list[frozenset[float]] = field(default_factory=list)
    asked_history: list[tuple[frozenset[Workload], float, float]] = field(default_factory=list)
    asked_recent: list[frozenset[Workload]] = field(default_factory=list)
    queries_sent: int = 0

    def tiles(
        self, workloads: Collection[Workload], bounds_ms: Bounds, *, first_end: float, last_end: float,
        tile_s: float, openings_of: Collection[Workload] = (),
    ) -> TileBatch:  # fmt: skip
        self.asked.append((frozenset(workloads), first_end, last_end))
        self.asked_bounds.append(frozenset(b for one in workloads for b in bounds_of(bounds_ms, one)))
        self._answer(workloads)
        ends = [first_end + index * tile_s for index in range(round((last_end - first_end) / tile_s) + 1)]
        tiles = {
            workload: tuple(self._tile(workload, end, tile_s, bounds_of(bounds_ms, workload)) for end in ends)
            for workload in workloads
        }
        openings = {arm: {end: end - tile_s - self.scraped_before_s for end in ends} for arm in openings_of}
        ends_seen = dict.fromkeys(workloads, last_end)
        return TileBatch(tiles, last_end, frozenset(workloads), "source", ends_seen, openings)

    def _tile(self, workload: Workload, end: float, tile_s: float, bounds_ms: Collection[float]) -> Tile:
        found = self.statuses(workload, end) if end >= self.kept_since else {}
        timed = found.get(("200", ""), 0)
        return Tile(end - tile_s, end, found, timed, {bound: min(timed, 1) for bound in bounds_ms})

    def histories(
        self, workloads: Collection[Workload], *, first_end: float, last_end: float, tile_s: float
    ) -> Mapping[Workload, tuple[Tile, ...]]:
        self.asked_history.append((frozenset(workloads), first_end, last_end))
        self._answer(workloads)
        if self.no_history:
            raise TelemetryUnavailable(self.no_history)
        ends = [first_end + i * tile_s for i in range(round((last_end - first_end) / tile_s) + 1)]
        bounds = (250.0, 500.0, 1000.0)
        return {one: tuple(self._tile(one, end, tile_s, bounds) for end in ends) for one in workloads}

    def unattributed(
        self, services: Collection[ServiceName], *, first_end: float, last_end: float, tile_s: float
    ) -> Mapping[ServiceName, Mapping[float, ArmCounts]]:
        del services, first_end, last_end, tile_s
        if self.away:
            raise TelemetryUnavailable(self.away)
        return {}

    def failing(
        self, workloads: Collection[Workload], grpc_errors: Collection[GrpcStatus], *, now: float, interval_s: float
    ) -> frozenset[Workload]:
        del grpc_errors, interval_s
        self._answer(workloads)
        return frozenset(
            workload for workload in workloads if any(code[0] == "5" for code, _ in self.statuses(workload, now))
        )

    def recent(
        self, workloads: Collection[Workload], *, now: float, interval_s: float
    ) -> Mapping[Workload, StatusCounts]:
        del interval_s
        self.asked_recent.append(frozenset(workloads))
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
        phase=Phase.PROGRESSING, service="payment", step=StepStatus(index=step, of=3), tile=timedelta(seconds=TILE_S),
        weight_changes=changes, **arms,
    )  # fmt: skip
    rollout = Rollout(
        namespace=namespace, name=name, uid=f"{namespace}/{name}", resource_version="1", generation=1, created=BEGIN,
        deleting=False, finalizers=(), spec=RolloutSpec(target="payment-v2", policy_name="quick"), status=status,
    )  # fmt: skip
    return Case(rollout, policy)


def evidence_on(source: Source) -> Evidence:
    return Evidence(source)  # type: ignore[arg-type]  # what it needs of a source


def state_of(evidence: Evidence, one: Case) -> object:
    """Everything that a judge knows."""
    return dump(evidence._tracks[one.rollout.uid].judge)


def canary_of(one: Case) -> Workload:
    return one.canary


def test_judges_rebuilt_from_tiles_after_a_restart_have_the_same_evidence_bit_for_bit() -> None:
    source = Source(failing_now_and_then)
    live, restarted = evidence_on(source), evidence_on(source)
    for second in range(1, 175):
        live.tick([case(step=min(3, 1 + second // 60))], unix(second), SETTLE_S)

    restarted.tick([case(step=3)], unix(174), SETTLE_S)

    assert state_of(live, case()) == state_of(restarted, case())
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
    source.asked.clear()
    evidence.tick(cases, unix(65), SETTLE_S)
    assert [len(workloads) for workloads, _, _ in source.asked] == [14, 2]  # it spoils nobody's batch any more
    source.odd = frozenset()
    evidence.tick(cases, unix(70), SETTLE_S)
    source.asked.clear()
    evidence.tick(cases, unix(75), SETTLE_S)
    assert [len(workloads) for workloads, _, _ in source.asked] == [16]
    assert state_of(evidence, cases[3]) == state_of(evidence, cases[4])
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


def test_of_a_hundred_healthy_releases_only_failures_are_asked_for_and_who_fails_is_looked_at_closely() -> None:
    source = Source()
    evidence = evidence_on(source)
    cases = [case(namespace=f"team-{number}") for number in range(100)]
    evidence.tick(cases, unix(31), SETTLE_S)
    source.asked_recent.clear()
    assert evidence.look_for_disasters(cases, unix(32)) == []
    assert source.asked_recent == []

    source.statuses = lambda workload, end: (
        {("200", ""): 99, ("503", ""): 1} if workload == cases[7].canary else healthy(workload, end)
    )
    assert evidence.look_for_disasters(cases, unix(33)) == []
    assert source.asked_recent == [frozenset(cases[7].arms)]


def test_who_was_silent_is_looked_at_closely_until_requests_come() -> None:
    source = Source(lambda workload, end: {} if workload.name == "payment-v2" else healthy(workload, end))
    evidence = evidence_on(source)
    evidence.tick([case()], unix(31), SETTLE_S)
    evidence.look_for_disasters([case()], unix(32))
    assert source.asked_recent == [frozenset(case().arms)]

    source.statuses = healthy
    evidence.tick([case()], unix(41), SETTLE_S)
    evidence.look_for_disasters([case()], unix(42))
    assert len(source.asked_recent) == 1


def test_the_judge_of_an_ended_rollout_is_forgotten() -> None:
    evidence = evidence_on(Source())
    evidence.tick([case()], unix(31), SETTLE_S)

    evidence.forget_all_but([])

    assert evidence.verdict(case(), unix(31)) is None


@pytest.mark.parametrize(
    ("of_canary", "ejected", "is_aborted", "is_asked"),
    [
        ({("200", ""): 200}, 3, False, False),  # a healthy canary: Envoy ejects for errors only
        ({("200", ""): 200, ("503", ""): 2}, 3, True, True),
        ({}, 3, True, True),  # nobody gets through any more: its own counts are empty
        ({}, 0, False, True),
        ({("200", ""): 200, ("503", ""): 2}, 2, False, True),  # not all of them, as the policy's 100 % asks
    ],
)
def test_ejected_hosts_of_the_canary_alone_are_a_disaster(
    of_canary: Mapping[tuple[str, str], int], ejected: int, is_aborted: bool, is_asked: bool
) -> None:
    asked = []

    class Ejecting(Source):
        def ejections(self, subsets: Collection[SubsetName], *, last_end: float, **_: float) -> Any:
            asked.append(frozenset(subsets))
            return {one: {last_end: (ejected if one.subset == "v2" else 0, 3)} for one in subsets}

    source = Ejecting(lambda workload, end: of_canary if workload.name == "payment-v2" else healthy(workload, end))
    evidence = evidence_on(source)
    evidence.exports(Exported(ejections=True))

    aborted = evidence.look_for_disasters([case()], unix(2))

    assert bool(aborted) == is_aborted
    assert asked == ([frozenset(case().subsets)] if is_asked else [])


def test_stables_past_is_read_once_and_from_recorded_times_alone() -> None:
    source = Source()
    live, restarted = evidence_on(source), evidence_on(source)
    for second in (3, 7, 31, 36):
        live.tick([case()], unix(second), SETTLE_S)
    restarted.tick([case(step=2)], unix(90), SETTLE_S)

    past = (frozenset({case().stable}), unix(-595), unix(0))
    assert source.asked_history == [past, past]
    assert source.asked_bounds[-1] == {250.0, 500.0, 1000.0}  # stable's tail, the bound after it, and the policy's own


def test_without_its_baseline_nothing_is_judged_and_it_is_asked_again_at_the_next_tick() -> None:
    source = Source(no_history="no answer within 5 s")
    evidence = evidence_on(source)

    problem = evidence.tick([case()], unix(31), SETTLE_S)

    held = evidence.verdict(case(), unix(31))
    assert problem == ""  # the source may be well: the batch is what says so
    assert held is not None
    assert (held.outcome, held.reason) == (Outcome.HOLD, Reason.UNAVAILABLE)
    assert "stable's figures from before the rollout" in held.sentence
    assert "no answer within 5 s" in held.sentence
    assert source.asked == []
    source.no_history = ""
    evidence.tick([case()], unix(36), SETTLE_S)
    uninterrupted = evidence_on(Source())
    uninterrupted.tick([case()], unix(36), SETTLE_S)
    assert evidence.verdict(case(), unix(36)) == uninterrupted.verdict(case(), unix(36))


def test_a_baseline_that_hangs_at_every_attempt_is_asked_for_less_and_less_often() -> None:
    clock = [0.0]
    source = Source(no_history="no answer within 5 s")
    evidence = Evidence(source, clock=lambda: clock[0])  # type: ignore[arg-type]  # what it needs of a source

    for second in range(20, 320, 5):
        clock[0] = float(second)
        evidence.tick([case()], unix(second), SETTLE_S)

    assert 2 <= len(source.asked_history) <= 12
    assert [second for _, second, _ in source.asked_history[:2]]  # the second time without any pause


def test_a_disaster_is_seen_before_there_is_a_baseline_or_a_tick() -> None:
    source = Source(
        lambda workload, end: {("503", ""): 40} if workload.name == "payment-v2" else healthy(workload, end)
    )
    evidence = evidence_on(source)

    aborted = evidence.look_for_disasters([case()], unix(2))

    assert [one.rollout.name for one in aborted] == [case().rollout.name]
    verdict = evidence.verdict(case(), unix(2))
    assert verdict is not None
    assert verdict.reason is Reason.FAST_ABORT
    recorder = evidence.recorder(case().rollout.uid)
    assert recorder is not None  # a person who asks why must be told
    assert evidence.tick([case()], unix(31), SETTLE_S) == ""
    assert evidence.verdict(case(), unix(31)) == verdict


def test_a_tile_right_after_a_weight_is_judged_if_its_scrapes_began_after_it() -> None:
    soon, late = Source(scraped_before_s=0.5), Source(scraped_before_s=4.9)

    seen = {}
    for source in (soon, late):
        evidence = evidence_on(source)
        for second in range(1, 13):
            evidence.tick([case()], unix(second), SETTLE_S)
        seen[source.scraped_before_s] = evidence.verdict(case(), unix(12))

    # reached at 0.4 s, known everywhere at 1.4 s: the tile from 5 to 10 s counts from 4.5 s, or from 0.1 s
    of_soon, of_late = seen[0.5], seen[4.9]
    assert of_soon is not None
    assert of_soon.evidence[0].canary_total == healthy(case().canary, unix(10))["200", ""]
    assert of_late is not None
    assert of_late.reason is Reason.NO_DATA


def test_who_else_is_judged_leaves_no_trace_in_a_judge() -> None:
    odd = Policy.model_validate(POLICY.document() | {"name": "odd", "analysis": {"p99": {"max": "5s"}, "warmup": "0s"}})
    alone, together = evidence_on(Source()), evidence_on(Source())
    one, other = case(), case(namespace="other", policy=odd)

    for second in range(1, 60):
        alone.tick([one], unix(second), SETTLE_S)
        together.tick([one, other], unix(second), SETTLE_S)

    assert state_of(alone, one) == state_of(together, one)


def test_after_a_restart_figures_that_the_source_dropped_are_missed_aloud() -> None:
    live, source = evidence_on(Source()), Source(kept_since=unix(60))
    live.tick([case(step=2)], unix(118), SETTLE_S)
    before = live.verdict(case(step=2), unix(118))
    assert before is not None
    kept = case(step=2)
    told = kept.rollout.status.model_copy(update={"verdict": verdict_status(before, BEGIN + timedelta(seconds=118))})
    kept = Case(kept.rollout.model_copy(update={"status": told}), POLICY)
    whole, lossy = evidence_on(Source()), evidence_on(source)

    for evidence in (whole, lossy):
        evidence.tick([kept], unix(119), SETTLE_S)

    of_whole, of_lossy = (one.verdict(kept, unix(119)) for one in (whole, lossy))
    assert of_whole == before
    assert of_lossy is not None
    total = next(entry.canary_total for entry in before.evidence if entry.metric == "pass")
    assert f"of {total:,} canary requests judged before" in of_lossy.sentence
    assert "Since a restart" in of_lossy.sentence


def test_a_batch_that_takes_long_does_not_keep_new_rollouts_from_beginning() -> None:
    clock = [0.0]

    class Slow(Source):
        def tiles(self, *arguments: Any, **more: Any) -> TileBatch:
            clock[0] += 3 * ALONE_S
            return super().tiles(*arguments, **more)

    source = Slow()
    evidence = Evidence(source, clock=lambda: clock[0])  # type: ignore[arg-type]  # what it needs of a source
    old, new = case(namespace="old"), case(namespace="new")
    evidence.tick([old], unix(31), SETTLE_S)

    evidence.tick([old, new], unix(36), SETTLE_S)

    assert evidence.verdict(new, unix(36)) is not None


def test_a_tick_that_only_goes_on_with_what_was_left_over_asks_nobody_else_again() -> None:
    source = Source()
    evidence = evidence_on(source)
    evidence.tick_s = 5.0
    evidence.tick([case()], unix(37), SETTLE_S)
    source.asked.clear()

    evidence.tick([case()], unix(38), SETTLE_S)

    assert source.asked == []
    evidence.tick([case()], unix(41.9), SETTLE_S)
    assert len(source.asked) == 1  # no new tile either, but is it still fresh?


def test_after_an_outage_those_who_are_as_far_behind_are_caught_up_together() -> None:
    source = Source()
    evidence = Evidence(source, clock=lambda: 0.0)  # type: ignore[arg-type]  # what it needs of a source
    cases = [case(namespace=f"shop-{index}") for index in range(8)]
    evidence.tick(cases, unix(31), SETTLE_S)
    source.asked.clear()

    evidence.tick(cases, unix(31 + 5 * 300), SETTLE_S)

    assert [len(workloads) for workloads, _, _ in source.asked] == [12, 4]  # at most 2,000 tiles of rollouts at once
    alone = evidence_on(Source())
    alone.tick(cases[:1], unix(31), SETTLE_S)
    alone.tick(cases[:1], unix(31 + 5 * 300), SETTLE_S)
    assert state_of(evidence, cases[0]) == state_of(alone, cases[0])


def test_ticks_that_are_far_apart_still_ask_for_all_at_once() -> None:
    source = Source()
    evidence = evidence_on(source)
    evidence.tick_s = 150.0
    cases = [case(namespace=f"shop-{index}") for index in range(4)]
    evidence.tick(cases, unix(31), SETTLE_S)
    source.asked.clear()

    evidence.tick(cases, unix(181), SETTLE_S)

    assert [len(workloads) for workloads, _, _ in source.asked] == [8]


def test_a_rollout_that_cannot_be_judged_stops_nobody_else_and_is_begun_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    evidence = evidence_on(Source())
    broken, other = case(namespace="broken"), case(namespace="other")
    evidence.tick([broken, other], unix(31), SETTLE_S)

    def fails(*_: object) -> None:
        raise ZeroDivisionError("for the test")

    with monkeypatch.context() as patched:
        patched.setattr(evidence._tracks[broken.rollout.uid].judge, "take_in", fails)
        evidence.tick([broken, other], unix(36), SETTLE_S)
        held = evidence.verdict(broken, unix(36))

    assert held is not None
    assert (held.outcome, held.reason) == (Outcome.HOLD, Reason.UNAVAILABLE)
    evidence.tick([broken, other], unix(41), SETTLE_S)
    assert state_of(evidence, broken) == state_of(evidence, other)


def test_many_rollouts_at_once_are_begun_in_slices_so_that_looks_for_disasters_go_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("canary.daemon.evidence.BASELINES_AT_ONCE", 2)
    clock = [0.0]

    class Slow(Source):
        def histories(self, workloads: Collection[Workload], **ends: float) -> Mapping[Workload, tuple[Tile, ...]]:
            clock[0] += ALONE_S / 4
            return super().histories(workloads, **ends)

    source = Slow()
    evidence = Evidence(source, clock=lambda: clock[0])  # type: ignore[arg-type]  # what it needs of a source
    cases = [case(namespace=f"shop-{index}") for index in range(24)]

    evidence.tick(cases, unix(31), SETTLE_S)

    assert evidence.is_behind
    assert len(source.asked_history) == 5
    assert sum(evidence.verdict(one, unix(31)) is not None for one in cases) == 10
    evidence.tick(cases, unix(32), SETTLE_S)
    evidence.tick(cases, unix(33), SETTLE_S)
    assert not evidence.is_behind
    assert all(evidence.verdict(one, unix(33)) is not None for one in cases)


def test_rollouts_that_begin_together_share_the_questions_about_their_pasts() -> None:
    source = Source()
    evidence = evidence_on(source)
    cases = [case(namespace=f"shop-{index}") for index in range(12)]

    evidence.tick(cases, unix(31), SETTLE_S)

    alone = evidence_on(Source())
    alone.tick([cases[0]], unix(31), SETTLE_S)
    assert [len(workloads) for workloads, _, _ in source.asked_history] == [12]
    assert state_of(evidence, cases[0]) == state_of(alone, cases[0])


def test_one_whose_past_cannot_be_read_keeps_nobody_else_from_beginning() -> None:
    cases = [case(namespace=f"shop-{index}") for index in range(7)]
    source = Source(odd=frozenset({cases[3].stable}))
    evidence = evidence_on(source)

    evidence.tick(cases, unix(31), SETTLE_S)

    verdicts = [evidence.verdict(one, unix(31)) for one in cases]
    without = [place for place, one in enumerate(verdicts) if one and one.reason is Reason.UNAVAILABLE]
    assert without == [3]


def test_the_first_step_does_not_speak_for_the_second() -> None:
    evidence = evidence_on(Source())
    evidence.tick([case(step=1)], unix(58), SETTLE_S)

    verdict = evidence.verdict(case(step=2), unix(61))

    assert verdict is not None
    assert (verdict.outcome, verdict.reason) == (Outcome.HOLD, Reason.NO_DATA)
