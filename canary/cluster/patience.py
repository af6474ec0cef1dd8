"""Trying an idempotent read again for a while, for callers that have no loop of their own (start-up, commands).

Never around a write, and never around something that tries again by itself: a reflector, the work queue and the
Lease have their own pace, and retries of retries multiply.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_before_delay, wait_random_exponential

from canary.errors import Unavailable

T = TypeVar("T")

_full_jitter = wait_random_exponential(multiplier=0.2, max=5.0)


def patiently(read: Callable[[], T], *, within_seconds: float = 10.0, sleep: Callable[[float], None] = time.sleep) -> T:
    """What `read()` returns, tried again while it raises Unavailable; any other error is final.

    Waits with full jitter, or as long as Retry-After asks. Raises the last Unavailable when the next attempt would
    come later than `within_seconds` after the first.
    """
    retrying = Retrying(
        retry=retry_if_exception_type(Unavailable),
        wait=_wait,
        stop=stop_before_delay(within_seconds),
        sleep=sleep,
        reraise=True,
    )
    return retrying(read)


def _wait(state: RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome is not None else None
    asked = error.retry_after if isinstance(error, Unavailable) else None
    return max(_full_jitter(state), asked or 0.0)
