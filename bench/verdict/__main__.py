"""`make bench-verdict`: run everything, print one table, write docs/bench-verdict.md, its JSON and its pictures."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from bench.verdict import pictures, report, why_two
from bench.verdict.curves import ROLLOUTS, curves
from bench.verdict.more_scenarios import open_cases, rival_cases
from bench.verdict.results import Results, lines_of
from bench.verdict.run import run
from bench.verdict.scenarios import STANDARD_SEEDS, TITLES, Case, target_rows
from bench.verdict.speed import TARGET_US, observe_speed

PARTS = (*TITLES, "rivals", "open", "curves")
QUICK = 40
DOCS = Path(__file__).parents[2] / "docs"


def main(arguments: list[str] | None = None) -> int:
    options = _options(arguments)
    rows = options.rows.split(",") if options.rows else list(PARTS)
    if strangers := [row for row in rows if row not in PARTS]:
        print(f"no such row: {', '.join(strangers)}; there are {', '.join(PARTS)}", file=sys.stderr)
        return 2
    standard = QUICK if options.quick else options.seeds
    is_whole = set(rows) == set(PARTS) and not options.quick
    folder = options.out or (DOCS if is_whole else None)
    console = Console(width=max(150, Console().width))
    commit = _commit()  # before the work, which takes long enough for another to appear
    asked = [case for case in (*target_rows(), *open_cases()) if case.row in rows]
    if "rivals" in rows:
        asked += rival_cases()
    cases = list({case.key: case for case in asked}.values())
    results = _simulate(cases, rows, standard, options, commit)
    console.print(report.table(results, [row for row in rows if row in TITLES]))
    for row in ("rivals", "open"):
        if row in rows and folder is None:
            console.print(report.table(results, [row]))
    speed = observe_speed()
    console.print(
        f"Judge.observe: {speed.least_us:.0f} µs of processor time a window at best, {speed.median_us:.0f} in the "
        f"median of {speed.windows} windows, two metrics, latency at {speed.bounds} bounds (target {TARGET_US:g} µs)"
    )
    missed = results.missed
    console.print(f"[bold red]{len(missed)} figures missed[/]" if missed else "every target met")
    if folder is not None:
        _write(results, folder, console)
    return 0


def _simulate(cases: list[Case], rows: list[str], standard: int, options: argparse.Namespace, commit: str) -> Results:
    bar = Progress(TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn(), console=Console(stderr=True))
    with bar:
        task = bar.add_task("rollouts", total=None)
        endings = run(
            cases,
            options.seed,
            standard,
            options.processes,
            lambda done, total: bar.update(task, completed=done, total=total),
        )
    drawn = curves(options.seed, max(1, ROLLOUTS * standard // STANDARD_SEEDS)) if "curves" in rows else ()
    return Results(commit, options.seed, standard, lines_of(cases, endings), drawn)


def _write(results: Results, folder: Path, console: Console) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "bench-verdict.md").write_text(report.markdown(results))
    (folder / "bench-verdict.json").write_text(json.dumps(results.document(), indent=1) + "\n")
    drawn = pictures.draw_all(results, folder / "pictures")
    if results.curves and (folder / why_two.PAGE).exists():
        why_two.renew(folder / why_two.PAGE, results)
    console.print(f"written: {folder}/bench-verdict.md, .json, {', '.join(path.name for path in drawn)}")


def _commit() -> str:
    """What was measured: the commit, and whether the judge or the bench differ from it."""
    root = Path(__file__).parents[2]
    try:
        name = subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"], cwd=root, capture_output=True, text=True, check=True
        ).stdout.strip()
        changed = subprocess.run(
            ["git", "status", "--porcelain", "--", "canary/analysis", "canary/model", "bench/verdict"],
            cwd=root, capture_output=True, text=True, check=True,
        ).stdout.strip()  # fmt: skip
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return f"{name} with changes" if changed else name


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.verdict", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--seeds", type=int, default=STANDARD_SEEDS, help="rollouts per case where the tables say 2,000; others scale"
    )
    parser.add_argument("--rows", default="", help=f"a comma-separated part of {','.join(PARTS)}")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK} rollouts: does it work at all?")
    parser.add_argument("--processes", type=int, default=None, help="default: one per core")
    parser.add_argument("--out", type=Path, default=None, help="where to write (default docs, for a whole run alone)")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
