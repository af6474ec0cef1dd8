"""A record's entries as lines of JSON, and back.

Lines are arrays, so that thousands of windows stay small; a window leaves out what equals the line before it (its
start is mostly the last end) and what is at its default. Floats are written so that they read back bit for bit.

Reading never trusts: whatever a line holds, it becomes a value or raises one of `UNREADABLE`, which `record` turns into
a sentence. Never pickle: a record lies in a namespace that others may write to.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from canary.analysis.counts import check_arm, check_window
from canary.analysis.entries import Aborted, Base, Judged, Life, Seen, StepSum
from canary.model.verdict import (
    ArmCounts,
    Baseline,
    Ejections,
    Evidence,
    Outcome,
    Reason,
    SourceState,
    Verdict,
    Window,
)

FORMAT, VERSION = "canary-evidence", 1
"""How the first line begins."""

LARGEST_WHOLE = 2**63
NOTHING = ArmCounts()
UNREADABLE = (
    ValueError, TypeError, KeyError, IndexError, AttributeError, ArithmeticError, AssertionError, RecursionError
)  # fmt: skip
"""What reading a line of somebody else's making may raise."""


def line(kind: str, *values: Any) -> str:
    """A line without a line break in it, in ASCII: whatever a text holds, a record stays as many lines as it has."""
    return json.dumps([kind, *values], separators=(",", ":"))


@dataclass(slots=True)
class WindowLines:
    """Windows as lines, each relative to the one before; `begin` starts lines that can be read on their own."""

    _end: float | None = None
    _now: float | None = None
    _bounds: tuple[float, ...] = ()

    def begin(self) -> None:
        self._end, self._now, self._bounds = None, None, ()

    def write(self, seen: Seen) -> Iterable[str]:
        """One line, before it one with the bucket bounds where they change."""
        window = seen.window
        arms = (window.canary, window.stable, window.unattributed)
        if any(bound not in self._bounds for arm in arms for bound in arm.slower):
            self._bounds = tuple(sorted({bound for arm in arms for bound in arm.slower}))
            yield line("bounds", *self._bounds)
        values = [
            None if window.start == self._end else window.start,
            window.end,
            None if seen.now == self._now else seen.now,
            window.step,
            window.weight,
            _arm_document(window.canary, self._bounds),
            _arm_document(window.stable, self._bounds),
            None if window.warm else False,
            _arm_document(window.unattributed, self._bounds),
            ejections_document(window.ejections),
            window.noise or None,
            dict(window.metrics) or None,
        ]
        while values[-1] is None:
            values.pop()
        self._end, self._now = window.end, seen.now
        yield line("w", *values)

    def read(self, values: Sequence[Any]) -> Seen:
        """The other way. Raises ValueError and its like for what is no window."""
        whole_line: list[Any] = [*values, *[None] * (12 - len(values))]
        start, end, now, step, weight, canary, stable, warm, unattributed, ejections, noise, metrics = whole_line
        window = Window(
            start=number(self._end if start is None else start),
            end=number(end),
            step=whole(step),
            weight=whole(weight),
            canary=_arm(canary, self._bounds),
            stable=_arm(stable, self._bounds),
            unattributed=_arm(unattributed, self._bounds),
            ejections=_ejections(ejections),
            warm=warm is None,
            noise=text(noise or ""),
            metrics={text(name): number(value) for name, value in (metrics or {}).items()},
        )
        check_window(window)
        seen = Seen(window, number(self._now if now is None else now))
        self._end, self._now = window.end, seen.now
        return seen

    def read_bounds(self, values: Sequence[Any]) -> None:
        self._bounds = tuple(number(bound) for bound in values)


def entry_line(entry: Judged | Aborted) -> str:
    if isinstance(entry, Judged):
        source = entry.source
        state = [
            source.available,
            source.tile_s,
            source.settle_s,
            source.newest_tile_end,
            source.series_seen,
            source.detail,
        ]
        return line("verdict", entry.at, entry.step, state, entry.after, _verdict_document(entry.verdict))
    arms = (entry.canary, entry.stable)
    return line(
        "abort",
        entry.at,
        *(arm_pairs(arm) for arm in arms),
        ejections_document(entry.ejections),
        entry.after,
        _verdict_document(entry.verdict),
    )


def read_verdict(values: Sequence[Any]) -> Judged:
    at, step, state, after, verdict = values
    available, tile_s, settle_s, newest, series_seen, detail = state
    source = SourceState(
        available=bool(available),
        tile_s=number(tile_s),
        settle_s=number(settle_s),
        newest_tile_end=_maybe(newest),
        series_seen=bool(series_seen),
        detail=text(detail),
    )
    return Judged(number(at), None if step is None else whole(step), source, _maybe(after), _verdict(verdict))


def read_abort(values: Sequence[Any]) -> Aborted:
    at, canary, stable, ejections, after, verdict = values
    arms = read_pairs(canary, "canary"), read_pairs(stable, "stable")
    return Aborted(number(at), *arms, _ejections(ejections), _maybe(after), _verdict(verdict))


def life_line(life: Life) -> str:
    baseline, base = life.baseline, life.base
    learnt = [
        baseline.errors_phi,
        list(baseline.latency_phi.items()),  # pairs: sums over the bounds depend on their order
        baseline.p99_phi,
        baseline.unattributed_bound,
        baseline.history_s,
    ]
    kept = None
    if base is not None:
        kept = [base.upto, base.windows, base.state, [_sum_document(one) for one in base.steps]]
    return line("life", learnt, life.settle_s, life.lost, kept)


def read_life(values: Sequence[Any]) -> Life:
    learnt, settle_s, lost, kept = values
    errors_phi, latency_phi, p99_phi, unattributed_bound, history_s = learnt
    baseline = Baseline(
        errors_phi=number(errors_phi),
        latency_phi={number(bound): number(phi) for bound, phi in latency_phi},
        p99_phi=number(p99_phi),
        unattributed_bound=_maybe(unattributed_bound),
        history_s=number(history_s),
    )
    base = None
    if kept is not None:
        upto, windows, state, steps = kept
        if not isinstance(state, dict):
            raise ValueError("the state of a judge is not an object")
        base = Base(number(upto), whole(windows), state, tuple(_sum(one) for one in steps))
    return Life(baseline, number(settle_s), base, lost=whole(lost))


def number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{value!r:.40} is not a number")  # noqa: TRY004
    return float(value)


def whole(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or abs(value) > LARGEST_WHOLE:
        raise ValueError(f"{value!r:.40} is not a whole number")
    return value


def text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{value!r:.40} is not a text")  # noqa: TRY004
    return value


def _maybe(value: Any) -> float | None:
    return None if value is None else number(value)


def _arm_document(arm: ArmCounts, bounds: tuple[float, ...]) -> list[int | None] | None:
    if arm == NOTHING:
        return None
    slower = [arm.slower.get(bound) for bound in bounds]
    while slower and slower[-1] is None:
        slower.pop()
    return [arm.requests, arm.errors, arm.timed, *slower]


def _arm(document: Any, bounds: tuple[float, ...]) -> ArmCounts:
    if document is None:
        return NOTHING
    requests, errors, timed, *slower = document
    if len(slower) > len(bounds):
        raise ValueError("a window counts slow requests at a bound that is not named")
    counts = {bound: whole(count) for bound, count in zip(bounds, slower, strict=False) if count is not None}
    return ArmCounts(whole(requests), whole(errors), whole(timed), counts)


def arm_pairs(arm: ArmCounts) -> list[Any]:
    return [arm.requests, arm.errors, arm.timed, list(arm.slower.items())]


def read_pairs(document: Any, name: str) -> ArmCounts:
    requests, errors, timed, slower = document
    arm = ArmCounts(
        whole(requests), whole(errors), whole(timed), {number(bound): whole(count) for bound, count in slower}
    )
    check_arm(arm, name)
    return arm


def _sum_document(one: StepSum) -> list[Any]:
    arms = (one.canary, one.stable, one.unattributed)
    return [one.step, one.weight, one.start, one.end, one.windows, *(arm_pairs(arm) for arm in arms)]


def _sum(document: Any) -> StepSum:
    step, weight, start, end, windows, *arms = document
    canary, stable, unattributed = arms
    return StepSum(
        whole(step),
        whole(weight),
        number(start),
        number(end),
        whole(windows),
        read_pairs(canary, "canary"),
        read_pairs(stable, "stable"),
        read_pairs(unattributed, "unattributed"),
    )


def ejections_document(ejections: Ejections | None) -> list[int] | None:
    if ejections is None:
        return None
    return [ejections.canary, ejections.canary_members, ejections.stable, ejections.stable_members]


def _ejections(document: Any) -> Ejections | None:
    if document is None:
        return None
    canary, canary_members, stable, stable_members = (whole(count) for count in document)
    return Ejections(canary, canary_members, stable, stable_members)


def _verdict_document(verdict: Verdict) -> list[Any]:
    return [verdict.outcome, verdict.reason, verdict.sentence, [_evidence_document(one) for one in verdict.evidence]]


def _verdict(document: Any) -> Verdict:
    outcome, reason, sentence, evidence = document
    return Verdict(Outcome(outcome), Reason(reason), text(sentence), tuple(_evidence(one) for one in evidence))


def _evidence_document(one: Evidence) -> list[Any]:
    counts = (one.canary_total, one.canary_bad, one.stable_total, one.stable_bad)
    return [one.metric, *counts, one.bound, one.e_value, one.limit]


def _evidence(document: Any) -> Evidence:
    metric, canary_total, canary_bad, stable_total, stable_bad, bound, e_value, limit = document
    counts = (whole(canary_total), whole(canary_bad), whole(stable_total), whole(stable_bad))
    if not number(e_value) >= 0 or not number(limit) > 0:
        raise ValueError(f"evidence of {e_value!r:.40} with a limit of {limit!r:.40}")
    return Evidence(text(metric), *counts, number(bound), number(e_value), number(limit))
