"""The figures of docs/why-two.md: the page is written by hand, its table is renewed by each whole run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.verdict.curves import Curve
from bench.verdict.results import Results

PAGE = "why-two.md"
START, END = "<!-- figures: make bench-verdict -->", "<!-- end of figures -->"


def figures(curves: Sequence[Curve], commit: str, seed: int) -> str:
    """The table, as markdown."""
    lines = [
        "| at 50 requests a second, within ten minutes | " + " | ".join(_name(curve) for curve in curves) + " |",
        "| --- |" + " --- |" * len(curves),
    ]
    for title, attribute in (
        ("two processes, as in `canary`, 600 s plan", "two"),
        ("one process at the tolerance, limit 200", "one"),
        ("the most any rule could catch at that tolerance and limit", "bound"),
        ("the same, if stable's error rate may be taken as constant", "bound_if_constant"),
        ('the most for "worse at all", limit 200', "bound_of_worse"),
        ('the most for "worse than tolerated", limit 5', "bound_of_tolerated"),
    ):
        lines.append(f"| {title} | " + " | ".join(_percent(getattr(curve, attribute)) for curve in curves) + " |")
    return "\n".join((*lines, "", f"(`make bench-verdict`, commit {commit}, seed {seed})"))


def renew(page: Path, results: Results) -> None:
    """Put the figures of this run into the page. Raises ValueError when it has lost its marks."""
    text = page.read_text()
    if text.count(START) != 1 or text.count(END) != 1:
        raise ValueError(f"{page} must have one {START} and one {END}")
    before, rest = text.split(START)
    after = rest.split(END)[1]
    page.write_text(f"{before}{START}\n{figures(results.curves, results.commit, results.seed)}\n{END}{after}")


def _name(curve: Curve) -> str:
    return f"{100 * curve.stable:g} → {100 * curve.canary:g} %"


def _percent(value: float | NDArray[np.float64]) -> str:
    """Of the whole plan."""
    return f"{100 * float(np.atleast_1d(value)[-1]):.1f} %"
