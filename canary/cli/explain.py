"""`canary explain`: why a rollout stands where it stands, and whether that can be computed again. Changes nothing.

Everything comes from the API server, or from a file: the rollout, and its ConfigMap `canary-evidence-<rollout>`. No
metrics source is asked, so it works for rollouts that ended long ago and while Prometheus is down.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from canary import __version__
from canary.analysis.record import Record
from canary.analysis.replay import Replay, replay
from canary.cli import account_rows as rows_of
from canary.cli.account import Account
from canary.cli.attempt import Attempt
from canary.cli.exits import ExitCode, stop
from canary.cli.options import Context, Kubeconfig, Namespace, Output, OutputOption
from canary.cli.reach import Cluster, reach
from canary.cli.terminal import complain, console, safe
from canary.cluster.evidence import evidence_name, packed_in
from canary.cluster.kinds import CONFIGMAP
from canary.errors import Forbidden, InputError, NotFound

LARGEST_FILE = 1024 * 1024
"""Bytes; a record is at most a quarter of it."""


def register(app: typer.Typer) -> None:
    app.command("explain")(explain)


def explain(
    *,
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="A rollout, or a Deployment (its newest attempt).")
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option("--file", "-f", metavar="FILE", help="A saved record instead of a rollout.", show_default=False),
    ] = None,
    again: Annotated[
        bool, typer.Option("--replay", help="Compute every verdict again, and compare (exit 1 if one differs).")
    ] = False,
    output: OutputOption = Output.TABLE,
    namespace: Namespace = None,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
) -> None:
    """Why a rollout stands where it stands, with the numbers."""
    if (name is None) == (file is None):
        raise typer.BadParameter("give a NAME, or --file")
    if output is Output.NAME:
        raise typer.BadParameter("-o name says nothing here: table, wide, json or yaml")
    attempt: Attempt | None = None
    if file is not None:
        record = _record_of(file)
    else:
        assert name is not None
        cluster = reach(kubeconfig, context, namespace)
        attempt = cluster.attempt(name)
        found = _kept(cluster, attempt)
        if isinstance(found, str):
            _without_record(attempt, found, output, replay_asked=again)
            return
        record = found
    shown = Account(record, attempt.phase if attempt else "")
    replayed = replay(record) if again else None
    if output in (Output.JSON, Output.YAML):
        from canary.cli.documents import as_json, as_yaml
        from canary.cli.figures import figures

        document = figures(shown, attempt, replayed)
        sys.stdout.write(as_json(document) if output is Output.JSON else as_yaml(document))
    elif replayed is not None:
        _print_replay(shown, attempt, replayed)
    else:
        _print_account(shown, attempt, wide=output is Output.WIDE)
    if replayed is not None and not replayed.agrees:
        stop(_disagreement(record, replayed))


def _record_of(path: Path) -> Record:
    with path.open("rb") as stream:
        data = stream.read(LARGEST_FILE + 1)
    if len(data) > LARGEST_FILE:
        raise InputError(f"{path} is no evidence record: it is larger than {LARGEST_FILE} bytes")
    try:
        return Record.unpack(data)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def _kept(cluster: Cluster, attempt: Attempt) -> Record | str:
    """The rollout's record, or why there is none."""
    config_map = evidence_name(attempt.name)
    try:
        document = cluster.gateway.get(CONFIGMAP, attempt.namespace, config_map)
    except NotFound:
        return (
            f"no evidence is kept of rollout {attempt.name}: there is no ConfigMap {config_map} (nothing was judged "
            "yet, or its controller kept none, or somebody deleted it)"
        )
    except Forbidden as error:
        return f"the evidence of rollout {attempt.name} may not be read: {error}"
    return Record.unpack(packed_in(document, _uid(attempt)))


def _uid(attempt: Attempt) -> str:
    metadata = attempt.document.get("metadata")
    return str(metadata.get("uid", "")) if isinstance(metadata, dict) else ""


def _without_record(attempt: Attempt, why: str, output: Output, *, replay_asked: bool) -> None:
    """The rollout's own status still says why, but not with which windows."""
    if replay_asked or output in (Output.JSON, Output.YAML):
        stop(why, ExitCode.NOT_FOUND)
    _print_lines(_heading(attempt, None))
    complain(why)


def _heading(attempt: Attempt | None, shown: Account | None) -> list[str]:
    """Which rollout, in which phase, the one sentence, and the verdict that counts where that says something else."""
    last = shown.last if shown else None
    said = [f"{last.verdict.outcome}: {last.verdict.sentence}"] if last else []
    if attempt is None:
        about = shown.record.about if shown else {}
        return [f"{about.get('namespace', '?')}/{about.get('name', '?')}: as recorded", *said]
    why = attempt.sentence
    is_news = last is not None and attempt.is_terminal and last.verdict.sentence not in why
    return [f"{attempt.namespace}/{attempt.name}: {attempt.phase}", *([why] if why else []), *(said if is_news else [])]


def _print_account(shown: Account, attempt: Attempt | None, *, wide: bool) -> None:
    _print_lines([*_heading(attempt, shown), ""])
    facts = list(rows_of.facts(shown))
    if attempt is not None and not attempt.is_terminal and shown.judged:
        written = rows_of.clock(shown.judged[-1].at)
        facts.append(("Written", f"as of {written} UTC; what came since is in `canary status`"))
    _print_lines([f"{label:<10} {safe(fact)}" for label, fact in facts])
    _print_table("Step by step", rows_of.STEP_COLUMNS, rows_of.step_rows(shown))
    _print_lines(rows_of.notes(shown))
    weighed, numbers = shown.weighed, rows_of.number_rows(shown)
    if weighed is not None and numbers:
        of = shown.record.policy.strategy.last_step
        where = "" if weighed.step is None else f", step {rows_of.step_text(weighed.step, of)}"
        title = f"The numbers at {rows_of.clock(weighed.at)}{where}, of the whole rollout as far as it is evidence"
        _print_table(title, rows_of.NUMBER_COLUMNS, numbers)
    if wide:
        _print_table("Every change of the verdict", rows_of.VERDICT_COLUMNS, rows_of.verdict_rows(shown))
    legend = rows_of.legend(shown)
    if legend:
        _print_lines(["", "How to read it", *legend])


def _print_replay(shown: Account, attempt: Attempt | None, replayed: Replay) -> None:
    _print_lines(_heading(attempt, shown))
    of = shown.record.policy.strategy.last_step
    rows = []
    for one in replayed.verdicts:
        entry = one.entry
        step = getattr(entry, "step", None)
        rows.append(
            [
                rows_of.clock(entry.at),
                rows_of.NOTHING if step is None else rows_of.step_text(step, of),
                f"{entry.verdict.outcome}: {entry.verdict.reason.replace('_', ' ')}",
                one.difference or ("the same" if one.verdict is not None else "its windows gave way to newer ones"),
            ]
        )
    _print_table("Computed again", ("AT", "STEP", "RECORDED", "COMPUTED"), rows)
    if replayed.agrees:
        left = len(replayed.verdicts) - replayed.computed
        apart = f"; {left:,} older ones can no longer be computed" if left else ""
        what = f"All {replayed.computed:,} verdicts come out the same, from {replayed.windows:,} windows"
        _print_lines(["", f"{what} and no other source{apart}."])


def _disagreement(record: Record, replayed: Replay) -> str:
    first = replayed.first_difference
    assert first is not None
    other = record.written_by != __version__
    versions = f" (recorded by canary {record.written_by}, computed by {__version__})" if other else ""
    return f"the verdict of {rows_of.clock(first.entry.at)} does not come out the same{versions}: {first.difference}"


def _print_lines(lines: Sequence[str]) -> None:
    if not sys.stdout.isatty():
        print("\n".join(safe(line) for line in lines))
        return
    screen = console(sys.stdout)
    for line in lines:
        screen.print(safe(line))


def _print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    cells = [[safe(cell) for cell in row] for row in rows]
    if not sys.stdout.isatty():
        print("\n".join(["", title, *rows_of.plain_table(columns, cells)]))
        return
    from rich.table import Table
    from rich.text import Text

    grid = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for column in columns:
        grid.add_column(Text(column), overflow="fold")
    for row in cells:
        grid.add_row(*(Text(cell) for cell in row))
    screen = console(sys.stdout)
    screen.print()
    screen.print(Text(title, style="bold"))
    screen.print(grid)
