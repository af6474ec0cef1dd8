"""Being told to end: Ctrl-C, SIGTERM and a closed terminal become one exception, so that `with` blocks clean up."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Told(BaseException):
    """Somebody wants this process to end. No Exception: no handler of errors may swallow it."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.exit_code = 128 + number
        """As a shell reports a program that a signal ended."""


@contextmanager
def ends_on_signals() -> Iterator[None]:
    """Within it the first signal raises Told in the main thread; later ones are ignored, so that ending goes on.

    A signal that was ignored before (nohup) still is.
    """
    is_told = False

    def handle(number: int, _frame: FrameType | None) -> None:
        nonlocal is_told
        if not is_told:
            is_told = True
            raise Told(number)

    before = {number: signal.getsignal(number) for number in _SIGNALS}
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, handle)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
