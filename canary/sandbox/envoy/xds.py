"""The files Envoy reads its routes and clusters from, and the order in which they change: make before break.

Each file is written whole beside its place, synced and renamed into it, so that Envoy never reads half of one. A pure
change of weights is one rename. It must never leave a route pointing at a cluster that is not there yet or no longer.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable
from pathlib import Path

import orjson

from canary.errors import SandboxError
from canary.sandbox.envoy.bootstrap import CLUSTERS_FILE, ROUTES_FILE
from canary.sandbox.envoy.names import Json
from canary.sandbox.envoy.translate import Resources

CLUSTERS_IN_FORCE = "cluster_manager.cds.version_text"
ROUTES_IN_FORCE = "http.outbound.rds.http.version_text"
_POLL_SECONDS = 0.002

InForce = Callable[[str], str]
"""From the name of a version statistic to the version Envoy runs with now; empty when it cannot say."""


class XdsFiles:
    """Writes Resources into `directory` and remembers what is there."""

    def __init__(self, directory: Path, in_force: InForce | None = None, timeout_s: float = 2.0) -> None:
        """`in_force` asks the running Envoy; without it nothing is waited for (there is no Envoy yet)."""
        self._directory = directory
        self._in_force = in_force
        self._timeout_s = timeout_s
        self._clusters: dict[str, Json] = {}
        self._routes: Json | None = None
        for file in (CLUSTERS_FILE, ROUTES_FILE):
            (directory / file.parent).mkdir(parents=True, exist_ok=True)

    def follow(self, in_force: InForce) -> None:
        """From now on an Envoy reads the files, and changes wait for it where their order matters."""
        self._in_force = in_force

    def apply(self, resources: Resources) -> bool:
        """Bring the files to `resources` and return once Envoy runs with them; whether anything changed.

        Raises SandboxError when Envoy refused a step or did not take it within the timeout. It then goes on with what
        it had, and the next call starts over with everything.
        """
        wanted = {cluster["name"]: cluster for cluster in resources.clusters}
        routes_change, clusters_change = self._routes != resources.routes, self._clusters != wanted
        if not (routes_change or clusters_change):
            return False
        first_time = self._routes is None
        kept = {name: cluster for name, cluster in self._clusters.items() if name not in wanted}
        try:
            if clusters_change or first_time:
                # New ones join, changed ones change; those that go stay until no route names them.
                self._write_clusters(wanted | kept if routes_change else wanted)
            if routes_change:
                self._await(ROUTES_IN_FORCE, self._write(ROUTES_FILE, [resources.routes]))
                if kept:
                    self._write_clusters(wanted)
        except SandboxError:
            # Envoy may yet take what is on disk: nothing of it may go before routes without it are in force.
            self._clusters, self._routes = wanted | kept, None
            raise
        self._clusters, self._routes = wanted, resources.routes
        return True

    def _write_clusters(self, clusters: dict[str, Json]) -> None:
        self._await(CLUSTERS_IN_FORCE, self._write(CLUSTERS_FILE, [clusters[name] for name in sorted(clusters)]))

    def _write(self, file: Path, resources: list[Json]) -> str:
        """Replace a file; returns its version, which is its content's digest."""
        version = hashlib.sha256(orjson.dumps(resources)).hexdigest()[:16]
        path = self._directory / file
        fresh = path.with_name(f".{path.name}.new")
        with fresh.open("wb") as output:
            output.write(orjson.dumps({"version_info": version, "resources": resources}))
            output.flush()
            os.fsync(output.fileno())
        fresh.replace(path)
        return version

    def _await(self, statistic: str, version: str) -> None:
        """Wait until Envoy runs with `version`."""
        if self._in_force is None:
            return
        deadline = time.monotonic() + self._timeout_s
        while (current := self._in_force(statistic)) != version:
            if time.monotonic() >= deadline:
                raise SandboxError(
                    f"envoy did not take version {version} within {self._timeout_s:g} s ({statistic} is "
                    f"{current or 'unknown'}): its log says why it refused it"
                )
            time.sleep(_POLL_SECONDS)
