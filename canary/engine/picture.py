"""Draws the transition table for people: Markdown with a Mermaid state diagram (`python -m canary.engine.picture`)."""

from __future__ import annotations

import sys
from collections import defaultdict

from canary.engine.table import TABLE
from canary.model.rollout import Phase


def diagram() -> str:
    """The phases and what leads from one to the other, as a Mermaid state diagram."""
    arrows: dict[tuple[Phase, Phase], list[str]] = defaultdict(list)
    for (phase, signal), rule in TABLE.items():
        if rule.to is not phase:
            arrows[phase, rule.to].append(signal.value)
    lines = ["stateDiagram-v2", f"    [*] --> {Phase.PENDING}"]
    lines += [f"    {start} --> {end}: {' / '.join(signals)}" for (start, end), signals in arrows.items()]
    lines += [f"    {phase} --> [*]" for phase in Phase if phase.is_terminal]
    return "\n".join(lines)


def table() -> str:
    """Every rule as a Markdown table."""
    rows = ["| in phase | on | goes to | and does |", "| --- | --- | --- | --- |"]
    rows += [f"| {phase} | {signal} | {rule.to} | {rule.effect} |" for (phase, signal), rule in TABLE.items()]
    return "\n".join(rows)


def page() -> str:
    """docs/engine.md."""
    return (
        "# The engine\n\n"
        "Generated from `canary/engine/table.py` by `make docs`. A pair that is not listed changes nothing; signals\n"
        "are looked at in the order of `Signal`, the first that holds and has a rule decides.\n\n"
        f"```mermaid\n{diagram()}\n```\n\n{table()}\n"
    )


if __name__ == "__main__":
    sys.stdout.write(page())
