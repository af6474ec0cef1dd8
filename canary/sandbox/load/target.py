"""Where load goes, one request there, and how an answer of Envoy itself is told from a backend's.

It must never let an address through that is not loopback.
"""

from __future__ import annotations

import http.client
import ipaddress
import time
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from canary.errors import InputError
from canary.sandbox.load.tally import CONNECT, RESET, TIMEOUT, Request

# Envoy's own words when the access log's flags are not in a header (source/common/router, RESPONSE_FLAGS).
_ENVOY_SAYS = (
    (b"no healthy upstream", "UH"),
    (b"connection termination", "UC"),
    (b"connection timeout", "UF"),
    (b"connection failure", "UF"),
    (b"overflow", "UO"),
    (b"upstream request timeout", "UT"),
    (b"upstream connect error", "UF"),
)


@dataclass(frozen=True)
class Target:
    """Where the load goes: a loopback address and port, a path, and the Host header that chooses the service."""

    address: str
    port: int
    path: str
    host: str

    @staticmethod
    def parse(url: str, host: str = "") -> Target:
        """Raises InputError for anything but http on loopback."""
        parts = urlsplit(url)
        address = "127.0.0.1" if parts.hostname == "localhost" else parts.hostname or ""
        try:
            is_loopback = ipaddress.ip_address(address).is_loopback
            port = parts.port or 80
        except ValueError:
            is_loopback, port = False, 0
        if parts.scheme != "http" or not is_loopback:
            raise InputError(f"{url}: load goes to loopback only, such as http://127.0.0.1:8080/")
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        _printable(path, host)
        return Target(address, port, path, host or parts.netloc)

    def request(self, headers: Mapping[str, str]) -> bytes:
        """The bytes of one GET. Raises InputError for a header that could not be sent as it is."""
        _printable(*headers, *headers.values())
        lines = [f"GET {self.path} HTTP/1.1", f"host: {self.host}", "user-agent: canary-load"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("ascii")


def _printable(*texts: str) -> None:
    for text in texts:
        if any(c <= " " or c > "~" for c in text):
            raise InputError(f"{text!r}: only visible ASCII characters in a path, a host or a header")


def flags_of(status: int, version: str, said: str, body: bytes) -> str:
    """Envoy's response flags: what the header x-envoy-response-flags said, else derived from Envoy's own answer.

    An answer of a backend has an x-version and no flags. Envoy's own 404 is NR, its 503 without a body NC.
    """
    if said and said != "-":
        return said
    if version or status < 400:
        return ""
    for words, flag in _ENVOY_SAYS:
        if words in body:
            return flag
    if body:
        return ""
    return {404: "NR", 503: "NC"}.get(status, "")


def probe(url: str, host: str = "", headers: Mapping[str, str] | None = None, timeout_s: float = 5.0) -> Request:
    """One request with headers (such as x-debug-user: true) and what came of it. Raises InputError for the target."""
    target = Target.parse(url, host)
    start, clock = time.time(), time.perf_counter()

    def ended(status: int, version: str = "", flags: str = "") -> Request:
        return Request(start, time.perf_counter() - clock, status, version, flags, is_probe=True)

    connection = http.client.HTTPConnection(target.address, target.port, timeout=timeout_s)
    try:
        connection.request("GET", target.path, headers={**(headers or {}), "Host": target.host})
        response = connection.getresponse()
        body, version = response.read(), response.headers.get("x-version", "")
        said = response.headers.get("x-envoy-response-flags", "")
        return ended(response.status, version, flags_of(response.status, version, said, body))
    except ConnectionRefusedError:
        return ended(0, flags=CONNECT)
    except TimeoutError:
        return ended(0, flags=TIMEOUT)
    except (OSError, http.client.HTTPException):
        return ended(0, flags=RESET)
    finally:
        connection.close()
