"""Logs: one line per event, as JSON for machines or as text for people; stdlib loggers come out the same way.

Names, reasons and other servers' answers are strangers' text (docs/security.md, row 10): JSON escapes it, and what
people read on a terminal is made printable here.
"""

from __future__ import annotations

import logging
import sys
from typing import Literal

import structlog

from canary.model.text import plain

LONGEST = 8192
"""Characters of one line of one value that people are shown."""


def configure(style: Literal["json", "console"], level: str = "info") -> None:
    """Send everything to stderr. Called once, at the start of the process."""
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    renderers: list[structlog.typing.Processor] = (
        [structlog.processors.JSONRenderer()]
        if style == "json"
        else [_printable, structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())]
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderers],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for chatty in ("apscheduler", "urllib3"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )


def _printable(
    _logger: structlog.typing.WrappedLogger, _method: str, event: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    """Every text on one line and without control characters; a traceback keeps its lines."""
    return {key: _shown(value, lines=key == "exception") for key, value in event.items()}


def _shown(value: object, *, lines: bool) -> object:
    if not isinstance(value, str):
        return value  # shown as its repr, which escapes
    return "\n".join(plain(line, LONGEST) for line in value.split("\n")) if lines else plain(value, LONGEST)
