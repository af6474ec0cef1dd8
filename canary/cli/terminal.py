"""Where commands write, and what may be written there.

Every text that came from a cluster passes `safe` before a terminal sees it, and is never read as markup: names,
reasons and sentences are strangers' (security.md 10). Colour only on a terminal, and never with NO_COLOR.
"""

from __future__ import annotations

import re
import shutil
import sys
import textwrap
from typing import TYPE_CHECKING

from canary.model.text import plain

if TYPE_CHECKING:
    from typing import TextIO

    from rich.console import Console

LIMIT = 2048
"""Characters of one stranger's text that are shown: the longest a status may hold."""


_COMMAND = re.compile(r"^\s*:(?=:)|#(?=#[A-Za-z]*\[)")
"""What build services take for a command in a job's output: a line that begins with `::`, and `##vso[` anywhere."""


def safe(text: str, limit: int = LIMIT) -> str:
    """`text` on one line without control, bidirectional or other invisible characters, and no command of a build."""
    return _COMMAND.sub(r"\g<0> ", plain(text, limit))


def console(stream: TextIO) -> Console:
    """A console that reads nothing into what it prints: no markup, no emoji, no highlighting."""
    from rich.console import Console

    return Console(file=stream, markup=False, emoji=False, highlight=False)


def say(sentence: str) -> None:
    """A line of result, on stdout."""
    print(safe(sentence))


def complain(sentence: str) -> None:
    """A line for the person, on stderr; wrapped at words on a terminal, one line in a log."""
    line = safe(sentence)
    if sys.stderr.isatty():
        width = shutil.get_terminal_size().columns
        line = textwrap.fill(line, max(width, 20), break_long_words=False, break_on_hyphens=False)
    print(line, file=sys.stderr)
