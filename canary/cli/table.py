"""The table of `canary status`: one line of facts per rollout and, below it on a terminal, the sentence.

On a terminal the sentence is wrapped under its line, so that nothing is cut at 80 columns; in a pipe it is the last
column, so that one line is one rollout (grep, awk).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from canary.cli.attempt import Attempt, text
from canary.cli.durations import short
from canary.cli.terminal import safe

if TYPE_CHECKING:
    from rich.console import RenderableType

GAP = "  "
INDENT = 2

STYLES = {
    "Progressing": "cyan",
    "Promoting": "cyan",
    "Paused": "yellow",
    "Pending": "yellow",
    "Succeeded": "green",
    "RollingBack": "red",
    "RolledBack": "red",
    "Failed": "red",
    "Aborted": "magenta",
    "Superseded": "dim",
}


@dataclass(frozen=True, slots=True)
class Shape:
    """Which columns: `namespaces` for -A, `wide` for -o wide."""

    namespaces: bool = False
    wide: bool = False

    @property
    def header(self) -> list[str]:
        columns = ["NAME", "SERVICE", "PHASE", "STEP", "WEIGHT", "LEFT", "AGE"]
        columns = ["NAMESPACE", *columns] if self.namespaces else columns
        return [*columns, "TARGET", "STABLE", "POLICY"] if self.wide else columns

    def row(self, attempt: Attempt, now: datetime) -> list[str]:
        cells = [
            attempt.name,
            attempt.service,
            attempt.phase,
            attempt.step_text,
            attempt.weight_text,
            attempt.left_text(now),
            short(now - attempt.created),
        ]
        if self.namespaces:
            cells.insert(0, attempt.namespace)
        if self.wide:
            cells += [attempt.target, text(attempt.status, "stable", "deployment"), text(attempt.spec, "policyName")]
        return [safe(cell, 253) or "-" for cell in cells]


def plain_lines(
    attempts: Sequence[Attempt], shape: Shape, now: datetime, *, header: bool = True, widths: Sequence[int] = ()
) -> list[str]:
    """One line per rollout, the sentence last; `widths` keeps later lines of a watch under the first ones."""
    rows = [shape.row(attempt, now) for attempt in attempts]
    if header:
        rows.insert(0, shape.header)
    widths = column_widths(rows, widths)
    last = (["VERDICT"] if header else []) + [safe(attempt.sentence) for attempt in attempts]
    return [GAP.join([*_padded(row, widths), sentence]).rstrip() for row, sentence in zip(rows, last, strict=True)]


def column_widths(rows: Sequence[Sequence[str]], at_least: Sequence[int] = ()) -> list[int]:
    """Cells each column needs; wide characters take two."""
    from rich.cells import cell_len

    widths = [max(cell_len(row[column]) for row in rows) for column in range(len(rows[0]))] if rows else []
    return [max(width, least) for width, least in zip(widths, at_least, strict=True)] if at_least else widths


def drawn(attempts: Sequence[Attempt], shape: Shape, now: datetime, width: int) -> RenderableType:
    """The table for a terminal of `width` columns. The service moves to the sentence where it does not fit."""
    from rich.console import Group
    from rich.padding import Padding
    from rich.text import Text

    header = shape.header
    rows = [shape.row(attempt, now) for attempt in attempts]
    service = header.index("SERVICE")
    total = sum(column_widths([header, *rows])) + len(GAP) * (len(header) - 1)
    moved = total > width
    if moved:
        header, *rows = ([*row[:service], *row[service + 1 :]] for row in (header, *rows))
    widths = column_widths([header, *rows])
    lines: list[RenderableType] = [Text(GAP.join(_padded(header, widths)).rstrip(), style="bold", no_wrap=False)]
    for attempt, row in zip(attempts, rows, strict=True):
        line = Text()
        for name, cell in zip(header, _padded(row, widths), strict=True):
            line.append(cell, style=STYLES.get(attempt.phase, "") if name == "PHASE" else "")
            line.append(GAP)
        line.rstrip()
        lines.append(line)
        sentence = safe(attempt.sentence)
        about = f"{safe(attempt.service)}: {sentence}" if moved and attempt.service else sentence
        if about:
            lines.append(Padding(Text(about, style="" if not attempt.stalled else "yellow"), (0, 0, 0, INDENT)))
    return Group(*lines)


def _padded(row: Sequence[str], widths: Sequence[int]) -> list[str]:
    from rich.cells import cell_len

    return [cell + " " * (width - cell_len(cell)) for cell, width in zip(row, widths, strict=True)]
