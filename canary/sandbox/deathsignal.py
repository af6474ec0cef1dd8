"""Becomes another program, after asking the kernel (Linux) to kill it when its parent dies: `PARENT_PID PROGRAM ARG...`

A step between fork and exec, done in a process of its own because Python code may not run there in a program that has
threads (subprocess's `preexec_fn`). Run by its path with `python -I -S` it imports almost nothing: 15 ms.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1  # <linux/prctl.h>


def main() -> None:
    parent, *argv = sys.argv[1:]
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != int(parent):  # it died before the line above
        sys.exit(1)
    try:
        os.execvp(argv[0], argv)
    except OSError as error:
        sys.exit(f"cannot run {argv[0]}: {error.strerror}")


if __name__ == "__main__":
    main()
