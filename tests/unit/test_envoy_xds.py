import json
from pathlib import Path
from typing import Any

import pytest

from canary.errors import SandboxError
from canary.sandbox.envoy.bootstrap import CLUSTERS_FILE, ROUTES_FILE
from canary.sandbox.envoy.translate import Resources
from canary.sandbox.envoy.xds import CLUSTERS_IN_FORCE, XdsFiles

Json = dict[str, Any]


class Disk:
    """Plays an Envoy that takes every file at once, and notes what was in force together at each step."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.seen: list[tuple[set[str], list[str]]] = []

    def in_force(self, statistic: str) -> str:
        clusters, routes = self.read(CLUSTERS_FILE), self.read(ROUTES_FILE)
        self.seen.append(({c["name"] for c in clusters["resources"]}, routes["resources"][0]["to"]))
        return str((clusters if statistic == CLUSTERS_IN_FORCE else routes)["version_info"])

    def read(self, file: Path) -> Json:
        found: Json = json.loads((self.directory / file).read_text(encoding="utf-8"))
        return found


def resources(clusters: str, routes_to: str) -> Resources:
    return Resources([{"name": name} for name in clusters.split()], {"name": "http", "to": routes_to.split()})


def test_no_route_ever_names_a_cluster_that_is_not_there(tmp_path: Path) -> None:
    files, disk = XdsFiles(tmp_path), Disk(tmp_path)
    files.apply(resources("v1", "v1"))
    files.follow(disk.in_force)

    files.apply(resources("v2", "v2"))

    assert disk.seen == [({"v1", "v2"}, ["v1"]), ({"v1", "v2"}, ["v2"]), ({"v2"}, ["v2"])]


def test_a_change_of_weights_is_one_file_and_no_change_is_none(tmp_path: Path) -> None:
    files = XdsFiles(tmp_path)
    files.apply(resources("v1 v2", "v1"))
    before = (tmp_path / CLUSTERS_FILE).stat().st_ino

    assert files.apply(resources("v1 v2", "v1 v2"))
    assert (tmp_path / CLUSTERS_FILE).stat().st_ino == before
    routes = (tmp_path / ROUTES_FILE).stat().st_ino
    assert not files.apply(resources("v1 v2", "v1 v2"))
    assert (tmp_path / ROUTES_FILE).stat().st_ino == routes


def test_a_configuration_that_envoy_refuses_is_an_error_and_is_written_again_next_time(tmp_path: Path) -> None:
    files, disk = XdsFiles(tmp_path, timeout_s=0.05), Disk(tmp_path)
    files.apply(resources("v1", "v1"))

    files.follow(lambda _: "an older version")
    with pytest.raises(SandboxError, match="envoy did not take version"):
        files.apply(resources("v1 v2", "v2"))

    files.follow(disk.in_force)
    assert files.apply(resources("v1", "v1"))
    assert disk.seen[-1] == ({"v1"}, ["v1"])
