"""An address and a port for each Pod's process, always on loopback.

On Linux all of 127.0.0.0/8 is there, so each Pod has an address of its own and listens on the port that its container
declares, as in a cluster. Elsewhere only 127.0.0.1 is: the Pod gets a free port, and `PORT_ANNOTATION` says which.
"""

from __future__ import annotations

import errno
import random
import socket
import sys
import threading
from typing import NamedTuple

from canary.errors import SandboxError
from canary.sandbox.process import free_port

PORT_ANNOTATION = "sandbox.canary.delivery/port"
"""On a Pod whose process does not listen on its containerPort: the port where it does."""

_NETS = range(1, 254)  # 127.0.x.y is left to everybody else
_HOSTS = 254 * 254


class Endpoint(NamedTuple):
    address: str
    port: int


class Addresses:
    """Hands out endpoints, each address once before any comes again: a late caller of an ended Pod finds nobody."""

    def __init__(self, *, own_addresses: bool = sys.platform == "linux") -> None:
        self._own_addresses = own_addresses
        self._net = random.choice(_NETS)  # two sandboxes on one machine rarely meet, and a bind tells when they do
        self._last = 0
        self._lock = threading.Lock()

    def take(self, port: int) -> Endpoint:
        """An endpoint for a container's port. Raises SandboxError when all are in use."""
        if not self._own_addresses:
            return Endpoint("127.0.0.1", free_port())
        with self._lock:
            for _ in range(_HOSTS):
                self._last = self._last % _HOSTS + 1
                third, fourth = divmod(self._last - 1, 254)
                address = f"127.{self._net}.{third}.{fourth + 1}"
                if _is_free(address, port):
                    return Endpoint(address, port)
        raise SandboxError(f"port {port} is in use on every address of 127.{self._net}.0.0/16")


def _is_free(address: str, port: int) -> bool:
    with socket.socket() as attempt:
        attempt.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            attempt.bind((address, port))
        except OSError as error:
            return error.errno != errno.EADDRINUSE  # a forbidden port is the process's to report
        return True
