"""Questions that signals and effects ask of one observation. Each answer is a plain fact; no rule lives here."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property

from canary.engine.mark import Mark, read_mark
from canary.engine.observed import Observed
from canary.model.policy import FULL_WEIGHT, Policy, Strategy
from canary.model.rollout import Cause, Phase, RolloutStatus, Wish
from canary.model.verdict import Outcome, Reason

BLIND = frozenset({Reason.UNAVAILABLE, Reason.STALE})
"""Reasons that are about the metrics source, not about the release: clocks stop, deadlines too."""


@dataclass(frozen=True)
class Look:
    """One observation at one time (aware, UTC)."""

    observed: Observed
    now: datetime

    @property
    def status(self) -> RolloutStatus:
        return self.observed.rollout.status

    @property
    def phase(self) -> Phase:
        return self.status.phase

    @property
    def policy(self) -> Policy:
        """The frozen policy. Only asked for after `is_pinned`."""
        assert self.observed.policy is not None
        return self.observed.policy

    @property
    def strategy(self) -> Strategy:
        return self.policy.strategy

    @cached_property
    def is_pinned(self) -> bool:
        rollout = self.observed.rollout
        return self.observed.policy is not None and self.status.pinned_route(rollout.namespace) is not None

    @property
    def is_on_plan(self) -> bool:
        """The step and weight in status are ones that the frozen policy has."""
        step = self.status.step
        if step is None or step.index > self.strategy.last_step + 1:
            return False
        return self.desired == self.policy.weight_of(step.index) or self.has_everything

    @property
    def step(self) -> int:
        return self.status.step.index if self.status.step else 0

    @property
    def desired(self) -> int:
        """The canary's integer percent that this step wants."""
        return self.status.weight.desired

    @property
    def is_baking(self) -> bool:
        """The steps are over."""
        return self.step > self.strategy.last_step

    @property
    def has_everything(self) -> bool:
        """The bake, and nothing is kept on stable (any more): what is left is to end."""
        return self.is_baking and self.desired == FULL_WEIGHT

    @property
    def is_handed_over(self) -> bool:
        """What was kept on stable is the canary's since the bake was over: there is nothing left to be judged."""
        wish = self.observed.rollout.spec.promote
        by_a_person = wish is not None and wish.full is True
        return self.has_everything and bool(self.policy.analysis.keep_stable) and self.time_is_over and not by_a_person

    @property
    def is_active(self) -> bool:
        """Traffic is being divided, or waits for a person in between."""
        return self.is_pinned and self.phase.divides_traffic

    @cached_property
    def elapsed(self) -> timedelta:
        """Time spent in this step with the clock running; pauses and outages do not count."""
        running = self.now - self.status.resumed_at if self.status.resumed_at else timedelta(0)
        return self.status.step_elapsed + max(running, timedelta(0))

    @property
    def in_phase(self) -> timedelta:
        return self.now - (self.status.phase_started_at or self.now)

    @property
    def unhindered(self) -> timedelta:
        """Time in this phase since nothing outside stood in its way (Stalled): an outage uses up no deadline."""
        stalled = next((entry for entry in self.status.conditions if entry.type == "Stalled"), None)
        if stalled is None:
            return self.in_phase
        if stalled.status == "True":
            return timedelta(0)
        return min(self.in_phase, self.now - stalled.last_transition_time)

    @property
    def hold(self) -> timedelta:
        """How long the step lasts at least."""
        return self.strategy.hold_of(self.step)

    @property
    def longest_hold(self) -> timedelta:
        return self.strategy.longest_hold_of(self.step)

    @property
    def patience(self) -> timedelta:
        """How long the step may go on without a verdict that ends it."""
        return self.longest_hold + self.policy.analysis.max_wait

    @property
    def time_is_over(self) -> bool:
        return self.is_reached and self.elapsed >= self.hold

    @property
    def is_overdue(self) -> bool:
        """The step's longest hold and the policy's maxWait are over and there is still no verdict to go on."""
        verdict = self.observed.verdict
        undecided = verdict is not None and verdict.outcome is Outcome.HOLD and verdict.reason not in BLIND
        sees = not self.is_blind and not self.stable_is_gone
        return undecided and sees and self.time_is_over and self.elapsed >= self.patience

    @property
    def passes(self) -> bool:
        verdict = self.observed.verdict
        return verdict is not None and verdict.outcome is Outcome.PASS and not self.is_blind

    @property
    def blind_because(self) -> str:
        """Why nothing can be judged now, "" when it can."""
        observed = self.observed
        if observed.source_problem:
            return observed.source_problem
        if observed.verdict is not None and observed.verdict.reason in BLIND:
            return observed.verdict.sentence
        return ""

    @property
    def is_blind(self) -> bool:
        return bool(self.blind_because)

    @property
    def stable_is_gone(self) -> bool:
        return self.is_pinned and not self.observed.stable_revision

    @property
    def is_past_return(self) -> bool:
        """The clean-up after the promotion took stable off the route: a write that moves traffic is impossible now."""
        route = self.observed.route
        return route is not None and route.without_stable and self.is_active and self.has_everything

    @property
    def wants_header(self) -> bool:
        """Whether our header route belongs on the route in this step."""
        if self.phase is Phase.ROLLING_BACK:
            return False  # decided without the policy, which may be what is missing
        match = self.strategy.match
        if match is None:
            return False
        return self.step == 0 or (match.keep and not self.is_baking)

    @property
    def route_is_as_desired(self) -> bool:
        route = self.observed.route
        return route is not None and route.says(self.status.weight.desired) and route.header == self.wants_header

    @property
    def cause(self) -> Cause:
        """Why a rollout goes back. One that does not know any more cannot say that its release was bad."""
        return self.status.cause.reason if self.status.cause else Cause.BROKEN

    @property
    def lost_or_found(self) -> bool:
        """The route became unreadable, or readable again, since the last status was written."""
        return (self.observed.route is None) != (self.status.weight.configured is None)

    @property
    def is_reached(self) -> bool:
        """The step's weight has been on the route."""
        changes = self.status.weight_changes
        return bool(changes) and changes[-1].reached is not None

    @cached_property
    def mark(self) -> Mark | None:
        """The note of a rollback of this very rollout, when it is on the route."""
        route = self.observed.route
        mark = read_mark(route.mark) if route is not None and route.mark else None
        return mark if mark is not None and mark.rollout == self.observed.rollout.name else None

    @property
    def is_past_this_pause(self) -> bool:
        """An operator wished to go past exactly this step."""
        wish = self.observed.rollout.spec.promote
        return wish is not None and (wish.full is True or wish.step == self.step)


def said(what: str, wish: Wish) -> str:
    """What somebody wished, who says so, and why."""
    return what + (f" by {wish.actor}" if wish.actor else "") + (f": {wish.reason}" if wish.reason else "")
