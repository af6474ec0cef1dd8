"""The policies that the rollouts are judged by, each with the name that the tables use.

The target rows ask about evidence relative to stable, so their policy sets no absolute limit, which would decide some
of them by itself; `standard` has the limits that canary ships.
"""

from __future__ import annotations

from typing import Any

from bench.verdict.traffic import Plan
from canary.model.policy import Policy

MAX_WAIT_S = 600.0


def policy(name: str, plan: Plan) -> Policy:
    """The policy called `name`, walking `plan`. Raises KeyError for an unknown name."""
    return Policy.model_validate(
        {
            "name": name,
            "strategy": {"weights": list(plan.weights), "hold": f"{plan.hold_s:g}s"},
            "analysis": {"maxWait": f"{MAX_WAIT_S:g}s"} | _ANALYSES[name],
        }
    )


_LIMITS = {"errorRate": {"max": "1%"}, "p99": {"max": "500ms"}}
_ANALYSES: dict[str, dict[str, Any]] = {
    "relative": {"warmup": "0s"},
    "relative-warm": {"warmup": "30s"},
    "standard": {"warmup": "0s"} | _LIMITS,
    "frozen-bound": {"warmup": "0s", "frozenBound": True},
    "harm-budget": {"warmup": "0s", "harmBudget": {"errors": 50}},
    "never-rolls-back": {"warmup": "0s", "errorRate": {"vsStable": {"ratio": 100, "slack": "50%"}}},
}

MEANINGS = {
    "relative": "default tolerance against stable (errors 1.2x + 0.05 %, latency 1.25x + 0.2 %), no absolute limit, "
    "warmup 0s, so that every request counts as evidence",
    "relative-warm": "the same with the default warmup of 30s",
    "standard": "as shipped: default tolerance, errorRate max 1 %, p99 max 500ms; warmup 0s",
    "frozen-bound": "relative, and at 100 % errors are compared with what stable was (frozenBound)",
    "harm-budget": "relative, and harmBudget: {errors: 50}",
    "never-rolls-back": "a tolerance of 100x + 50 %, so that only the pass decides",
}
