"""`make bench-scale N=…`: N rollouts beside a real API server and a real Prometheus, on this machine.

Prints the table beside Flagger's figures and writes docs/bench-scale.md and .json. Exit code 1 when a figure is over
its limit.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from rich.console import Console

from bench.scale import report
from bench.scale.run import Bench, Findings
from bench.scale.stage import Stage
from canary.errors import CanaryError
from canary.sandbox.ending import Told, ends_on_signals

SMALL = 500


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.scale", description=__doc__)
    parser.add_argument("--rollouts", type=int, nargs="+", default=[100], help="sizes, one after the other")
    parser.add_argument("--scrape", type=float, help=f"seconds; default: 5 up to {SMALL} rollouts, else 10")
    parser.add_argument("--hold", type=float, help=f"seconds of each step; default: 120 up to {SMALL}, else 600")
    parser.add_argument("--idle", type=float, default=30.0, help="seconds that the servers are measured alone")
    parser.add_argument(
        "--steady", type=float, help=f"seconds that all is measured; default: a hold up to {SMALL}, else 60"
    )
    parser.add_argument("--dir", type=Path, help="keep the logs and the databases there; default: a temporary folder")
    parser.add_argument("--json", type=Path, help="add the figures to this file; default: nowhere")
    parser.add_argument("--page", type=Path, help="write all figures in --json as a page of the docs")
    return parser.parse_args(argv)


def about() -> dict[str, Any]:
    asked = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    machine = f"{platform.machine()}, {os.cpu_count()} processors, Python {platform.python_version()}"
    return {"commit": asked.stdout.strip(), "machine": machine}


def measure(count: int, options: argparse.Namespace, folder: Path) -> Findings:
    is_small = count <= SMALL
    scrape_s = options.scrape or (5.0 if is_small else 10.0)
    hold_s = options.hold or (120.0 if is_small else 600.0)  # some must still be in their first step when all began
    steady_s = options.steady or (hold_s if is_small else 60.0)  # over a hold, each steps once: no luck in its phase
    cores = os.cpu_count() or 1
    core = cores - 1 if cores > 1 else None
    found = Findings(count, scrape_s, hold_s, core)
    with Stage(folder / str(count), count, scrape_s=scrape_s, hold_s=hold_s, core=core) as stage:
        return Bench(stage, found, options.idle, steady_s).run()


def main(argv: Sequence[str] | None = None) -> int:
    options = arguments(argv)
    documents: dict[str, Any] = {}
    if options.json and options.json.exists():
        documents = json.loads(options.json.read_text())
    keep = nullcontext(str(options.dir)) if options.dir else tempfile.TemporaryDirectory(prefix="canary-bench-")
    failed = False
    try:
        with ends_on_signals(), keep as folder:
            for count in options.rollouts:
                document = report.document(measure(count, options, Path(folder)), about())
                documents[str(count)] = document
                report.print_table(document, Console(width=130))
                failed = failed or bool(document["over"])
                if options.json:
                    options.json.write_text(json.dumps(documents, indent=1) + "\n", encoding="utf-8")
    except Told as told:
        print("bench: ended early", file=sys.stderr)
        return told.exit_code
    except CanaryError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    if options.page:
        options.page.write_text(report.page(documents), encoding="utf-8")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
