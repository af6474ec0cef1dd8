"""`canary wait`: for pipelines. The live view goes to stderr, one line or document of result to stdout."""

from __future__ import annotations

import sys
from typing import Annotated, NoReturn

import typer

from canary.cli.exits import ExitCode
from canary.cli.options import (
    CONTROLLER_NAMESPACE,
    Context,
    ControllerNamespace,
    Kubeconfig,
    Namespace,
    Output,
    OutputOption,
    RolloutName,
    Timeout,
)
from canary.cli.reach import reach
from canary.cli.terminal import complain, say
from canary.cli.waiting import Until, Waited, outcome, wait_for

ThroughPauses = Annotated[
    bool, typer.Option("--through-pauses", help="Wait on while a person is waited for, instead of exit 5.")
]


def register(app: typer.Typer) -> None:
    app.command("wait")(wait)


def wait(
    *,
    name: RolloutName,
    until: Annotated[
        Until, typer.Option("--for", help="promoted: the exit code tells the end; finished: any end is exit 0.")
    ] = Until.PROMOTED,
    timeout: Timeout = None,
    through_pauses: ThroughPauses = False,
    output: OutputOption = Output.TABLE,
    namespace: Namespace = None,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
    controller_namespace: ControllerNamespace = CONTROLLER_NAMESPACE,
) -> None:
    """Wait until a rollout has ended; the exit code says how.

    0 promoted, 1 failed, 3 rolled back, 4 aborted or superseded, 5 paused (a person is needed), 6 timeout,
    7 not found, 8 no controller.
    """
    cluster = reach(kubeconfig, context, namespace)
    waited = wait_for(
        cluster,
        cluster.attempt(name),
        until=until,
        timeout=timeout,
        through_pauses=through_pauses,
        controller_namespace=controller_namespace,
    )
    finish(waited, output)


def finish(waited: Waited, output: Output) -> NoReturn:
    """Print how the waiting ended and leave with its code."""
    if output in (Output.TABLE, Output.WIDE):
        say(outcome(waited))
    else:
        from canary.cli.documents import render

        sys.stdout.write(render([waited.attempt], output, one=True))
        if waited.code is not ExitCode.OK:
            complain(outcome(waited))
    raise typer.Exit(waited.code)
