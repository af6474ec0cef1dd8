"""All kill points of all stories, or a sample of them, many runs at a time: most of a run is waiting."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field, replace

from tests.faults.crash.points import Point, points_of, sample
from tests.faults.crash.run import Played, Stand, play
from tests.faults.crash.stories import Story
from tests.faults.crash.told import differences

Say = Callable[[str], None]


@dataclass
class Outcome:
    """What a campaign found."""

    found: dict[str, list[Point]] = field(default_factory=dict)
    """By story: every kill point."""
    played: list[Played] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    """Runs that never came to an end."""
    not_met: list[str] = field(default_factory=list)
    """Points that did not come up: one status more or less is written from run to run."""
    seconds: float = 0.0

    @property
    def kills(self) -> int:
        return sum(one.was_killed for one in self.played)

    @property
    def differences(self) -> list[str]:
        return [
            f"{one.story.name}, {f'killed {one.point}' if one.point else 'not killed'}: {line}"
            for one in self.played
            for line in one.unlike
        ]


def campaign(
    stand: Stand, stories: Sequence[Story], *, jobs: int, size: int | None = None, seed: int = 1, say: Say = print
) -> Outcome:
    """Play each story uninterrupted, then once for each kill point, or for `size` of them in all."""
    begun, outcome = time.monotonic(), Outcome()
    with ThreadPoolExecutor(jobs, thread_name_prefix="run") as pool:
        expected = _uninterrupted(pool, stand, stories, outcome, 2 if size is None else 1)
        for name, one in expected.items():
            outcome.found[name] = points_of(one.writes)
            for line in [line for each in outcome.played if each.story is one.story for line in each.unlike]:
                say(f"{name}, not killed: {line}")
            say(f"{name}: {len(outcome.found[name])} kill points; route {' → '.join(one.told.route)}")
        chosen = _chosen(outcome.found, size, seed)
        runs = {
            pool.submit(play, stand, expected[name].story, point, expected[name].told): point for name, point in chosen
        }
        for done, run in enumerate(as_completed(runs), start=1):
            _take(outcome, run.result, runs[run], say)
            if done % 50 == 0:
                say(f"{done} of {len(runs)} runs, {len(outcome.differences)} differences")
    outcome.seconds = time.monotonic() - begun
    return outcome


def _uninterrupted(
    pool: ThreadPoolExecutor, stand: Stand, stories: Sequence[Story], outcome: Outcome, times: int
) -> Mapping[str, Played]:
    """Each story, more than once to see that it is the same each time: else a difference says nothing about a crash."""
    runs = [(story, [pool.submit(play, stand, story) for _ in range(times)]) for story in stories]
    found = {}
    for story, several in runs:
        first, *others = [run.result() for run in several]
        alike = [first, *(replace(one, unlike=(*one.unlike, *differences(first.told, one.told))) for one in others)]
        outcome.played += alike
        found[story.name] = max(alike, key=lambda played: len(played.writes))
    return found


def _chosen(found: Mapping[str, Sequence[Point]], size: int | None, seed: int) -> Iterator[tuple[str, Point]]:
    for index, (name, points) in enumerate(found.items()):
        share = len(points) if size is None else size // len(found) + (index < size % len(found))
        for point in sample(points, share, seed + index):
            yield name, point


def _take(outcome: Outcome, result: Callable[[], Played], point: Point, say: Say) -> None:
    try:
        played = result()
    except AssertionError as error:
        outcome.failed.append(f"killed {point}: {error}")
        say(outcome.failed[-1])
        return
    outcome.played.append(played)
    if not played.was_killed:
        outcome.not_met.append(f"{played.story.name}: {point}")
    for line in played.unlike:
        say(f"{played.story.name}, killed {point} ({played.log}): {line}")
