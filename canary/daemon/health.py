"""`/healthz`, `/readyz` and `/metrics` over plain HTTP, for the kubelet and for Prometheus. Read-only.

What is wrong is 503 with the reason as the body. `/readyz` of one that is ready says `ok`, and below it what a person
should know all the same.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from canary.errors import InputError

Check = Callable[[], str]
"""Returns what is wrong, "" when nothing is."""


def parse_address(text: str) -> tuple[str, int]:
    """ "127.0.0.1:8080", ":8080" or "[::1]:8080" as host and port. Raises InputError."""
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdigit() or int(port) > 65535:
        raise InputError(f'--listen: must be an address like "127.0.0.1:8080" or ":8080", not {text!r}')
    return host.strip("[]") or "0.0.0.0", int(port)


class HealthServer:
    """Serves until stop(). `port` is the one bound (asked for with 0: any free one)."""

    def __init__(
        self, listen: str, *, alive: Check, ready: Check, registry: CollectorRegistry, notes: Check = lambda: ""
    ) -> None:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                path = self.path.partition("?")[0]
                if path == "/metrics":
                    self._answer(200, generate_latest(registry), CONTENT_TYPE_LATEST)
                elif path in ("/healthz", "/readyz"):
                    wrong = (alive if path == "/healthz" else ready)()
                    more = notes() if path == "/readyz" else ""
                    lines = [wrong or "ok", *([more] if more else [])]
                    text = "".join(f"{line}\n" for line in lines)
                    self._answer(503 if wrong else 200, text.encode(), "text/plain; charset=utf-8")
                else:
                    self._answer(404, b"try /healthz, /readyz or /metrics\n", "text/plain; charset=utf-8")

            def _answer(self, status: int, body: bytes, kind: str) -> None:
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it
                """Probes every few seconds are not news."""

        host, port = parse_address(listen)

        class Server(ThreadingHTTPServer):
            address_family = socket.AF_INET6 if ":" in host else socket.AF_INET

        try:
            self._server = Server((host, port), Handler)
        except OSError as error:
            raise InputError(f"--listen {listen}: {error.strerror}; choose another address") from error
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, name="health", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        if self._thread.is_alive():
            self._server.shutdown()  # waits for a loop that must have begun
            self._thread.join(2)
        self._server.server_close()
