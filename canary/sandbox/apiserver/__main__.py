"""`python -m canary.sandbox.apiserver --kubeconfig PATH`: the server as a process of its own.

Ends at once on SIGTERM, SIGINT and SIGHUP, and when the process given by --parent-pid is gone.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from canary.sandbox.apiserver.server import HISTORY, serve


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m canary.sandbox.apiserver", description=__doc__)
    parser.add_argument("--kubeconfig", type=Path, required=True, help="written, 0600, when the server is ready")
    parser.add_argument("--port", type=int, default=0, help="on 127.0.0.1; 0 takes a free one")
    parser.add_argument("--parent-pid", type=int, help="end when this process does")
    parser.add_argument("--history", type=int, default=HISTORY, help="changes per kind that watches resume from")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(message)s")
    try:
        asyncio.run(_run(arguments))
    except OSError as error:
        logging.error("cannot serve: %s", error)
        return 1
    return 0


async def _run(arguments: argparse.Namespace) -> None:
    loop, ended = asyncio.get_running_loop(), asyncio.Event()

    def end(why: str) -> None:
        if not ended.is_set():
            logging.info("ending: %s", why)
            ended.set()

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        loop.add_signal_handler(number, end, signal.Signals(number).name)
    watching = asyncio.create_task(_parent_gone(arguments.parent_pid, end)) if arguments.parent_pid else None
    async with serve(arguments.kubeconfig, port=arguments.port, history=arguments.history):
        await ended.wait()
    if watching:
        watching.cancel()


async def _parent_gone(pid: int, end: Callable[[str], None]) -> None:
    """Call `end` when the process is gone: told by the kernel on Linux, looked up each second elsewhere."""
    why = f"process {pid} is gone"
    try:
        if hasattr(os, "pidfd_open"):
            asyncio.get_running_loop().add_reader(os.pidfd_open(pid), end, why)
            return
        while True:
            os.kill(pid, 0)
            await asyncio.sleep(1)
    except ProcessLookupError:
        end(why)


if __name__ == "__main__":
    sys.exit(main())
