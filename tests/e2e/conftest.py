"""A running sandbox for stories on real parts.

Everything a story does is a method of `canary.sandbox.cluster.Sandbox` or of one of its parts:

    sandbox.release("v2", example.SLOW)                deploy a version, and annotate it
    sandbox.wait_rollout("payment-v2", condition, 60)  the newest rollout of a Deployment, as a model
    sandbox.rollouts(), sandbox.weights()              all of them; what the route gives each subset
    sandbox.gateway                                    any other object (pause, abort, a foreign edit)
    sandbox.controller.kill() / .start() / .stop()     likewise sandbox.prometheus, which has .restart() too
    sandbox.callers.start() / .stop()                  load
    Tally.read(sandbox.callers.record)                 what became of every request
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from canary.sandbox.cluster import Sandbox, Settings

LOG_LINES = 60


@pytest.fixture
def start_sandbox(tmp_path: Path) -> Iterator[Callable[[Settings], Sandbox]]:
    """Starts sandboxes with settings of the test's choice; all are ended with the test.

    The end of each controller's log is printed, and so in the report of a test that failed.
    """
    started: list[Sandbox] = []
    with ExitStack() as running:

        def start(settings: Settings) -> Sandbox:
            sandbox = Sandbox(tmp_path / f"sandbox-{len(started)}", settings)
            started.append(sandbox)
            return running.enter_context(sandbox)

        yield start
    for sandbox in started:
        print(f"{sandbox.directory}: the end of the controller's log\n{sandbox.controller.log_tail(LOG_LINES)}")


@pytest.fixture
def sandbox(start_sandbox: Callable[[Settings], Sandbox]) -> Sandbox:
    """One with its controller, 300 requests per second, and a record of each."""
    return start_sandbox(Settings(record=True))
