"""Keeps a sandbox up in a folder: claims it, starts the cluster, looks after its parts, and leaves nothing behind.

What a cluster would start again by itself (the controller, Prometheus, the callers) is started again here; what holds
the cluster's state ends the sandbox when it dies, with its last words.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from canary.errors import SandboxError
from canary.sandbox import state
from canary.sandbox.cluster import Sandbox, Say, Settings
from canary.sandbox.parts import last_words

_LOOK_SECONDS = 0.5
_RESTART_SECONDS = 2.0
"""Between the end of a part and its next start, as a cluster backs off."""


def keep_up(directory: Path, settings: Settings, say: Say, on_ready: Callable[[Sandbox], None]) -> NoReturn:
    """Run a sandbox in a folder until an exception ends it (see ending.py); `say` is told what happens.

    Raises SandboxError for a folder that is not free, and when a part dies that cannot be replaced; only then the
    folder stays, with the logs in it, until the next `up` or `down`.
    """
    state.claim(directory)
    is_ready = False
    try:
        with Sandbox(directory, settings).start(say) as sandbox:
            state.record(directory, sandbox.pids, is_ready=True)
            on_ready(sandbox)
            is_ready = True
            while True:
                time.sleep(_LOOK_SECONDS)
                if _look_after(sandbox, say):
                    state.record(directory, sandbox.pids, is_ready=True)
    except SandboxError:
        if not is_ready:
            state.remove(directory)
        raise
    except BaseException:
        state.remove(directory)
        raise


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
