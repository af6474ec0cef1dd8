"""`python -m tests.faults.crash`: kill the controller on both sides of every write, and compare."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import Counter
from pathlib import Path

from tests.faults.cluster import EmbeddedCluster, RealCluster
from tests.faults.crash.campaign import Outcome, campaign
from tests.faults.crash.run import Stand
from tests.faults.crash.stories import STORIES
from tests.faults.crash.traffic import CROSSINGS, Crossing, lane


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.crash", description=__doc__)
    parser.add_argument("--real", action="store_true", help="on a real kube-apiserver (make envtest), not the embedded")
    parser.add_argument("--story", choices=sorted(STORIES), action="append", help="only this one; may be repeated")
    parser.add_argument("--sample", type=int, metavar="N", help="only so many kill points")
    parser.add_argument("--seed", type=int, default=1, help="of the sample")
    parser.add_argument("--jobs", type=int, default=12, help="runs at a time")
    parser.add_argument("--traffic", action="store_true", help="instead: real requests through Envoy, killed in a row")
    parser.add_argument("--directory", type=Path, help="keeps logs there; must be empty")
    given = parser.parse_args()
    stories = [STORIES[name] for name in given.story or STORIES]
    with tempfile.TemporaryDirectory(prefix="crash-") as scratch:
        directory = given.directory or Path(scratch)
        directory.mkdir(parents=True, exist_ok=True)
        if given.traffic:
            return under_traffic(directory, given.story)
        cluster = (RealCluster if given.real else EmbeddedCluster)(directory)
        with Stand(directory, cluster) as stand:
            outcome = campaign(stand, stories, jobs=given.jobs, size=given.sample, seed=given.seed)
        report(outcome, cluster.name)
    return 1 if outcome.differences or outcome.failed else 0


def report(outcome: Outcome, server: str) -> None:
    """The figures that docs/crash.md shows."""
    print(f"\n{'rollout':<22}{'kill points':>12}{'killed':>8}{'not met':>9}{'differences':>13}")
    for name, points in outcome.found.items():
        played = [one for one in outcome.played if one.story.name == name]
        killed = sum(one.was_killed for one in played)
        missed = sum(line.startswith(f"{name}: ") for line in outcome.not_met)
        print(f"{name:<22}{len(points):>12}{killed:>8}{missed:>9}{sum(len(one.unlike) for one in played):>13}")
    total = sum(map(len, outcome.found.values()))
    print(f"{'all':<22}{total:>12}{outcome.kills:>8}{len(outcome.not_met):>9}{len(outcome.differences):>13}\n")
    kinds = Counter(f"{one.point.write}" for one in outcome.played if one.point and one.was_killed)
    for write, count in sorted(kinds.items()):
        print(f"  {count:>4} at {write}")
    print(
        f"\n{outcome.kills} kills on {server} in {outcome.seconds:.0f} s: {len(outcome.differences)} differences, "
        f"{len(outcome.failed)} runs without an end"
    )


def under_traffic(directory: Path, stories: list[str] | None) -> int:
    """Real requests through a real Envoy."""
    crossed: list[Crossing] = []
    with lane(directory) as driven:
        for name, act in CROSSINGS.items():
            if stories and name not in stories:
                continue
            one = driven.cross(name, act)
            print(f"{name}: {', '.join(one.outcomes)}; {' → '.join(one.route)}")
            print(f"  {one.kills} kills at the mesh, {one.requests} requests, {one.lost} lost")
            for line in (*one.wrong, *map(str, one.lost_examples)):
                print(f"  {line}")
            crossed.append(one)
    kills, requests, lost, wrong = (
        sum(figures)
        for figures in zip(*((one.kills, one.requests, one.lost, len(one.wrong)) for one in crossed), strict=True)
    )
    print(f"\n{kills} kills under {requests} requests: {lost} lost, {wrong} differences")
    return 1 if lost or wrong else 0


if __name__ == "__main__":
    sys.exit(main())
