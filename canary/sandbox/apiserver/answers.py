"""What the server says when it says no: `Status` objects as the real API server words them.

Clients branch on code, reason and causes, so these must match upstream's (apimachinery `api/errors`); nothing here
may decide whether a request is wrong.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

Json = dict[str, Any]
"""A decoded JSON object. Objects in the store are never changed in place."""


class Cause(NamedTuple):
    """One thing wrong with one field; `field` is dotted (`spec.steps[0].weight`)."""

    reason: str
    message: str
    field: str


class ApiError(Exception):
    """An HTTP answer other than success; `status()` is its body."""

    def __init__(self, code: int, reason: str, message: str, details: Json | None = None) -> None:
        super().__init__(message)
        self.code, self.reason, self.message, self.details = code, reason, message, details

    def status(self) -> Json:
        """The `Status` object, as sent in the body or in a watch's ERROR event."""
        body: Json = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure"}
        body["message"] = self.message
        if self.reason:
            body["reason"] = self.reason
        if self.details is not None:
            body["details"] = self.details
        return {**body, "code": self.code}


def success(name: str, group: str, plural: str, uid: str) -> Json:
    """The answer to a delete that took effect at once."""
    details = {"name": name, **({"group": group} if group else {}), "kind": plural, "uid": uid}
    return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details}


def _details(name: str, group: str, kind: str, causes: Sequence[Cause] = ()) -> Json:
    details: Json = {"name": name, "group": group, "kind": kind}
    details = {key: value for key, value in details.items() if value}
    if causes:
        details["causes"] = [cause._asdict() for cause in causes]
    return details


def qualified(group: str, plural: str) -> str:
    """`deployments.apps`, `pods`."""
    return f"{plural}.{group}" if group else plural


def not_found(group: str, plural: str, name: str) -> ApiError:
    message = f'{qualified(group, plural)} "{name}" not found'
    return ApiError(404, "NotFound", message, _details(name, group, plural))


def no_such_path() -> ApiError:
    return ApiError(404, "NotFound", "the server could not find the requested resource", {})


def already_exists(group: str, plural: str, name: str) -> ApiError:
    message = f'{qualified(group, plural)} "{name}" already exists'
    return ApiError(409, "AlreadyExists", message, _details(name, group, plural))


def conflict(group: str, plural: str, name: str, why: str = "") -> ApiError:
    why = why or "the object has been modified; please apply your changes to the latest version and try again"
    message = f'Operation cannot be fulfilled on {qualified(group, plural)} "{name}": {why}'
    return ApiError(409, "Conflict", message, _details(name, group, plural))


def apply_conflict(causes: Sequence[Cause]) -> ApiError:
    """Server-side apply: another manager owns the field with another value. `causes` come manager by manager."""
    if len(causes) == 1:
        message = f"Apply failed with 1 conflict: {causes[0].message}: {causes[0].field}"
    else:
        by_manager: dict[str, list[str]] = {}
        for cause in causes:
            by_manager.setdefault(cause.message.replace("conflict", "conflicts", 1), []).append(f"- {cause.field}")
        lines = [line for told, fields in by_manager.items() for line in (f"{told}:", *fields)]
        message = f"Apply failed with {len(causes)} conflicts: " + "\n".join(lines)
    return ApiError(409, "Conflict", message, {"causes": [cause._asdict() for cause in causes]})


def invalid(group: str, kind: str, name: str, causes: Sequence[Cause]) -> ApiError:
    told = [f"{cause.field}: {cause.message}" for cause in causes]
    errors = told[0] if len(told) == 1 else "[" + ", ".join(told) + "]"
    message = f'{qualified(group, kind)} "{name}" is invalid: {errors}'
    return ApiError(422, "Invalid", message, _details(name, group, kind, causes))


def patch_failed() -> ApiError:
    """A JSON patch that does not fit the object, a failed `test` included: no causes, empty details (measured)."""
    return ApiError(422, "Invalid", "the server rejected our request due to an error in our request", {})


def bad_request(message: str) -> ApiError:
    return ApiError(400, "BadRequest", message)


def forbidden(group: str, plural: str, name: str, why: str, causes: Sequence[Cause] = ()) -> ApiError:
    message = f'{qualified(group, plural)} "{name}" is forbidden: {why}'
    return ApiError(403, "Forbidden", message, _details(name, group, plural, causes))


def unauthorized() -> ApiError:
    return ApiError(401, "Unauthorized", "Unauthorized")


def method_not_allowed() -> ApiError:
    return ApiError(405, "MethodNotAllowed", "the server does not allow this method on the requested resource", {})


def unsupported_media_type(accepted: Sequence[str]) -> ApiError:
    message = "the body of the request was in an unknown format - accepted media types include: " + ", ".join(accepted)
    return ApiError(415, "UnsupportedMediaType", message)


def expired(requested: int, oldest: int) -> ApiError:
    return ApiError(410, "Expired", f"too old resource version: {requested} ({oldest})")


def too_large_version(requested: int, current: int) -> ApiError:
    message = f"Too large resource version: {requested}, current: {current}"
    cause = Cause("ResourceVersionTooLarge", "Too large resource version", "")
    return ApiError(504, "Timeout", message, {"causes": [cause._asdict()], "retryAfterSeconds": 1})


def body_too_large(limit: int) -> ApiError:
    return ApiError(413, "RequestEntityTooLarge", f"Request entity too large: limit is {limit}")


def version_on_create() -> ApiError:
    """Upstream's storage refuses this without a reason of its own."""
    return ApiError(500, "", "resourceVersion should not be set on objects to be created")


def object_too_large() -> ApiError:
    """Over etcd's limit the real server answers 500 with etcd's own words (measured)."""
    return ApiError(500, "", "etcdserver: request is too large")


def internal() -> ApiError:
    return ApiError(500, "InternalError", "Internal error occurred: see the server's log")
