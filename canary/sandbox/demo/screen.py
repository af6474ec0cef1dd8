"""The demo while it runs: a table that is redrawn on a terminal, one line per change in a log. On stderr only."""

from __future__ import annotations

import textwrap
from datetime import datetime
from types import TracebackType
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from canary.sandbox.demo.view import Standing, View

STYLES = {
    "Progressing": "cyan",
    "Promoting": "cyan",
    "Paused": "yellow",
    "Succeeded": "green",
    "RollingBack": "red",
    "RolledBack": "red",
    "Failed": "red",
}
_BAR = 10
_ROOMY = 28
"""Terminal lines from which a sentence may take three."""

_INDENT = 4


class Screen:
    """Shows a View; use it in a `with` block, so that the terminal is left as it was."""

    def __init__(self, console: Console) -> None:
        self._console = console
        # drawn when there is something new, and gone at the end: the report says it all
        self._live = Live(console=console, auto_refresh=False, transient=True) if console.is_terminal else None
        self._said: dict[str, str] = {}

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._live is not None:
            self._live.stop()

    def show(self, view: View) -> None:
        if self._live is not None:
            self._live.update(drawn(view, self._console.width, self._console.height), refresh=True)
            return
        for standing in view.standings:
            said = line(standing)
            if said and said != self._said.get(standing.release.version):
                self._said[standing.release.version] = said
                traffic = ", ".join(
                    f"{one.version or 'no pod'} {one.requests:.0f}/s {one.errors:.0f} errors/s" for one in view.traffic
                )
                now = datetime.now().astimezone()
                self._console.print(f"{now:%H:%M:%S} {said} [{traffic}]", soft_wrap=True)


def line(standing: Standing) -> str:
    """What a log says of a release; empty before its turn."""
    if not standing.phase:
        return ""
    at = f"{standing.step} {standing.weight} %" if standing.step else ""
    return " ".join(word for word in (standing.release.version, standing.phase, at, standing.sentence) if word)


def drawn(view: View, width: int, height: int) -> RenderableType:
    """The whole screen; at 80 x 24 everything fits."""
    minutes, seconds = divmod(int(view.seconds), 60)
    title = Text.assemble(
        ("canary demo", "bold"),
        f"  {view.rate:g} requests/s through Envoy  {minutes}:{seconds:02}  ",
        (f"{view.lost} lost", "red" if view.lost else "green"),
    )
    lines = 3 if height >= _ROOMY else 2
    releases = _table("", "RELEASE", "PHASE", "STEP", "WEIGHT", "", "TIME", right=(6,))
    parts: list[RenderableType] = [title, Text()]
    for standing in view.standings:
        releases.add_row(*_cells(standing))
        if standing.sentence:
            # a row of its own would be as narrow as its column
            parts += [releases, _sentence(standing, width, lines)]
            releases = _table(*[""] * 7, right=(6,), header=False)
    parts.append(releases)
    look = Text(f"export KUBECONFIG={view.kubeconfig}; kubectl get crol -w", style="dim")
    return Group(*parts, Text(), _traffic(view), Text(), look)


_WIDTHS = (2, 23, 11, 6, _BAR, 5, 5)


def _table(*columns: str, right: tuple[int, ...] = (), header: bool = True) -> Table:
    table = Table(box=None, show_header=header, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for index, (name, width) in enumerate(zip(columns, _WIDTHS, strict=True)):
        table.add_column(name, width=width, no_wrap=True, justify="right" if index in right else "left")
    return table


def _cells(standing: Standing) -> list[RenderableType]:
    filled = round(standing.weight * _BAR / 100)
    style = STYLES.get(standing.phase, "")
    has_begun = bool(standing.step)
    return [
        Text(standing.release.version, style="bold"),
        Text(standing.release.what),
        Text(standing.phase, style=style),
        Text(standing.step),
        Text("█" * filled + "░" * (_BAR - filled), style=style) if has_begun else Text(),
        Text(f"{standing.weight:3} %") if has_begun else Text(),
        Text(f"{standing.seconds:.0f}s") if standing.seconds else Text(),
    ]


def _sentence(standing: Standing, width: int, lines: int) -> RenderableType:
    wrapped = textwrap.wrap(standing.sentence, width - _INDENT, max_lines=lines, placeholder=" …")
    return Padding(Text("\n".join(wrapped), style="dim"), (0, 0, 0, _INDENT))


def _traffic(view: View) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for name, justify in (("VERSION", "left"), ("", "left"), ("REQUESTS/S", "right"), ("ERRORS/S", "right")):
        table.add_column(name, justify=justify)  # type: ignore[arg-type]
    table.add_column("P99", justify="right")
    for one in view.traffic:
        if not one.version and not one.requests:
            continue
        errors = Text(f"{one.errors:.1f}", style="red" if one.errors else "")
        latency = f"{one.p99_ms:.0f} ms" if one.requests else ""
        table.add_row(one.version or "-", one.role, f"{one.requests:.0f}", errors, latency)
    return table
