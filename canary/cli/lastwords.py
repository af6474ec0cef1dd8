"""How a command ends that ran processes of its own and lost one: its sentence, and the end of that process's log."""

from __future__ import annotations

from typing import NoReturn

import typer

from canary.cli.exits import ExitCode
from canary.cli.terminal import complain
from canary.errors import CanaryError


def stop_with_last_words(error: CanaryError) -> NoReturn:
    """The error on stderr, a log in it line by line, and exit code 1."""
    for line in str(error).splitlines():
        complain(line)
    raise typer.Exit(ExitCode.ERROR) from error
