"""The demo's result: what was not as it must be, the table for people, the document for programs."""

from __future__ import annotations

import textwrap
from datetime import UTC, datetime
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from canary.model.units import format_time
from canary.sandbox.demo.releases import POLICY, RELEASES
from canary.sandbox.demo.scenario import Ended, Result
from canary.sandbox.demo.screen import STYLES

_LEGEND = (
    "DETECTED, OFF: from the first bad response to the decision, to the last request. ERRORS: seen by callers. SLOW: "
    "over the policy's limit. EXPOSED: requests the version was given."
)


def failures(result: Result) -> list[str]:
    """What the demo promises and this run did not keep, one sentence each."""
    found = []
    for ended in result.ended:
        release, off = ended.release, ended.figures.seconds_to_off
        if not ended.is_as_expected:
            why = f": {ended.sentence}" if ended.sentence else ""
            found.append(f"{release.version} ended as {ended.outcome}, expected {release.expected}{why}")
        elif release.off_within_s is not None and (off is None or off > release.off_within_s):
            kept = (
                "had no bad response" if off is None else f"kept traffic for {off:.1f} s after its first bad response"
            )
            found.append(f"{release.version} {kept}, expected at most {release.off_within_s:g} s")
    tried = {ended.release.version for ended in result.ended}
    missing = [release.version for release in RELEASES if release.version not in tried]
    if missing:
        found.append(f"{', '.join(missing)} not tried, because of what came before")
    if result.lost:
        plural = "" if result.lost == 1 else "s"
        found.append(f"{result.lost} request{plural} lost on the way, expected 0")
    if not debug_header_came_first(result):
        found.append("no request with the debug header reached the canary before its first weight")
    return found


def debug_header_came_first(result: Result) -> bool:
    """Whether a request with the debug header reached the first canary before any caller did by weight."""
    request = result.debug_request
    if request is None or not result.ended:
        return False
    first_exposed = result.ended[0].figures.first_exposed
    return first_exposed is None or request.end <= first_exposed


def document(result: Result) -> dict[str, Any]:
    """Everything as one JSON document: times in RFC 3339, durations in seconds, weights in percent."""
    found = failures(result)
    request = result.debug_request
    return {
        "ok": not found,
        "failures": found,
        "policy": POLICY,
        "requestsPerSecond": result.rate,
        "seconds": round(result.seconds, 1),
        "requests": result.requests,
        "lost": result.lost,
        "debugHeader": {
            "reached": request.version if request else None,
            "status": request.status if request else None,
            "beforeAnyWeight": debug_header_came_first(result),
        },
        "releases": [_release(ended) for ended in result.ended],
    }


def _release(ended: Ended) -> dict[str, Any]:
    release, figures = ended.release, ended.figures
    return {
        "version": release.version,
        "what": release.what,
        "rollout": ended.rollout.name if ended.rollout else None,
        "expected": release.expected.value,
        "outcome": ended.outcome,
        "asExpected": ended.is_as_expected,
        "weights": ended.weights,
        "seconds": round(ended.seconds, 1),
        "firstBadResponse": _moment(figures.first_bad),
        "secondsToDetect": _rounded(ended.seconds_to_detect),
        "secondsToTrafficOff": None if _kept_traffic(ended) else _rounded(figures.seconds_to_off),
        "requests": figures.requests,
        "exposed": figures.exposed,
        "errors": figures.errors,
        "slow": figures.slow,
        "lost": figures.lost,
        "sentence": ended.sentence,
    }


def _kept_traffic(ended: Ended) -> bool:
    """A promoted version's traffic is never off, whatever single response was late."""
    return ended.outcome == "Succeeded"


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 2)


def _moment(epoch: float | None) -> str | None:
    return None if epoch is None else format_time(datetime.fromtimestamp(epoch, UTC))


def print_table(result: Result, console: Console) -> None:
    """The table, every sentence, and what the figures mean."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for name in ("", "OUTCOME", "WEIGHTS"):
        table.add_column(name, no_wrap=True)
    for name in ("DETECTED", "OFF", "ERRORS", "SLOW", "EXPOSED", "LOST"):
        table.add_column(name, justify="right", no_wrap=True)
    for ended in result.ended:
        figures = ended.figures
        kept = _kept_traffic(ended)
        table.add_row(
            Text(ended.release.version, style="bold"),
            Text(ended.outcome, style=STYLES.get(ended.outcome, "")),
            " ".join(map(str, ended.weights)) or "-",
            "-" if kept else _seconds(ended.seconds_to_detect),
            "-" if kept else _seconds(figures.seconds_to_off),
            f"{figures.errors:,}",
            f"{figures.slow:,}",
            f"{figures.exposed:,}",
            f"{figures.lost:,}",
        )
    console.print(table)
    console.print()
    for ended in result.ended:
        console.print(Text(f"{ended.release.version}, {ended.release.what}: {ended.outcome}", style="bold"))
        console.print(_wrapped(ended.sentence or "no verdict", console.width, "  "))
    request = result.debug_request
    if request is not None and debug_header_came_first(result):
        console.print()
        console.print(f"A request with x-debug-user: true reached {request.version} before any weight did.")
    console.print()
    total = f"{result.requests:,} requests at {result.rate:g}/s in {result.seconds:.0f} s"
    console.print(f"{total}, {result.lost} lost by weight changes.")
    console.print(_wrapped(_LEGEND, console.width))


def _wrapped(text: str, width: int, indent: str = "") -> str:
    return textwrap.fill(text, width, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False)


def _seconds(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds:.1f} s"
