"""The API server as a process or as part of one: TLS on loopback, a token on every request, errors as `Status`."""

from __future__ import annotations

import hmac
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import orjson
from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from canary.sandbox import credentials
from canary.sandbox.apiserver import answers
from canary.sandbox.apiserver.answers import ApiError
from canary.sandbox.apiserver.builtin import BUILTIN
from canary.sandbox.apiserver.objects import Objects, Request
from canary.sandbox.apiserver.requests import MAX_BODY_BYTES
from canary.sandbox.apiserver.resources import Registry
from canary.sandbox.apiserver.routes import Routes
from canary.sandbox.apiserver.rules import Target
from canary.sandbox.apiserver.store import Store

_log = logging.getLogger(__name__)
_HEALTH = ("/healthz", "/livez", "/readyz")

HISTORY = 1_000
"""Changes remembered per kind, from which watches resume: minutes of a busy sandbox, some 50 MB of 8 KB objects."""


@dataclass(frozen=True)
class Running:
    """A server that answers. `objects` is its content, for embedding and tests."""

    url: str
    kubeconfig: Path
    objects: Objects


@asynccontextmanager
async def serve(kubeconfig: Path, *, port: int = 0, history: int = HISTORY) -> AsyncIterator[Running]:
    """Serve on 127.0.0.1 until the block ends; `kubeconfig` is written when the server is ready to answer.

    Port 0 takes a free one. Raises OSError when the port is taken or the file cannot be written.
    """
    identity = credentials.create()
    objects = Objects(Registry(BUILTIN), Store(history))
    _create_namespaces(objects)
    application = web.Application(
        client_max_size=MAX_BODY_BYTES, middlewares=[_errors_as_status, _authenticated(identity.token)]
    )
    application.router.add_route("*", "/{path:.*}", Routes(objects).handle)
    # A watch whose client is gone ends at once (handler_cancellation), not at its next event.
    runner = web.AppRunner(application, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, credentials.HOST, port, ssl_context=identity.context())
        await site.start()
        url = f"https://{credentials.HOST}:{runner.addresses[0][1]}"
        credentials.write_kubeconfig(kubeconfig, url, identity.authority_pem, identity.token)
        _log.info("serving on %s, kubeconfig %s", url, kubeconfig)
        yield Running(url, kubeconfig, objects)
    finally:
        await runner.cleanup()


def _create_namespaces(objects: Objects) -> None:
    resource = objects.registry.find("", "namespaces")
    assert resource
    for name in ("default", "kube-system"):
        body = {"metadata": {"name": name}}
        objects.create(Target(resource, resource.versions[0]), body, Request(manager="canary-sandbox"))


def _respond(error: ApiError) -> web.Response:
    response = web.Response(body=orjson.dumps(error.status()), status=error.code, content_type="application/json")
    if error.code == 504:
        response.headers["Retry-After"] = "1"
    return response


@web.middleware
async def _errors_as_status(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Every failure is a `Status`; one nobody foresaw is logged and answered with a 500."""
    try:
        return await handler(request)
    except ApiError as error:
        return _respond(error)
    except ConnectionError:
        raise  # the client is gone, there is nobody to answer
    except Exception:  # noqa: BLE001 - logged, and the client gets its answer
        _log.exception("%s %s", request.method, request.path)
        return _respond(answers.internal())


def _authenticated(token: str) -> Middleware:
    """Middleware that asks for the bearer token everywhere but on health checks, which it answers."""
    wanted = f"Bearer {token}".encode()

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path.rstrip("/") in _HEALTH:
            return web.Response(text="ok")
        given = request.headers.get("Authorization", "").encode("utf-8", "surrogateescape")
        if not hmac.compare_digest(given, wanted):
            raise answers.unauthorized()
        return await handler(request)

    return check
