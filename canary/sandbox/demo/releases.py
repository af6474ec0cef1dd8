"""What the demo releases, one after the other, and how each release must end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from canary.model.phase import Phase
from canary.sandbox import example

POLICY = "demo"
SLOW_S = 0.1
"""Seconds above which a response is slow: the limit on P99 of the policy `demo`."""


@dataclass(frozen=True, slots=True)
class Release:
    """One version, what is said of it, what it does to its callers, and the phase its rollout must end in."""

    version: str
    what: str
    behaviour: Mapping[str, str]
    expected: Phase
    off_within_s: float | None = None
    """Seconds from its first bad response within which its traffic must be off; None where none is promised."""

    @property
    def deployment(self) -> str:
        return example.deployment_name(self.version)


RELEASES = (
    Release("v2", "a good release", example.HEALTHY, Phase.SUCCEEDED),
    Release("v3", "5 % of requests fail", example.FAILS_SOMETIMES, Phase.ROLLED_BACK),
    Release("v4", "P99 three times as slow", example.SLOW, Phase.ROLLED_BACK),
    Release("v5", "every request fails", example.FAILS_ALWAYS, Phase.ROLLED_BACK, off_within_s=5.0),
)
