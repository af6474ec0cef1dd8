"""What is going on in the demo at one moment, as plain facts: from it the screen is drawn, live or as lines.

Texts from the cluster are made plain here (security.md 10).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from canary.model.phase import Phase
from canary.model.rollout import RolloutStatus
from canary.model.text import plain
from canary.sandbox.demo.releases import Release
from canary.sandbox.load import Request, VersionTally

RECENT_S = 2.0
"""Rates are means over so many seconds."""

_SENTENCE_LIMIT = 500


@dataclass(slots=True)
class Standing:
    """How one release stands. An empty phase: its turn has not come."""

    release: Release
    phase: str = ""
    step: str = ""
    weight: int = 0
    """Percent of the traffic on the route."""
    sentence: str = ""
    seconds: float = 0.0
    """Since it was annotated, until its end."""

    def follow(self, status: RolloutStatus) -> None:
        """Take over what the rollout's status says."""
        self.phase = status.phase.value
        self.step = step_text(status)
        self.weight = status.weight.configured or 0
        self.sentence = sentence(status)


@dataclass(frozen=True, slots=True)
class Traffic:
    """What one version answered lately. Rates are per second."""

    version: str
    role: str
    requests: float
    errors: float
    p99_ms: float


@dataclass(slots=True)
class View:
    """Everything the screen shows."""

    rate: float
    """Requests per second that the callers send."""
    standings: list[Standing]
    kubeconfig: str
    seconds: float = 0.0
    lost: int = 0
    stable: str = ""
    canary: str = ""
    traffic: Sequence[Traffic] = field(default_factory=tuple)


class Recent:
    """The requests of the last seconds, for rates."""

    def __init__(self) -> None:
        self._requests: deque[Request] = deque()

    def add(self, fresh: Iterable[Request], now: float) -> None:
        """`now` in epoch seconds; what ended earlier than RECENT_S ago is dropped."""
        self._requests.extend(request for request in fresh if not request.is_probe)
        while self._requests and self._requests[0].end < now - RECENT_S:
            self._requests.popleft()

    def traffic(self, stable: str, canary: str) -> list[Traffic]:
        """Stable, canary, and what Envoy answered itself if it did."""
        tallies = {stable: VersionTally(), canary: VersionTally()}
        for request in self._requests:
            tallies.setdefault(request.version, VersionTally()).add(request)
        roles = {stable: "stable", canary: "canary", "": "no pod"}
        return [
            Traffic(
                version,
                roles.get(version, ""),
                tally.requests / RECENT_S,
                tally.errors / RECENT_S,
                tally.percentile(0.99) * 1e3,
            )
            for version, tally in tallies.items()
            if version or tally.requests
        ]


def step_text(status: RolloutStatus) -> str:
    """ "header", "2/5", "bake"; empty before the first step."""
    if status.step is None:
        return ""
    index, of = status.step.index, status.step.of
    return "header" if index == 0 else "bake" if index > of else f"{index}/{of}"


def sentence(status: RolloutStatus) -> str:
    """Why the rollout is where it is: what ended it, else the latest verdict, else what it says of itself."""
    if status.cause is not None and status.phase is not Phase.SUCCEEDED:
        return plain(status.cause.sentence, _SENTENCE_LIMIT)
    return plain(status.verdict.sentence if status.verdict else status.message, _SENTENCE_LIMIT)
