"""What an answer of the API server means: one error of the tree, with a sentence naming verb, resource and object.

Pure: a status code, headers and bytes in, an exception out. It never decides whether to try again.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any

import orjson

from canary.errors import (
    Ambiguous,
    ClusterError,
    Conflict,
    Expired,
    Forbidden,
    Invalid,
    NotFound,
    PreconditionLost,
    Unavailable,
)

MESSAGE_LIMIT = 1000
"""Characters of the API server's own message that are passed on; an admission webhook may send a page."""

_RBAC = re.compile(
    r'User "(?P<user>[^"]*)" cannot (?P<verb>[a-z]+) resource "(?P<plural>[^"/]*)(?P<sub>/[^"]*)?" in API group '
    r'"(?P<group>[^"]*)" (?:in the namespace "(?P<namespace>[^"]*)"|at the cluster scope)'
)
"""What an API server says that has asked its authorizers and none of them allowed it."""

_POLICY = re.compile(r"ValidatingAdmissionPolicy '(?P<policy>[^']+)' with binding '[^']+' denied request")

LONGEST_WAIT_S = 60.0
"""Retry-After is honoured up to this: whoever asks for an hour keeps nobody's traffic on a bad release for an hour."""

_BY_STATUS: dict[int, type[ClusterError]] = {
    401: Forbidden,
    403: Forbidden,
    404: NotFound,
    408: Unavailable,
    409: Conflict,
    410: Expired,
    429: Unavailable,
}


def refusal(
    deed: str, status: int, body: bytes | Mapping[str, Any], headers: Mapping[str, str], *, write: bool
) -> ClusterError:
    """The error for an answer that is not 2xx.

    `deed` names what was tried ("patch virtualservices.networking.istio.io shop/payment"). A gateway time-out (502,
    504) on a write is Ambiguous: the API server itself says that it may still be processing the request.
    """
    answer = _status_object(body)
    details = answer.get("details")
    details = details if isinstance(details, dict) else {}
    message = str(answer.get("message") or _plain(body) or "no explanation given")[:MESSAGE_LIMIT]
    sentence = f"cannot {deed}: {message} (HTTP {status})"
    error = _error_class(status, message, bool(details.get("causes")), write=write)
    retry_after = _retry_after(headers, details)
    if error is Forbidden:
        return Forbidden(sentence, status=status, retry_after=retry_after, **_who_said_no(message))
    return error(sentence, status=status, retry_after=retry_after)


def no_answer(deed: str, cause: str, *, write: bool, sent: bool) -> ClusterError:
    """The error where no complete answer arrived. A write that may have been sent is Ambiguous, all else Unavailable.

    `sent` is False only where no connection came about, so that nothing can have happened.
    """
    if write and sent:
        return Ambiguous(f"cannot tell whether it happened: {deed}: {cause}")
    return Unavailable(f"cannot {deed}: {cause}")


def parsed(data: bytes, deed: str, *, write: bool) -> dict[str, Any]:
    """The object in a whole answer. Raises what `no_answer` makes of one that is none."""
    try:
        answer = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise no_answer(deed, f"the answer is not JSON: {error}", write=write, sent=True) from error
    if not isinstance(answer, dict):
        raise no_answer(deed, "the answer is not an object", write=write, sent=True)
    return answer


def _who_said_no(message: str) -> dict[str, str]:
    """Forbidden's own fields: the right that RBAC asks for, or the admission policy."""
    if found := _RBAC.search(message):
        plural, sub, group = found["plural"], found["sub"] or "", found["group"]
        return {
            "verb": found["verb"],
            "resource": (f"{plural}.{group}" if group else plural) + sub,
            "namespace": found["namespace"] or "",
            "user": found["user"],
        }
    policy = _POLICY.search(message)
    return {"policy": policy["policy"]} if policy else {}


def _error_class(status: int, message: str, has_causes: bool, *, write: bool) -> type[ClusterError]:
    known = _BY_STATUS.get(status)
    if known is not None:
        return known
    if status == 422:
        # a lost JSON patch `test` comes without causes, a schema or CEL violation with them (decisions.md 18)
        return Invalid if has_causes else PreconditionLost
    if status == 500 and "request is too large" in message:
        return Invalid  # etcd's limit of 1.5 MB: the same request never succeeds (decisions.md 9)
    if 400 <= status < 500:
        return Invalid
    if write and status in (502, 504):
        return Ambiguous
    return Unavailable


def _status_object(body: bytes | Mapping[str, Any]) -> Mapping[str, Any]:
    if isinstance(body, Mapping):
        return body
    try:
        answer = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {}
    return answer if isinstance(answer, dict) else {}


def _plain(body: bytes | Mapping[str, Any]) -> str:
    """The one line of a body that is no Status: a proxy's HTML, a plain 'Unauthorized'."""
    if isinstance(body, Mapping):
        return ""
    return " ".join(body[:MESSAGE_LIMIT].decode("utf-8", "replace").split())


def _retry_after(headers: Mapping[str, str], details: Mapping[str, Any]) -> float | None:
    """Seconds the server asks to wait, at most LONGEST_WAIT_S: the header, else the Status' own field."""
    header = headers.get("Retry-After")
    for value in (header, _until(header, headers.get("Date")), details.get("retryAfterSeconds")):
        try:
            seconds = float(value)  # type: ignore[arg-type]
        except (TypeError, ValueError):
            continue
        if 0 <= seconds < float("inf"):
            return min(seconds, LONGEST_WAIT_S)
    return None


def _until(moment: str | None, now: str | None) -> float | None:
    """Seconds from the answer's own Date to a Retry-After that is a date (RFC 9110, 10.2.3): one clock for both."""
    try:
        return max(0.0, (parsedate_to_datetime(moment or "") - parsedate_to_datetime(now or "")).total_seconds())
    except (TypeError, ValueError):
        return None
