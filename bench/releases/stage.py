"""One release in a sandbox of its own, over a stable version that has run for a while.

It does what a person with kubectl does, and its figures come from the callers' record.
"""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.releases.cases import RATE, SCRAPE_S, SLOW_S, Case
from bench.releases.instants import instants, scrape_times
from canary.model.annotations import POLICY as POLICY_ANNOTATION
from canary.model.phase import Phase
from canary.model.rollout import Rollout
from canary.sandbox import example
from canary.sandbox.cluster import Sandbox, Settings
from canary.sandbox.demo.figures import figures
from canary.sandbox.demo.view import sentence
from canary.sandbox.load import Request, Tally
from canary.shipped import shipped

POLICY = Path(__file__).with_name("policy.yaml")
VERSION = "v2"
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


def run(case: Case, directory: Path, before_s: float, pause_s: float) -> Run:
    """Start a sandbox in `directory`, let stable run for `before_s` and then `pause_s` seconds, and release.

    A sandbox for each run: Prometheus scrapes at moments that stay the same for as long as it lives, and the controller
    looks at others, so that one lucky sandbox would make all of its runs lucky. Raises SandboxError when a part does
    not start, or the release has no end within RELEASE_S.
    """
    policies = directory / "policies"
    policies.mkdir(parents=True)
    shutil.copyfile(POLICY, policies / "bench.yaml")
    shutil.copy(shipped("policies") / "demo.yaml", policies)  # by which the sandbox's first version opts in
    settings = Settings(rate=RATE, scrape_interval_s=SCRAPE_S, policies=policies, record=True)
    with Sandbox(directory / "sandbox", settings).start() as sandbox:
        target = example.deployment_name(VERSION)
        sandbox.apply(example.deployment(VERSION, case.behaviour))
        time.sleep(before_s + pause_s)
        sandbox.wait_available(target)
        assert sandbox.callers.record is not None  # as the settings say
        load = Tally.follow(sandbox.callers.record)
        load.refresh()

        began = time.monotonic()
        sandbox.annotate(target, {POLICY_ANNOTATION: "bench"})
        rollout = sandbox.wait_rollout(target, _is_over, RELEASE_S)
        seconds = time.monotonic() - began
        time.sleep(_LAST_ANSWERS_S)
        return _figures(rollout, load.refresh(), scrape_times(sandbox.prometheus.url), seconds)


def _figures(rollout: Rollout, requests: list[Request], scrapes: list[float], seconds: float) -> Run:
    counted, status = figures(requests, VERSION, SLOW_S), rollout.status
    exposed = [r for r in requests if not r.is_probe and (r.version == VERSION or (not r.version and r.is_bad))]
    stable = [r for r in requests if r.version == example.STABLE]
    at = instants(rollout, exposed, _is_bad, scrapes, SETTLE_S)
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


def _is_over(rollout: Rollout) -> bool:
    return rollout.status.phase.is_terminal or rollout.status.phase is Phase.PAUSED


def _is_bad(request: Request) -> bool:
    return request.is_bad or request.latency > SLOW_S
