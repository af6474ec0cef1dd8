"""`python -m canary.sandbox.envoy`: Envoy and its feeder as one process tree, until SIGTERM.

GET /ready on the admin address is 200 once the cluster's objects are in force.
"""

from __future__ import annotations

import argparse
import logging
import signal
import sys
import threading
from pathlib import Path

from canary.cluster.gateway import Gateway
from canary.errors import CanaryError
from canary.sandbox.envoy.feeder import Feeder
from canary.sandbox.envoy.names import Client
from canary.sandbox.envoy.server import EnvoyServer
from canary.sandbox.envoy.xds import XdsFiles

log = logging.getLogger("canary.sandbox.envoy")


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host or not port.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} must be HOST:PORT, as in 127.0.0.1:8080")
    return host, int(port)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m canary.sandbox.envoy", description=__doc__)
    parser.add_argument("--kubeconfig", help="default: as kubectl finds it")
    parser.add_argument("--context")
    parser.add_argument("--dir", type=Path, required=True, help="for Envoy's files and log")
    parser.add_argument("--listen", type=_address, required=True, metavar="HOST:PORT", help="for callers' requests")
    parser.add_argument("--admin", type=_address, required=True, metavar="HOST:PORT", help="for readiness and metrics")
    parser.add_argument("--workload", default=Client().workload, help="source_workload of the metrics")
    parser.add_argument("--namespace", default=Client().namespace, help="namespace of that workload")
    return parser.parse_args()


def main() -> int:
    """Exit code: 0 after SIGTERM or SIGINT, 1 when Envoy or the API server failed; the log says why."""
    arguments = _arguments()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    try:
        return _serve(arguments, stop)
    except CanaryError as error:
        log.error("%s", error)
        return 1


def _serve(arguments: argparse.Namespace, stop: threading.Event) -> int:
    client = Client(arguments.workload, arguments.namespace)
    server = EnvoyServer(arguments.dir, listen=arguments.listen, admin=arguments.admin, client=client)
    files = XdsFiles(server.xds_directory)
    gateway = Gateway.connect(arguments.kubeconfig, arguments.context, field_manager="canary-sandbox-envoy")
    feeder = Feeder(gateway, files, client)
    try:
        feeder.sync()
        with server:
            files.follow(server.version_in_force)
            feeder.start()
            log.info("serving %s, admin %s", server.url, server.admin_url)
            while not stop.wait(0.2):
                if not server.is_running:
                    log.error(
                        "envoy ended with exit code %s; the end of its log:\n%s", server.wait(0), server.log_tail()
                    )
                    return 1
                if not feeder.is_running:
                    log.error("the feeder ended: changes of the cluster would no longer reach envoy")
                    return 1
            feeder.stop()  # before Envoy goes, or its last change waits for an answer
    finally:
        feeder.stop()
        gateway.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
