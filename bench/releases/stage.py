"""One case in a sandbox of its own: a fresh version for each run, over a stable one that has run for a while.

A run does what a person with kubectl does, and its figures come from the callers' record.
"""

from __future__ import annotations

import random
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.releases.cases import RATE, SCRAPE_S, SLOW_S, Case
from bench.releases.instants import instants, scrape_times
from canary.cluster.kinds import CANARYROLLOUT
from canary.model.annotations import POLICY as POLICY_ANNOTATION
from canary.model.phase import Phase
from canary.model.rollout import Rollout
from canary.sandbox import example
from canary.sandbox.cluster import Sandbox, Settings
from canary.sandbox.demo.figures import figures
from canary.sandbox.demo.view import sentence
from canary.sandbox.load import FollowedTally, Request, Tally
from canary.shipped import shipped

POLICY = Path(__file__).with_name("policy.yaml")
SETTLE_S = 2.0
"""The controller's own default for scrapes that take less than a second."""

RELEASE_S = 900.0
_LAST_ANSWERS_S = 1.5
"""After the end of a release, for requests under way and for the record to be written."""


@dataclass(frozen=True, slots=True)
class Run:
    """One release that is over, or was given up: how it stood then, and what it cost. Goes to JSON and back."""

    rollout: str
    outcome: str
    seconds: float
    """From the annotation to its end."""
    seconds_to_off: float | None
    """From the first bad response to the end of the canary's last request; None for a release that kept its traffic."""
    errors: int
    """Seen by callers, whoever answered."""
    exposed: int
    """Requests that the route gave to the canary."""
    requests: int
    lost: int
    weights: list[int]
    """Those that were on the route, in percent."""
    tile_s: float | None
    stable_slow_share: float
    """Of stable's requests meanwhile, 0-1, those slower than SLOW_S: how much the machine disturbed the run."""
    from_first_bad: dict[str, Any] | None
    """See instants.py; None for a release that did not go back."""
    sentence: str


class Stage:
    """A started sandbox for the runs of one case; `stable` has carried its traffic since `stable_since`."""

    def __init__(self, case: Case, sandbox: Sandbox, before_s: float, seed: int) -> None:
        assert sandbox.callers.record is not None, "without a record there are no figures"
        self._case, self._sandbox, self._before_s = case, sandbox, before_s
        self._random = random.Random(f"{seed} {case.name}")
        self._load: FollowedTally = Tally.follow(sandbox.callers.record)
        self._stable, self._stable_since = example.STABLE, time.monotonic()

    def run(self, number: int) -> Run:
        """Release the next version and wait for its end. Raises SandboxError when there is none within RELEASE_S."""
        version = f"v{number + 1}"
        target = example.deployment_name(version)
        self._sandbox.apply(example.deployment(version, self._case.behaviour))
        self._sandbox.wait_available(target)
        # The controller begins a release at a tick of its own clock, and Prometheus scrapes by another: started anew at
        # any moment of a scrape interval, no run is like the one before by the luck of the first.
        self._sandbox.controller.stop()
        wait_s = self._before_s - (time.monotonic() - self._stable_since)
        time.sleep(max(wait_s, 0.0) + self._random.uniform(0.0, 2 * SCRAPE_S))
        self._sandbox.controller.start()
        time.sleep(2 * SCRAPE_S)

        self._load.refresh()
        began = time.monotonic()
        self._sandbox.annotate(target, {POLICY_ANNOTATION: "bench"})
        rollout = self._sandbox.wait_rollout(target, _is_over, RELEASE_S)
        seconds = time.monotonic() - began
        time.sleep(_LAST_ANSWERS_S)
        run = self._figures(version, rollout, seconds)
        self._put_away(version, rollout)
        return run

    def _figures(self, version: str, rollout: Rollout, seconds: float) -> Run:
        requests = self._load.refresh()
        counted = figures(requests, version, SLOW_S)
        exposed = [r for r in requests if not r.is_probe and (r.version == version or (not r.version and r.is_bad))]
        stable = [r for r in requests if r.version == self._stable]
        at = instants(rollout, exposed, _is_bad, scrape_times(self._sandbox.prometheus.url), SETTLE_S)
        status = rollout.status
        return Run(
            rollout=rollout.name,
            outcome=status.phase.value,
            seconds=round(seconds, 1),
            seconds_to_off=None if status.phase is Phase.SUCCEEDED else counted.seconds_to_off,
            errors=counted.errors,
            exposed=counted.exposed,
            requests=counted.requests,
            lost=counted.lost,
            weights=[change.weight for change in status.weight_changes if change.weight and change.reached],
            tile_s=status.tile.total_seconds() if status.tile else None,
            stable_slow_share=sum(r.latency > SLOW_S for r in stable) / len(stable) if stable else 0.0,
            from_first_bad=at.document() if at else None,
            sentence=sentence(status),
        )

    def _put_away(self, version: str, rollout: Rollout) -> None:
        if rollout.status.phase is Phase.SUCCEEDED:
            self._stable, self._stable_since = version, time.monotonic()
            return
        if not rollout.status.phase.is_terminal:
            wish = {"spec": {"abort": {"reason": "the run is over", "actor": "bench"}}}
            self._sandbox.gateway.patch(CANARYROLLOUT, rollout.namespace, rollout.name, wish, patch_type="merge")
            self._sandbox.wait_rollout(rollout.spec.target, lambda one: one.status.phase.is_terminal, RELEASE_S)
        self._sandbox.delete_deployment(rollout.spec.target)


def _is_over(rollout: Rollout) -> bool:
    return rollout.status.phase.is_terminal or rollout.status.phase is Phase.PAUSED


def _is_bad(request: Request) -> bool:
    return request.is_bad or request.latency > SLOW_S


@contextmanager
def stage(case: Case, directory: Path, before_s: float, seed: int) -> Iterator[Stage]:
    """A stage in a folder of its own, whose sandbox ends with the block."""
    policies = directory / "policies"
    policies.mkdir(parents=True)
    shutil.copyfile(POLICY, policies / "bench.yaml")
    shutil.copy(shipped("policies") / "demo.yaml", policies)  # by which the sandbox's first version opts in
    settings = Settings(rate=RATE, scrape_interval_s=SCRAPE_S, policies=policies, record=True)
    with Sandbox(directory / "sandbox", settings).start() as sandbox:
        yield Stage(case, sandbox, before_s, seed)
