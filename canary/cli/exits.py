"""Exit codes, and the one way a command ends early: a sentence on stderr and a code. Pipelines branch on these."""

from __future__ import annotations

from enum import IntEnum
from typing import NoReturn

import typer

from canary.cli.terminal import complain
from canary.model.phase import Phase


class ExitCode(IntEnum):
    OK = 0
    ERROR = 1
    USAGE = 2
    ROLLED_BACK = 3
    ABORTED = 4
    """Aborted by a person or drift, or superseded by a newer revision."""
    PAUSED = 5
    TIMEOUT = 6
    NOT_FOUND = 7
    NO_CONTROLLER = 8


ENDED: dict[Phase, ExitCode] = {
    Phase.SUCCEEDED: ExitCode.OK,
    Phase.ROLLED_BACK: ExitCode.ROLLED_BACK,
    Phase.ABORTED: ExitCode.ABORTED,
    Phase.SUPERSEDED: ExitCode.ABORTED,
    Phase.FAILED: ExitCode.ERROR,
}
"""What `canary wait` says of each terminal phase."""


def stop(sentence: str, code: ExitCode = ExitCode.ERROR) -> NoReturn:
    """Say why on stderr and end the command with `code`."""
    complain(sentence)
    raise typer.Exit(code)
