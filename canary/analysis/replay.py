"""Every verdict of a record once more: the kept windows through a fresh judge, compared with what was said then.

A verdict is a function of the windows that the judge had seen and of what it was asked with; both are in the record. So
it must come out the same, outcome, reason, sentence and every number bit for bit, by the same version of canary. What
differs is a fault: of the record, or of the judge.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from canary.analysis.entries import Aborted, Judged, Life
from canary.analysis.judge import Judge
from canary.analysis.lines import UNREADABLE
from canary.analysis.record import Record
from canary.analysis.state import load
from canary.errors import InputError
from canary.model.policy import Policy
from canary.model.verdict import Evidence, Reason, Verdict


@dataclass(frozen=True, slots=True)
class Replayed:
    """A recorded verdict or abort, and what the judge says now: None where its windows gave way."""

    entry: Judged | Aborted
    verdict: Verdict | None
    difference: str = ""
    """In words, "" when it is the same."""


@dataclass(frozen=True, slots=True)
class Replay:
    """`windows` were fed; `since` is from when on verdicts could be computed (Unix seconds), None for all of them."""

    verdicts: tuple[Replayed, ...]
    windows: int
    since: float | None = None

    @property
    def agrees(self) -> bool:
        return self.first_difference is None

    @property
    def first_difference(self) -> Replayed | None:
        return next((one for one in self.verdicts if one.difference), None)

    @property
    def computed(self) -> int:
        """Verdicts that could be computed again."""
        return sum(one.verdict is not None for one in self.verdicts)


def replay(record: Record) -> Replay:
    """Judge everything in `record` again. Raises InputError when its windows or its judge's state cannot be."""
    verdicts: list[Replayed] = []
    for life in record.lives:
        try:
            verdicts += _live(record.policy, life)
        except UNREADABLE as error:
            raise InputError(f"the record cannot be judged again: {error!s:.200}") from error
    folded = [life.upto for life in record.lives if life.upto is not None]
    return Replay(tuple(verdicts), sum(len(life.windows) for life in record.lives), max(folded, default=None))


def _live(policy: Policy, life: Life) -> list[Replayed]:
    judge = Judge(policy, life.baseline)
    if life.base is not None:
        load(judge, life.base.state)
    asked: defaultdict[float | None, list[int]] = defaultdict(list)
    for place, entry in enumerate(life.entries):
        asked[entry.after].append(place)
    found: dict[int, Verdict | None] = {}
    for after in _positions(judge, life):
        for place in asked.pop(after, ()):
            found[place] = _again(judge, life, place, found)
    return [
        Replayed(entry, found.get(place), _difference(entry, found[place]) if place in found else _missing(entry, life))
        for place, entry in enumerate(life.entries)
    ]


def _missing(entry: Judged | Aborted, life: Life) -> str:
    """A verdict whose window is not there: nothing to say where the oldest gave way, a fault among those kept."""
    if entry.after is None or not life.windows or entry.after < life.windows[0].window.end:
        return ""
    return f"the window that ended at {entry.after!r} is missing"


def _positions(judge: Judge, life: Life) -> Iterator[float | None]:
    """The end of the newest window that the judge has seen, after each that it is given."""
    yield life.upto
    for seen in life.windows:
        judge.take_in(seen.window, max(seen.now, seen.window.end))
        yield seen.window.end


def _again(judge: Judge, life: Life, place: int, found: dict[int, Verdict | None]) -> Verdict | None:
    entry = life.entries[place]
    if isinstance(entry, Aborted):
        return judge.abort(entry.canary, entry.stable, entry.ejections)
    if entry.verdict.reason is Reason.FAST_ABORT:
        # repeated until the rollout is back: the judge itself keeps no aborts
        aborts = [earlier for earlier in range(place) if isinstance(life.entries[earlier], Aborted)]
        if aborts:
            return found.get(aborts[-1])
    return judge.verdict(entry.at, entry.source, entry.step)


def _difference(entry: Judged | Aborted, verdict: Verdict | None) -> str:
    said = entry.verdict
    if verdict is None:
        return f"recorded {said.outcome} ({said.reason}), computed nothing"
    for what, recorded, computed in (
        ("outcome", said.outcome, verdict.outcome),
        ("reason", said.reason, verdict.reason),
        ("sentence", said.sentence, verdict.sentence),
    ):
        if recorded != computed:
            return f'{what}: recorded "{recorded}", computed "{computed}"'
    if [one.metric for one in said.evidence] != [one.metric for one in verdict.evidence]:
        return f"metrics: recorded {_names(said)}, computed {_names(verdict)}"
    for then, now in zip(said.evidence, verdict.evidence, strict=True):
        if then != now:
            return f"{then.metric}: recorded {_figures(then)}, computed {_figures(now)}"
    return ""


def _names(verdict: Verdict) -> list[str]:
    return [one.metric for one in verdict.evidence]


def _figures(one: Evidence) -> str:
    return (
        f"canary {one.canary_bad}/{one.canary_total}, stable {one.stable_bad}/{one.stable_total}, bound {one.bound!r}, "
        f"E {one.e_value!r} (limit {one.limit!r})"
    )
