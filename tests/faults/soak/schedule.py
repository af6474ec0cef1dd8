"""Which fault strikes when: drawn from a seed alone, so that a run can be made again.

Each lane has one fault at a time, and the lanes overlap as they like. A lane goes through all of its faults in a new
random order before any of them comes again. What this machine cannot do (a real API server's restart, a clock that
jumps) is drawn all the same, so that the same seed is the same schedule everywhere.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import astuple, dataclass
from random import Random


@dataclass(frozen=True, slots=True)
class Episode:
    """One fault: `begins_s` and `lasts_s` in seconds; `share` (0-1) of the requests it is about are hit; `amount` is
    the fault's own figure (seconds late, seconds of a clock's jump)."""

    begins_s: float
    lasts_s: float
    lane: str
    fault: str
    share: float
    amount: float

    @property
    def ends_s(self) -> float:
        return self.begins_s + self.lasts_s

    def __str__(self) -> str:
        return f"{self.begins_s:7.1f} s {self.lane:<10} {self.fault} for {self.lasts_s:.1f} s, {self.amount:.1f}"


Range = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Lane:
    """The faults of one place, each with its `amount`, and how long a fault and the calm after it last (seconds)."""

    faults: Mapping[str, Range]
    lasts_s: Range
    calm_s: Range
    share: Range = (1.0, 1.0)


NONE = (0.0, 0.0)

LANES: Mapping[str, Lane] = {
    "requests": Lane(
        {
            "late answer": (0.2, 4.0), "late request": (0.5, 4.0), "409": NONE, "422 without causes": NONE,
            "422 with causes": NONE, "429 in seconds": (1.0, 4.0), "429 with a date": (1.0, 4.0), "500": NONE,
            "500 too large": NONE, "503": NONE, "answer lost": NONE, "connection reset": NONE, "half the JSON": NONE,
            "dribbled answer": (1.0, 8.0),
        },
        lasts_s=(2.0, 9.0), calm_s=(2.0, 12.0), share=(0.3, 1.0),
    ),
    "watches": Lane(
        {"watch cut": NONE, "410 in a watch": NONE, "half an event": NONE, "lagging watch": (1.0, 9.0),
         "watch refused": NONE},
        lasts_s=(3.0, 12.0), calm_s=(3.0, 12.0),
    ),
    "prometheus": Lane(
        {
            "away": NONE, "slow": (0.5, 1.5), "silent": (6.0, 12.0), "status error": NONE, "login page": NONE,
            "empty": NONE, "NaN": NONE, "warnings": NONE, "dribbled answer": (3.0, 12.0), "half the JSON": NONE,
        },
        lasts_s=(3.0, 14.0), calm_s=(5.0, 20.0), share=(0.5, 1.0),
    ),
    "scrapes": Lane(
        {"one target down": NONE, "all targets down": NONE, "one target hangs": NONE, "half a page": NONE,
         "callers restarted": NONE},
        lasts_s=(2.0, 10.0), calm_s=(6.0, 20.0),
    ),
    "processes": Lane(
        {
            "controller ended": NONE, "controller killed": NONE, "controller frozen": (2.0, 16.0),
            "Prometheus killed": (1.0, 6.0), "Prometheus empty": (0.5, 2.0), "API server killed": (0.5, 6.0),
        },
        lasts_s=(2.0, 8.0), calm_s=(12.0, 30.0),
    ),
    "clock": Lane({"clock ahead": (2.0, 90.0), "clock behind": (2.0, 90.0)}, lasts_s=(4.0, 15.0), calm_s=(10.0, 40.0)),
}  # fmt: skip


def schedule(seed: int, seconds: float) -> tuple[Episode, ...]:
    """Every fault of a run, in the order in which they begin; all are over by `seconds`."""
    episodes = [episode for name in LANES for episode in _of_lane(name, seed, seconds)]
    return tuple(sorted(episodes, key=lambda episode: (episode.begins_s, episode.lane)))


def _of_lane(name: str, seed: int, seconds: float) -> Iterator[Episode]:
    lane, rng = LANES[name], Random(f"{seed}/{name}")
    at = rng.uniform(0.0, lane.calm_s[0])
    bag: list[str] = []
    while True:
        if not bag:
            bag = rng.sample(sorted(lane.faults), len(lane.faults))
        fault = bag.pop()
        lasts_s, share = rng.uniform(*lane.lasts_s), rng.uniform(*lane.share)
        episode = Episode(at, lasts_s, name, fault, share, rng.uniform(*lane.faults[fault]))
        if episode.ends_s > seconds:
            return
        yield episode
        at = episode.ends_s + rng.uniform(*lane.calm_s)


def digest(episodes: tuple[Episode, ...]) -> str:
    """Eight characters that tell two schedules apart."""
    return hashlib.blake2b(repr([astuple(episode) for episode in episodes]).encode(), digest_size=4).hexdigest()
