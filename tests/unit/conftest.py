"""A service with one rollout, in memory: what the engine asks for is carried out at once, under a clock of our own.

It stands in for the daemon and the cluster in the engine's tests: a status and a route are all that outlives a crash.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from canary.engine.actions import Announce, CleanUp, Decision, FreezePolicy, Prepare, SetFinalizer, Shift, WriteStatus
from canary.engine.observed import Finding, Observed, Pods, Resolved, evidence_every
from canary.engine.step import step
from canary.model.policy import Policy
from canary.model.rollout import (
    FINALIZER,
    ArmStatus,
    Phase,
    PromoteWish,
    Rollout,
    RolloutSpec,
    RolloutStatus,
    RouteStatus,
    Wish,
)
from canary.model.route import RouteState
from canary.model.verdict import Outcome, Reason, Verdict

START = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
DIVIDED = frozenset({Phase.PROGRESSING, Phase.PAUSED, Phase.PROMOTING})
CLEANED = frozenset({Phase.PAUSED, Phase.PROMOTING, Phase.ROLLING_BACK})
PASS = Verdict(Outcome.PASS, Reason.HEALTHY, "no worse than its limits.")


@dataclass
class World:
    """One rollout of payment-v2 (revision v2hash) against payment-v1 (v1hash), and everything around it."""

    class Killed(Exception):
        """The controller was killed between two actions."""

    policy: Policy
    now: datetime = START
    spec: RolloutSpec = field(default_factory=lambda: RolloutSpec(target="payment-v2", policy_name="quick"))
    status: RolloutStatus = field(default_factory=RolloutStatus)
    deleting: bool = False
    finalizer: bool = False
    route: RouteState | None = field(default_factory=lambda: RouteState(0, header=False, resource_version="1"))
    route_problem: Finding | None = None
    has_subset: bool = False
    stable_is_ours: bool = False
    """An earlier rollout added stable to the route, so that this one's promotion takes it out again."""
    finding: Finding | None = None
    pods: Pods = field(default_factory=lambda: Pods(2, 2))
    under_judgement: int = 1
    target_revision: str = "v2hash"
    stable_revision: str = "v1hash"
    verdict: Verdict | None = PASS
    source_problem: str = ""
    superseded_by: str = ""
    manager: str = ""
    lost_subsets: frozenset[str] = frozenset()
    frozen: Policy | None = None
    observed_weight: float | None = None
    done: list[Any] = field(default_factory=list)
    walked: list[tuple[int, bool]] = field(default_factory=list)
    phases: list[Phase] = field(default_factory=lambda: [Phase.PENDING])
    events: list[Announce] = field(default_factory=list)
    dies_before: int | None = None
    """The number of the action (from 0) before which the controller is killed once."""

    @property
    def phase(self) -> Phase:
        return self.status.phase

    @property
    def is_clean(self) -> bool:
        """As the daemon asks it: nothing added for the canary is left, but what a promoted canary needs."""
        if self.phase not in CLEANED or self.route is None:
            return True
        if self.phase is Phase.ROLLING_BACK:
            return not (self.has_subset or self.route.mark)
        return not self.stable_is_ours or self.route.weight < 100 or self.route.without_stable

    def rollout(self) -> Rollout:
        return Rollout(
            namespace="shop",
            name="payment-v2-v2hash-1",
            uid="u-1",
            resource_version="1",
            generation=1,
            created=START,
            deleting=self.deleting,
            finalizers=(FINALIZER,) if self.finalizer else (),
            spec=self.spec,
            status=self.status,
        )

    def observe(self) -> Observed:
        if self.phase is Phase.PENDING:
            resolved = None if self.finding else self.resolved()
            return Observed(
                self.rollout(), resolved=resolved, finding=self.finding, target_revision=self.target_revision,
                superseded_by=self.superseded_by,
            )  # fmt: skip
        if self.phase.is_terminal:
            return Observed(self.rollout())
        return Observed(
            self.rollout(),
            policy=self.frozen,
            finding=self.finding if self.phase is Phase.CHECKING else None,
            route=self.route,
            route_problem=self.route_problem,
            target_revision=self.target_revision,
            stable_revision=self.stable_revision,
            pods=self.pods if self.phase is Phase.CHECKING else Pods(),
            is_prepared=self.has_subset if self.phase is Phase.CHECKING else True,
            is_clean=self.is_clean,
            verdict=self.verdict if self.phase in DIVIDED else None,
            source_problem=self.source_problem,
            observed_weight=self.observed_weight,
            superseded_by=self.superseded_by,
            manager=self.manager,
            lost_subsets=self.lost_subsets,
            tile=timedelta(seconds=5),
            evidence_every=evidence_every(self.under_judgement, self.rollout().uid),
        )

    def resolved(self) -> Resolved:
        return Resolved(
            service="payment",
            route=RouteStatus(virtual_service="payment", http="primary", host="payment", port=8080),
            stable=ArmStatus(deployment="payment-v1", subset="v1", label="version", value="v1", revision="v1hash"),
            canary=ArmStatus(deployment="payment-v2", subset="v2", label="version", value="v2", revision="v2hash"),
            policy=self.policy,
        )

    def look(self) -> Decision:
        """One look: decide, and carry out in order. Raises Killed before the action it was told to die at."""
        decision = step(self.observe(), self.now)
        for action in decision.actions:
            if self.dies_before is not None and len(self.done) == self.dies_before:
                self.dies_before = None
                raise self.Killed
            self._carry_out(action)
            self.done.append(action)
        return decision

    def _carry_out(self, action: Any) -> None:
        match action:
            case WriteStatus(status):
                self.status = RolloutStatus.model_validate(status.document())
                assert self.status == status, "a status must read back as it was written"
                if self.phase is not self.phases[-1]:
                    self.phases.append(self.phase)
            case Shift(weight, header, mark):
                assert self.route is not None, "the route is gone"
                assert not self.route.without_stable, "there is nothing to go back to"
                self.route = replace(self.route, weight=weight, header=header, mark=mark)
                if not self.walked or self.walked[-1] != (weight, header):
                    self.walked.append((weight, header))
            case FreezePolicy():
                self.frozen = self.policy
            case Prepare():
                self.has_subset, self.lost_subsets = True, frozenset()
            case CleanUp(promoted):
                assert self.route is not None, "the route is gone"
                self.has_subset = promoted
                is_out = promoted and self.stable_is_ours and self.route.weight == 100
                self.route = replace(self.route, mark="", without_stable=is_out)
            case SetFinalizer(present):
                self.finalizer = present
            case Announce():
                self.events.append(action)

    def settle(self) -> Decision:
        """Look until a look does nothing but perhaps refresh its evidence. Survives being killed."""
        for _ in range(30):
            try:
                decision = self.look()
            except self.Killed:
                continue
            if all(isinstance(action, WriteStatus) and action.evidence_only for action in decision.actions):
                return decision
        raise AssertionError(f"does not settle: {self.phase}, {self.done[-6:]}")

    def run(self, seconds: float) -> World:
        """Let time pass, looking every second."""
        self.settle()
        for _ in range(round(seconds)):
            self.now += timedelta(seconds=1)
            self.settle()
        return self

    def run_to(self, goal: Callable[[World], bool] | Phase, within: float = 600) -> World:
        """Let time pass until the phase, or the condition, is there. Fails after `within` seconds."""
        reached = (lambda world: world.phase is goal) if isinstance(goal, Phase) else goal
        self.settle()
        for _ in range(round(within)):
            if reached(self):
                return self
            self.now += timedelta(seconds=1)
            self.settle()
        raise AssertionError(f"not there within {within} s: {self.phase} at {self.walked}: {self.status.message}")

    def run_to_weight(self, weight: int) -> World:
        return self.run_to(lambda world: world.route is not None and world.route.weight == weight and world.clock_runs)

    @property
    def clock_runs(self) -> bool:
        return self.status.resumed_at is not None

    @property
    def stalled(self) -> str:
        """The reason of the Stalled condition, "" when it is not true."""
        found = [entry for entry in self.status.conditions if entry.type == "Stalled"]
        return found[0].reason if found and found[0].status == "True" else ""

    def wish(self, **wishes: Wish | PromoteWish | None) -> None:
        self.spec = self.spec.model_copy(update=wishes)

    def say(self, outcome: Outcome, reason: Reason, sentence: str = "because.") -> None:
        self.verdict = Verdict(outcome, reason, sentence)

    def move_route(self, weight: int, *, header: bool = False) -> None:
        """Somebody else writes the route."""
        assert self.route is not None
        self.route = replace(self.route, weight=weight, header=header)

    def lose_route(self) -> RouteState:
        assert self.route is not None
        lost, self.route = self.route, None
        self.route_problem = Finding("RouteGone", "VirtualService shop/payment is gone")
        return lost

    def restore_route(self, route: RouteState) -> None:
        self.route, self.route_problem = route, None


@pytest.fixture(scope="session")
def quick_policy() -> Callable[..., Policy]:
    """A policy with short times: keyword arguments go to `strategy`, those of `analysis=` and `top=` where they say."""

    def make(*, analysis: dict[str, Any] | None = None, top: dict[str, Any] | None = None, **strategy: Any) -> Policy:
        steps = {"weights": [10, 25, 50, 100], "hold": "10s", "bake": "20s", "progressDeadline": "1m", **strategy}
        judged = {"warmup": "0s", "maxWait": "30s", **(analysis or {})}
        return Policy.model_validate({"name": "quick", "strategy": steps, "analysis": judged, **(top or {})})

    return make


@pytest.fixture(scope="session")
def header_match() -> dict[str, Any]:
    return {"headers": {"x-debug-user": {"exact": "true"}}, "hold": "15s"}


@pytest.fixture(scope="session")
def world(quick_policy: Callable[..., Policy]) -> Callable[..., World]:
    """Makes a `World`; the keyword arguments are those of the policy."""

    def make(**policy: Any) -> World:
        return World(quick_policy(**policy))

    return make
