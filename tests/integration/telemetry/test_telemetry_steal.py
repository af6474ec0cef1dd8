"""CPU time stolen from nodes, as a node exporter counts it, in every tile."""

import math
from collections.abc import Callable
from typing import Any

MODES = ("idle", "user", "system", "steal")


class Exporter:
    """A node exporter with two CPUs: of each second, `stolen(at)` is stolen and the rest is shared out."""

    def __init__(self, recording: Any, number: int, *, every: float = 5.0, phase: float = 0.0) -> None:
        self._recording = recording
        self.labels = f'job="node",instance="10.1.0.{number}:9100"'
        self._scrapes = [phase + every * step for step in range(-160, 60) if -400 <= phase + every * step <= 120]

    def named(self, nodename: str, **labels: str) -> "Exporter":
        extra = "".join(f',{name}="{value}"' for name, value in labels.items())
        self.labels += extra
        info = f'node_uname_info{{nodename="{nodename}",sysname="Linux",{self.labels}}}'
        self._recording.sample(info, dict.fromkeys(self._scrapes, 1.0))
        return self

    def stealing(
        self, stolen: float | Callable[[float], float], rebooted_at: float = math.inf, last: float = 120.0
    ) -> None:
        for cpu in range(2):
            counters = dict.fromkeys(MODES, 1e7)
            series: dict[str, dict[float, float]] = {mode: {} for mode in MODES}
            before = self._scrapes[0]
            for at in (scrape for scrape in self._scrapes if scrape <= last):
                if before < rebooted_at <= at:
                    counters = dict.fromkeys(MODES, 0.0)
                elapsed, before = at - before, at
                share = stolen(at) if callable(stolen) else stolen
                counters["steal"] += elapsed * share
                counters["user"] += elapsed * (1 - share) * 0.75
                counters["idle"] += elapsed * (1 - share) * 0.25
                for mode in MODES:
                    series[mode][at] = counters[mode]
            for mode in MODES:
                name = f'node_cpu_seconds_total{{cpu="{cpu}",mode="{mode}",{self.labels}}}'
                self._recording.sample(name, series[mode])


def steal_of(recording: Any, source: Any, *nodes: str, tile_s: float = 10.0) -> dict[str, dict[float, float]]:
    found = source.steal(nodes, **recording.tiles(30, 60, tile_s))
    return {
        node: {end: round(share, 6) for end, share in recording.by_second(by_end).items()}
        for node, by_end in found.items()
    }


def test_steal_is_the_share_of_each_tiles_cpu_time(recording: Any, replay: Callable[..., Any]) -> None:
    Exporter(recording, 1, every=2.5, phase=1.0).named("node-a").stealing(lambda at: 0.23 if 31 < at <= 46 else 0.01)
    Exporter(recording, 2).named("kernel-name", node="node-b").stealing(0.0)
    Exporter(recording, 3).named("node-c").stealing(0.9)

    found = steal_of(recording, replay(), "node-a", "node-b", "node-without")

    assert found == {
        "node-a": {30.0: 0.01, 40.0: 0.23, 50.0: round((2 * 0.23 + 0.01) / 3, 6), 60.0: 0.01},
        "node-b": {30.0: 0.0, 40.0: 0.0, 50.0: 0.0, 60.0: 0.0},
    }


def test_an_exporter_scraped_less_often_than_the_tile_has_a_value_at_every_tile(
    recording: Any, replay: Callable[..., Any]
) -> None:
    Exporter(recording, 1, every=60.0, phase=7.0).named("node-a").stealing(lambda at: 0.5 if at > 0 else 0.1)

    found = steal_of(recording, replay(), "node-a", tile_s=5.0)

    assert found == {"node-a": {float(end): 0.5 for end in range(30, 61, 5)}}


def test_a_reboot_is_no_burst_of_steal(recording: Any, replay: Callable[..., Any]) -> None:
    Exporter(recording, 1).named("node-a").stealing(0.1, rebooted_at=45.0)

    assert steal_of(recording, replay(), "node-a") == {"node-a": {30.0: 0.1, 40.0: 0.1, 50.0: 0.1, 60.0: 0.1}}


def test_an_exporter_that_is_gone_says_nothing_after_a_while(recording: Any, replay: Callable[..., Any]) -> None:
    Exporter(recording, 1).named("node-a").stealing(0.4, last=-120.0)

    assert steal_of(recording, replay(), "node-a") == {}


def test_who_claims_to_be_a_node_cannot_add_steal_to_it(recording: Any, replay: Callable[..., Any]) -> None:
    Exporter(recording, 1).named("node-a").stealing(0.02)
    Exporter(recording, 2).named("node-a").stealing(0.95)

    assert steal_of(recording, replay(), "node-a")["node-a"][40.0] == 0.02


def test_which_exporter_measures_which_node_is_not_asked_at_every_tick(
    recording: Any, replay: Callable[..., Any]
) -> None:
    Exporter(recording, 1).named("node-a").stealing(0.1)
    Exporter(recording, 2).named("node-b").stealing(0.2)
    source = replay()

    def queries(*nodes: str) -> int:
        before = source.queries_sent
        found = steal_of(recording, source, *nodes)
        assert found.keys() >= set(nodes)
        return int(source.queries_sent - before)

    assert queries("node-a") == 2
    assert queries("node-a") == 1
    assert queries("node-a", "node-b") == 2  # nobody has asked about this one
    assert queries("node-b") == 1
