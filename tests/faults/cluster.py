"""The API server that faults are made before: embedded, or a real one; and users who try again until they are heard."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, TypeVar

from canary.cluster.connection import api_client
from canary.cluster.gateway import Gateway
from canary.cluster.kinds import Kind
from canary.errors import Ambiguous, Conflict, NotFound, Unavailable
from canary.sandbox.definitions import EMBEDDED_ISTIO, canary_definition, install, read_definitions
from canary.sandbox.process import Child

T = TypeVar("T")
INSIST_S = 120.0


class Cluster(Protocol):
    """What the soak needs of an API server."""

    name: str
    kubeconfig: Path

    @property
    def keeps_its_objects(self) -> bool:
        """Whether they are there again after a restart."""

    def start(self) -> None: ...
    def stop(self) -> None: ...
    def kill(self) -> None: ...


class EmbeddedCluster:
    """The sandbox's own API server as a process. Its objects live as long as it does."""

    name = "embedded"
    keeps_its_objects = False

    def __init__(self, directory: Path) -> None:
        self.kubeconfig = directory / "apiserver" / "kubeconfig"
        command = [sys.executable, "-m", "canary.sandbox.apiserver", f"--kubeconfig={self.kubeconfig}"]
        self._child = Child("apiserver", command, log=directory / "apiserver" / "log")

    def start(self) -> None:
        self.kubeconfig.parent.mkdir(parents=True, exist_ok=True)
        self.kubeconfig.unlink(missing_ok=True)  # of an earlier run in this folder
        self._child.start_until(self.kubeconfig.exists, 60)

    def stop(self) -> None:
        self._child.stop()

    def kill(self) -> None:
        self._child.kill()


class RealCluster:
    """A real kube-apiserver with its etcd, which outlives it."""

    name = "kube-apiserver"
    keeps_its_objects = True

    def __init__(self, directory: Path) -> None:
        from canary.sandbox.realapi.server import RealApiServer

        self._server = RealApiServer(directory / "kubernetes")
        self.kubeconfig = self._server.kubeconfig

    def start(self) -> None:
        self._server.start()

    def stop(self) -> None:
        self._server.stop()

    def kill(self) -> None:
        self._server.kill()


class Insistent(Gateway):
    """Users and their pipelines: what the API server does not answer they ask again, until it does.

    A create that is answered with 409 on the second try was done by the first.
    """

    @classmethod
    def to(cls, kubeconfig: Path) -> Insistent:
        return cls(api_client(str(kubeconfig)), field_manager="users", write_timeout_seconds=10)

    def create(self, kind: Kind, namespace: str | None, obj: Any, **more: Any) -> dict[str, Any]:
        tried = 0

        def once() -> dict[str, Any]:
            nonlocal tried
            tried += 1
            try:
                return super(Insistent, self).create(kind, namespace, obj, **more)
            except Conflict:
                if tried == 1:
                    raise
                return super(Insistent, self).get(kind, namespace, obj["metadata"]["name"])

        return insist(once)

    def patch(self, *arguments: Any, **more: Any) -> dict[str, Any]:
        return insist(lambda: super(Insistent, self).patch(*arguments, **more))

    def get(self, *arguments: Any, **more: Any) -> dict[str, Any]:
        return insist(lambda: super(Insistent, self).get(*arguments, **more))

    def list(self, *arguments: Any, **more: Any) -> tuple[list[dict[str, Any]], str]:
        return insist(lambda: super(Insistent, self).list(*arguments, **more))

    def delete(self, *arguments: Any, **more: Any) -> None:
        def once() -> None:
            try:
                super(Insistent, self).delete(*arguments, **more)
            except NotFound:
                return

        insist(once)


def insist(ask: Callable[[], T]) -> T:
    """What `ask` returns, asked again while the server does not answer. Raises the last error after two minutes."""
    deadline = time.monotonic() + INSIST_S
    while True:
        try:
            return ask()
        except (Unavailable, Ambiguous):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.3)


def define(gateway: Gateway) -> None:
    """Istio's two kinds and ours."""
    install(gateway, [*read_definitions(EMBEDDED_ISTIO), canary_definition()])
