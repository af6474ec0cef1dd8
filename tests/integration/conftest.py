"""The API servers of the integration tests: the embedded one and a real one, the same tests on both.

A test that asks for `kubeconfig`, `api` or `namespace` runs once on each. A server is started when the first test of
a session needs it, and shared. What runs on the embedded one alone is in `ONLY_EMBEDDED`, with the reason.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from uuid import uuid4

import pytest
from kubernetes import client, config

from canary.cluster.gateway import Gateway
from canary.cluster.kinds import DESTINATIONRULE, VIRTUALSERVICE
from canary.sandbox.definitions import EMBEDDED_ISTIO, canary_definition, install, read_definitions
from canary.sandbox.realapi import controllers
from canary.sandbox.realapi.server import Options, RealApiServer

ONLY_EMBEDDED = {
    "test_apiserver_process.py": "the embedded server as a program: its options, its files, its end",
    "test_apiserver_objects.py::test_a_namespace_goes_with_its_contents_and_waits_for_finalizers": (
        "what a namespace holds is deleted by a controller of Kubernetes: tests/real has it"
    ),
    "test_apiserver_watch.py::test_a_watch_ends_at_its_timeout_with_a_bookmark": (
        "a difference: a real server sends none in the first seconds of a watch in which nothing happens"
    ),
    "test_apiserver_watch.py::test_a_version_of_the_future_is_an_error_not_a_silent_wait": (
        "a difference: a real server waits in silence for a version that no list can have given"
    ),
}
"""File, or file::test, and why it says nothing about a real API server. docs/testing.md has what only the real can."""


class ApiServer(Protocol):
    """What a test may know of the server it is on."""

    @property
    def kubeconfig(self) -> Path: ...


@dataclass(frozen=True)
class Embedded:
    """A running API server: its kubeconfig, its process, and its log."""

    kubeconfig: Path
    process: subprocess.Popen[bytes]
    log: Path


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Tests that use the session's API server run on both."""
    if "apiserver" not in metafunc.fixturenames:
        return
    file = metafunc.definition.path.name
    is_embedded = {file, f"{file}::{metafunc.definition.originalname}"} & ONLY_EMBEDDED.keys()
    servers = ["embedded"] if is_embedded else ["embedded", "real"]
    metafunc.parametrize("apiserver", servers, indirect=True, scope="session")


@pytest.fixture(scope="session")
def start_apiserver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Embedded]]:
    """Start embedded API servers with extra command line options; all end with the session, none with a traceback."""
    started: list[Embedded] = []

    def start(*options: str) -> Embedded:
        folder = tmp_path_factory.mktemp("apiserver")
        kubeconfig, log = folder / "kubeconfig", folder / "log"
        command = [sys.executable, "-m", "canary.sandbox.apiserver", "--kubeconfig", str(kubeconfig)]
        with log.open("wb") as file:
            process = subprocess.Popen([*command, "--parent-pid", str(os.getpid()), *options], stderr=file)
        started.append(Embedded(kubeconfig, process, log))
        deadline = time.monotonic() + 20
        while not kubeconfig.exists():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, f"no kubeconfig after 20 s: {log.read_text()}"
            time.sleep(0.02)
        return started[-1]

    yield start
    for server in started:
        server.process.terminate()
        server.process.wait(5)
    # What the server did not foresee it logs and answers with a 500: no test may have made it do that.
    assert [server.log.read_text() for server in started if "Traceback" in server.log.read_text()] == []


@pytest.fixture(scope="session")
def embedded(start_apiserver: Callable[..., Embedded]) -> Embedded:
    """The session's embedded API server, with our kind and Istio's."""
    server = start_apiserver()
    with closing(Gateway.connect(str(server.kubeconfig))) as gateway:
        install(gateway, [canary_definition(), *read_definitions(EMBEDDED_ISTIO)])
    return server


@pytest.fixture(scope="session")
def real_apiserver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealApiServer]:
    """The session's real API server, with our kind and Istio's, and with Kubernetes' garbage collector."""
    options = Options(controllers=(controllers.GARBAGE,))
    with RealApiServer(tmp_path_factory.mktemp("realapi"), options) as server:
        with closing(Gateway.connect(str(server.kubeconfig), write_timeout_seconds=30.0)) as gateway:
            only = [VIRTUALSERVICE.resource, DESTINATIONRULE.resource]
            install(gateway, [canary_definition(), *read_definitions(server.assets.istio_crds, only)])
        yield server


@pytest.fixture(scope="session")
def apiserver(request: pytest.FixtureRequest) -> ApiServer:
    """The session's API server of the kind that this run of the test is on. Tests keep apart by namespace."""
    server: ApiServer = request.getfixturevalue("real_apiserver" if request.param == "real" else "embedded")
    return server


@pytest.fixture
def kubeconfig(apiserver: ApiServer, tmp_path: Path) -> Path:
    """A fresh kubeconfig of the session's API server, for the test to change or hand to a process."""
    path = tmp_path / "kubeconfig"
    shutil.copyfile(apiserver.kubeconfig, path)
    path.chmod(0o600)
    return path


@pytest.fixture
def api(kubeconfig: Path) -> Iterator[client.ApiClient]:
    """The official client on the session's API server."""
    with config.new_client_from_config(str(kubeconfig)) as api_client:
        yield api_client


@pytest.fixture
def namespace(api: client.ApiClient) -> Iterator[str]:
    """A namespace of the test's own."""
    name = f"test-{uuid4().hex[:8]}"
    core = client.CoreV1Api(api)
    core.create_namespace({"metadata": {"name": name}})
    yield name
    core.delete_namespace(name)
