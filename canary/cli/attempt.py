"""One CanaryRollout as a command shows it: words and numbers read out of the object, whatever wrote it.

Not `canary.model.Rollout`, on purpose: that one is strict, for the controller that acts on it. A command only shows,
so it must also read an object of a newer controller, or half a status, and must not pay for building the models.
Pure: nothing is fetched, and the time is an argument. Texts are as they came: who prints them makes them safe.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from canary.cli.durations import exact
from canary.model.phase import Phase
from canary.model.units import parse_duration, parse_time

Object = Mapping[str, Any]

EPOCH = datetime.fromtimestamp(0, UTC)


@dataclass(frozen=True, slots=True)
class Attempt:
    """A CanaryRollout object, seen for display."""

    document: Object

    @property
    def namespace(self) -> str:
        return text(self.document, "metadata", "namespace")

    @property
    def name(self) -> str:
        return text(self.document, "metadata", "name")

    @property
    def created(self) -> datetime:
        return moment(self.document, "metadata", "creationTimestamp") or EPOCH

    @property
    def spec(self) -> Object:
        return part(self.document, "spec")

    @property
    def status(self) -> Object:
        return part(self.document, "status")

    @property
    def target(self) -> str:
        return text(self.spec, "target")

    @property
    def service(self) -> str:
        return text(self.status, "service") or text(self.spec, "service")

    @property
    def phase(self) -> str:
        """The phase's word; Pending while no controller has looked. A word of a newer controller stays as it is."""
        return text(self.status, "phase") or Phase.PENDING

    @property
    def is_terminal(self) -> bool:
        return self.phase in set(Phase) and Phase(self.phase).is_terminal

    @property
    def revision(self) -> str:
        """The pinned target revision; before it is pinned, the one in the name `<deployment>-<revision>-<n>`."""
        return text(self.status, "targetRevision") or self._named[0]

    @property
    def number(self) -> int:
        """The n of the name, 0 when the name is of another shape."""
        return self._named[1]

    @property
    def _named(self) -> tuple[str, int]:
        rest = self.name.removeprefix(f"{self.target}-") if self.name.startswith(f"{self.target}-") else ""
        revision, _, count = rest.rpartition("-")
        return (revision, int(count)) if revision and count.isascii() and count.isdigit() else ("", 0)

    @property
    def step(self) -> tuple[int, int] | None:
        """(index, of): 0 is the header stage, 1..of the weights, of + 1 the bake; None before the first."""
        index, of = number(self.status, "step", "index"), number(self.status, "step", "of")
        return None if index is None or of is None else (index, of)

    @property
    def step_text(self) -> str:
        if self.step is None:
            return ""
        index, of = self.step
        return "header" if index == 0 else "bake" if index > of else f"{index}/{of}"

    @property
    def configured(self) -> int | None:
        """The canary's integer percent on the route."""
        return number(self.status, "weight", "configured")

    @property
    def observed(self) -> int | None:
        """The canary's integer percent of the requests seen."""
        return number(self.status, "weight", "observed")

    @property
    def weight_text(self) -> str:
        """Configured (observed): "25% (24%)"."""
        if self.configured is None:
            return ""
        return f"{self.configured}%" + ("" if self.observed is None else f" ({self.observed}%)")

    @property
    def stalled(self) -> str:
        """What is in the way, as the condition Stalled says; empty while nothing is."""
        condition = self.condition("Stalled")
        return text(condition, "message") or text(condition, "reason") if condition.get("status") == "True" else ""

    def condition(self, kind: str) -> Object:
        return next((entry for entry in parts(self.status, "conditions") if entry.get("type") == kind), {})

    @property
    def sentence(self) -> str:
        """Why it is where it is: what is in the way, what ended it, or the verdict; in a pause what it waits for."""
        if self.stalled:
            return self.stalled
        cause = text(self.status, "cause", "sentence")
        if cause and (self.is_terminal or self.phase == Phase.ROLLING_BACK):
            return cause
        message, verdict = text(self.status, "message"), text(self.status, "verdict", "sentence")
        if self.phase in (Phase.PROGRESSING, Phase.PROMOTING) and self.clock_runs:
            return verdict or message
        return message or verdict

    @property
    def wishes(self) -> str:
        """What operators asked for in the spec, whether or not it was carried out yet."""
        return ", ".join(_wish(self.spec, field) for field in ("abort", "paused", "promote") if field in self.spec)

    @property
    def clock_runs(self) -> bool:
        """Whether the step's time passes: it stops in a pause and while the metrics source is away."""
        return moment(self.status, "resumedAt") is not None

    def left(self, now: datetime) -> tuple[timedelta, timedelta] | None:
        """Time left in the step, least and longest: the same but for an adaptive one, zero when it is over.

        None where the step does not end by the clock.
        """
        if self.phase not in (Phase.PROGRESSING, Phase.PROMOTING) or self.step is None:
            return None
        hold = self._hold(self.step[0])
        least = _duration(hold.get("min") if isinstance(hold, Mapping) else hold)
        longest = _duration(hold.get("max") if isinstance(hold, Mapping) else hold)
        if least is None or longest is None:
            return None
        elapsed = _duration(self.status.get("stepElapsed")) or timedelta(0)
        resumed = moment(self.status, "resumedAt")
        if resumed is not None:
            elapsed += max(timedelta(0), now - resumed)
        return max(timedelta(0), least - elapsed), max(timedelta(0), longest - elapsed)

    def left_text(self, now: datetime) -> str:
        """Such as "1m30s"; "14s-4m54s" and then "<4m40s" in an adaptive step, which evidence ends; "stopped" while the
        clock stands; "due" when only evidence is missing."""
        left = self.left(now)
        if left is None:
            return ""
        if not self.clock_runs:
            return "stopped"
        least, longest = left
        if not longest:
            return "due"
        return (
            exact(least) if least == longest else f"{exact(least)}-{exact(longest)}" if least else f"<{exact(longest)}"
        )

    def _hold(self, step: int) -> Any:
        """What the policy says of a step's time, as it is written."""
        strategy = part(self.status, "policy", "resolved", "strategy")
        weights = strategy.get("weights") or [100]
        if step == 0:
            return part(strategy, "match").get("hold") if strategy.get("weights") else None
        if not isinstance(weights, list) or step > len(weights):
            return strategy.get("bake")
        hold = strategy.get("hold")
        if isinstance(hold, list):
            return hold[step - 1] if step <= len(hold) else None
        return hold


def newest_first(attempts: Sequence[Attempt]) -> list[Attempt]:
    """Those under way before those that ended; the newest first in both."""
    return sorted(
        attempts, key=lambda attempt: (not attempt.is_terminal, attempt.created, attempt.number), reverse=True
    )


def newest_attempt(attempts: Sequence[Attempt]) -> Attempt | None:
    """The attempt that a Deployment's name means: the newest; of several under way for one revision the oldest.

    Annotation, `canary start` and `kubectl create` may race; the oldest is the one that lives (decisions.md 2).
    """
    if not attempts:
        return None
    newest = max(attempts, key=lambda attempt: (attempt.created, attempt.number))
    twins = [other for other in attempts if not other.is_terminal and other.revision == newest.revision]
    if newest.is_terminal or not newest.revision or not twins:
        return newest
    return min(twins, key=lambda attempt: (attempt.created, attempt.number))


def part(document: Object, *path: str) -> Object:
    """The mapping at a path, empty where there is none."""
    here: Any = document
    for key in path:
        here = here.get(key) if isinstance(here, Mapping) else None
    return here if isinstance(here, Mapping) else {}


def parts(document: Object, *path: str) -> Iterator[Object]:
    """The mappings in the list at a path."""
    found = part(document, *path[:-1]).get(path[-1])
    return (entry for entry in found if isinstance(entry, Mapping)) if isinstance(found, list) else iter(())


def text(document: Object, *path: str) -> str:
    """The string at a path, empty where there is none."""
    found = part(document, *path[:-1]).get(path[-1])
    return found if isinstance(found, str) else ""


def number(document: Object, *path: str) -> int | None:
    """The integer at a path."""
    found = part(document, *path[:-1]).get(path[-1])
    return found if isinstance(found, int) and not isinstance(found, bool) else None


def moment(document: Object, *path: str) -> datetime | None:
    """The timestamp at a path."""
    try:
        return parse_time(text(document, *path))
    except ValueError:
        return None


def _wish(spec: Object, field: str) -> str:
    step, actor, reason = number(spec, field, "step"), text(spec, field, "actor"), text(spec, field, "reason")
    words = [
        "pause" if field == "paused" else field,
        "--full" if part(spec, field).get("full") is True else "" if step is None else f"step {step}",
        actor and f"by {actor}",
        reason and f"({reason})",
    ]
    return " ".join(word for word in words if word)


def _duration(value: Any) -> timedelta | None:
    try:
        return parse_duration(value)
    except ValueError:
        return None
