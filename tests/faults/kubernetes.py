"""What an API server, or the network before it, does to a controller: hooks for the proxy, one for each fault.

Every one is built as `fault(...)` and put before the requests that it is about with `on(...)`. None of them decides
when: that is the story's, or the schedule's.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from email.utils import formatdate

import orjson
from multidict import CIMultiDict

from tests.faults.asked import Asked
from tests.faults.proxy import Answer, Dropped, Forward, Hook

Where = Callable[[Asked], bool]

TOO_LARGE = "etcdserver: request is too large"
PIECES = 20
"""Into so many pieces a dribbled answer is cut."""


def on(where: Where, fault: Hook, times: int | None = None) -> Hook:
    """The fault for the requests that `where` chooses, the first `times` of them; all others pass."""
    left = times

    async def hook(asked: Asked, forward: Forward) -> Answer:
        nonlocal left
        if not where(asked) or left == 0:
            return await forward()
        if left is not None:
            left -= 1
        return await fault(asked, forward)

    return hook


def everything(_asked: Asked) -> bool:
    return True


def writes(*resources: str) -> Where:
    """Writes of these resources (plural), of all of them when none is named."""
    return lambda asked: asked.is_write and (not resources or asked.resource in resources)


def reads(asked: Asked) -> bool:
    """Gets and lists; a watch is neither."""
    return bool(asked.resource) and asked.verb in ("get", "list")


def watches(*resources: str) -> Where:
    return lambda asked: asked.verb == "watch" and (not resources or asked.resource in resources)


def requests(asked: Asked) -> bool:
    """Whatever is answered at once: everything but watches."""
    return asked.verb != "watch"


def status(
    code: int, reason: str, message: str, *, causes: tuple[str, ...] = (), retry_after: str | None = None
) -> Hook:
    """The server refuses, with a Status as Kubernetes writes it. Nothing happens on the server."""
    details = {"causes": [{"message": cause} for cause in causes]} if causes else {}
    document = {
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason, "message": message,
        "details": details,
    }  # fmt: skip
    headers = CIMultiDict({"Content-Type": "application/json"})
    if retry_after is not None:
        headers["Retry-After"] = retry_after

    async def hook(_asked: Asked, _forward: Forward) -> Answer:
        return Answer(code, headers, orjson.dumps(document))

    return hook


def conflict() -> Hook:
    return status(409, "Conflict", "the object has been modified; please apply your changes to the latest version")


def lost_precondition() -> Hook:
    """A JSON patch whose `test` failed: 422 without causes."""
    return status(422, "Invalid", "the server rejected our request due to an error in our request")


def invalid(cause: str) -> Hook:
    """A schema, a CEL rule or a webhook says no: 422 with causes."""
    return status(422, "Invalid", f"is invalid: {cause}", causes=(cause,))


def throttled(seconds: float, *, as_date: bool = False) -> Hook:
    """429, and how long to stay away: in seconds, or as the date that HTTP also allows."""

    async def hook(asked: Asked, forward: Forward) -> Answer:
        after = formatdate(time.time() + seconds, usegmt=True) if as_date else f"{seconds:g}"
        refused = status(429, "TooManyRequests", "too many requests, please try again later", retry_after=after)
        return await refused(asked, forward)

    return hook


def broken() -> Hook:
    return status(500, "InternalError", "an error on the server has prevented the request from succeeding")


def too_large() -> Hook:
    """What etcd says about an object over its limit of 1.5 MB."""
    return status(500, "", TOO_LARGE)


def unavailable() -> Hook:
    return status(503, "ServiceUnavailable", "the server is currently unable to handle the request")


def late(seconds: float) -> Hook:
    """The answer takes longer; what is asked is done in the meantime."""

    async def hook(_asked: Asked, forward: Forward) -> Answer:
        given = await forward()
        await asyncio.sleep(seconds)
        return given

    return hook


def late_before(seconds: float) -> Hook:
    """The request takes longer: it reaches the server when its sender may have given up."""

    async def hook(_asked: Asked, forward: Forward) -> Answer:
        await asyncio.sleep(seconds)
        return await forward()

    return hook


async def answer_lost(_asked: Asked, forward: Forward) -> Answer:
    """The request is carried out and its answer never arrives."""
    await forward()
    raise Dropped


async def reset(_asked: Asked, _forward: Forward) -> Answer:
    """The connection is reset before the request reaches the server."""
    raise Dropped


async def truncated(_asked: Asked, forward: Forward) -> Answer:
    """Half of the JSON, as if it were all."""
    given = await forward()
    if isinstance(given.body, bytes):
        given.body = given.body[: len(given.body) // 2]
    return given


def dribbled(seconds: float) -> Hook:
    """The body comes in small pieces, and takes `seconds` in all; each piece is in time."""

    async def pieces(body: bytes) -> AsyncIterator[bytes]:
        size = max(1, len(body) // PIECES)
        for begin in range(0, len(body), size):
            await asyncio.sleep(seconds / PIECES)
            yield body[begin : begin + size]

    async def hook(_asked: Asked, forward: Forward) -> Answer:
        given = await forward()
        if isinstance(given.body, bytes):
            given.body = pieces(given.body)
        return given

    return hook
