"""One case as a process of its own: `python -m bench.releases.one`. One line of JSON for each run, as they end.

The cases of a bench share a machine and nothing else.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path

from bench.releases.cases import CASES
from bench.releases.stage import stage
from canary.errors import CanaryError
from canary.sandbox.ending import Told, ends_on_signals


def main() -> int:
    """Exit code: 0, 1 when the sandbox or a release could not go on, a signal's when told to end."""
    parser = argparse.ArgumentParser(prog="python -m bench.releases.one", description=__doc__)
    parser.add_argument("--case", required=True, choices=[case.name for case in CASES])
    parser.add_argument("--dir", type=Path, required=True, help="a folder of its own")
    parser.add_argument("--out", type=Path, required=True, help="where the lines go")
    parser.add_argument("--runs", type=int, required=True)
    parser.add_argument("--before", type=float, required=True, help="seconds that stable has run before each release")
    parser.add_argument("--seed", type=int, required=True)
    options = parser.parse_args()
    case = next(case for case in CASES if case.name == options.case)
    try:
        with ends_on_signals(), stage(case, options.dir, options.before, options.seed) as on_stage:
            for number in range(1, options.runs + 1):
                line = json.dumps(asdict(on_stage.run(number)))
                with options.out.open("a") as out:
                    print(line, file=out)
    except Told as told:
        return told.exit_code
    except CanaryError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
