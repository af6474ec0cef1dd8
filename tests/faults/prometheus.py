"""What a Prometheus, or the network before it, does to a controller: hooks for the proxy, one for each fault.

The body of a question is a form (`query=…`), which is all that tells one question from another.
"""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs

import orjson
from multidict import CIMultiDict

from tests.faults.asked import Asked
from tests.faults.proxy import Answer, Forward, Hook, answer

LOGIN_PAGE = b"<!DOCTYPE html><html><head><title>Sign in</title></head><body>Please sign in</body></html>"


def query_of(asked: Asked) -> str:
    """The PromQL of a question, "" for whatever is none."""
    return parse_qs(asked.body.decode()).get("query", [""])[0]


def login_page() -> Hook:
    """A gateway before Prometheus answers 200 with a page for people."""

    async def hook(_asked: Asked, _forward: Forward) -> Answer:
        return answer(200, LOGIN_PAGE, "text/html; charset=utf-8")

    return hook


def status_error(code: int = 503) -> Hook:
    """Prometheus' own error document: too busy, or a query that took too long."""
    document = {"status": "error", "errorType": "timeout", "error": "query timed out in expression evaluation"}

    async def hook(_asked: Asked, _forward: Forward) -> Answer:
        return answer(code, orjson.dumps(document))

    return hook


def silent(seconds: float) -> Hook:
    """No answer for so long."""

    async def hook(_asked: Asked, forward: Forward) -> Answer:
        await asyncio.sleep(seconds)
        return await forward()

    return hook


def empty() -> Hook:
    """Every question is answered with no row at all, as by a Prometheus that lost its data."""
    return _changed(lambda document: _with_rows(document, lambda _rows: []))


def not_a_number() -> Hook:
    """Every value is NaN."""

    def rows(found: list[Any]) -> list[Any]:
        for row in found:
            if "value" in row:
                row["value"] = [row["value"][0], "NaN"]
            if "values" in row:
                row["values"] = [[at, "NaN"] for at, _ in row["values"]]
        return found

    return _changed(lambda document: _with_rows(document, rows))


def partial_warning() -> Hook:
    """An answer that says itself that it is perhaps not all there is, as a federation does when a part is away."""

    def warned(document: dict[str, Any]) -> dict[str, Any]:
        return {**document, "warnings": ["a store did not answer: partial response"]}

    return _changed(warned)


def _changed(change: Callable[[dict[str, Any]], dict[str, Any]]) -> Hook:
    async def hook(_asked: Asked, forward: Forward) -> Answer:
        given = await forward()
        if given.status != 200 or not isinstance(given.body, bytes):
            return given
        document = orjson.loads(_plain(given))
        headers = CIMultiDict({"Content-Type": "application/json"})
        return Answer(200, headers, orjson.dumps(change(document)))

    return hook


def _plain(given: Answer) -> bytes:
    """The body as text; Prometheus compresses long ones."""
    assert isinstance(given.body, bytes)
    if given.headers.get("Content-Encoding") == "gzip":
        return gzip.decompress(given.body)
    return given.body


def _with_rows(document: dict[str, Any], change: Callable[[list[Any]], list[Any]]) -> dict[str, Any]:
    data = document["data"]
    return {**document, "data": {**data, "result": change(data["result"])}}
