"""One controller in this process, behind a proxy that keeps which rights it used."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

from canary.daemon.run import Daemon
from canary.daemon.settings import Settings
from canary.sandbox.realapi.server import RealApiServer
from canary.telemetry.settings import SourceSettings
from tests.faults.asked import Asked
from tests.faults.proxy import Answer, Forward, Proxy
from tests.pages import page
from tests.real.rights.roles import Installation
from tests.shop import until


class Controller:
    """A running daemon; `namespace` None serves all of them. Without an installation it is on its own, in its pod."""

    def __init__(
        self,
        real: RealApiServer,
        installation: Installation | None,
        policies: Path,
        folder: Path,
        *,
        namespace: str | None = None,
        own: str = "",
    ) -> None:
        self.used: set[tuple[str, str, bool]] = set()
        """(verb, resource, in our own namespace) of every request that was not refused; resources without groups."""
        self.proxy: Proxy | None = None
        proxied = None
        if installation is not None:
            self.kubeconfig = real.kubeconfig_for(installation.token(real), folder / "kubeconfig")
            self.proxy = Proxy.before(self.kubeconfig, hooks=[self._note])
            self.proxy.start()
            proxied = str(self.proxy.kubeconfig(self.kubeconfig, folder / "proxied"))
            own = installation.own
        self._settings = Settings(
            policies=policies, source=SourceSettings("http://127.0.0.1:9"), kubeconfig=proxied, namespace=namespace,
            own_namespace=own, listen="127.0.0.1:0", tile_s=0.2, tick_s=0.2, settle_s=0.1, abort_period_s=0.5,
            intake_grace_s=0.5, workers=2, history_limit=1,
        )  # fmt: skip
        self.start()

    def start(self) -> None:
        self.daemon = Daemon(self._settings)
        self._thread = threading.Thread(target=self.daemon.run, name="daemon")
        self._thread.start()

    def stop(self) -> None:
        """End the daemon and the proxy."""
        self.end()
        if self.proxy is not None:
            self.proxy.stop()

    def end(self) -> None:
        """End the daemon, if it runs; it can be started again."""
        self.daemon.stop()
        self._thread.join(20)
        assert not self._thread.is_alive()

    def page(self, path: str) -> tuple[int, str]:
        """(status, body) of an answer of the health server."""
        return page(f"http://127.0.0.1:{self.daemon.health.port}{path}")

    def ready(self) -> None:
        until(lambda: self.page("/readyz")[0] == 200, 30, "for the controller")

    def says(self, *words: str, status: int | None = None, seconds: float = 10.0) -> str:
        """The body of /readyz once it holds all these words."""
        found: list[Any] = [None]

        def there() -> bool:
            found[0] = self.page("/readyz")
            return all(word in found[0][1] for word in words) and status in (None, found[0][0])

        try:
            until(there, seconds)
        except AssertionError:
            raise AssertionError(f"/readyz does not say {words} within {seconds:g} s: {found[0]}") from None
        return str(found[0][1])

    def cut_watches(self) -> None:
        """End every watch, as the API server does every few minutes."""
        for reflector in self.daemon.caches.reflectors.values():
            if (watch := reflector._watch) is not None:
                watch.close()

    async def _note(self, asked: Asked, forward: Forward) -> Answer:
        answer = await forward()
        if asked.resource and answer.status not in (401, 403):
            resource = f"{asked.resource}/{asked.subresource}" if asked.subresource else asked.resource
            self.used.add((asked.verb, resource, asked.namespace == self._settings.own_namespace))
        return answer
