"""What happens to watches while they are open: they lag, are cut, end in the middle of an event, or are gone (410).

One hook for all of them, put before an API server for good; what it does is said while it runs, from any thread.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Coroutine
from enum import StrEnum
from typing import Any

import orjson

from tests.faults.asked import Asked
from tests.faults.proxy import Answer, Dropped, Forward

_GONE = {
    "type": "ERROR",
    "object": {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old resource version"},
}
_HALF_AN_EVENT = b'{"type":"MODIFIED","object":{"apiVersion":"v1","ki'


Heard = tuple[float, bytes] | None
"""When an event came (the loop's time), and its line; None for the end of the stream."""


class End(StrEnum):
    """How a watch ends before its time."""

    CUT = "watch cut"
    GONE = "410 in a watch"
    HALF = "half an event"


LAST_WORDS = {End.GONE: orjson.dumps(_GONE) + b"\n", End.HALF: _HALF_AN_EVENT}


class Streams:
    """The hook. `counts` is how many watches were ended, and how many events came late, by what was done to them."""

    def __init__(self) -> None:
        self.lag_s = 0.0
        """Every event comes so many seconds after it happened, in order."""
        self.counts: Counter[str] = Counter()
        self._open: set[asyncio.Future[End]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None

    async def __call__(self, asked: Asked, forward: Forward) -> Answer:
        self._loop = asyncio.get_running_loop()
        given = await forward()
        if asked.verb == "watch" and not isinstance(given.body, bytes):
            given.body = self._stream(given.body)
        return given

    def end(self, how: End) -> None:
        """End every watch that is open now."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._end, how)

    def _end(self, how: End) -> None:
        for told in self._open:
            if not told.done():
                told.set_result(how)

    async def _stream(self, body: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        loop = asyncio.get_running_loop()
        told: asyncio.Future[End] = loop.create_future()
        self._open.add(told)
        heard: asyncio.Queue[Heard] = asyncio.Queue()
        hearing = asyncio.ensure_future(_hear(body, heard))
        try:
            while True:
                entry = await _first(heard.get(), told)
                if entry is None:
                    return
                if isinstance(entry, End):
                    self.counts[entry] += 1
                    if entry is End.CUT:
                        raise Dropped
                    yield LAST_WORDS[entry]
                    return
                at, line = entry
                if self.lag_s:
                    self.counts["lagging watch"] += 1
                while (left := at + self.lag_s - loop.time()) > 0:
                    await asyncio.wait({told}, timeout=min(left, 0.1))  # the lag may be over before
                    if told.done():
                        break
                else:
                    yield line
        finally:
            self._open.discard(told)
            hearing.cancel()


async def _hear(body: AsyncIterator[bytes], heard: asyncio.Queue[Heard]) -> None:
    loop = asyncio.get_running_loop()
    try:
        async for line in body:
            heard.put_nowait((loop.time(), line))
    finally:
        heard.put_nowait(None)


async def _first(getting: Coroutine[Any, Any, Heard], told: asyncio.Future[End]) -> Heard | End:
    """What comes first: an event, the end of the stream (None), or the word that it shall end."""
    task: asyncio.Task[Heard] = asyncio.ensure_future(getting)
    waiting: set[asyncio.Future[Any]] = {task, told}
    try:
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        return told.result() if told.done() else task.result()
    finally:
        task.cancel()
