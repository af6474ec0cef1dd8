"""The result as a page of the documentation: written by the command, never by hand."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from bench.releases.cases import Case
from bench.releases.report import MEASURES, failures, number, values
from bench.releases.stage import Run

_INSTANTS = {
    "scraped": "newest scrape before the decision",
    "tile": "end of the newest settled tile",
    "decided": "decision",
    "written": "weight 0 on the route",
    "off": "last request to the canary",
}


def page(runs: Mapping[Case, Sequence[Run]], about: Mapping[str, Any]) -> str:
    """Markdown."""
    parts = [_INTRODUCTION.format(**about), _table(runs), _LEGEND, *_kept(runs), _times(runs), _sentences(runs)]
    return "\n\n".join(parts) + "\n"


_INTRODUCTION = """\
# Four releases, measured

Written by `make bench-releases`: {runsPerCase} runs of each release, seed {seed}, commit {commit}; {machine}.

Real Envoy, real Prometheus, real requests: {requestsPerSecond:g} per second, scraped every {scrapeSeconds:g} s, so
tiles of {scrapeSeconds:g} s. Each run has a sandbox of its own in which stable has run for {stableRanSeconds:g} s.
Policy: ten steps of 10 s from 10 % to 100 %, errors at most 1 %, P99 at most 500 ms, no warm-up
(`bench/releases/policy.yaml`). All figures are counted by the callers. Flagger 1.44 (interval 10 s, threshold 5,
success rate >= 99 %) and Argo Rollouts 1.10 (background analysis every 10 s) had the same releases at the same rate, on
a real Istio control plane."""

_LEGEND = "Median (worst). Seconds are from the first bad response to the last request that the canary was given."


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _table(runs: Mapping[Case, Sequence[Run]]) -> str:
    head = ["release", "outcome", *(what for what, _ in MEASURES.values())]
    lines = [_row(head), _row(["---", "---", *["---:"] * len(MEASURES)])]
    for case, done in runs.items():
        outcomes = [run.outcome for run in done]
        said = ", ".join(f"{outcomes.count(outcome)} {outcome}" for outcome in dict.fromkeys(outcomes))
        lines.append(_row([case.what, said, *(_median(values(done, name)) for name in MEASURES)]))
        limits = [getattr(case, name) for name in MEASURES]
        if any(limit is not None for limit in limits):
            lines.append(_row(["median at most", "", *map(number, limits)]))
        lines += [_row([rival.name, "", *(number(getattr(rival, name)) for name in MEASURES)]) for rival in case.rivals]
    return "\n".join(lines)


def _median(seen: Sequence[float]) -> str:
    return f"**{number(statistics.median(seen))}** ({number(seen[-1])})" if seen else ""


def _kept(runs: Mapping[Case, Sequence[Run]]) -> list[str]:
    found = [failure for case, done in runs.items() for failure in failures(case, done)]
    return ["Not kept in this run:\n\n" + "\n".join(f"- {failure}" for failure in found)] if found else []


def _times(runs: Mapping[Case, Sequence[Run]]) -> str:
    """Where the seconds went, for the releases that went back."""
    gone = {
        case: found for case, done in runs.items() if (found := [r.from_first_bad for r in done if r.from_first_bad])
    }
    lines = [_row(["median, from the first bad response", *(case.what for case in gone)])]
    lines.append(_row(["---", *["---:"] * len(gone)]))
    for name, what in _INSTANTS.items():
        lines.append(_row([what, *(_instant(found, name) for found in gone.values())]))
    return (
        "## Where the seconds went\n\n"
        + "\n".join(lines)
        + "\n\nIn brackets: the canary's requests answered by then, and how many of them were bad."
    )


def _instant(found: Sequence[Mapping[str, Any]], name: str) -> str:
    seen = [one[name] for one in found if one.get(name) and one[name]["at"] is not None]
    if not seen:
        return ""
    at = statistics.median(one["at"] for one in seen)
    if at < 0:
        return "before it"  # the decision did not wait for this
    text = f"{at:.1f} s"
    if "requests" not in seen[0]:
        return text
    requests, bad = (number(statistics.median(one[count] for one in seen)) for count in ("requests", "bad"))
    return f"{text} ({requests}, {bad})"


def _sentences(runs: Mapping[Case, Sequence[Run]]) -> str:
    said = [f"- {case.what}: {done[0].sentence}" for case, done in runs.items() if done]
    return "## What was said\n\nThe first run of each:\n\n" + "\n".join(said)
