"""`canary demo`: four releases in a sandbox of its own, and what each cost. Live table on stderr, result on stdout.

Exit 0 only when every release ended as it must, no request was lost, and the total failure was off in time.
"""

from __future__ import annotations

import contextlib
import sys
import tempfile
import time
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from canary.cli.exits import ExitCode
from canary.cli.lastwords import stop_with_last_words
from canary.cli.terminal import complain, console
from canary.errors import ClusterError, SandboxError

if TYPE_CHECKING:
    from canary.sandbox.cluster import Sandbox
    from canary.sandbox.demo.scenario import Result

_PREFIX = "canary-demo-"
_LOG_LINES = 20


class Form(StrEnum):
    TABLE = "table"
    JSON = "json"


def register(app: typer.Typer) -> None:
    app.command("demo")(demo)


def demo(
    *,
    output: Annotated[Form, typer.Option("--output", "-o", help="Form of the result.")] = Form.TABLE,
    rate: Annotated[float, typer.Option(min=100, max=2000, help="Requests per second of the callers.")] = 400,
    real: Annotated[
        bool, typer.Option("--real", help="On a real kube-apiserver (`make envtest`), not the embedded one.")
    ] = False,
    keep: Annotated[bool, typer.Option("--keep", help="Afterwards leave the cluster up until Ctrl-C.")] = False,
) -> None:
    """Release a good version and three bad ones on real Envoy and Prometheus; takes about a minute and a half."""
    from canary.cli.documents import as_json
    from canary.sandbox import state
    from canary.sandbox.cluster import Sandbox, Settings
    from canary.sandbox.demo import report
    from canary.sandbox.ending import Told, ends_on_signals
    from canary.sandbox.supervisor import claimed

    parent = Path(tempfile.gettempdir())
    with ends_on_signals():
        try:
            state.sweep(parent, _PREFIX)  # what a demo that was killed left
            directory = Path(tempfile.mkdtemp(prefix=_PREFIX))
            settings = Settings(rate=rate, record=True, controller_options=("--log-format", "console"), real=real)
            with claimed(directory), Sandbox(directory, settings).start(_tell) as sandbox:
                state.record(directory, sandbox.pids, is_ready=True)
                result = _play(sandbox)
                if output is Form.JSON:
                    sys.stdout.write(as_json(report.document(result)))
                else:
                    report.print_table(result, console(sys.stdout))
                sys.stdout.flush()
                failures = report.failures(result)
                if failures:
                    _show_log(sandbox)
                if keep:
                    _stay(sandbox)
        except Told as told:
            complain("demo: ended early, nothing of it is left")
            raise typer.Exit(told.exit_code) from None
        except (SandboxError, ClusterError) as error:
            stop_with_last_words(error)
    for failure in failures:
        complain(f"demo: {failure}")
    if failures:
        raise typer.Exit(ExitCode.ERROR)


def _tell(sentence: str) -> None:
    complain(f"demo: {sentence}")


def _play(sandbox: Sandbox) -> Result:
    from canary.sandbox.demo.scenario import Scenario
    from canary.sandbox.demo.screen import Screen

    try:
        with Screen(console(sys.stderr)) as screen:
            return Scenario(sandbox, screen.show).run()
    except (SandboxError, ClusterError):
        _show_log(sandbox)
        raise


def _show_log(sandbox: Sandbox) -> None:
    complain("demo: the end of the controller's log:")
    for line in sandbox.controller.log_tail(_LOG_LINES).splitlines():
        complain(line)


def _stay(sandbox: Sandbox) -> None:
    """Until Ctrl-C; callers are sent again, so that there is something to look at."""
    from canary.sandbox.ending import Told

    sandbox.callers.start()
    complain(f"demo: still up, until Ctrl-C: export KUBECONFIG={sandbox.kubeconfig}")
    with contextlib.suppress(Told):
        while True:
            time.sleep(1.0)
