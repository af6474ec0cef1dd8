"""One HTTP request to the API server: credentials, a time limit, and an error of the tree for everything but 2xx.

It uses the official client's connection pool directly, with bytes, so that a body is serialised once and an answer
parsed once. It never repeats a request.
"""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from canary.cluster.answers import no_answer, refusal
from canary.cluster.kinds import Kind
from canary.errors import Unavailable

if TYPE_CHECKING:
    from kubernetes.client import ApiClient
    from urllib3 import BaseHTTPResponse, Timeout

OnRequest = Callable[[str, str, int, float], None]

METHODS: Mapping[str, str] = {
    "get": "GET",
    "list": "GET",
    "watch": "GET",
    "create": "POST",
    "patch": "PATCH",
    "update": "PUT",
    "delete": "DELETE",
}
"""RBAC's verbs, which errors and metrics name, and HTTP's."""


REFUSAL_SECONDS = 10.0
"""For the body of a watch's refusal, which comes at once."""

_PIECE = 65536


def nobody_counts(_verb: str, _plural: str, _status: int, _seconds: float) -> None:
    """The metrics hook where there are no metrics."""


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked: an RBAC verb on a resource. With a body it is a write."""

    verb: str
    kind: Kind
    namespace: str | None = None
    name: str | None = None
    subresource: str | None = None
    query: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None
    content_type: str = "application/json"
    named: str = ""
    """The name inside the body of a create, for sentences: its URL has none."""

    @property
    def is_write(self) -> bool:
        return self.body is not None

    @property
    def target(self) -> str:
        """Path and query."""
        path = self.kind.path(self.namespace, self.name, self.subresource)
        return f"{path}?{urlencode(self.query)}" if self.query else path

    @property
    def deed(self) -> str:
        """`patch canaryrollouts.canary.delivery/status shop/payment-v2-1`, for sentences."""
        resource = f"{self.kind.resource}/{self.subresource}" if self.subresource else self.kind.resource
        name = self.name or self.named
        where = "/".join(part for part in (self.namespace if self.kind.namespaced else None, name) if part)
        if not where:
            return f"{self.verb} {resource} in all namespaces" if self.kind.namespaced else f"{self.verb} {resource}"
        return f"{self.verb} {resource} {where}" if name else f"{self.verb} {resource} in {where}"

    def asking(self, more: Mapping[str, str]) -> Request:
        """The same request with more query parameters."""
        return replace(self, query={**self.query, **more})


class Transport:
    """Sends requests over one ApiClient's pool. Safe for use by several threads."""

    def __init__(self, client: ApiClient, on_request: OnRequest) -> None:
        self.on_request = on_request
        self._client = client
        self._credentials = threading.Lock()

    @property
    def server(self) -> str:
        return str(self._client.configuration.host)

    def close(self) -> None:
        self._client.close()  # type: ignore[no-untyped-call]

    def send(self, request: Request, seconds: float) -> bytes:
        """The body of the 2xx answer. All of it must arrive within `seconds`, and no pause in it may be longer.

        A server, or a proxy before it, that lets an answer trickle would hold a worker for ever otherwise: each piece
        of it is in time.
        """
        from urllib3 import Timeout

        return self._exchange(request, Timeout(total=seconds), whole_within=seconds)[1]

    def open(self, request: Request, connect_seconds: float, silence_seconds: float) -> BaseHTTPResponse:
        """The answer with its body unread, for a watch; a silence longer than `silence_seconds` breaks it off."""
        from urllib3 import Timeout

        return self._exchange(request, Timeout(connect=connect_seconds, read=silence_seconds))[0]

    def _exchange(
        self, request: Request, timeout: Timeout, *, whole_within: float | None = None
    ) -> tuple[BaseHTTPResponse, bytes]:
        """The 2xx answer and its body, which stays unread without `whole_within` (seconds)."""
        from urllib3 import Retry
        from urllib3.exceptions import HTTPError

        status, started = 0, time.monotonic()
        try:
            response: BaseHTTPResponse = self._client.rest_client.pool_manager.request(
                METHODS[request.verb],
                self.server + request.target,
                body=request.body,
                headers=self._headers(request),
                timeout=timeout,
                # urllib3 repeats three times by itself, a DELETE or a PUT as well (decisions.md 20)
                retries=Retry(0),
                redirect=False,
                preload_content=False,
            )
            is_good = 200 <= response.status < 300
            within = whole_within if is_good else whole_within or REFUSAL_SECONDS
            body = b"" if within is None else _whole(response, started + within)
            status = response.status
            if is_good:
                return response, body
            raise refusal(request.deed, status, body, response.headers, write=request.is_write)
        except (HTTPError, OSError) as error:
            cause = _unwrapped(error)
            raise no_answer(request.deed, _sentence(cause), write=request.is_write, sent=_was_sent(cause)) from error
        finally:
            self.on_request(request.verb, request.kind.plural, status, time.monotonic() - started)

    def _headers(self, request: Request) -> dict[str, str]:
        from kubernetes.config.config_exception import ConfigException

        headers = {"Accept": "application/json", **self._client.default_headers}
        if request.is_write:
            headers["Content-Type"] = request.content_type
        try:
            with self._credentials:  # an expired token runs the exec plugin once, not once per thread
                self._client.update_params_for_auth(headers, [], ["BearerToken"], "", "", None)
        except (ConfigException, OSError, ValueError) as error:
            raise Unavailable(f"cannot {request.deed}: the credentials could not be renewed: {error}") from error
        return headers


def _whole(response: BaseHTTPResponse, until: float) -> bytes:
    """The body, read to its end. Raises TimeoutError when that is later than `until` (monotonic seconds)."""
    pieces = []
    while piece := response.read1(_PIECE):
        pieces.append(piece)
        if time.monotonic() > until:
            response.close()
            raise TimeoutError("the answer began in time, and did not end in time")
    response.release_conn()
    return b"".join(pieces)


def _unwrapped(error: BaseException) -> BaseException:
    """What happened, out of the MaxRetryError that urllib3 wraps around it even where nothing is retried."""
    reason = getattr(error, "reason", None)
    return reason if isinstance(reason, BaseException) else error


def _was_sent(cause: BaseException) -> bool:
    """False only where the request cannot have left: nobody listens, no such name, a certificate we do not trust."""
    from urllib3.exceptions import ConnectTimeoutError, NewConnectionError

    untrusted = any(isinstance(detail, ssl.SSLCertVerificationError) for detail in cause.args)
    return not (isinstance(cause, NewConnectionError | ConnectTimeoutError) or untrusted)


def _sentence(cause: BaseException) -> str:
    """One line without urllib3's object addresses."""
    text = " ".join(str(cause).split())
    return text.rsplit(">: ", 1)[-1] or type(cause).__name__
