"""`make bench-releases`: every case several times, side by side, each release in a sandbox of its own.

Exit code 1 when an outcome is not as expected or a median is over its limit.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from rich.console import Console

from bench.releases import report
from bench.releases.cases import CASES, RATE, SCRAPE_S, Case
from bench.releases.page import page
from bench.releases.stage import Run
from canary.errors import SandboxError
from canary.sandbox.ending import Told, ends_on_signals
from canary.sandbox.process import Child

_POLL_S = 0.5
_ENDING_S = 40.0
"""For a sandbox to end its parts, one after the other."""


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.releases", description=__doc__)
    names = [case.name for case in CASES]
    parser.add_argument("--runs", type=int, default=5, help="of each case")
    parser.add_argument("--case", action="append", choices=names, help="only these; default: all")
    parser.add_argument("--side-by-side", type=int, default=4, help="so many sandboxes at a time")
    parser.add_argument("--before", type=float, default=120.0, help="seconds that stable has run before the release")
    parser.add_argument("--seed", type=int, default=1, help="of the pauses between runs")
    parser.add_argument("--out", type=Path, help="for the result as JSON; default: nowhere")
    parser.add_argument("--page", type=Path, help="for the result as a page of the docs; default: nowhere")
    return parser.parse_args(argv)


class _Release:
    """One release's process, and its figures once it has ended."""

    def __init__(self, case: Case, number: int, folder: Path, options: argparse.Namespace) -> None:
        self.case, self.name = case, f"{case.name}-{number}"
        self._out = folder / f"{self.name}.json"
        # Anywhere within a scrape interval, and within a tile: neither may favour a release.
        pause_s = random.Random(f"{options.seed} {self.name}").uniform(0.0, SCRAPE_S)
        asked = {"case": case.name, "dir": folder / self.name, "out": self._out}
        asked |= {"before": options.before, "pause": round(pause_s, 3)}
        argv = [sys.executable, "-m", "bench.releases.one"]
        argv += [str(word) for name, value in asked.items() for word in (f"--{name}", value)]
        self.child = Child(f"bench {self.name}", argv, log=folder / f"{self.name}.log")

    def result(self) -> Run | None:
        """None while it goes on. Raises SandboxError when it ended without figures."""
        if self.child.is_running:
            return None
        if not self._out.exists():
            why = self.child.log_tail() or "it said nothing"
            raise SandboxError(f"{self.child.name} ended early (exit code {self.child.exit_code}): {why}")
        return Run(**json.loads(self._out.read_text()))


def _run(options: argparse.Namespace, folder: Path) -> dict[Case, list[Run]]:
    """All releases, the longest first. Raises SandboxError when one cannot go on; then none runs any more.

    In waves: a sandbox takes seconds of a processor to start, and would make requests of those beside it slow, which is
    the past that a release there is judged by.
    """
    runs: dict[Case, list[Run]] = {case: [] for case in CASES if options.case is None or case.name in options.case}
    numbers = range(1, options.runs + 1)
    waiting = [_Release(case, number, folder, options) for case in reversed(runs) for number in numbers]
    while waiting:
        wave, waiting = waiting[: options.side_by_side], waiting[options.side_by_side :]
        with ExitStack() as stack:
            for one in wave:
                one.child.start()
                stack.callback(one.child.stop, _ENDING_S)
            while wave:
                time.sleep(_POLL_S)
                for one in list(wave):
                    if (run := one.result()) is not None:
                        wave.remove(one)
                        runs[one.case].append(run)
                        _tell(one.name, run)
    return runs


def _tell(name: str, run: Run) -> None:
    off = "" if run.seconds_to_off is None else f", off after {run.seconds_to_off:.1f} s"
    told = f"{name}: {run.outcome} in {run.seconds:.0f} s{off}, {run.errors} errors, {run.exposed} exposed"
    print(told, file=sys.stderr, flush=True)


def _about(options: argparse.Namespace, seconds: float) -> dict[str, Any]:
    asked = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    return {
        "commit": asked.stdout.strip(),
        "seed": options.seed,
        "runsPerCase": options.runs,
        "requestsPerSecond": RATE,
        "scrapeSeconds": SCRAPE_S,
        "stableRanSeconds": options.before,
        "sandboxesSideBySide": options.side_by_side,
        "machine": f"{platform.machine()}, {os.cpu_count()} processors, Python {platform.python_version()}",
        "seconds": round(seconds),
    }


def main(argv: Sequence[str] | None = None) -> int:
    options = _arguments(argv)
    began = time.monotonic()
    try:
        with ends_on_signals(), tempfile.TemporaryDirectory(prefix="canary-bench-") as folder:
            runs = _run(options, Path(folder))
    except Told as told:
        print("bench: ended early", file=sys.stderr)
        return told.exit_code
    except SandboxError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    about = _about(options, time.monotonic() - began)
    document = report.document(runs, about)
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    if options.page:
        options.page.write_text(page(runs, about), encoding="utf-8")
    report.print_table(runs, Console())
    found = [failure for case in document["cases"] for failure in case["failures"]]
    for failure in found:
        print(f"bench: {failure}", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
