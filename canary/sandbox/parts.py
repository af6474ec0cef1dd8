"""What every process of the sandbox can be asked, whatever it is. It must never know which of them it is."""

from __future__ import annotations

from typing import Protocol


class Part(Protocol):
    """A process of the sandbox."""

    @property
    def pid(self) -> int: ...
    @property
    def is_running(self) -> bool: ...
    def start(self) -> object: ...
    def stop(self) -> None: ...
    def log_tail(self, lines: int = 15) -> str: ...


def last_words(name: str, part: Part) -> str:
    """That a part ended, and the end of its log."""
    tail = part.log_tail()
    return f"{name} of the sandbox ended; " + (f"the end of its log:\n{tail}" if tail else "its log is empty")
