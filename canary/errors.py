"""Every error canary raises on purpose.

CanaryError                    what was wrong, where, what would be right: one sentence
├── InputError                 somebody's file, annotation, flag or object
│   ├── PolicyError            a policy: file, line, field
│   └── FindingError           a cluster object: what is wrong with it, and its reason for a condition
├── ClusterError               the Kubernetes API said no, or did not answer
│   ├── NotFound               404
│   ├── Conflict               409: re-read, decide again
│   ├── PreconditionLost       422 without causes: a JSON patch `test` failed
│   ├── Invalid                422 with causes, 400: permanent
│   ├── Forbidden              401, 403: names verb and resource
│   ├── Expired                410: list again
│   ├── Unavailable            429, 5xx: try later
│   └── Ambiguous              no answer: it may have happened, re-read
├── NotOurs                    the write seam said no: this replica does not own the slot
├── TelemetryError             the metrics source
│   ├── TelemetryUnavailable   no answer
│   └── TelemetryAnswer        an answer we do not understand
│       └── TelemetryUnusable  nothing of it is: fewer questions would not help
└── SandboxError               a process of the laptop cluster
"""

from __future__ import annotations


class CanaryError(Exception):
    """Base of the tree. `str(error)` is one sentence a person can act on."""

    reason = "Error"
    """CamelCase word for a condition or an Event."""


class InputError(CanaryError):
    """Somebody's input cannot be used; the sentence says what would be right."""

    reason = "InvalidInput"


class PolicyError(InputError):
    """A policy is broken: `source` names the file, `line` is 1-based and 0 when unknown, `field` is dotted."""

    reason = "InvalidPolicy"

    def __init__(self, message: str, *, source: str = "", line: int = 0, field: str = "") -> None:
        self.source, self.line, self.field, self.message = source, line, field, message
        place = ":".join(part for part in (source, str(line) if line else "") if part)
        super().__init__(": ".join(part for part in (place, field, message) if part))


class FindingError(InputError):
    """A cluster object is not as it must be (no route, ambiguous route, missing Service, ...).

    `reason` is the CamelCase word for the condition; `candidates` lists what the user may choose from.
    """

    def __init__(self, reason: str, message: str, *, candidates: tuple[str, ...] = ()) -> None:
        self.reason = reason
        self.candidates = candidates
        super().__init__(message)


class ClusterError(CanaryError):
    """The Kubernetes API refused or failed. `status` is the HTTP status, 0 when there was no answer."""

    reason = "ClusterError"

    def __init__(self, message: str, *, status: int = 0, retry_after: float | None = None) -> None:
        self.status, self.retry_after = status, retry_after
        super().__init__(message)


class NotFound(ClusterError):
    reason = "NotFound"


class Conflict(ClusterError):
    reason = "Conflict"


class PreconditionLost(ClusterError):
    reason = "PreconditionLost"


class Invalid(ClusterError):
    reason = "Invalid"


class Forbidden(ClusterError):
    """Where RBAC said no, `verb`, `resource` ("pods", "canaryrollouts.canary.delivery/status") and `namespace` ("": all
    of them, or none) name the right that is missing, and `user` who lacks it. `policy` is the admission policy that
    said no. All are "" where it was neither: a webhook, or credentials that do not count (401)."""

    reason = "Forbidden"

    def __init__(
        self,
        message: str,
        *,
        status: int = 0,
        retry_after: float | None = None,
        verb: str = "",
        resource: str = "",
        namespace: str = "",
        user: str = "",
        policy: str = "",
    ) -> None:
        self.verb, self.resource, self.namespace, self.user, self.policy = verb, resource, namespace, user, policy
        super().__init__(message, status=status, retry_after=retry_after)


class Expired(ClusterError):
    reason = "Expired"


class Unavailable(ClusterError):
    reason = "Unavailable"


class Ambiguous(ClusterError):
    """No answer arrived. The write may have happened: re-read and compare before trying again."""

    reason = "Ambiguous"


class NotOurs(CanaryError):
    """The write seam refused: this replica may not write for that namespace now."""

    reason = "NotOurs"


class TelemetryError(CanaryError):
    reason = "TelemetryError"


class TelemetryUnavailable(TelemetryError):
    """The metrics source did not answer in time, refused, or answered 5xx."""

    reason = "TelemetryUnavailable"


class TelemetryAnswer(TelemetryError):
    """The metrics source answered something that is not what was asked for."""

    reason = "TelemetryAnswer"


class TelemetryUnusable(TelemetryAnswer):
    """Not what a Prometheus answers, or by its own word not all of it: the source is at fault, and nobody's series."""

    reason = "TelemetryUnavailable"


class SandboxError(CanaryError):
    """A process of the laptop cluster could not start or died; the sentence names it and its log."""

    reason = "SandboxError"
