"""Command line of the load generator."""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path

from canary.errors import InputError
from canary.sandbox.load.generator import Arrivals, Load
from canary.sandbox.load.target import Target

MAX_RATE = 10_000.0
MAX_DURATION_S = 3600.0
MAX_COUNT = 5_000_000


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m canary.sandbox.load", description="Load on a loopback address.")
    parser.add_argument("--url", required=True, help="http://127.0.0.1:PORT/PATH")
    parser.add_argument("--host", default="", help="the Host header, which chooses the service")
    parser.add_argument("--rate", type=float, required=True, help="requests per second")
    parser.add_argument("--duration", type=float, required=True, help="seconds")
    parser.add_argument("--count", type=int, default=MAX_COUNT, help="stop after so many requests")
    parser.add_argument("--out", type=Path, required=True, help="the record file, appended to")
    parser.add_argument("--arrivals", choices=("constant", "poisson"), default="constant")
    parser.add_argument("--timeout", type=float, default=10.0, help="seconds until a request is given up")
    parser.add_argument("--max-connections", type=int, default=1024, help="requests beyond are skipped, and counted")
    parser.add_argument("--probe-header", action="append", default=[], metavar="NAME=VALUE", help="of header probes")
    parser.add_argument("--probe-rate", type=float, default=0.0, help="header probes per second, besides the load")
    return parser


def _load(options: argparse.Namespace) -> Load:
    for name, value, most in (
        ("--rate", options.rate, MAX_RATE),
        ("--duration", options.duration, MAX_DURATION_S),
        ("--count", options.count, MAX_COUNT),
        ("--timeout", options.timeout, MAX_DURATION_S),
        ("--max-connections", options.max_connections, 10_000),
    ):
        if not 0 < value <= most:
            raise InputError(f"{name} {value:g}: must be more than 0 and at most {most:g}")
    if not 0 <= options.probe_rate <= MAX_RATE:
        raise InputError(f"--probe-rate {options.probe_rate:g}: must be between 0 and {MAX_RATE:g}")
    if bool(options.probe_rate) != bool(options.probe_header):
        raise InputError("--probe-header and --probe-rate belong together")
    target = Target.parse(options.url, options.host)
    headers = dict(_pair(text) for text in options.probe_header)
    is_poisson = options.arrivals == "poisson"
    streams = [Arrivals(target.request({}), options.rate, is_poisson)]
    if options.probe_rate:
        streams.append(Arrivals(target.request(headers), options.probe_rate, is_poisson, is_probe=True))
    return Load(
        target,
        streams,
        options.out,
        duration_s=options.duration,
        count=options.count,
        timeout_s=options.timeout,
        max_connections=options.max_connections,
    )


def _pair(text: str) -> tuple[str, str]:
    name, separator, value = text.partition("=")
    if not separator or not name:
        raise InputError(f"--probe-header {text!r}: must be NAME=VALUE, such as x-debug-user=true")
    return name, value


def main() -> int:
    options = _parser().parse_args()
    try:
        asyncio.run(_load(options).run())
    except (InputError, OSError) as error:
        print(f"load: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
