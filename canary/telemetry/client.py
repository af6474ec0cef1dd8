"""One question to Prometheus, one checked answer.

The library's client does the asking; here are a session that fits (one attempt, no redirects, the query in the body of
a POST, nothing from the environment) and the checks that the library leaves out (status, warnings, result type). An
error's text never holds a credential.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import orjson
import requests
from prometheus_api_client import PrometheusConnect
from requests.adapters import HTTPAdapter
from requests.auth import AuthBase, HTTPBasicAuth
from urllib3.exceptions import HTTPError, ReadTimeoutError
from urllib3.util import Retry

from canary.errors import TelemetryError, TelemetryUnavailable, TelemetryUnusable
from canary.telemetry.breaker import Breaker
from canary.telemetry.settings import SourceSettings

_POOL = 8
"""Connections kept: the tick, the fast abort and the preflight may ask at the same time."""
_PIECE = 65536
_SHORTEST_SECRET = 8
"""A header may be a credential or a tenant's number; nobody's credential is shorter than this."""


class FileCredentials(AuthBase):
    """Authorization from the settings' files, read at each request: a rotated secret is used at once."""

    def __init__(self, settings: SourceSettings) -> None:
        self._settings = settings

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        settings = self._settings
        if settings.bearer_token_file is not None:
            token = _secret(settings.bearer_token_file).encode().decode("latin-1")  # how http.client sends text
            request.headers["Authorization"] = f"Bearer {token}"
        elif settings.username is not None and settings.password_file is not None:
            HTTPBasicAuth(settings.username.encode(), _secret(settings.password_file).encode())(request)
        return request


def _secret(path: Path) -> str:
    try:
        secret = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise TelemetryUnavailable(f"the credentials for Prometheus in {path} cannot be read: {why}") from error
    if not secret or not secret.isprintable():
        raise TelemetryUnavailable(f"the credentials for Prometheus in {path} are not one line of text")
    return secret


class _Session(requests.Session):
    """The library puts a POST's query into the URL, where thousands of names do not fit; it belongs in the body."""

    def request(self, method: str | bytes, url: str | bytes, *args: Any, **kwargs: Any) -> requests.Response:
        if method == "POST":
            kwargs["data"] = kwargs.pop("params", None)
        kwargs["allow_redirects"] = False  # a redirect would carry the tenant header elsewhere and turn POST into GET
        return super().request(method, url, *args, **kwargs)


class _Answer(requests.Response):
    """An answer that was parsed when it was checked: the library asks it for its JSON, which would take as long again
    and several times the memory."""

    parsed: Any

    def json(self, **_: Any) -> Any:
        return self.parsed


class PrometheusClient:
    """Asks one Prometheus. Thread-safe. Both errors of `canary.errors.TelemetryError` carry a whole sentence."""

    def __init__(
        self,
        settings: SourceSettings,
        clock: Callable[[], float] = time.monotonic,
        *,
        refused: type[TelemetryError] = TelemetryUnavailable,
    ) -> None:
        """`clock` (monotonic seconds) is the breaker's. `refused` is raised when the query is not accepted or cannot
        be carried out (HTTP 400, 422): by our own queries the server is at fault, by somebody else's the query."""
        self._settings = settings
        self._refused = refused
        self._breaker = Breaker(clock=clock)
        self._sent, self._sent_lock = 0, threading.Lock()
        self._told: float | None = None
        """The server's clock less ours that nobody sets."""
        session = _Session()
        session.trust_env = False
        session.verify = True if settings.ca_file is None else str(settings.ca_file)
        session.hooks["response"] = [self._check]
        self._connect = PrometheusConnect(
            url=settings.base_url,
            headers=dict(settings.headers),
            auth=FileCredentials(settings),
            session=session,
            timeout=settings.timeout_s,
            method="POST",
        )
        session.mount(settings.base_url, HTTPAdapter(pool_maxsize=_POOL, max_retries=Retry(0, read=False)))

    @property
    def breaker(self) -> Breaker:
        return self._breaker

    @property
    def queries_sent(self) -> int:
        return self._sent

    def server_now(self) -> float | None:
        """What the server's clock shows now (Unix seconds, to a second), by its last answer; None before one."""
        return None if self._told is None else self._told + time.monotonic()

    def close(self) -> None:
        self._connect.close()

    def at(self, query: str, time_s: float) -> list[Any]:
        """Rows of `query` at one moment (Unix seconds): a vector, or a matrix where the query is a range selector."""
        return self._ask(self._connect.custom_query, query, params={"time": _timestamp(time_s)})

    def over(self, query: str, first_s: float, last_s: float, step_s: float) -> list[Any]:
        """Rows of `query` at first, first + step, ... last (Unix seconds, exact to the millisecond)."""
        # The library rounds its own start and end to whole seconds; the parameters here take their place.
        exact = {"start": _timestamp(first_s), "end": _timestamp(last_s)}
        begin, end = (datetime.fromtimestamp(seconds, UTC) for seconds in (first_s, last_s))
        return self._ask(
            self._connect.custom_query_range,
            query,
            start_time=begin,
            end_time=end,
            # As a float of seconds the server cuts 1.013 to 1.012: the product with 10^9 ns lies just below.
            step=f"{round(step_s * 1000)}ms",
            params=exact,
        )

    def _ask(
        self, send: Callable[..., list[Any]], query: str, *, params: dict[str, str], **arguments: Any
    ) -> list[Any]:
        params["timeout"] = f"{round(self._settings.timeout_s * 1000)}ms"  # the server stops working on it, too
        with self._breaker.call():
            with self._sent_lock:
                self._sent += 1
            try:
                return send(query=query, params=params, **arguments)
            except requests.Timeout as error:
                raise self._unavailable(f"no answer within {self._settings.timeout_s:g} s") from error
            except (requests.RequestException, OSError) as error:
                raise self._unavailable(_why(error)) from error

    def _check(self, response: requests.Response, *_: Any, **__: Any) -> requests.Response:
        """Runs before the library reads the response, which knows neither warnings nor result types."""
        body = self._whole(response)
        self._note_time(response.headers.get("Date", ""))
        try:
            answer = orjson.loads(body)
        except orjson.JSONDecodeError as error:
            if response.status_code != 200:
                raise self._unavailable(f"HTTP {response.status_code} {self._shown(_text(body))}".rstrip()) from error
            raise TelemetryUnusable(
                f"{self._settings.base_url} answered something that is not JSON, so it is not a Prometheus API (or it "
                f"broke off): {self._shown(_text(body))!r}"
            ) from error
        if not isinstance(answer, dict):
            answer = {}
        if response.status_code != 200:
            why = f"HTTP {response.status_code} {self._shown(str(answer.get('error', '')))}".rstrip()
            raise self._unavailable(why, self._refused if response.status_code in (400, 422) else TelemetryUnavailable)
        if answer.get("status") != "success":
            raise TelemetryUnusable(f"{self._settings.base_url} answered JSON that is not Prometheus' success")
        if answer.get("warnings"):
            raise TelemetryUnusable(
                f"{self._settings.base_url} answered with warnings, so perhaps not all there is: "
                f"{self._shown(str(answer['warnings']))}"
            )
        data = answer.get("data")
        kind, rows = (data.get("resultType"), data.get("result")) if isinstance(data, dict) else (None, None)
        expected = ("matrix",) if str(response.url).endswith("query_range") else ("vector", "matrix")
        if kind not in expected or not isinstance(rows, list):
            raise TelemetryUnusable(f"{self._settings.base_url} answered a {str(kind)[:40]!r}, not a {expected[0]}")
        checked = _Answer()
        checked.__dict__.update(response.__dict__)
        checked.parsed = answer
        return checked

    def _note_time(self, date: str) -> None:
        """HTTP's Date (RFC 9110, 6.6.1) is cut to whole seconds, so half of one is the best guess at the rest."""
        try:
            self._told = parsedate_to_datetime(date).timestamp() + 0.5 - time.monotonic()
        except ValueError:
            return  # none, or none that can be read: the last one stands

    def _whole(self, response: requests.Response) -> bytes:
        """The body. The time limit is for all of the answer: the library's own is for each piece of it, so a server
        that lets it trickle would hold the telemetry thread, and with it everybody's evidence."""
        until = time.monotonic() + self._settings.timeout_s - response.elapsed.total_seconds()
        pieces = []
        try:
            while piece := response.raw.read1(_PIECE, decode_content=True):
                pieces.append(piece)
                if time.monotonic() > until:
                    response.close()
                    raise requests.Timeout
        except ReadTimeoutError as error:
            raise requests.Timeout from error
        except HTTPError as error:
            raise requests.ConnectionError(error) from error
        return b"".join(pieces)

    def _unavailable(self, why: str, kind: type[TelemetryError] = TelemetryUnavailable) -> TelemetryError:
        return kind(f"Prometheus at {self._settings.base_url}: {why}")

    def _shown(self, text: str) -> str:
        """The server's words, safe to print: one line, short, and without our own credentials should it echo them."""
        for secret in self._secrets():
            text = text.replace(secret, "***")
        line = " ".join("".join(char if char.isprintable() else " " for char in text).split())
        return line if len(line) <= 300 else line[:297] + "..."

    def _secrets(self) -> list[str]:
        files = (self._settings.bearer_token_file, self._settings.password_file)
        headers = (value for value in self._settings.headers.values() if len(value) >= _SHORTEST_SECRET)
        return [*headers, *(_secret(path) for path in files if path is not None)]


def _text(body: bytes) -> str:
    """The beginning of a body that is for people; guessing the encoding of a long one takes seconds."""
    return body[:4096].decode("utf-8", errors="replace")


def _timestamp(seconds: float) -> str:
    return f"{seconds:.3f}"


def _why(error: BaseException) -> str:
    """The innermost cause: the outer texts repeat the URL and the retry bookkeeping."""
    cause = error
    while (inner := cause.__cause__ or cause.__context__) is not None:
        cause = inner
    if isinstance(cause, OSError) and cause.strerror:
        return cause.strerror
    return str(cause) or type(cause).__name__
