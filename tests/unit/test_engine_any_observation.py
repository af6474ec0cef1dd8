"""Whatever is observed, there is a decision, it is a sane one, and looking again soon changes nothing more."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from canary.engine.actions import CleanUp, Decision, FreezePolicy, Prepare, SetFinalizer, Shift, WriteStatus
from canary.engine.mark import Mark, read_mark
from canary.engine.observed import Finding, Observed, Pods, Resolved
from canary.engine.step import step
from canary.engine.table import TABLE
from canary.model.policy import Policy
from canary.model.rollout import (
    FINALIZER,
    ArmStatus,
    Cause,
    CauseStatus,
    Condition,
    DriftStatus,
    HistoryEntry,
    PausedFor,
    Phase,
    PolicyStatus,
    PromoteWish,
    Rollout,
    RolloutSpec,
    RolloutStatus,
    RouteStatus,
    StepStatus,
    WeightChange,
    WeightStatus,
    Wish,
)
from canary.model.route import RouteState
from canary.model.verdict import Outcome, Reason, Verdict

NOW = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
NAME = "payment-v2-v2hash-1"
MATCH = {"headers": {"x-debug-user": {"exact": "true"}}, "hold": "15s"}


def policy(strategy: dict[str, Any], analysis: dict[str, Any] | None = None, on_drift: str = "hold") -> Policy:
    document = {"name": "quick", "strategy": strategy, "analysis": analysis or {}, "onDrift": on_drift}
    return Policy.model_validate(document)


POLICIES = [
    policy({"weights": [10, 50, 100], "hold": "10s", "bake": "20s"}),
    policy({"weights": [100], "match": MATCH | {"keep": True}, "pauseAt": [100]}, {"onInconclusive": "promote"}),
    policy({"weights": [5, 100], "hold": ["1s", "0s"]}, {"onInconclusive": "rollback", "maxWait": "0s"}, "abort"),
    policy({"match": MATCH}),
    policy({"weights": [10, 50, 100], "hold": {"min": "5s", "max": "1m"}, "bake": "20s"}, {"keepStable": "5%"}),
    policy({"match": MATCH}, {"keepStable": "50%", "maxWait": "0s", "onInconclusive": "rollback"}),
]
STABLE = ArmStatus(deployment="payment-v1", subset="v1", label="version", value="v1", revision="v1hash")
CANARY = ArmStatus(deployment="payment-v2", subset="v2", label="version", value="v2", revision="v2hash")
ROUTE = RouteStatus(virtual_service="payment", http="primary", host="payment", port=8080)

times = st.integers(-5000, 5000).map(lambda seconds: NOW + timedelta(seconds=seconds))
spans = st.integers(0, 5000).map(lambda seconds: timedelta(seconds=seconds))
weights = st.integers(0, 100)
sentences = st.text(st.characters(blacklist_categories=["Cc", "Cs", "Zl", "Zp"]), max_size=40)


def built(kind: Callable[..., Any], **fields: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Like `st.builds`, which would guess at the aliases of a pydantic model too."""
    return st.fixed_dictionaries(fields).map(lambda values: kind(**values))


wishes = st.none() | built(Wish, actor=sentences, reason=sentences)


def maybe(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | strategy


statuses = built(
    RolloutStatus,
    phase=st.sampled_from(Phase),
    message=sentences,
    service=maybe(st.just("payment")),
    step=maybe(built(StepStatus, index=st.integers(0, 5) | st.integers(0, 32), of=st.integers(0, 5))),
    weight=built(WeightStatus, desired=st.sampled_from([0, 5, 10, 50, 100]) | weights, configured=maybe(weights)),
    phase_started_at=maybe(times),
    step_elapsed=spans,
    resumed_at=maybe(times),
    target_revision=maybe(st.sampled_from(["v2hash", "other"])),
    stable=maybe(st.just(STABLE)),
    canary=maybe(st.just(CANARY)),
    route=maybe(st.just(ROUTE)),
    policy=maybe(st.just(PolicyStatus(name="quick", digest="0"))),
    paused_for=maybe(st.sampled_from(PausedFor)),
    cause=maybe(built(CauseStatus, reason=st.sampled_from(Cause), sentence=sentences)),
    drift=maybe(built(DriftStatus, since=times, reasserted=st.integers(0, 10_000), next_try=times)),
    weight_changes=st.lists(
        built(WeightChange, step=st.integers(0, 5), weight=weights, asked=times, reached=maybe(times)), max_size=40
    ).map(tuple),
    history=st.lists(built(HistoryEntry, at=times, phase=st.sampled_from(Phase), sentence=sentences), max_size=25).map(
        tuple
    ),
    conditions=st.lists(
        built(
            Condition,
            type=st.just("Stalled"),
            status=st.sampled_from(["True", "False"]),
            reason=st.just("Drift"),
            last_transition_time=times,
        ),
        max_size=1,
    ).map(tuple),
)
consistent = st.tuples(statuses, st.sampled_from(POLICIES), st.integers(0, 4), st.booleans()).map(
    lambda drawn: drawn[0].model_copy(
        update={
            "service": "payment",
            "stable": STABLE,
            "canary": CANARY,
            "route": ROUTE,
            "target_revision": "v2hash",
            "step": StepStatus(index=(index := min(drawn[2], drawn[1].strategy.last_step + 1)), of=1),
            "weight": drawn[0].weight.model_copy(
                update={
                    "desired": 100 if index > drawn[1].strategy.last_step and drawn[3] else drawn[1].weight_of(index)
                }
            ),
        }
    )
)
marks = (
    st.just("")
    | sentences
    | st.builds(
        lambda name, cause: Mark(name, cause, "five in a hundred fail").render(),
        st.sampled_from([NAME, "another"]),
        st.sampled_from(Cause),
    )
)
findings = built(Finding, reason=st.sampled_from(["RouteGone", "AmbiguousRoute"]), sentence=sentences)


def rollouts(status: st.SearchStrategy[RolloutStatus]) -> st.SearchStrategy[Rollout]:
    return built(
        Rollout,
        namespace=st.just("shop"),
        name=st.just(NAME),
        uid=st.just("u-1"),
        resource_version=st.just("1"),
        generation=st.integers(1, 9),
        created=st.just(NOW),
        deleting=st.booleans(),
        finalizers=st.sampled_from([(), (FINALIZER,), ("foregroundDeletion",)]),
        spec=built(
            RolloutSpec,
            target=st.just("payment-v2"),
            policy_name=st.just("quick"),
            paused=wishes,
            abort=st.none() | wishes,
            promote=st.none() | built(PromoteWish, full=st.just(True)) | built(PromoteWish, step=st.integers(0, 5)),
        ),
        status=status,
    )


def observations(status: st.SearchStrategy[RolloutStatus]) -> st.SearchStrategy[Observed]:
    return built(
        Observed,
        rollout=rollouts(status),
        policy=st.sampled_from([*POLICIES, None]),
        resolved=maybe(
            built(
                Resolved,
                service=st.just("payment"),
                route=st.just(ROUTE),
                stable=st.just(STABLE),
                canary=st.just(CANARY),
                policy=st.sampled_from(POLICIES),
            )
        ),
        finding=maybe(findings),
        route=maybe(
            built(
                RouteState,
                weight=st.sampled_from([0, 5, 10, 50, 100]) | weights,
                header=st.booleans(),
                resource_version=st.just("1"),
                foreign_weight=st.sampled_from([0, 0, 30, 95]),
                mark=marks,
                without_stable=st.booleans(),
            )
        ),
        route_problem=maybe(findings),
        target_revision=st.sampled_from(["v2hash", "v2hash", "newer", ""]),
        stable_revision=st.sampled_from(["v1hash", "v1hash", "newer", ""]),
        pods=built(Pods, ready=st.integers(0, 3), wanted=st.integers(0, 3)),
        is_prepared=st.booleans(),
        is_clean=st.booleans(),
        verdict=maybe(
            built(Verdict, outcome=st.sampled_from(Outcome), reason=st.sampled_from(Reason), sentence=sentences)
        ),
        source_problem=st.just("") | sentences,
        observed_weight=maybe(st.floats(0, 100)),
        superseded_by=st.just("") | sentences,
        manager=sentences,
        lost_subsets=st.frozensets(st.sampled_from(["v1", "v2"])),
        tile=st.just(timedelta(seconds=5)),
    )


any_observation = observations(statuses) | observations(consistent)
thorough = settings(
    max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)


def written(decision: Decision) -> RolloutStatus | None:
    return next((action.status for action in decision.actions if isinstance(action, WriteStatus)), None)


@given(any_observation)
@thorough
def test_there_is_always_a_decision_and_it_is_a_sane_one(observed: Observed) -> None:
    decision = step(observed, NOW)

    old, new = observed.rollout.status, written(decision)
    assert decision.look_again_s is None or decision.look_again_s >= 0
    for action in decision.actions:
        if isinstance(action, Shift):
            assert observed.route is not None, "nothing can be set on a route nobody can read"
            assert 0 <= action.weight <= 100
            assert not action.header or (observed.policy is not None and observed.policy.strategy.match is not None)
    if new is not None:
        assert RolloutStatus.model_validate(new.document()) == new
        assert new.phase is old.phase or new.phase in {
            rule.to for (phase, _), rule in TABLE.items() if phase is old.phase
        }
        assert len(new.history) <= 20
        assert len(new.weight_changes) <= 40


@given(any_observation)
@thorough
def test_a_rollback_is_always_begun_on_the_route(observed: Observed) -> None:
    decision = step(observed, NOW)

    new = written(decision)
    begins = new is not None and new.phase is Phase.ROLLING_BACK and observed.rollout.status.phase is not new.phase
    has_traffic = observed.route is not None and (observed.route.weight > 0 or observed.route.header)
    if begins and has_traffic:
        first = decision.actions[0]
        assert isinstance(first, Shift)
        assert (first.weight, first.header) == (0, False)
        mark = read_mark(first.mark)
        assert mark is not None
        assert mark.rollout == NAME


@given(any_observation)
@thorough
def test_looking_again_at_what_was_done_soon_finds_nothing_more_to_do(observed: Observed) -> None:
    for _ in range(16):
        decision = step(observed, NOW)
        if all(isinstance(action, WriteStatus) and action.evidence_only for action in decision.actions):
            return
        observed = carried_out(observed, decision)

    raise AssertionError(f"writes for ever: {observed.rollout.status.phase}: {decision}")


@given(any_observation)
@thorough
def test_no_canary_traffic_is_added_without_a_person_or_fresh_data(observed: Observed) -> None:
    status = observed.rollout.status
    decision = step(observed, NOW)

    new = written(decision)
    is_more = new is not None and new.weight.desired > status.weight.desired and new.phase is not Phase.PENDING
    begins = status.phase in (Phase.PENDING, Phase.CHECKING)
    if is_more and not begins and observed.rollout.spec.promote is None:
        assert observed.verdict is not None
        assert observed.verdict.outcome is Outcome.PASS or observed.policy is POLICIES[1]
        assert observed.verdict.reason not in (Reason.UNAVAILABLE, Reason.STALE)
        assert observed.verdict.outcome is Outcome.PASS or observed.verdict.reason not in (
            Reason.NO_DATA, Reason.NO_TRAFFIC, Reason.NO_CANARY_TRAFFIC, Reason.WARMING_UP,
        )  # fmt: skip
        assert not observed.source_problem
        assert observed.stable_revision == "v1hash"


@given(any_observation)
@thorough
def test_stable_keeps_its_share_until_the_bake_is_over_or_a_person_wants_it_all(observed: Observed) -> None:
    status, policy = observed.rollout.status, observed.policy
    decision = step(observed, NOW)

    new = written(decision)
    if new is None or policy is None or not policy.analysis.keep_stable:
        return
    more = new.weight.desired > max(status.weight.desired, 100 - policy.analysis.keep_stable_weight)
    wish = observed.rollout.spec.promote
    if more and status.phase.divides_traffic and not (wish is not None and wish.full):
        assert status.step is not None
        assert status.step.index == policy.strategy.last_step + 1
        assert new.step == status.step.model_copy(update={"of": policy.strategy.last_step})


def carried_out(observed: Observed, decision: Decision) -> Observed:
    """What the next look sees of the same world, had all of it been done."""
    for action in decision.actions:
        rollout = observed.rollout
        match action:
            case WriteStatus(status):
                observed = replace(observed, rollout=rollout.model_copy(update={"status": status}))
            case Shift(weight, header, mark):
                assert observed.route is not None
                observed = replace(observed, route=replace(observed.route, weight=weight, header=header, mark=mark))
            case FreezePolicy():
                assert observed.resolved is not None
                observed = replace(observed, policy=observed.resolved.policy)
            case Prepare():
                observed = replace(observed, is_prepared=True, lost_subsets=frozenset())
            case CleanUp():
                observed = replace(observed, is_clean=True)
            case SetFinalizer(present):
                finalizers = (FINALIZER,) if present else ()
                observed = replace(observed, rollout=rollout.model_copy(update={"finalizers": finalizers}))
    return observed


@pytest.mark.parametrize("seconds", [-3600, -1])
def test_a_clock_that_goes_backwards_takes_no_time_from_a_step(world: Callable[..., Any], seconds: int) -> None:
    release = world().run_to_weight(10).run(5)

    release.now += timedelta(seconds=seconds)
    release.settle()
    assert release.route.weight == 10
    release.now -= timedelta(seconds=seconds)

    assert release.run(4).route.weight == 10
    assert release.run(1).route.weight == 25


def test_an_outage_under_a_clock_that_went_backwards_leaves_no_negative_time(world: Callable[..., Any]) -> None:
    release = world().run_to_weight(10)

    release.now -= timedelta(hours=1)
    release.source_problem = "Prometheus does not answer"
    release.settle()

    assert release.status.step_elapsed == timedelta(0)
