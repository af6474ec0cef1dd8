"""Whose sandbox lives in a folder: one state file with the ids of its processes, and how to end them.

A process is known by its id *and* when it began, so that an id that the system gave to somebody else is never
signalled; nothing is ever found by name. A folder is removed only when it holds a sandbox's state file.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from canary.errors import SandboxError

STATE_FILE = "state.json"
SUPERVISOR_LOG = "sandbox.log"
"""Written before the folder is claimed, by a sandbox that was started in the background."""

_FORMAT = "canary-sandbox/1"
_POLL_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class Identity:
    """A process, and when it began (in words of the system's own; only compared)."""

    name: str
    pid: int
    began: str

    @staticmethod
    def of(name: str, pid: int) -> Identity:
        return Identity(name, pid, _began(pid))

    @property
    def is_alive(self) -> bool:
        return self.began != "" and _began(self.pid) == self.began

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to this very process; nothing when it is gone."""
        if self.is_alive:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)


def _began(pid: int) -> str:
    """When a process began, empty when it is gone (a zombie is)."""
    if sys.platform == "linux":
        try:
            text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        except (FileNotFoundError, ProcessLookupError):
            return ""
        fields = text[text.rindex(")") + 2 :].split()  # the name before it may hold spaces and brackets
        state, ticks = fields[0], fields[19]  # proc_pid_stat(5): fields 3 and 22
        return "" if state in "ZX" else f"{_boot()} {ticks}"
    asked = subprocess.run(["ps", "-o", "stat=,lstart=", "-p", str(pid)], capture_output=True, text=True, check=False)
    state, _, began = asked.stdout.strip().partition(" ")
    return "" if state.startswith("Z") else began.strip()


def _boot() -> str:
    """Ticks count from the machine's start, so they mean something only together with it."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


@dataclass(frozen=True, slots=True)
class State:
    """What the state file says. `is_ready` comes true once the whole cluster serves."""

    supervisor: Identity
    parts: tuple[Identity, ...] = ()
    is_ready: bool = False


def read(directory: Path) -> State | None:
    """The state in a folder, None where no sandbox is. Raises SandboxError for a state file of another kind."""
    try:
        said = json.loads((directory / STATE_FILE).read_bytes())
        parts = tuple(Identity(**part) for part in said["parts"])
        state = State(Identity(**said["supervisor"]), parts, bool(said["is_ready"]))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise SandboxError(_strange(directory)) from error
    if said.get("format") != _FORMAT:
        raise SandboxError(_strange(directory))
    return state


def _strange(directory: Path) -> str:
    return f"{directory / STATE_FILE} is not the state of a sandbox ({_FORMAT}): name another folder with --dir"


def free(directory: Path) -> None:
    """Make the folder, or free it of what a crashed sandbox left.

    Raises SandboxError naming the sandbox that runs there, or what else is in the folder.
    """
    before = read(directory)
    if before is not None:
        if before.supervisor.is_alive:
            raise SandboxError(
                f"a sandbox already runs in {directory} (pid {before.supervisor.pid}): end it with `canary sandbox "
                f"down --dir {directory}`, or name another folder"
            )
        end(directory)
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    strangers = sorted(entry.name for entry in directory.iterdir() if entry.name != SUPERVISOR_LOG)
    if strangers:
        raise SandboxError(f"{directory} holds other files ({', '.join(strangers[:3])}): name a folder of its own")


def claim(directory: Path) -> None:
    """Make the folder this process's own. Raises SandboxError when it cannot be freed, or another is faster."""
    free(directory)
    state = State(Identity.of("canary sandbox", os.getpid()))
    temporary = _written(directory, state)
    try:
        os.link(temporary, directory / STATE_FILE)  # unlike a rename, refuses when another was faster
    except FileExistsError:
        raise SandboxError(f"another sandbox just started in {directory}: name another folder") from None
    finally:
        temporary.unlink()


def record(directory: Path, pids: Mapping[str, int], *, is_ready: bool) -> None:
    """Write down the processes that this sandbox runs by now, by name."""
    supervisor = Identity.of("canary sandbox", os.getpid())
    state = State(supervisor, tuple(Identity.of(name, pid) for name, pid in pids.items()), is_ready)
    _written(directory, state).replace(directory / STATE_FILE)


def _written(directory: Path, state: State) -> Path:
    descriptor, name = tempfile.mkstemp(dir=directory, prefix=".state.")
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump({"format": _FORMAT, **asdict(state)}, file, indent=1)
    return Path(name)


def end(directory: Path, timeout_s: float = 20.0) -> bool:
    """End the sandbox of a folder, whatever is left of it, and remove the folder. False when there was none.

    The supervisor is asked first, and ends its parts in order; parts that outlived a crashed one are ended here.
    Raises SandboxError when a process cannot be ended.
    """
    state = read(directory)
    if state is None:
        return False
    for processes in ((state.supervisor,), state.parts):
        _end_processes(processes, timeout_s)
    remove(directory)
    return True


def remove(directory: Path) -> None:
    """Remove a sandbox's folder. Logs may still be written for a moment, by processes that are about to end."""
    deadline = time.monotonic() + 2.0
    shutil.rmtree(directory, ignore_errors=True)
    while directory.exists():
        time.sleep(_POLL_SECONDS)
        shutil.rmtree(directory, ignore_errors=time.monotonic() < deadline)


def sweep(parent: Path, prefix: str) -> None:
    """Remove what crashed sandboxes of this user left in folders `parent`/`prefix`*; running ones stay."""
    for directory in parent.glob(f"{prefix}*"):
        with contextlib.suppress(SandboxError, OSError):  # somebody else's, or being swept by another: not ours to fix
            state = read(directory) if directory.stat().st_uid == os.getuid() else None
            if state is not None and not state.supervisor.is_alive:
                end(directory)


def _end_processes(processes: Sequence[Identity], timeout_s: float) -> None:
    for number, wait_s in ((signal.SIGTERM, timeout_s), (signal.SIGKILL, 5.0)):
        for process in processes:
            process.signal(number)
        deadline = time.monotonic() + wait_s
        while any(process.is_alive for process in processes):
            if time.monotonic() >= deadline:
                break
            time.sleep(_POLL_SECONDS)
        else:
            return
    alive = ", ".join(f"{process.name} (pid {process.pid})" for process in processes if process.is_alive)
    raise SandboxError(f"still alive after SIGKILL: {alive}")
