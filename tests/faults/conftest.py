"""One embedded API server for the tests of this folder."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The kubeconfig of a running embedded API server, which ends with the session and without a traceback."""
    folder = tmp_path_factory.mktemp("apiserver")
    kubeconfig, log = folder / "kubeconfig", folder / "log"
    command = [sys.executable, "-m", "canary.sandbox.apiserver", "--kubeconfig", str(kubeconfig)]
    with log.open("wb") as file:
        process = subprocess.Popen([*command, "--parent-pid", str(os.getpid())], stderr=file)
    deadline = time.monotonic() + 60
    while not kubeconfig.exists():
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, f"no kubeconfig after 60 s: {log.read_text()}"
        time.sleep(0.02)
    yield kubeconfig
    process.terminate()
    process.wait(10)
    assert "Traceback" not in log.read_text()
