"""Keeps Envoy's files in step with the cluster: an ordinary client of the Kubernetes API, as istiod is.

It watches what a mesh's control plane watches and rewrites the files when the translation changed. It reads only: it
must never write to the cluster, and never route by anything but the objects.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Any

from canary.cluster.gateway import Gateway
from canary.cluster.kinds import DESTINATIONRULE, POD, SERVICE, VIRTUALSERVICE, Kind
from canary.cluster.reflector import Reflector
from canary.errors import SandboxError
from canary.sandbox.envoy.names import Client, Json
from canary.sandbox.envoy.translate import Resources, translate
from canary.sandbox.envoy.xds import XdsFiles

DEBOUNCE_SECONDS = 0.005
"""How long to gather changes that come together; istiod waits 100 ms, a demo must not."""

_RETRY_SECONDS = 5.0
_METADATA = (
    "name",
    "namespace",
    "labels",
    "annotations",
    "creationTimestamp",
    "deletionTimestamp",
    "ownerReferences",
)

log = logging.getLogger(__name__)


def _with(kept: Callable[[Json], Json]) -> Callable[[dict[str, Any]], Json]:
    """A projection: the metadata the translation reads, and what `kept` says of the rest."""

    def project(raw: dict[str, Any]) -> Json:
        meta = raw["metadata"]
        return {"metadata": {key: meta[key] for key in _METADATA if key in meta}, **kept(raw)}

    return project


def _pod_parts(raw: Json) -> Json:
    status, containers = raw.get("status") or {}, (raw.get("spec") or {}).get("containers") or []
    conditions = [c for c in status.get("conditions") or [] if c.get("type") == "Ready"]
    return {
        "spec": {"containers": [{"ports": container.get("ports") or []} for container in containers]},
        "status": {
            "podIP": status.get("podIP"),
            "conditions": [{"type": "Ready", "status": c.get("status")} for c in conditions],
        },
    }


def _spec_part(raw: Json) -> Json:
    return {"spec": raw.get("spec") or {}}


_READ: dict[Kind, Callable[[Json], Json]] = {
    VIRTUALSERVICE: _spec_part,
    DESTINATIONRULE: _spec_part,
    SERVICE: _spec_part,
    POD: _pod_parts,
}


class Feeder:
    """Watches all namespaces through `gateway` and applies what it sees to `files`, as `client` would be configured.

    `sync` first, then start Envoy on the files, then `start`.
    """

    def __init__(
        self, gateway: Gateway, files: XdsFiles, client: Client, debounce_seconds: float = DEBOUNCE_SECONDS
    ) -> None:
        self._files = files
        self._client = client
        self._debounce_seconds = debounce_seconds
        self._changed = threading.Event()
        self._stopping = threading.Event()
        self._warned: set[str] = set()
        self._copies = {
            kind: Reflector(gateway, kind, None, project=_with(kept), on_change=lambda _: self._changed.set())
            for kind, kept in _READ.items()
        }
        self._thread = threading.Thread(target=self._run, name="envoy-feeder", daemon=True)

    def sync(self, timeout_s: float = 30.0) -> None:
        """Start watching and write the files for the first time. Raises SandboxError when a list does not arrive."""
        deadline = time.monotonic() + timeout_s
        for copy in self._copies.values():
            copy.start()
        for kind, copy in self._copies.items():
            if not copy.wait_synced(max(0.0, deadline - time.monotonic())):
                raise SandboxError(f"no list of {kind.resource} within {timeout_s:g} s: {copy.last_error or 'waiting'}")
        self._files.apply(self._translated())

    def start(self) -> None:
        """Follow changes on a thread of its own until `stop`."""
        self._thread.start()

    @property
    def is_running(self) -> bool:
        """Whether changes are followed."""
        return self._thread.is_alive()

    def stop(self) -> None:
        """End the thread and the watches."""
        self._stopping.set()
        self._changed.set()
        if self._thread.ident is not None:
            self._thread.join()
        for copy in self._copies.values():
            copy.stop()

    def _run(self) -> None:
        timeout: float | None = None
        while True:
            self._changed.wait(timeout)
            if self._stopping.wait(self._debounce_seconds):
                return
            self._changed.clear()
            timeout = None
            try:
                self._files.apply(self._translated())
            except (SandboxError, OSError) as error:
                log.error("envoy's configuration was not brought up to date: %s", error)
                timeout = _RETRY_SECONDS

    def _translated(self) -> Resources:
        resources = translate(
            self._copies[VIRTUALSERVICE].items(),
            self._copies[DESTINATIONRULE].items(),
            self._copies[SERVICE].items(),
            self._copies[POD].items(),
            self._client,
        )
        for sentence in resources.warnings:
            if sentence not in self._warned:
                log.warning("%s", sentence)
        self._warned = set(resources.warnings)
        return resources
