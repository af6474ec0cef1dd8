"""`canary sandbox up` and `down` as commands: what they print works, and nothing is ever left behind."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from canary.sandbox import example, state
from canary.sandbox.load import probe
from canary.sandbox.state import Identity

pytestmark = pytest.mark.slow

CANARY = [sys.executable, "-m", "canary.cli.app"]
QUIET = ("--no-controller", "--rate", "0")
"""A cluster without load and controller is up in two seconds."""


def until(condition: Callable[[], object], what: str, timeout_s: float = 15.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout_s} s: {what}"
        time.sleep(0.05)


def parents() -> dict[int, int]:
    """The parent of every process of this machine."""
    if sys.platform != "linux":
        listed = subprocess.run(["ps", "-axo", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
        return {int(pid): int(parent) for pid, parent in (line.split() for line in listed.splitlines())}
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                found[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except (FileNotFoundError, ProcessLookupError):
                continue
    return found


def tree(pid: int) -> set[Identity]:
    """A process and everything that it started, at this moment."""
    above = parents()
    found, fresh = {pid}, {pid}
    while fresh:
        fresh = {child for child, parent in above.items() if parent in fresh} - found
        found |= fresh
    return {Identity.of(str(member), member) for member in found}


class Up:
    """`canary sandbox up` in a folder, in the foreground of a terminal of its own."""

    def __init__(self, directory: Path, *options: str) -> None:
        self.directory = directory
        self.log = directory.with_name(f"{directory.name}.out")
        with self.log.open("wb") as output:
            self.process = subprocess.Popen(
                [*CANARY, "sandbox", "up", "--dir", str(directory), *options],
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def text(self) -> str:
        return self.log.read_text()

    def wait_up(self) -> Up:
        until(lambda: self.is_ready or self.process.poll() is not None, "a sandbox that is up", 60)
        assert self.process.poll() is None, self.text
        return self

    @property
    def is_ready(self) -> bool:
        found = state.read(self.directory)
        return found is not None and found.is_ready and found.supervisor.pid == self.process.pid

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(30)


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Callable[..., Up]]:
    started: list[Up] = []

    def start(*options: str, name: str = "sandbox") -> Up:
        started.append(Up(tmp_path / name, *options))
        return started[-1]

    yield start
    for one in started:
        one.end()
        state.end(one.directory)


def down(directory: Path) -> str:
    ended = subprocess.run(
        [*CANARY, "sandbox", "down", "--dir", str(directory)], capture_output=True, text=True, check=True, timeout=60
    )
    return ended.stdout


def refused(directory: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """An `up` that is not to come up."""
    command = [*CANARY, "sandbox", "up", "--dir", str(directory), *QUIET, *options]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=30)


def url_of(text: str) -> str:
    found = re.search(r"Envoy +(http://\S+)", text)
    assert found, text
    return found[1]


def test_what_up_prints_is_there_and_ctrl_c_leaves_nothing_behind(up: Callable[..., Up]) -> None:
    sandbox = up(*QUIET).wait_up()

    answer = probe(url_of(sandbox.text), example.HOST)
    assert (answer.status, answer.version) == (200, "v1")
    for name in ("v2", "v3", "v4", "v5"):
        assert (sandbox.directory / "manifests" / f"payment-{name}.yaml").is_file()
    assert (sandbox.directory / "kubeconfig").stat().st_mode & 0o077 == 0
    processes = tree(sandbox.process.pid)
    assert len(processes) >= 7  # itself, API server, pod runner, pods, Envoy's feeder, Envoy, Prometheus

    assert sandbox.end(signal.SIGINT) == 0

    until(lambda: not any(process.is_alive for process in processes), "every process gone")
    assert not sandbox.directory.exists()


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not on PATH")
def test_the_printed_kubectl_lines_make_the_next_version_run(up: Callable[..., Up]) -> None:
    sandbox = up(*QUIET).wait_up()
    lines = [line.strip() for line in sandbox.text.splitlines()]
    exported = next(line for line in lines if line.startswith("export KUBECONFIG="))
    environment = os.environ | {"KUBECONFIG": exported.partition("=")[2]}

    typed = [line for line in lines if line.startswith("kubectl ") and " -w" not in line]
    typed += ["kubectl wait --for=condition=Available deployment/payment-v2 --timeout=20s"]
    for line in typed:
        subprocess.run(line.split(), env=environment, check=True, capture_output=True, timeout=30)

    assert [line.split()[1] for line in typed] == ["apply", "annotate", "wait"]
    asked = [*CANARY, "status", "-o", "name"]
    subprocess.run(asked, env=environment, check=True, capture_output=True, timeout=30)


def test_down_from_another_terminal_ends_everything(up: Callable[..., Up]) -> None:
    sandbox = up(*QUIET).wait_up()
    processes = tree(sandbox.process.pid)

    assert "ended" in down(sandbox.directory)

    assert not any(process.is_alive for process in processes)
    assert not sandbox.directory.exists()
    assert sandbox.process.wait(5) == 0
    assert "there is none" in down(sandbox.directory)


def test_a_killed_supervisor_takes_every_process_with_it_and_down_removes_the_rest(up: Callable[..., Up]) -> None:
    sandbox = up("--rate", "50").wait_up()
    processes = tree(sandbox.process.pid)
    assert len(processes) >= 9

    sandbox.end(signal.SIGKILL)

    if sys.platform == "linux":  # elsewhere `down` ends them
        until(lambda: not any(process.is_alive for process in processes), "every process gone", 5)
    assert "ended" in down(sandbox.directory)
    until(lambda: not any(process.is_alive for process in processes), "every process gone", 5)
    assert not sandbox.directory.exists()


def test_a_second_up_names_the_first_and_leaves_it_alone(up: Callable[..., Up]) -> None:
    first = up(*QUIET).wait_up()

    second = subprocess.run(
        [*CANARY, "sandbox", "up", "--dir", str(first.directory), *QUIET],
        check=False,
        capture_output=True,
        text=True,
        timeout=30,
    )

    assert second.returncode == 1
    assert f"already runs in {first.directory} (pid {first.process.pid})" in second.stderr
    assert probe(url_of(first.text), example.HOST).status == 200


def test_up_takes_over_the_folder_of_a_crashed_one(up: Callable[..., Up]) -> None:
    first = up(*QUIET).wait_up()
    first.end(signal.SIGKILL)

    second = up(*QUIET).wait_up()

    assert second.directory == first.directory
    assert probe(url_of(second.text), example.HOST).status == 200


@pytest.mark.parametrize("option", ["--foreground", "--detach"])
def test_a_folder_with_other_files_is_refused_and_not_touched(tmp_path: Path, option: str) -> None:
    precious = tmp_path / "home" / "thesis.txt"
    precious.parent.mkdir()
    precious.write_text("years of work")

    refused = subprocess.run(
        [*CANARY, "sandbox", "up", "--dir", str(precious.parent)],
        check=False,
        capture_output=True,
        text=True,
        timeout=30,
    )

    assert refused.returncode == 1
    assert "thesis.txt" in refused.stderr
    assert "there is none" in down(precious.parent)
    assert precious.read_text() == "years of work"
    assert list(precious.parent.iterdir()) == [precious]


def test_in_the_background_up_returns_when_it_is_up_and_down_ends_it(tmp_path: Path) -> None:
    directory = tmp_path / "sandbox"
    try:
        detached = subprocess.run(
            [*CANARY, "sandbox", "up", "--detach", "--dir", str(directory), *QUIET],
            check=False,
            capture_output=True,
            text=True,
            timeout=90,
        )
        assert detached.returncode == 0, detached.stderr
        assert detached.stdout.startswith("The sandbox is up")
        assert probe(url_of(detached.stdout), example.HOST).version == "v1"
    finally:
        ended = down(directory)

    assert "ended" in ended
    assert not directory.exists()


def test_a_killed_controller_is_started_again_and_a_killed_api_server_ends_the_sandbox(up: Callable[..., Up]) -> None:
    sandbox = up("--rate", "50").wait_up()

    def pids() -> dict[str, int]:
        found = state.read(sandbox.directory)
        assert found is not None
        return {part.name: part.pid for part in found.parts if part.is_alive}

    before = pids()
    os.kill(before["controller"], signal.SIGKILL)
    until(lambda: pids().get("controller", before["controller"]) != before["controller"], "another controller", 30)
    assert {name: pid for name, pid in pids().items() if name != "controller"}.items() <= before.items()

    os.kill(before["apiserver"], signal.SIGKILL)
    assert sandbox.process.wait(30) == 1
    assert "apiserver of the sandbox ended" in sandbox.text
    assert (sandbox.directory / "logs" / "apiserver.log").exists()  # to look at, until `down`
