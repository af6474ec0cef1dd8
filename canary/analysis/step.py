"""What came in one step so far, and what that alone keeps a step from: no traffic, a warm-up, too few requests."""

from __future__ import annotations

from dataclasses import dataclass, field

from canary.analysis import sentence
from canary.analysis.witness import FULL_WEIGHT, HEADER_STEP, Finding
from canary.model.policy import Policy
from canary.model.verdict import ArmCounts, Reason, Window

ROUTING_FAULT_AT = 50
"""Canary requests expected and not seen: by chance e^-50."""


@dataclass(slots=True)
class StepSoFar:
    """Sums over the windows of one step; `canary` and `stable` leave out the warm-up and incidents of the service."""

    step: int
    weight: int
    canary: ArmCounts = field(default_factory=ArmCounts)
    stable: ArmCounts = field(default_factory=ArmCounts)
    warming: ArmCounts = field(default_factory=ArmCounts)
    stable_requests: int = 0
    nobody_came: bool = True
    """Not one canary request, in whatever window."""
    expected_hundredths: int = 0
    """Canary requests that the weight promised since the last one that came, times 100 (kept whole)."""

    def add(self, window: Window, *, in_incident: bool) -> None:
        self.weight = window.weight
        self.stable_requests += window.stable.requests
        if not window.warm:
            self.warming += window.canary
        elif not in_incident:
            self.canary += window.canary
            self.stable += window.stable
        if window.canary.requests:
            self.expected_hundredths = 0
            self.nobody_came = False
        else:
            self.expected_hundredths += window.weight * window.stable.requests

    def traffic(self, policy: Policy, last_minute: tuple[int, ...], span_s: float) -> Finding | None:
        """What is wrong with the traffic itself; `last_minute` are both versions' requests of the last `span_s` s."""
        if self.step == HEADER_STEP:
            need = self.needed(policy)
            if need and self.nobody_came:
                return Finding(Reason.NO_TRAFFIC, sentence.no_header_traffic(need, self.stable))
            return None
        if not any(last_minute):
            return Finding(Reason.NO_TRAFFIC, sentence.no_traffic(span_s))
        if self.expected_hundredths >= 100 * ROUTING_FAULT_AT:
            text = sentence.no_canary_traffic(self.expected_hundredths / 100, self.weight, self.stable_requests)
            return Finding(Reason.NO_CANARY_TRAFFIC, text)
        return None

    def warm_up(self, policy: Policy, cold_since: float | None, now: float) -> Finding | None:
        """`cold_since` is when the warm-up's first window began (Unix seconds), None when it is over."""
        if cold_since is None or (self.step == HEADER_STEP and self.nobody_came):
            return None
        left_s = cold_since + policy.analysis.warmup.total_seconds() - now
        return Finding(Reason.WARMING_UP, sentence.warming_up(left_s, self.warming))

    def too_few(self, policy: Policy, *, timed: bool) -> Finding | None:
        """Fewer requests than the policy asks for; `timed` says whether those with a latency count too."""
        need = self.needed(policy)
        rule = "match.minRequests" if self.step == HEADER_STEP else "minRequests"
        counted = [(self.canary.requests, "canary requests")]
        if timed:
            counted.append((self.canary.timed, "timed canary requests"))
        for have, what in counted:
            if have < need:
                text = sentence.too_few(f"{have:,} of the {need:,} {what}", rule, self.canary, self.stable)
                return Finding(Reason.INCONCLUSIVE, text)
        return None

    def needed(self, policy: Policy) -> int:
        """Canary requests without which this step does not pass."""
        if self.step == HEADER_STEP:
            return policy.strategy.match.min_requests if policy.strategy.match else 0
        return 1 if self.weight == FULL_WEIGHT else policy.analysis.min_requests
