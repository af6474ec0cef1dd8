"""One open watch: JSON lines off a socket, closable from another thread.

It yields what the API server sends and raises when the stream is no longer of use. It never reconnects: where to go
on from is the reflector's decision.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import TracebackType
from typing import Any

import orjson
from urllib3 import BaseHTTPResponse
from urllib3.exceptions import HTTPError

from canary.cluster.answers import refusal
from canary.errors import Unavailable

READ_SIZE = 65536


class Watch:
    """An iterator of `(type, object)`; type is ADDED, MODIFIED, DELETED or BOOKMARK.

    Ends quietly when the server's `timeoutSeconds` is over or after `close()`. Raises Expired for a 410, which
    arrives as an ERROR event inside a 200, and Unavailable when the connection is cut or the JSON is broken.
    """

    def __init__(self, response: BaseHTTPResponse, deed: str) -> None:
        self._response = response
        self._deed = deed
        self._closed = False

    def __enter__(self) -> Watch:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._closed = True
        self._response.close()

    def close(self) -> None:
        """End the iteration now, from any thread: shuts the reading half of the socket, which wakes the reader."""
        self._closed = True
        try:
            self._response.shutdown()
        except (OSError, RuntimeError, ValueError):
            # the stream had already ended, and urllib3 took the socket back: nothing is left to wake
            return

    def __iter__(self) -> Iterator[tuple[str, dict[str, Any]]]:
        for line in self._lines():
            yield self._event(line)

    def _lines(self) -> Iterator[bytes]:
        rest = b""
        while not self._closed:
            try:
                chunk = self._response.read1(READ_SIZE)
            except (HTTPError, OSError, ValueError, AttributeError) as error:
                if self._closed:
                    return  # what a read says about a socket shut under it differs by platform and by TLS
                raise Unavailable(f"cannot {self._deed}: the stream broke off: {error}") from error
            if self._closed:
                return
            if not chunk:
                if rest.strip():
                    raise Unavailable(f"cannot {self._deed}: the stream ended inside an event")
                return
            *lines, rest = (rest + chunk).split(b"\n")
            yield from (line for line in lines if line.strip())

    def _event(self, line: bytes) -> tuple[str, dict[str, Any]]:
        try:
            event = orjson.loads(line)
            kind, obj = event["type"], event["object"]
        except (orjson.JSONDecodeError, KeyError, TypeError) as error:
            raise Unavailable(f"cannot {self._deed}: an event is not what a watch sends: {error}") from error
        if not isinstance(obj, dict):
            raise Unavailable(f"cannot {self._deed}: an event carries no object")
        if kind == "ERROR":
            code = obj.get("code")
            raise refusal(self._deed, code if isinstance(code, int) else 500, obj, {}, write=False)
        return kind, obj
