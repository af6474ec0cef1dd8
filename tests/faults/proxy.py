"""An HTTP proxy between a controller and one server, the Kubernetes API or Prometheus, for tests to stand in the way.

Every request passes through the hooks, middleware that may delay it, answer it in the server's place, change the
answer, or cut the connection. Without hooks it changes nothing: bytes and credentials go through as they come, a watch
event by event as it happens. It speaks plain HTTP on loopback, for tests only.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import struct
import threading
from base64 import b64decode
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from concurrent.futures import Future
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Self

import aiohttp
import yaml
from aiohttp import web
from multidict import CIMultiDict
from yarl import URL

from tests.faults.asked import Asked, classify

_HOP_BY_HOP = frozenset(
    {"connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"}
)
_OURS = _HOP_BY_HOP | {"host", "content-length"}
"""Headers that belong to a connection, not to the message."""
MAX_BODY_BYTES = 16 * 1024 * 1024


class Dropped(Exception):
    """Raised by a hook, or by a body while it is read: the connection is cut, there and then."""


@dataclass
class Answer:
    """What the controller gets. A watch has a body that goes on: whole lines, one event each."""

    status: int
    headers: CIMultiDict[str]
    body: bytes | AsyncIterator[bytes]


Forward = Callable[[], Awaitable[Answer]]
Hook = Callable[[Asked, Forward], Awaitable[Answer]]


def answer(status: int, body: bytes, content_type: str = "application/json", **headers: str) -> Answer:
    """An answer of the proxy's own, for hooks that do not ask the server."""
    more = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer(status, CIMultiDict({"Content-Type": content_type, **more}), body)


class Proxy:
    """One proxy before one server, on a thread of its own. Hooks run on that thread's event loop.

    A write whose client dies while it is under way is carried out nevertheless, as it would be without a proxy.
    """

    def __init__(self, upstream: str, ca_file: Path | None = None, hooks: Iterable[Hook] = ()) -> None:
        self.upstream = upstream.rstrip("/")
        self.hooks: list[Hook] = list(hooks)
        """May be changed while the proxy runs; the first is the outermost."""
        self.log: list[tuple[Asked, int]] = []
        """Requests in the order in which they were finished, with the status answered, 0 for a cut connection."""
        self.url = ""
        self._tls: ssl.SSLContext | bool = ssl.create_default_context(cafile=ca_file) if ca_file else True
        self._counts: Counter[tuple[str, str, str]] = Counter()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._ending = asyncio.Event()
        self._session: aiohttp.ClientSession | None = None

    @classmethod
    def before(cls, kubeconfig: Path, hooks: Iterable[Hook] = ()) -> Self:
        """A proxy before the cluster of a kubeconfig, trusting the authority that it names."""
        cluster = _cluster(yaml.safe_load(kubeconfig.read_text(encoding="utf-8")))
        made = cls(str(cluster["server"]), hooks=hooks)
        if "certificate-authority-data" in cluster:
            authority = b64decode(str(cluster["certificate-authority-data"])).decode()
            made._tls = ssl.create_default_context(cadata=authority)
        elif "certificate-authority" in cluster:
            made._tls = ssl.create_default_context(cafile=str(cluster["certificate-authority"]))
        return made

    def start(self) -> None:
        """Listen on a free port of loopback; `url` is known afterwards."""
        ready: Future[str] = Future()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve(ready)), name="proxy", daemon=True)
        self._thread.start()
        self.url = ready.result(20)

    def stop(self) -> None:
        """Cut every connection and end."""
        if self._loop and self._thread and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._ending.set)
            self._thread.join(20)

    def reset(self) -> None:
        """Begin a new count of requests and a new log."""
        self._counts.clear()
        self.log = []

    def kubeconfig(self, source: Path, path: Path) -> Path:
        """Write a kubeconfig like `source`, the same user, whose server is this proxy. Readable by its owner only."""
        document = yaml.safe_load(source.read_text(encoding="utf-8"))
        cluster = _cluster(document)
        cluster.clear()
        cluster["server"] = self.url
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            yaml.safe_dump(document, file, sort_keys=False)
        return path

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.stop()

    async def _serve(self, ready: Future[str]) -> None:
        self._loop = asyncio.get_running_loop()
        # Connections that rest are given up long before any server does, so that none is found closed at its next use.
        connector = aiohttp.TCPConnector(limit=0, ssl=self._tls, keepalive_timeout=10)
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=10)
        application = web.Application(client_max_size=MAX_BODY_BYTES)
        application.router.add_route("*", "/{path:.*}", self._handle)
        runner = web.AppRunner(application, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout, auto_decompress=False) as self._session:
            try:
                await runner.setup()
                await web.TCPSite(runner, "127.0.0.1", 0).start()
                ready.set_result(f"http://127.0.0.1:{runner.addresses[0][1]}")
                await self._ending.wait()
            except OSError as error:
                ready.set_exception(error)
            finally:
                await runner.cleanup()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        asked = self._count(classify(request.method, request.raw_path, await request.read()))
        work = asyncio.ensure_future(self._answer(asked, request))
        # A client that is gone ends its watch, never a write on its way.
        given = await (work if asked.verb == "watch" else asyncio.shield(work))
        if given is None:
            return _cut(request)
        if isinstance(given.body, bytes):
            return web.Response(status=given.status, headers=_passed_on(given.headers), body=given.body)
        return await self._stream(request, asked, given, given.body)

    def _count(self, asked: Asked) -> Asked:
        self._counts[asked.kind_of_request] += 1
        return replace(asked, nth=self._counts[asked.kind_of_request])

    async def _answer(self, asked: Asked, request: web.Request) -> Answer | None:
        """What the hooks and the server say, on record unless it goes on; None for a cut connection."""

        async def forward() -> Answer:
            return await self._forward(asked, request)

        through: Forward = forward
        for hook in reversed(self.hooks):
            through = _around(hook, asked, through)
        try:
            given = await through()
        except (Dropped, aiohttp.ClientError, OSError):
            self.log.append((asked, 0))
            return None
        if isinstance(given.body, bytes):
            self.log.append((asked, given.status))
        return given

    async def _forward(self, asked: Asked, request: web.Request) -> Answer:
        assert self._session is not None
        response = await self._session.request(
            request.method,
            URL(self.upstream + request.raw_path, encoded=True),
            data=asked.body or None,
            headers=_passed_on(request.headers),
            skip_auto_headers=("Accept", "Accept-Encoding", "User-Agent", "Content-Type"),
            allow_redirects=False,
        )
        headers = CIMultiDict(response.headers)
        if asked.verb == "watch" and response.status == 200:
            return Answer(response.status, headers, _lines(response))
        async with response:
            return Answer(response.status, headers, await response.read())

    async def _stream(
        self, request: web.Request, asked: Asked, given: Answer, body: AsyncIterator[bytes]
    ) -> web.StreamResponse:
        response = web.StreamResponse(status=given.status, headers=_passed_on(given.headers))
        try:
            await response.prepare(request)
            async for piece in body:
                await response.write(piece)
            await response.write_eof()
        except (Dropped, aiohttp.ClientError, OSError):
            _cut(request)
        finally:
            self.log.append((asked, given.status))
            if close := getattr(body, "aclose", None):
                await close()
        return response


def _around(hook: Hook, asked: Asked, inner: Forward) -> Forward:
    async def through() -> Answer:
        return await hook(asked, inner)

    return through


async def _lines(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    """Whole lines as they come, whatever is left at the end; closes the connection with itself."""
    rest = b""
    try:
        async for piece in response.content.iter_any():
            *whole, rest = (rest + piece).split(b"\n")
            for line in whole:
                yield line + b"\n"
        if rest:
            yield rest
    finally:
        if response.connection is not None and response.connection.transport is not None:
            response.connection.transport.abort()  # an orderly end of TLS would outlast the loop
        response.close()


def _passed_on(headers: Iterable[tuple[str, str]] | CIMultiDict[str] | object) -> CIMultiDict[str]:
    """What goes through: all but what belongs to the connection."""
    given: CIMultiDict[str] = CIMultiDict(headers)  # type: ignore[arg-type]
    return CIMultiDict((name, value) for name, value in given.items() if name.lower() not in _OURS)


def _cut(request: web.Request) -> web.Response:
    """A reset connection; the response is what aiohttp wants to have, nobody reads it."""
    if request.transport is not None:
        connection = request.transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # a reset, not an end
        request.transport.abort()
    return web.Response()


def _cluster(document: dict[str, object]) -> dict[str, object]:
    """The cluster of a kubeconfig's current context."""
    contexts = {one["name"]: one["context"] for one in document["contexts"]}  # type: ignore[attr-defined]
    clusters = {one["name"]: one["cluster"] for one in document["clusters"]}  # type: ignore[attr-defined]
    return clusters[contexts[document["current-context"]]["cluster"]]  # type: ignore[no-any-return]
