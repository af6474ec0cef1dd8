"""The process' own memory: what a Python process would hold on to without need. Changes nothing that can be observed
otherwise, and does nothing where the C library is another."""

from __future__ import annotations

import gc
from typing import Any

_ARENA_MAX = -8  # <malloc.h>: M_ARENA_MAX
ARENAS = 2
"""glibc gives each thread an arena of its own, which is never shared: a dozen threads that parse JSON now and then keep
a dozen times what one needs."""


def few_arenas() -> None:
    """To be called before threads are started."""
    libc = _glibc()
    if libc is not None:
        libc.mallopt(_ARENA_MAX, ARENAS)


def settle() -> None:
    """After a start: what is there now stays, so the garbage collector need not look at it again and again; what the
    start alone needed goes back to the system."""
    gc.collect()
    gc.freeze()
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
