"""A wall clock that jumps, for one process: Debian's libfaketime in front of the system's clock.

Monotonic clocks are left alone, as they are by a real jump. The library is looked for where the distribution has it
and in the checkout's `.tools`; `scripts/faketime` gets it there. Without it `find_faketime` says so.
"""

from __future__ import annotations

import faulthandler
import runpy
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
_PATTERN = "usr/lib/*/faketime/libfaketimeMT.so.1"


def find_faketime() -> Path | None:
    """The library, fetched when it is not there; None where it cannot be had."""
    if sys.platform != "linux":
        return None
    script = CHECKOUT / "scripts" / "faketime"
    subprocess.run([script], check=False, timeout=120)
    return next((found for root in (Path("/"), CHECKOUT / ".tools") for found in root.glob(_PATTERN)), None)


class JumpingClock:
    """What the clock of a process is ahead (seconds; behind when negative): in a file that the library reads."""

    def __init__(self, library: Path, file: Path) -> None:
        self._library = library
        self._file = file
        self.set(0.0)

    def set(self, ahead_s: float) -> None:
        fresh = self._file.with_suffix(".new")
        fresh.write_text(f"{ahead_s:+.3f}")
        fresh.rename(self._file)  # the library must never read half of it

    @property
    def environment(self) -> Mapping[str, str]:
        """For the process whose clock it is."""
        return {
            "LD_PRELOAD": str(self._library),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "DONT_FAKE_MONOTONIC": "1",
        }


def main() -> None:
    """`python -m tests.faults.clock run …`: the controller, on such a clock.

    libfaketime 0.9.10 breaks the absolute sleep that Python's `time.sleep` is made of; a wait does the same.
    """

    def sleep(seconds: float, /) -> None:
        threading.Event().wait(seconds)

    time.sleep = sleep  # type: ignore[assignment]
    faulthandler.register(signal.SIGUSR1)  # where every thread is, for a controller that does not end when told
    sys.argv[0] = "canary"
    runpy.run_module("canary.cli.app", run_name="__main__")


if __name__ == "__main__":
    main()
