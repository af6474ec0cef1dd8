import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from canary.errors import SandboxError
from canary.sandbox.process import Child, free_port

SLEEP = [sys.executable, "-c", "import time; time.sleep(60)"]


def wait_until_gone(pid: int, timeout_s: float = 5.0) -> None:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        try:
            state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()[0]
        except FileNotFoundError:
            return
        if state == "Z":  # dead, not yet reaped by whoever adopted it
            return
        time.sleep(0.02)
    pytest.fail(f"process {pid} still runs after {timeout_s} s")


def test_a_program_that_dies_at_its_start_is_named_with_its_exit_code_and_its_last_words(tmp_path: Path) -> None:
    child = Child("flaky", [sys.executable, "-c", "raise SystemExit('no such volume')"], log=tmp_path / "log").start()

    with pytest.raises(SandboxError, match=r"flaky ended with exit code 1 at its start(.|\n)*no such volume"):
        child.wait_ready(lambda: False, timeout_s=10)


def test_a_program_that_never_serves_is_reported_after_the_timeout(tmp_path: Path) -> None:
    with (
        Child("mute", SLEEP, log=tmp_path / "log") as child,
        pytest.raises(SandboxError, match=r"mute was not ready within 0\.1 s"),
    ):
        child.wait_ready(f"http://127.0.0.1:{free_port()}/", timeout_s=0.1)


def test_a_program_that_is_not_there_is_an_error_of_the_sandbox(tmp_path: Path) -> None:
    with pytest.raises(SandboxError, match="ghost cannot be started"):
        Child("ghost", [tmp_path / "ghost"], log=tmp_path / "log").start()


def test_stop_ends_with_sigterm_and_start_runs_it_again(tmp_path: Path) -> None:
    child = Child("sleeper", SLEEP, log=tmp_path / "log")

    first = child.start().pid
    child.stop()
    assert child.exit_code == -signal.SIGTERM

    child.start()
    assert child.is_running
    assert child.pid != first
    child.stop()
    assert not child.is_running


def test_a_program_deaf_to_sigterm_is_killed_after_the_timeout(tmp_path: Path) -> None:
    deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"
    child = Child("deaf", [sys.executable, "-c", deaf], log=tmp_path / "log").start()
    child.wait_ready(lambda: child.log_tail() == "up")

    child.stop(timeout_s=0.1)

    assert child.exit_code == -signal.SIGKILL


def test_a_child_outlives_the_thread_that_asked_for_it(tmp_path: Path) -> None:
    child = Child("sleeper", SLEEP, log=tmp_path / "log")
    worker = threading.Thread(target=child.start)
    worker.start()
    worker.join()

    assert child.wait(timeout_s=0.3) is None
    child.stop()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has a parent-death signal")
def test_a_child_dies_with_a_sandbox_that_was_killed(tmp_path: Path) -> None:
    sandbox = (
        "import pathlib, sys, time\n"
        "from canary.sandbox.process import Child\n"
        "child = Child('sleeper', [sys.executable, '-c', 'import time; time.sleep(60)'], log=pathlib.Path('log'))\n"
        "print(child.start().pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", sandbox], stdout=subprocess.PIPE, text=True, cwd=tmp_path) as parent:
        assert parent.stdout is not None
        grandchild = int(parent.stdout.readline())
        os.kill(grandchild, 0)

        parent.kill()

    wait_until_gone(grandchild)
