"""One size of the bench, from an empty folder to its figures: fill, idle, start, steady, failing releases, outage."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from bench.scale.probes import Probes, Reading, memory_mb, total
from bench.scale.shape import CANARY, STABLE, Service, failing
from bench.scale.stage import Stage, healthy, prometheus_of
from canary.errors import SandboxError
from canary.model.phase import Phase

TICK_S = 10.0
OUTAGE_S = 75.0
_BEGINS_WITHIN_S = 300.0
_EACH_BEGINS_WITHIN_S = 0.5
"""All begin in the same second, and each is some ten writes to an API server that shares two processors with them."""
_ENDS_WITHIN_S = 120.0
_RECOVERS_S = 35.0
_POLL_S = 1.0


@dataclass
class Findings:
    """What one size cost. Times in seconds, memory in MB, processor time in seconds."""

    count: int
    scrape_s: float
    hold_s: float
    core: int | None
    idle: tuple[Reading, Reading] | None = None
    begin: tuple[Reading, Reading] | None = None
    steady: tuple[Reading, Reading] | None = None
    begin_s: float = 0.0
    memory: dict[str, tuple[float, float]] = field(default_factory=dict)
    """By phase: resident memory then, and the most until then."""
    aborts: list[dict[str, float]] = field(default_factory=list)
    """Of each failing release, seconds: from its first bad sample to the route, and from the decision to it."""
    failing: int = 0
    healthy_before: int = 0
    outage_rolled_back: int = 0
    outage_judged_again: bool = False
    seconds: float = 0.0


def say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


@dataclass
class Bench:
    """The steps of one run, in order."""

    stage: Stage
    findings: Findings
    idle_s: float
    steady_s: float

    def run(self) -> Findings:
        began = time.monotonic()
        stage, found = self.stage, self.findings
        bad = failing(found.count)
        good = healthy(found.count, bad)
        say(f"filling the cluster with {found.count} services")
        stage.fill(STABLE, [*good, *bad])
        stage.fill(CANARY, good)
        self.probes = Probes(stage)
        time.sleep(5)
        say("idle")
        found.idle = self._over(self.idle_s)
        self._begin(good)
        self._steady(len(good))
        self._fail(bad)
        self._outage(good)
        found.seconds = time.monotonic() - began
        return found

    def _over(self, seconds: float) -> tuple[Reading, Reading]:
        before = self.probes.read()
        time.sleep(seconds)
        return before, self.probes.read()

    def _memory(self, phase: str) -> None:
        assert self.stage.controller is not None
        self.findings.memory[phase] = memory_mb(self.stage.controller.pid)

    def _begin(self, good: list[Service]) -> None:
        """Start the controller; until every release is under judgement."""
        say("starting the controller")
        before = self.probes.read()
        began = time.monotonic()
        options = ("--tile", f"{TICK_S:g}s", "--tick", f"{TICK_S:g}s", "--prometheus-timeout", "30s")
        self.stage.start_controller(options)
        self._memory("started")
        within_s = _BEGINS_WITHIN_S + _EACH_BEGINS_WITHIN_S * len(good)
        self._until(lambda: self._in_phase(Phase.PROGRESSING) >= len(good), within_s, "every release to begin")
        self._until(lambda: self._judged_in_a_tick() >= len(good), within_s, "every release to be judged")
        self.findings.begin_s = time.monotonic() - began
        self.findings.begin = before, self.probes.read()
        say(f"all are under judgement after {self.findings.begin_s:.0f} s")

    def _in_phase(self, phase: Phase) -> int:
        return int(total(self.probes.controller(), "canary_rollouts", phase=phase.value).get("", 0.0))

    def _stored(self) -> int:
        return int(total(self.probes.controller(), "canary_record_saves_total").get("", 0.0))

    def _judged_in_a_tick(self) -> int:
        """Tiles fed in the last tick's length."""
        before = total(self.probes.controller(), "canary_tiles_total").get("", 0.0)
        time.sleep(TICK_S)
        return int(total(self.probes.controller(), "canary_tiles_total").get("", 0.0) - before)

    def _until(self, holds: Callable[[], bool], seconds: float, what: str) -> None:
        deadline = time.monotonic() + seconds
        while not holds():
            controller = self.stage.controller
            if controller is not None and not controller.is_running:
                raise SandboxError(f"the controller ended: {controller.log_tail()}")
            if time.monotonic() > deadline:
                raise SandboxError(f"waited {seconds:g} s in vain for {what}")
            time.sleep(_POLL_S)

    def _steady(self, rollouts: int) -> None:
        within_s = _BEGINS_WITHIN_S + _EACH_BEGINS_WITHIN_S * rollouts
        self._until(
            lambda: self._stored() >= rollouts, within_s, "every record to be stored, the last that a start costs"
        )
        say("measuring")
        self.findings.steady = self._over(self.steady_s)
        self._memory("steady")

    def _fail(self, bad: list[Service]) -> None:
        """Releases of which every request fails, one after the other."""
        say(f"{len(bad)} failing releases")
        for service in bad:
            self.stage.fill(CANARY, [service])
            time.sleep(3.7)  # not in step with scrapes and ticks
        names = {service.name for service in bad}

        def are_back() -> bool:
            now = self.stage.rollouts()
            return all(now.get(name, {}).get("phase") == Phase.ROLLED_BACK for name in names)

        self._until(are_back, _ENDS_WITHIN_S, "every failing release to be rolled back")
        told = self.stage.told()
        decided = decisions(self.stage.log)
        self.findings.failing = len(bad)
        for service in bad:
            heard = told["heard"].get(f"{service.namespace}/{service.name}", [])
            on = next(index for index, (_, weight) in enumerate(heard) if weight)
            off = next(at for at, weight in heard[on:] if not weight)
            decision = next(at for name, at in decided if name.startswith(f"{service.namespace}/{service.name}-"))
            self.findings.aborts.append(
                {"sample": off - told["first_bad"][service.name], "decision": off - decision, "on": off - heard[on][0]}
            )

    def _outage(self, good: list[Service]) -> None:
        """Prometheus ends, and is back later with what it had."""
        names = {service.name for service in good}
        self.findings.healthy_before = sum(
            status.get("phase") in (Phase.PROGRESSING, Phase.PROMOTING, Phase.SUCCEEDED, Phase.PAUSED)
            for name, status in self.stage.rollouts().items()
            if name in names
        )
        say(f"Prometheus is away for {OUTAGE_S:g} s")
        prometheus = prometheus_of(self.stage)
        prometheus.stop()
        time.sleep(OUTAGE_S)
        prometheus.start()
        say("Prometheus is back")
        before = total(self.probes.controller(), "canary_tiles_total").get("", 0.0)
        time.sleep(_RECOVERS_S)
        after = total(self.probes.controller(), "canary_tiles_total").get("", 0.0)
        self.findings.outage_judged_again = after - before >= len(good)
        over = {Phase.ROLLING_BACK, Phase.ROLLED_BACK, Phase.ABORTED, Phase.FAILED}
        self.findings.outage_rolled_back = sum(
            status.get("phase") in over for name, status in self.stage.rollouts().items() if name in names
        )
        self._memory("end")


def decisions(log: Path) -> list[tuple[str, float]]:
    """(rollout, Unix seconds) of each decision to roll back, from the controller's log."""
    found = []
    for line in log.read_text(errors="replace").splitlines():
        if '"decision"' not in line or Phase.ROLLING_BACK.value not in line:
            continue
        entry: dict[str, Any] = json.loads(line)
        if entry.get("event") == "decision" and entry.get("phase") == Phase.ROLLING_BACK.value:
            found.append((str(entry["rollout"]), datetime.fromisoformat(entry["timestamp"]).timestamp()))
    return found
