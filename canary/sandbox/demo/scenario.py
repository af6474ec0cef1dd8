"""Releases one version after the other, each by annotating its Deployment, and writes down what became of it.

It does what a person with kubectl can do, and looks only at what such a person sees: objects, and callers' requests.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import groupby

from canary.errors import SandboxError
from canary.model.annotations import POLICY as POLICY_ANNOTATION
from canary.model.phase import Phase
from canary.model.rollout import Rollout
from canary.sandbox import example
from canary.sandbox.cluster import Sandbox
from canary.sandbox.demo.figures import Figures, figures
from canary.sandbox.demo.releases import POLICY, RELEASES, SLOW_S, Release
from canary.sandbox.demo.view import Recent, Standing, View, sentence
from canary.sandbox.load import Request, Tally
from canary.sandbox.parts import last_words

RELEASE_S = 120.0
"""A release that has not ended by then is given up. The good one takes 40 s, a loaded machine three times as long."""

_PODS_S = 60.0

_LOOK_S = 0.2
_LAST_ANSWERS_S = 1.0
"""After the end of a release, for requests under way and for the record to be written."""


@dataclass(frozen=True, slots=True)
class Ended:
    """A release that is over, or was given up: how it stood, and what it cost. `rollout` None: none came to be."""

    release: Release
    rollout: Rollout | None
    figures: Figures
    seconds: float
    """From the annotation to the end."""

    @property
    def outcome(self) -> str:
        return self.rollout.status.phase.value if self.rollout else "no rollout"

    @property
    def is_as_expected(self) -> bool:
        return self.outcome == self.release.expected.value

    @property
    def weights(self) -> list[int]:
        """The weights that were on the route, in percent and in order; the bake stays at the last one."""
        changes = self.rollout.status.weight_changes if self.rollout else ()
        return [
            weight for weight, _ in groupby(change.weight for change in changes if change.weight and change.reached)
        ]

    @property
    def seconds_to_detect(self) -> float | None:
        """From the first bad response to the decision to go back."""
        history = self.rollout.status.history if self.rollout else ()
        decided = [entry.at.timestamp() for entry in history if entry.phase is Phase.ROLLING_BACK]
        return self.figures.seconds_to_detect(decided[0] if decided else None)

    @property
    def sentence(self) -> str:
        return sentence(self.rollout.status) if self.rollout else ""


@dataclass(slots=True)
class Result:
    """All of the demo. Releases that were not tried are not in it."""

    rate: float
    ended: list[Ended] = field(default_factory=list)
    debug_request: Request | None = None
    """The request with the debug header that reached the first canary; None when none did."""
    requests: int = 0
    lost: int = 0
    seconds: float = 0.0


class Scenario:
    """One run over a started sandbox that records its callers' requests; `show` is called several times a second."""

    def __init__(self, sandbox: Sandbox, show: Callable[[View], None]) -> None:
        assert sandbox.callers.record is not None, "without a record there are no figures"
        self._sandbox, self._show = sandbox, show
        self._began = time.monotonic()
        self._tally = Tally.follow(sandbox.callers.record)
        self._recent = Recent()
        self._window: list[Request] = []
        self._stable = example.STABLE
        self._is_over = False
        self._view = View(
            sandbox.settings.rate,
            [Standing(release) for release in RELEASES],
            str(sandbox.kubeconfig),
            stable=self._stable,
        )
        self.result = Result(sandbox.settings.rate)

    def run(self) -> Result:
        """Release everything; stops early when a release does not end as it must, for the next would mean nothing.

        Raises SandboxError when a part of the sandbox dies.
        """
        for standing in self._view.standings:
            ended = self._release(standing)
            self.result.ended.append(ended)
            if not ended.is_as_expected:
                break
            if ended.rollout and ended.rollout.status.phase is Phase.SUCCEEDED:
                self._stable = ended.release.version
            else:
                self._sandbox.delete_deployment(ended.release.deployment)
        self._is_over = True
        self._sandbox.callers.stop()
        self._look()
        self.result.requests, self.result.lost = self._tally.requests, self._tally.lost
        self.result.seconds = time.monotonic() - self._began
        return self.result

    def _release(self, standing: Standing) -> Ended:
        release = standing.release
        standing.phase, self._view.stable, self._view.canary = "Pods", self._stable, release.version
        self._sandbox.apply(example.deployment(release.version, release.behaviour))
        self._wait(lambda: self._sandbox.is_available(release.deployment), _PODS_S)

        self._window = []
        began = time.monotonic()
        self._sandbox.annotate(release.deployment, {POLICY_ANNOTATION: POLICY})
        rollout: Rollout | None = None

        def has_ended() -> bool:
            nonlocal rollout
            rollout = next(reversed(self._sandbox.rollouts(release.deployment)), None)
            standing.seconds = time.monotonic() - began
            if rollout is None:
                return False
            standing.follow(rollout.status)
            self._try_debug_header(release, rollout)
            return rollout.status.phase.is_terminal

        self._wait(has_ended, RELEASE_S)
        self._wait(lambda: False, _LAST_ANSWERS_S)
        return Ended(release, rollout, figures(self._window, release.version, SLOW_S), standing.seconds)

    def _try_debug_header(self, release: Release, rollout: Rollout) -> None:
        """In the first release's header stage, as a developer would: until a request with the header reaches it."""
        step = rollout.status.step
        if release is not RELEASES[0] or self.result.debug_request or step is None or step.index:
            return
        request = self._sandbox.callers.debug_request()
        if request.version == release.version:
            self.result.debug_request = request

    def _wait(self, is_over: Callable[[], bool], at_most_s: float) -> None:
        """Show what goes on until it is over, but never for longer."""
        deadline = time.monotonic() + at_most_s
        while not is_over() and time.monotonic() < deadline:
            self._look()
            time.sleep(_LOOK_S)
        self._look()

    def _look(self) -> None:
        for name, part in (self._sandbox.vital | self._sandbox.replaceable).items():
            if not part.is_running and not self._is_over:
                raise SandboxError(last_words(name, part))
        fresh = self._tally.refresh()
        self._window += fresh
        self._recent.add(fresh, time.time())
        view = self._view
        view.seconds, view.lost = time.monotonic() - self._began, self._tally.lost
        view.traffic = self._recent.traffic(view.stable, view.canary)
        self._show(view)
