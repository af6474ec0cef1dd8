"""The Python process under the controller: what it would hold on to, and where it would lose time, without need.

Changes nothing that can be observed otherwise; where the C library is another one, its memory is left as it is.
"""

from __future__ import annotations

import gc
import sys
from typing import Any

_ARENA_MAX = -8  # <malloc.h>: M_ARENA_MAX
ARENAS = 2
"""glibc gives each thread an arena of its own, which is never shared: a dozen threads that parse JSON now and then keep
a dozen times what one needs."""

SWITCH_S = 0.02
"""How long a thread that waits for the interpreter lets another one go on: with Python's 5 ms, workers that look at a
thousand rollouts at the same tick spend a fifth of their time on taking it from each other. Nobody here waits for
less than a few hundredths of a second."""

YOUNG, YOUNG_AT_MOST, NEVER = 10_000, 20, 1_000_000
"""Thresholds of the garbage collector. An answer about thousands of versions makes some hundred thousand objects that
are gone a moment later, and Python takes each such wave for a reason to look through all that there is: a sixth of the
time with a thousand rollouts. What is young is looked through as ever; everything only by `collect`."""


def prepare() -> None:
    """To be called before threads are started; `collect` is to be called now and then from then on."""
    sys.setswitchinterval(SWITCH_S)
    gc.set_threshold(YOUNG, YOUNG_AT_MOST, NEVER)
    libc = _glibc()
    if libc is not None:
        libc.mallopt(_ARENA_MAX, ARENAS)


def settle() -> None:
    """After a start: what is there now stays, so the garbage collector need not look at it again and again; what the
    start alone needed goes back to the system."""
    gc.collect()
    gc.freeze()
    trim()


def collect() -> None:
    """Look through everything for what is in cycles and is needed no more."""
    gc.collect()
    trim()


def trim() -> None:
    """Give back to the system what is free."""
    libc = _glibc()
    if libc is not None:
        libc.malloc_trim(0)


def _glibc() -> Any:
    try:
        import ctypes  # libffi: a small image may be without

        libc = ctypes.CDLL(None)
        _ = libc.mallopt, libc.malloc_trim
    except (ImportError, OSError, AttributeError):  # musl, macOS
        return None
    return libc
