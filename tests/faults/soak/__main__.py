"""`python -m tests.faults.soak --seconds 600 --seed 1`: prints the schedule as it happens and the table in the end.

Exit code 1 when anything was found that must not be.
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
from pathlib import Path

from tests.faults.soak.run import Plan, soak


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.soak", description=__doc__)
    parser.add_argument("--seconds", type=float, default=120.0, help="how long there are faults")
    parser.add_argument("--seed", type=int, default=1, help="the same seed is the same schedule and the same releases")
    parser.add_argument("--services", type=int, default=6)
    parser.add_argument("--settle", type=float, default=150.0, help="seconds to come to an end after the last fault")
    parser.add_argument("--real", action="store_true", help="a real kube-apiserver (KUBEBUILDER_ASSETS)")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="keep logs and data there")
    given = parser.parse_args()
    logging.basicConfig(level=logging.ERROR)
    plan = Plan(given.seconds, given.seed, given.services, given.settle, given.real, given.keep)
    began = time.monotonic()
    report = soak(plan, lambda text: print(f"{time.monotonic() - began:7.1f} s  {text}", file=sys.stderr, flush=True))
    print(report.text())
    again = f"make soak SECONDS={given.seconds:g} SEED={given.seed}" + (" ARGS=--real" if given.real else "")
    print(f"\nagain: {again}" + (f" (services: {given.services})" if given.services != 6 else ""))
    return 0 if report.is_clean else 1


if __name__ == "__main__":
    sys.exit(main())
