"""Where the metrics are, how to be let in, and which series are believed.

Secrets are named by file and read at each use; they must never be part of a value that is printed or logged.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from canary.errors import InputError

REPORTERS = ("source", "waypoint", "destination")
"""Who counted a request, best first: the caller's proxy, the service's waypoint, the called pod's own proxy."""

_LABEL_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")


@dataclass(frozen=True)
class SourceSettings:
    """How to reach Prometheus (or what speaks its query API) and how to read it.

    Raises InputError for what cannot work. Proxies and .netrc of the environment are not consulted: the address and
    the credentials are exactly those given here.
    """

    url: str
    """http(s)://host[:port][/prefix], without credentials."""
    timeout_s: float = 5.0
    """Seconds to connect, and of silence before and within an answer; the server is told to give up after as long."""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Sent with each query, e.g. `X-Scope-OrgID` for the tenant."""
    bearer_token_file: Path | None = None
    """Read at each query, so that a rotated token is used at once."""
    username: str | None = None
    password_file: Path | None = None
    """Basic auth; the file is read at each query."""
    ca_file: Path | None = None
    """PEM bundle the server's certificate must chain to; None: the bundle of `certifi`."""
    trusted_namespaces: frozenset[str] = frozenset()
    """Namespaces (the target label that service discovery sets) whose proxies are believed about requests they sent.

    Empty believes every scraped target: any pod whose own metrics are scraped can then invent requests of any
    workload. Only for `source` and `waypoint`; a `destination` series counts only when its target's namespace is
    the workload's.
    """
    arm_label: str = "destination_workload"
    """Label that tells the versions apart."""
    reporter: str = "auto"
    """source, waypoint, destination, or auto: the first of these that exists."""
    control_plane_namespace: str = "istio-system"
    """Where istiod runs: what targets elsewhere say about the control plane is not believed. "" believes everybody."""

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.username is not None or parts.password is not None:
            raise InputError("the Prometheus URL must not hold credentials: name a password or bearer token file")
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
            raise InputError(f"not a Prometheus URL: {self.url!r}; expected http(s)://host[:port][/prefix]")
        if not 0 < self.timeout_s <= 300:
            raise InputError(f"the Prometheus timeout must be above 0 and at most 300 s, not {self.timeout_s}")
        if self.bearer_token_file is not None and self.username is not None:
            raise InputError("give Prometheus a bearer token file or a user name, not both")
        if (self.username is None) != (self.password_file is None):
            raise InputError("basic auth for Prometheus needs both a user name and a password file")
        for name, value in self.headers.items():
            if not _HEADER_NAME.fullmatch(name) or not (value.isascii() and value.isprintable()):
                raise InputError(f"not an HTTP header for Prometheus: {name!r}")  # the value may be a secret
        if not _LABEL_NAME.fullmatch(self.arm_label):
            raise InputError(f"not a label name: {self.arm_label!r}")
        if self.reporter not in ("auto", *REPORTERS):
            raise InputError(f"unknown reporter {self.reporter!r}; one of auto, {', '.join(REPORTERS)}")

    @property
    def base_url(self) -> str:
        return self.url.rstrip("/")
