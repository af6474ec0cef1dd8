"""Waiting for the end of one rollout: the live view on stderr, the exit code that tells how it ended.

Shared by `canary wait` and `canary start --wait`. Reads only.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from canary.cli import table
from canary.cli.attempt import Attempt
from canary.cli.durations import exact
from canary.cli.exits import ENDED, ExitCode
from canary.cli.follow import Follow
from canary.cli.heartbeat import no_controller
from canary.cli.reach import Cluster
from canary.cli.terminal import complain, console, safe
from canary.model.phase import Phase

HEARTBEAT_SECONDS = 5.0
"""How often the controller's Lease is looked at while waiting."""

DEAD_SECONDS = 15.0
"""A controller is missed this long before waiting ends: a replacement gives the Lease up before the next takes it."""


class Until(StrEnum):
    PROMOTED = "promoted"
    FINISHED = "finished"


@dataclass(frozen=True, slots=True)
class Waited:
    """How the waiting ended: the rollout as last seen, the code, and a sentence where it is not the rollout's own."""

    attempt: Attempt
    code: ExitCode
    sentence: str = ""


def wait_for(
    cluster: Cluster,
    attempt: Attempt,
    *,
    until: Until,
    timeout: timedelta | None,
    through_pauses: bool,
    controller_namespace: str,
) -> Waited:
    """Wait until `attempt` has ended, waits for a person, or nobody drives it any more.

    `finished` makes every end exit 0; `promoted` makes each its own code. None as timeout waits for ever.
    """
    begun = time.monotonic()
    trouble = "" if attempt.is_terminal else no_controller(cluster.gateway, controller_namespace)
    if trouble:
        return Waited(attempt, ExitCode.NO_CONTROLLER, trouble)
    pulse = _Pulse(cluster, controller_namespace)
    with Follow(cluster.gateway, attempt.namespace) as follow, _Progress() as progress:
        for current in _versions(follow, attempt):
            if current is None:
                sentence = f"rollout {attempt.name} in namespace {attempt.namespace} was deleted"
                return Waited(attempt, ExitCode.NOT_FOUND, sentence)
            attempt = current
            pulse.feel()
            progress.show(attempt, follow.trouble or pulse.trouble)
            ended = _ended(attempt, until, through_pauses)
            if ended is not None:
                return Waited(attempt, ended)
            if timeout is not None and time.monotonic() - begun >= timeout.total_seconds():
                return Waited(attempt, ExitCode.TIMEOUT, f"{attempt.phase} after {exact(timeout)}")
            if pulse.is_dead:
                return Waited(attempt, ExitCode.NO_CONTROLLER, pulse.trouble)
    raise AssertionError("unreachable: snapshots never end by themselves")


def outcome(waited: Waited) -> str:
    """The one line of result."""
    attempt = waited.attempt
    words = {
        ExitCode.PAUSED: "is paused",
        ExitCode.TIMEOUT: "timed out",
        ExitCode.NOT_FOUND: "is gone",
        ExitCode.NO_CONTROLLER: "does not move",
    }
    sentence = waited.sentence or attempt.sentence
    word = words.get(waited.code, "") or _ENDS.get(attempt.phase, attempt.phase)
    return f"{attempt.name} {word}" + (f": {sentence}" if sentence else "")


_ENDS = {
    "Succeeded": "was promoted",
    "RolledBack": "was rolled back",
    "Aborted": "was aborted",
    "Superseded": "was superseded",
    "Failed": "failed",
}


def _ended(attempt: Attempt, until: Until, through_pauses: bool) -> ExitCode | None:
    if attempt.is_terminal:
        return ExitCode.OK if until is Until.FINISHED else ENDED[Phase(attempt.phase)]
    if attempt.phase == Phase.PAUSED and not through_pauses:
        return ExitCode.PAUSED
    return None


def _versions(follow: Follow, attempt: Attempt) -> Iterator[Attempt | None]:
    """The rollout as it changes and once a second; None when it, this very object, is gone."""
    uid = attempt.document["metadata"].get("uid")
    for snapshot in follow.snapshots():
        yield next((other for other in snapshot if other.document["metadata"].get("uid") == uid), None)


class _Pulse:
    """The controller's Lease, looked at now and then."""

    def __init__(self, cluster: Cluster, namespace: str) -> None:
        self.trouble = ""
        self._cluster, self._namespace = cluster, namespace
        self._looked = self._alive = time.monotonic()

    def feel(self) -> None:
        """Look again when it is time to."""
        now = time.monotonic()
        if now - self._looked < HEARTBEAT_SECONDS:
            return
        self._looked = now
        self.trouble = no_controller(self._cluster.gateway, self._namespace)
        if not self.trouble:
            self._alive = now

    @property
    def is_dead(self) -> bool:
        """No sign of life for DEAD_SECONDS, and none at the last look."""
        return bool(self.trouble) and self._looked - self._alive >= DEAD_SECONDS


class _Progress:
    """The live view on stderr: redrawn on a terminal, one line per change elsewhere (a pipeline's log)."""

    def __init__(self) -> None:
        from rich.live import Live

        self._screen = console(sys.stderr)
        self._live = Live(console=self._screen, auto_refresh=False, transient=True) if sys.stderr.isatty() else None
        self._said = ""

    def __enter__(self) -> _Progress:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def show(self, attempt: Attempt, trouble: str) -> None:
        now = datetime.now(UTC)
        if self._live is not None:
            from rich.console import Group
            from rich.text import Text

            drawing = table.drawn([attempt], table.Shape(), now, self._screen.width)
            self._live.update(Group(drawing, Text(safe(trouble), style="yellow")) if trouble else drawing, refresh=True)
            return
        facts = [attempt.phase, attempt.step_text, attempt.weight_text, attempt.sentence, trouble]
        line = f"{attempt.name}: " + ", ".join(fact for fact in facts if fact)
        if line != self._said:
            self._said = line
            complain(f"{now:%H:%M:%S} {line}")
