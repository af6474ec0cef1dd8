"""Medians and worst of the runs beside what they must not exceed: a table for people, a document for programs."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from bench.releases.cases import Case
from bench.releases.stage import Run

MEASURES = {
    "seconds": ("s to traffic off", "seconds_to_off"),
    "errors": ("user-visible errors", "errors"),
    "exposed": ("requests exposed", "exposed"),
}
"""By the name of the limit in Case and of the figure in Rival: what it says, and the field of a run."""


def values(runs: Sequence[Run], measure: str) -> list[float]:
    """Those measured, in order of size."""
    seen = (getattr(run, MEASURES[measure][1]) for run in runs)
    return sorted(value for value in seen if value is not None)


def failures(case: Case, runs: Sequence[Run]) -> list[str]:
    """What the runs of a case had to show and did not, one sentence each."""
    found = [
        f"{case.name}: {run.rollout} ended as {run.outcome}, expected {case.expected}"
        for run in runs
        if run.outcome != case.expected
    ]
    for measure, (what, _) in MEASURES.items():
        limit, seen = getattr(case, measure), values(runs, measure)
        if limit is not None and seen and statistics.median(seen) > limit:
            found.append(f"{case.name}: median of {what} is {statistics.median(seen):.4g}, at most {limit:g} expected")
    lost = sum(run.lost for run in runs)
    return found + ([f"{case.name}: {lost} requests lost on the way, expected 0"] if lost else [])


def document(runs: Mapping[Case, Sequence[Run]], about: Mapping[str, Any]) -> dict[str, Any]:
    """Everything as one JSON document; `about` says what was measured, and where."""
    return {
        **about,
        "cases": [
            {
                "name": case.name,
                "what": case.what,
                "expected": case.expected.value,
                "median": {name: _median(values(done, name)) for name in MEASURES},
                "worst": {name: max(values(done, name), default=None) for name in MEASURES},
                "medianAtMost": {name: getattr(case, name) for name in MEASURES},
                "others": {rival.name: {name: getattr(rival, name) for name in MEASURES} for rival in case.rivals},
                "failures": failures(case, done),
                "runs": [asdict(run) for run in done],
            }
            for case, done in runs.items()
        ],
    }


def _median(seen: Sequence[float]) -> float | None:
    return statistics.median(seen) if seen else None


def print_table(runs: Mapping[Case, Sequence[Run]], console: Console) -> None:
    """Medians and worst beside the limits and others' figures; then one sentence of each case."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for name in ("", "outcome"):
        table.add_column(name, no_wrap=True)
    for what, _ in MEASURES.values():
        table.add_column(what, justify="right")
    for case, done in runs.items():
        outcomes = [run.outcome for run in done]
        said = ", ".join(f"{outcomes.count(outcome)} {outcome}" for outcome in dict.fromkeys(outcomes))
        table.add_row(Text(case.what, style="bold"), said, *(_cell(values(done, name)) for name in MEASURES))
        limits = [getattr(case, name) for name in MEASURES]
        if any(limit is not None for limit in limits):
            table.add_row("  median at most", "", *map(number, limits))
        for rival in case.rivals:
            table.add_row(f"  {rival.name}", "", *(number(getattr(rival, name)) for name in MEASURES))
    console.print(table)
    console.print("Median (worst). Seconds are from the first bad response to the canary's last request.")
    for case, done in runs.items():
        if done:
            console.print()
            console.print(Text(f"{case.what}: {done[0].outcome}", style="bold"))
            console.print(Text(done[0].sentence or "no sentence"))


def _cell(seen: Sequence[float]) -> str:
    return f"{number(statistics.median(seen))} ({number(seen[-1])})" if seen else "-"


def number(value: float | None) -> str:
    """For people: at most one decimal; nothing for None."""
    return "" if value is None else f"{value:,.1f}" if value % 1 else f"{value:,.0f}"
