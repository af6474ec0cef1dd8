"""`canary status`: reads the API server, prints within 0.35 s (decisions.md 23), changes nothing."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from canary.cli import detail, table
from canary.cli.attempt import Attempt, newest_first
from canary.cli.exits import ExitCode, stop
from canary.cli.options import (
    CONTROLLER_NAMESPACE,
    Context,
    ControllerNamespace,
    Kubeconfig,
    Namespace,
    Output,
    OutputOption,
)
from canary.cli.reach import Cluster, reach
from canary.cli.terminal import complain, console, safe

if TYPE_CHECKING:
    from rich.console import RenderableType

    from canary.cli.follow import Follow


def register(app: typer.Typer) -> None:
    app.command("status")(status)


def status(
    *,
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="A rollout, or a Deployment (its newest attempt).")
    ] = None,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Go on showing what changes.")] = False,
    all_namespaces: Annotated[bool, typer.Option("--all-namespaces", "-A", help="All namespaces.")] = False,
    selector: Annotated[
        str | None, typer.Option("--selector", "-l", help="Label selector, as in app=payment.", show_default=False)
    ] = None,
    output: OutputOption = Output.TABLE,
    namespace: Namespace = None,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
    controller_namespace: ControllerNamespace = CONTROLLER_NAMESPACE,
) -> None:
    """What is being released, how far it is, and why."""
    if name and (all_namespaces or selector):
        raise typer.BadParameter("NAME goes with neither --all-namespaces nor --selector")
    if watch and output in (Output.JSON, Output.YAML, Output.NAME):
        raise typer.BadParameter("--watch shows a table: use `kubectl get crol -w -o ...` for objects")
    cluster = reach(kubeconfig, context, namespace, all_namespaces=all_namespaces)
    found = [cluster.attempt(name)] if name else newest_first(cluster.attempts(label_selector=selector))
    if output not in (Output.TABLE, Output.WIDE):
        from canary.cli.documents import render

        sys.stdout.write(render(found, output, one=bool(name)))
        return
    shape = table.Shape(namespaces=all_namespaces, wide=output is Output.WIDE)
    if watch:
        _watch(cluster, found[0] if name else None, selector, shape)
        return
    if not found:
        complain("no rollouts in any namespace" if all_namespaces else f"no rollouts in namespace {cluster.namespace}")
        return
    if name:
        _print_one(found[0])
    else:
        _print_all(found, shape)
    if any(not attempt.is_terminal for attempt in found):
        sys.stdout.flush()  # the answer first: the next line costs another request
        from canary.cli.heartbeat import no_controller

        trouble = no_controller(cluster.gateway, controller_namespace)
        if trouble:
            complain(trouble)


def _print_one(attempt: Attempt) -> None:
    if sys.stdout.isatty():
        console(sys.stdout).print(detail.drawn(attempt, _now()))
    else:
        print("\n".join(detail.plain_lines(attempt, _now())))


def _print_all(attempts: list[Attempt], shape: table.Shape) -> None:
    if sys.stdout.isatty():
        screen = console(sys.stdout)
        screen.print(table.drawn(attempts, shape, _now(), screen.width))
    else:
        print("\n".join(table.plain_lines(attempts, shape, _now())))


def _watch(cluster: Cluster, one: Attempt | None, selector: str | None, shape: table.Shape) -> None:
    from canary.cli.follow import Follow

    with Follow(cluster.gateway, cluster.namespace, label_selector=selector) as follow:
        if sys.stdout.isatty():
            _redraw(follow, one, shape)
        else:
            _line_per_change(follow, one, shape)


def _redraw(follow: Follow, one: Attempt | None, shape: table.Shape) -> None:
    """The same screen again and again, until Ctrl-C; a single rollout until it has ended."""
    from rich.console import Group
    from rich.live import Live
    from rich.text import Text

    screen = console(sys.stdout)
    with Live(console=screen, auto_refresh=False) as live:
        for snapshot in follow.snapshots():
            shown = _chosen(snapshot, one)
            body: RenderableType
            if one is not None and shown:
                body = detail.drawn(shown[0], _now())
            else:
                body = table.drawn(shown, shape, _now(), screen.width) if shown else Text("no rollouts yet")
            trouble = safe(follow.trouble)
            live.update(Group(body, Text(trouble, style="yellow")) if trouble else body, refresh=True)
            if one is not None and shown and shown[0].is_terminal:
                return


def _line_per_change(follow: Follow, one: Attempt | None, shape: table.Shape) -> None:
    """For a pipe: what there is, then a line for each change a person would see in it."""
    seen: dict[tuple[str, str], list[str]] = {}
    widths: list[int] = []
    for snapshot in follow.snapshots():
        now = _now()
        fresh = []
        for attempt in reversed(newest_first(_chosen(snapshot, one))):
            facts = [attempt.phase, attempt.step_text, attempt.weight_text, attempt.sentence]
            if seen.get((attempt.namespace, attempt.name)) != facts:
                seen[attempt.namespace, attempt.name] = facts
                fresh.append(attempt)
        if fresh:
            rows = [shape.row(attempt, now) for attempt in fresh]
            first = not widths
            widths = table.column_widths([shape.header, *rows], widths)
            print("\n".join(table.plain_lines(fresh, shape, now, header=first, widths=widths)), flush=True)
        if one is not None and fresh and fresh[-1].is_terminal:
            return


def _chosen(snapshot: list[Attempt], one: Attempt | None) -> list[Attempt]:
    """What to show of a snapshot. Ends the command when the one rollout was deleted."""
    if one is None:
        return newest_first(snapshot)
    chosen = [attempt for attempt in snapshot if attempt.name == one.name]
    if not chosen:
        stop(f"rollout {one.name} in namespace {one.namespace} was deleted", ExitCode.NOT_FOUND)
    return chosen


def _now() -> datetime:
    return datetime.now(UTC)
