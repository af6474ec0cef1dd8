"""Keeps a sandbox up in a folder: claims it, starts the cluster, looks after its parts, and leaves nothing behind.

What a cluster would start again by itself (the controller, Prometheus, the callers) is started again here; what holds
the cluster's state ends the sandbox when it dies, with its last words.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

from canary.errors import SandboxError
from canary.sandbox import state
from canary.sandbox.cluster import Sandbox, Say, Settings
from canary.sandbox.parts import last_words

_LOOK_SECONDS = 0.5
_RESTART_SECONDS = 2.0
"""Between the end of a part and its next start, as a cluster backs off."""


@contextmanager
def claimed(directory: Path, *, keep_logs: bool = False) -> Iterator[None]:
    """The folder is this process's own within, and so are its temporary files; afterwards the folder is gone.

    With `keep_logs` it stays when a part of a sandbox that was up has died. Raises SandboxError when it is not free.
    """
    state.claim(directory)
    before = tempfile.tempdir
    tempfile.tempdir = str(directory)  # the Kubernetes client writes certificates to files
    stays = False
    try:
        yield
    except SandboxError:
        found = state.read(directory)
        stays = keep_logs and found is not None and found.is_ready
        raise
    finally:
        tempfile.tempdir = before
        if not stays:
            state.remove(directory)


def keep_up(directory: Path, settings: Settings, say: Say, on_ready: Callable[[Sandbox], None]) -> NoReturn:
    """Run a sandbox in a folder until an exception ends it (see ending.py); `say` is told what happens.

    Raises SandboxError for a folder that is not free, and when a part dies that cannot be replaced; only then the
    folder stays, with the logs in it, until the next `up` or `down`.
    """
    with claimed(directory, keep_logs=True), Sandbox(directory, settings).start(say) as sandbox:
        on_ready(sandbox)
        state.record(directory, sandbox.pids, is_ready=True)
        while True:
            time.sleep(_LOOK_SECONDS)
            if _look_after(sandbox, say):
                state.record(directory, sandbox.pids, is_ready=True)


def _look_after(sandbox: Sandbox, say: Say) -> bool:
    """Start again what died; whether there was anything."""
    for name, part in sandbox.vital.items():
        if not part.is_running:
            raise SandboxError(last_words(name, part))
    replaced = False
    for name, part in sandbox.replaceable.items():
        if not part.is_running:
            say(f"{name} ended; starting it again in {_RESTART_SECONDS:g} s")
            time.sleep(_RESTART_SECONDS)
            try:
                part.start()
            except SandboxError as error:  # its log says why; the next round tries again
                say(str(error))
            replaced = True
    return replaced
