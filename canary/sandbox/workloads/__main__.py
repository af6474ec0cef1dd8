"""`python -m canary.sandbox.workloads`: the Deployment controller and the pod runner, each by its own switch."""

from __future__ import annotations

import argparse
import logging
import signal
import sys
import threading
from pathlib import Path

from canary.cluster.gateway import Gateway
from canary.errors import CanaryError
from canary.sandbox.workloads.deployments import DeploymentController
from canary.sandbox.workloads.pods import DRAIN_S, PodRunner


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m canary.sandbox.workloads", description=__doc__)
    parser.add_argument("--kubeconfig", help="else the usual places")
    parser.add_argument("--context")
    parser.add_argument("--namespace", help="only this one; else all")
    parser.add_argument(
        "--deployments",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="Deployment -> ReplicaSet -> Pod; off where the real controllers run",
    )
    parser.add_argument(
        "--pods", action=argparse.BooleanOptionalAction, default=True, help="a process for every Pod on no real node"
    )
    parser.add_argument(
        "--schedule", action="store_true", help="give every Pod without one a node, where no real scheduler runs"
    )
    parser.add_argument("--drain", type=float, default=DRAIN_S, help="seconds a process serves on after its Pod left")
    parser.add_argument("--logs", type=Path, required=True, help="folder of the processes' logs")
    return parser


def main() -> int:
    options = _parser().parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    try:
        _run(options, stop)
    except CanaryError as error:
        print(f"workloads: {error}", file=sys.stderr)
        return 1
    return 0


def _run(options: argparse.Namespace, stop: threading.Event) -> None:
    gateway = Gateway.connect(options.kubeconfig, options.context, field_manager="canary-sandbox-workloads")
    parts: list[DeploymentController | PodRunner] = []
    if options.deployments:
        parts.append(DeploymentController(gateway, options.namespace))
    if options.pods:
        parts.append(
            PodRunner(
                gateway, options.logs, namespace=options.namespace, drain_s=options.drain, schedules=options.schedule
            )
        )
    try:
        ready = [part.start() for part in parts]
        print("workloads: ready" if all(ready) else "workloads: the API server does not answer yet", flush=True)
        stop.wait()
    finally:
        for part in parts:
            part.stop()
        gateway.close()


if __name__ == "__main__":
    sys.exit(main())
