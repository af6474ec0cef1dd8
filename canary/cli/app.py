"""The commands `canary` and `kubectl canary`: their names and first lines here, their code only when asked for.

`canary status` must print within 0.35 s (decisions.md 23), so this module imports nothing but typer: one command's
module is loaded when that command is, and `canary --help` is written from the table below alone.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from canary.errors import CanaryError, NotFound


@dataclass(frozen=True, slots=True)
class Entry:
    """A command's module (which has `register(app)`), its first line of help, and the panel it is listed in."""

    module: str
    summary: str
    panel: str


_WATCH, _STEER, _POLICIES, _SERVE = "Look", "Steer", "Policies", "Run"

COMMANDS: dict[str, Entry] = {
    "status": Entry("canary.cli.status", "What is being released, how far it is, and why.", _WATCH),
    "wait": Entry("canary.cli.wait", "Wait until a rollout has ended; the exit code says how.", _WATCH),
    "explain": Entry("canary.cli.explain", "Why a rollout stands where it stands, with the numbers.", _WATCH),
    "plan": Entry("canary.cli.plan", "What a rollout would do, how long it takes, and what it would notice.", _WATCH),
    "backtest": Entry("canary.cli.backtest", "What a policy would have decided on recorded figures.", _WATCH),
    "start": Entry("canary.cli.start", "Start releasing a Deployment's newest revision.", _STEER),
    "promote": Entry("canary.cli.wishes", "Go past the pause a rollout waits at, or to 100 % at once.", _STEER),
    "pause": Entry("canary.cli.wishes", "Stay at the current weight until resumed.", _STEER),
    "resume": Entry("canary.cli.wishes", "Go on after `canary pause`.", _STEER),
    "abort": Entry("canary.cli.wishes", "Give all traffic back to stable and end the rollout.", _STEER),
    "retry": Entry("canary.cli.start", "Try a revision again that was rolled back, aborted or promoted.", _STEER),
    "policy": Entry("canary.cli.policy", "Check and read policies.", _POLICIES),
    "run": Entry("canary.cli.run", "Run the controller.", _SERVE),
    "sandbox": Entry("canary.cli.sandbox", "A cluster on this machine, with real Envoy and Prometheus.", _SERVE),
    "demo": Entry("canary.cli.demo", "Release four versions in the sandbox, three of them bad.", _SERVE),
}


class LazyGroup(TyperGroup):
    """Lists commands from the table, and imports a command's module only when that command is run."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002  click's signature
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ARG002  click's signature
        """A stand-in with name and first line: enough for `--help` and completion."""
        entry = COMMANDS.get(cmd_name)
        if entry is None:
            return None
        return TyperCommand(cmd_name, help=entry.summary, rich_help_panel=entry.panel)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name, command, rest = super().resolve_command(ctx, args)
        return (name, load(name), rest) if name is not None and command is not None else (name, command, rest)


def load(name: str) -> Any:
    """The real command, out of its module."""
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    import_module(COMMANDS[name].module).register(app)
    return typer.main.get_group(app).commands[name]


def _version(asked: bool) -> None:
    if asked:
        from canary import __version__

        print(f"canary {__version__}")
        raise typer.Exit


app = typer.Typer(
    cls=LazyGroup,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def canary(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """Progressive delivery for Istio: shift traffic step by step, judge every step, go back at once."""


def main() -> None:
    """Entry point of both scripts. A mistake is one sentence on stderr and an exit code, never a traceback."""
    from canary.cli.exits import ExitCode
    from canary.cli.terminal import complain

    name = Path(sys.argv[0]).name
    try:
        app(prog_name="kubectl canary" if name == "kubectl-canary" else "canary")
    except NotFound as error:
        complain(str(error))
        sys.exit(ExitCode.NOT_FOUND)
    except CanaryError as error:
        complain(str(error))
        sys.exit(ExitCode.ERROR)
    except OSError as error:
        complain(f"{error.filename}: {error.strerror}" if error.filename else str(error))
        sys.exit(ExitCode.ERROR)


if __name__ == "__main__":
    main()
