"""Every figure of a record as one document, for `canary explain -o json|yaml`. Nothing is rounded.

Field names are the API's (camelCase); times are Unix seconds, as the judge was given them, because tile boundaries must
compare equal. What is no JSON number (an infinite metric) is a text.
"""

from __future__ import annotations

import math
from typing import Any

from canary.analysis.entries import Aborted, Judged, Life, Seen, StepSum
from canary.analysis.interval import confidence_sequence
from canary.analysis.replay import Replay, Replayed
from canary.cli.account import Account
from canary.cli.attempt import Attempt
from canary.model.verdict import ArmCounts, Ejections, Evidence, Verdict

Document = dict[str, Any]


def figures(shown: Account, attempt: Attempt | None, replayed: Replay | None) -> Document:
    """The whole record; `replay` only where it was replayed."""
    record, last = shown.record, shown.last
    document: Document = {
        "rollout": dict(record.about) | ({"phase": attempt.phase} if attempt else {}),
        "sentence": attempt.sentence if attempt else last.verdict.sentence if last else "",
        "verdict": _judged(last) if last else None,
        "writtenBy": record.written_by,
        "tileSeconds": _figure(record.tile_s),
        "policy": record.policy.document(),
        "judges": [_life(life) for life in record.lives],
    }
    if replayed is not None:
        document["replay"] = {
            "agrees": replayed.agrees,
            "windows": replayed.windows,
            "computed": replayed.computed,
            "verdicts": [_replayed(one) for one in replayed.verdicts],
        }
    return document


def _life(life: Life) -> Document:
    baseline = life.baseline
    return {
        "baseline": {
            "errorsPhi": _figure(baseline.errors_phi),
            "latencyPhi": {f"{bound:g}": _figure(phi) for bound, phi in baseline.latency_phi.items()},
            "p99Phi": _figure(baseline.p99_phi),
            "unattributedBound": _figure(baseline.unattributed_bound),
            "historySeconds": _figure(baseline.history_s),
        },
        "settleSeconds": _figure(life.settle_s),
        "windowsFrom": _figure(life.upto),
        "verdictsLost": life.lost,
        "steps": [_step(one) for one in life.steps],
        "verdicts": [_entry(entry) for entry in life.entries],
        "windows": [_window(seen) for seen in life.windows],
    }


def _step(one: StepSum) -> Document:
    return {
        "step": one.step,
        "weight": one.weight,
        "start": one.start,
        "end": one.end,
        "windows": one.windows,
        "canary": _arm(one.canary),
        "stable": _arm(one.stable),
        "unattributed": _arm(one.unattributed),
    }


def _entry(entry: Judged | Aborted) -> Document:
    return _judged(entry) if isinstance(entry, Judged) else _aborted(entry)


def _judged(entry: Judged) -> Document:
    source = entry.source
    return {
        "at": _figure(entry.at),
        "step": entry.step,
        "afterWindow": _figure(entry.after),
        **_verdict(entry.verdict),
        "source": {
            "available": source.available,
            "tileSeconds": _figure(source.tile_s),
            "settleSeconds": _figure(source.settle_s),
            "newestTileEnd": _figure(source.newest_tile_end),
            "seriesSeen": source.series_seen,
            "detail": source.detail,
        },
    }


def _aborted(entry: Aborted) -> Document:
    return {
        "at": _figure(entry.at),
        "afterWindow": _figure(entry.after),
        **_verdict(entry.verdict),
        "canary": _arm(entry.canary),
        "stable": _arm(entry.stable),
        "ejections": _ejections(entry.ejections),
    }


def _verdict(verdict: Verdict) -> Document:
    return {
        "outcome": verdict.outcome.value,
        "reason": verdict.reason.value,
        "sentence": verdict.sentence,
        "evidence": [_evidence(one) for one in verdict.evidence],
    }


def _evidence(one: Evidence) -> Document:
    return {
        "metric": one.metric,
        "canary": {"total": one.canary_total, "bad": one.canary_bad},
        "stable": {"total": one.stable_total, "bad": one.stable_bad},
        "bound": _figure(one.bound),
        "eValue": _figure(one.e_value),
        "limit": _figure(one.limit),
        "anytimeP": _figure(one.anytime_p),
        "interval": _interval(one),
    }


def _interval(one: Evidence) -> Any:
    """The shares that the canary's counts leave plausible, at every look at once, with 99 %; null without a request."""
    found = confidence_sequence(one.canary_total, one.canary_bad, 0.01)
    return None if found is None else [_figure(share) for share in found]


def _window(seen: Seen) -> Document:
    window = seen.window
    return {
        "start": window.start,
        "end": window.end,
        "observedAt": _figure(seen.now),
        "step": window.step,
        "weight": window.weight,
        "warm": window.warm,
        "canary": _arm(window.canary),
        "stable": _arm(window.stable),
        "unattributed": _arm(window.unattributed),
        "ejections": _ejections(window.ejections),
        "noise": window.noise,
        "metrics": {name: _figure(value) for name, value in window.metrics.items()},
    }


def _arm(arm: ArmCounts) -> Document:
    slower = {f"{bound:g}": count for bound, count in arm.slower.items()}
    return {"requests": arm.requests, "errors": arm.errors, "timed": arm.timed, "slower": slower}


def _ejections(ejections: Ejections | None) -> Document | None:
    if ejections is None:
        return None
    return {
        "canary": {"ejected": ejections.canary, "members": ejections.canary_members},
        "stable": {"ejected": ejections.stable, "members": ejections.stable_members},
    }


def _replayed(one: Replayed) -> Document:
    computed = _verdict(one.verdict) if one.verdict is not None else None
    return {"recorded": _entry(one.entry), "computed": computed, "difference": one.difference}


def _figure(value: float | None) -> float | str | None:
    return value if value is None or math.isfinite(value) else str(value)
