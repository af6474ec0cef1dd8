"""What strangers wrote stays text in the logs, for machines and for people."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from typing import Literal

import pytest
import structlog

from canary.daemon.logs import configure

HOSTILE = ["\x1b[31mred", "\x1b]0;title\x07", "\x9b2J", "a\nfake=line", "\u202egnp.exe", "a b\x1b[2J"]


@pytest.fixture(autouse=True)
def as_it_was() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def logged(style: Literal["json", "console"], text: str, capsys: pytest.CaptureFixture[str]) -> str:
    configure(style)
    structlog.get_logger("a").info("decision", rollout=text, reason=f"because of {text}")
    logging.getLogger("b").warning("watch of %s ended: %s", "pods", text)
    try:
        int(f"not {text}")
    except ValueError:
        structlog.get_logger("c").exception("unexpected", key=text)
    return capsys.readouterr().err


@pytest.mark.parametrize("text", HOSTILE)
def test_on_a_terminal_a_stranger_s_text_acts_on_nothing(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    lines = logged("console", text, capsys).splitlines()

    assert all(line.isprintable() for line in lines)
    assert not any(line.startswith("fake") for line in lines[:2])
    assert "Traceback" in lines[3]


@pytest.mark.parametrize("text", HOSTILE)
def test_for_machines_each_event_is_one_line_that_holds_it_exactly(
    text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = logged("json", text, capsys).splitlines()

    assert all(line.isprintable() for line in lines)
    events = [json.loads(line) for line in lines]
    assert events[0]["rollout"] == text
    assert text in events[1]["event"]
    assert events[2]["key"] == text
