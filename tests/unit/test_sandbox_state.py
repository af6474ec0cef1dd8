"""Whose sandbox is in a folder: nothing of anybody else is ever signalled or removed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from canary.errors import SandboxError
from canary.sandbox import state
from canary.sandbox.state import Identity

SLEEP = [sys.executable, "-S", "-c", "import time; time.sleep(60)"]


@pytest.fixture
def process() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(SLEEP) as running:
        yield running
        running.kill()


def write(directory: Path, supervisor: Identity, *parts: Identity) -> None:
    directory.mkdir()

    def said(process: Identity) -> dict[str, object]:
        return {"name": process.name, "pid": process.pid, "began": process.began}

    document = {"format": "canary-sandbox/1", "supervisor": said(supervisor), "parts": list(map(said, parts))}
    (directory / state.STATE_FILE).write_text(json.dumps({**document, "is_ready": True}))


def test_a_process_id_that_belongs_to_somebody_else_by_now_is_left_alone(
    tmp_path: Path, process: subprocess.Popen[bytes]
) -> None:
    somebody_else = Identity("apiserver", process.pid, "another boot 12345")
    write(tmp_path / "sandbox", Identity("canary sandbox", process.pid, "another boot 1"), somebody_else)

    assert state.end(tmp_path / "sandbox")

    assert process.poll() is None
    assert not (tmp_path / "sandbox").exists()


def test_what_outlived_a_crashed_supervisor_is_ended(tmp_path: Path, process: subprocess.Popen[bytes]) -> None:
    gone = Identity("canary sandbox", process.pid, "another boot 1")
    write(tmp_path / "sandbox", gone, Identity.of("envoy", process.pid))

    assert state.end(tmp_path / "sandbox")

    assert process.wait(5) != 0


def test_a_process_is_known_until_it_has_ended_even_before_anybody_waited_for_it() -> None:
    process = subprocess.Popen(SLEEP)
    known = Identity.of("sleep", process.pid)
    assert known.is_alive

    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # now a zombie

    assert not known.is_alive
    process.wait()
    assert not known.is_alive


def test_a_claimed_folder_is_refused_to_others_and_free_again_when_removed(tmp_path: Path) -> None:
    directory = tmp_path / "sandbox"
    state.claim(directory)
    assert directory.stat().st_mode & 0o077 == 0

    with pytest.raises(SandboxError, match=f"already runs in {directory} .pid {os.getpid()}"):
        state.claim(directory)

    state.remove(directory)
    state.claim(directory)


def test_a_claim_takes_over_what_a_crashed_sandbox_left(tmp_path: Path) -> None:
    directory = tmp_path / "sandbox"
    write(directory, Identity("canary sandbox", os.getpid(), "another boot 1"))
    (directory / "kubeconfig").write_text("old")

    state.claim(directory)

    assert not (directory / "kubeconfig").exists()
    found = state.read(directory)
    assert found is not None
    assert (found.supervisor, found.is_ready) == (Identity.of("canary sandbox", os.getpid()), False)


def test_a_folder_with_other_files_is_refused_and_never_removed(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")

    with pytest.raises(SandboxError, match=r"thesis\.txt"):
        state.claim(tmp_path)

    assert state.end(tmp_path) is False
    assert (tmp_path / "thesis.txt").exists()


@pytest.mark.parametrize("content", ["", "{}", "[1]", '{"format": "terraform/4", "supervisor": {}, "parts": []}'])
def test_a_state_file_of_another_program_is_refused_and_kept(tmp_path: Path, content: str) -> None:
    (tmp_path / state.STATE_FILE).write_text(content)

    with pytest.raises(SandboxError, match="not the state of a sandbox"):
        state.end(tmp_path)

    assert (tmp_path / state.STATE_FILE).exists()


def test_a_sweep_removes_what_crashed_and_keeps_what_runs(tmp_path: Path) -> None:
    write(tmp_path / "canary-demo-crashed", Identity("canary demo", os.getpid(), "another boot 1"))
    write(tmp_path / "canary-demo-running", Identity.of("canary demo", os.getpid()))
    (tmp_path / "canary-demo-of-somebody").mkdir()

    state.sweep(tmp_path, "canary-demo-")

    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["canary-demo-of-somebody", "canary-demo-running"]
