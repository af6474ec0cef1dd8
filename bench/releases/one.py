"""One release as a process of its own: `python -m bench.releases.one`. Its figures go to a file, as JSON.

The releases of a bench share a machine and nothing else.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path

from bench.releases.cases import CASES
from bench.releases.stage import run
from canary.errors import CanaryError
from canary.sandbox.ending import Told, ends_on_signals


def main() -> int:
    """Exit code: 0, 1 when the sandbox or the release could not go on, a signal's when told to end."""
    parser = argparse.ArgumentParser(prog="python -m bench.releases.one", description=__doc__)
    parser.add_argument("--case", required=True, choices=[case.name for case in CASES])
    parser.add_argument("--dir", type=Path, required=True, help="a folder of its own")
    parser.add_argument("--out", type=Path, required=True, help="where the figures go")
    parser.add_argument("--before", type=float, required=True, help="seconds that stable has run before")
    parser.add_argument("--pause", type=float, required=True, help="and so many more")
    options = parser.parse_args()
    case = next(case for case in CASES if case.name == options.case)
    try:
        with ends_on_signals():
            options.out.write_text(json.dumps(asdict(run(case, options.dir, options.before, options.pause))))
    except Told as told:
        return told.exit_code
    except CanaryError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
