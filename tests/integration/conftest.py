"""Fixtures that share one embedded API server among all integration tests of a session."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import pytest
from kubernetes import client, config


@dataclass(frozen=True)
class Embedded:
    """A running API server: its kubeconfig, its process, and its log."""

    kubeconfig: Path
    process: subprocess.Popen[bytes]
    log: Path


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
    """The session's API server. Tests keep apart by namespace (`namespace`)."""
    return start_apiserver()


@pytest.fixture
def kubeconfig(embedded: Embedded, tmp_path: Path) -> Path:
    """A fresh kubeconfig of the session's API server, for the test to change or hand to a process."""
    path = tmp_path / "kubeconfig"
    shutil.copyfile(embedded.kubeconfig, path)
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
