"""What a real Prometheus does to counters, replayed; the tiles must hold the true counts, to the request.

One Prometheus scrapes one target per trap, so that all of them happen at once. Time advances by scrapes, not by
sleeping: `scraped` waits until each target was asked again.
"""

import itertools
import math
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from canary.sandbox.prometheus import PrometheusServer, ScrapeTarget
from canary.telemetry import PrometheusSource, SourceSettings, Tile, TileBatch, Workload

pytestmark = pytest.mark.slow

LIFETIME = 1_000_000
"""What each counter stands at before the test begins; no tile may ever count it."""


class Target:
    """A proxy with counters of one workload, and faults. `true` is what really happened since it exists."""

    def __init__(self, name: str, lifetime: int = LIFETIME) -> None:
        self.workload = Workload("shop", name)
        self.series: dict[str, int] = {}
        self.true: Counter[str] = Counter()
        self.served = 0
        self.fails = self.is_bare = False
        self.delay_s = 0.0
        self.canonical_bounds = False
        self._lock = threading.Lock()
        if lifetime:
            self.handle(lifetime, slow=lifetime // 2)
        self.true.clear()
        target = self

        class Exposition(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                text, status, delay_s = target._answer()
                time.sleep(delay_s)
                try:
                    self.send_response(status)
                    self.end_headers()
                    self.wfile.write(text.encode())
                except OSError:
                    return  # Prometheus was stopped while it waited

            def log_message(self, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Exposition)
        self._server.daemon_threads = True
        self.address = f"127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def handle(self, requests: int, code: str = "200", slow: int = 0, grpc: str | None = None) -> None:
        """`slow` of them take between 500 and 1000 ms."""
        with self._lock:
            self.true[code] += requests
            if not code.startswith("5"):
                self.true["timed"] += requests
                self.true["slow"] += slow
            labels = (
                f'reporter="source",destination_workload_namespace="shop",destination_workload="{self.workload.name}",'
                f'response_code="{code}"'
            )
            labels += f',grpc_response_status="{grpc}"' if grpc is not None else ""
            dot = ".0" if self.canonical_bounds else ""
            for name, value in (
                (f"istio_requests_total{{{labels}}}", requests),
                (f'istio_request_duration_milliseconds_bucket{{{labels},le="500{dot}"}}', requests - slow),
                (f'istio_request_duration_milliseconds_bucket{{{labels},le="1000{dot}"}}', requests),
                (f'istio_request_duration_milliseconds_bucket{{{labels},le="+Inf"}}', requests),
            ):
                self.series[name] = self.series.get(name, 0) + value

    def restart(self) -> None:
        with self._lock:
            self.series.clear()

    def upgrade_bounds(self) -> None:
        """The names under which Prometheus 3 stores whole bounds."""
        with self._lock:
            self.canonical_bounds = True
            self.series = {re.sub(r'le="(\d+)"', r'le="\1.0"', name): value for name, value in self.series.items()}

    def step_back(self, requests: int) -> None:
        """The other one of a redundant pair answers: its last scrape is a little older."""
        with self._lock:
            self.series = {name: value - requests for name, value in self.series.items()}

    def _answer(self) -> tuple[str, int, float]:
        with self._lock:
            self.served += 1
            series = {} if self.is_bare else self.series
            text = "".join(f"{name} {value}\n" for name, value in series.items())
            return (text, 500 if self.fails else 200, self.delay_s)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def scraped(targets: list[Target], times: int = 1, timeout_s: float = 30.0) -> None:
    """Wait until Prometheus has asked each target `times` more; what the last but one was told is stored by then."""
    wanted = {target.address: target.served + times for target in targets}
    poll(lambda: all(target.served >= wanted[target.address] for target in targets), timeout_s)


def poll(is_done: Callable[[], bool], timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while not is_done():
        assert time.monotonic() < deadline, f"not within {timeout_s} s"
        time.sleep(0.02)


def total(tiles: tuple[Tile, ...]) -> Counter[str]:
    found: Counter[str] = Counter()
    for tile in tiles:
        for (code, _), count in tile.status.items():
            found[code] += count
        found["timed"] += tile.timed
        found["slow"] += tile.slower.get(500.0, 0)
    return found


@dataclass
class History:
    """What was read after all the traps: per target its tiles, beside what truly happened."""

    source: PrometheusSource
    url: str
    targets: dict[str, Target]
    true: dict[str, Counter[str]]
    batch: TileBatch
    kept: dict[str, tuple[Counter[str], Counter[str]]] = field(default_factory=dict)
    lost: dict[str, tuple[Counter[str], Counter[str]]] = field(default_factory=dict)

    def counted(self, name: str) -> Counter[str]:
        return total(self.batch.tiles[self.targets[name].workload])


def read(source: PrometheusSource, targets: list[Target], since: float) -> TileBatch:
    scraped(targets, 3)
    first, last = float(math.floor(since)), float(math.floor(time.time()))
    return source.tiles([t.workload for t in targets], [500.0], first_end=first, last_end=last, tile_s=1.0)


def run_traps(server: PrometheusServer, source: PrometheusSource, by_name: dict[str, Target]) -> History:
    targets = list(by_name.values())
    scraped(targets, 3)
    began = time.time()
    busy = [target for target in targets if target.workload.name not in ("all-failing", "idle", "silent")]

    def traffic(rounds: int) -> None:
        for _ in range(rounds):
            for target in busy:
                target.handle(50, slow=3)
            scraped(targets)

    traffic(2)
    by_name["failed-scrape"].fails = True
    by_name["bare-answer"].is_bare = True
    by_name["silent"].fails = True
    by_name["first-errors"].handle(101, code="503")
    by_name["all-failing"].handle(70, code="503")
    by_name["grpc"].handle(9, code="200", grpc="14")
    by_name["upgraded"].upgrade_bounds()
    traffic(2)
    by_name["failed-scrape"].fails = False
    by_name["bare-answer"].is_bare = False
    traffic(2)
    by_name["pair"].step_back(20)
    scraped(targets)
    by_name["pair"].step_back(-20)
    scraped(targets)  # twice: what a reset loses between the last scrape and itself is nobody's to count
    by_name["reset"].restart()
    by_name["reset"].handle(300)
    by_name["slow-reset"].restart()
    by_name["slow-reset"].handle(LIFETIME // 2 + 500)  # all fast: the 500 ms bucket is past its old value at once
    scraped(targets)
    traffic(2)
    batch = read(source, targets, began)
    history = History(source, server.url, by_name, {name: +target.true for name, target in by_name.items()}, batch)

    server.restart()
    traffic(1)
    after = read(source, targets, began)
    history.kept = {name: (total(after.tiles[t.workload]), +t.true) for name, t in by_name.items() if t in busy}

    server.restart(lose_data=True)
    scraped(targets, 3)
    before = {name: Counter(target.true) for name, target in by_name.items()}
    traffic(2)
    empty = read(source, targets, began)
    history.lost = {
        name: (total(empty.tiles[t.workload]), t.true - before[name]) for name, t in by_name.items() if t in busy
    }
    return history


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> Iterator[History]:
    names = (
        "steady",
        "failed-scrape",
        "bare-answer",
        "reset",
        "slow-reset",
        "first-errors",
        "grpc",
        "pair",
        "upgraded",
    )
    targets = {name: Target(name) for name in names}
    targets["all-failing"] = Target("all-failing", lifetime=0)
    targets["idle"] = Target("idle")
    targets["silent"] = Target("silent")
    scrapes = [ScrapeTarget(t.address, namespace="shop", pod=name, keep=None) for name, t in targets.items()]
    with PrometheusServer(tmp_path_factory.mktemp("prometheus"), scrapes, scrape_interval_s=1.0) as server:
        source = PrometheusSource(SourceSettings(server.url, timeout_s=10.0))
        yield run_traps(server, source, targets)
        source.close()
    for target in targets.values():
        target.close()


@pytest.mark.parametrize(
    "name", ["steady", "failed-scrape", "bare-answer", "reset", "first-errors", "grpc", "upgraded"]
)
def test_tiles_sum_to_the_true_counts_through(name: str, history: History) -> None:
    assert history.counted(name) == history.true[name]


def test_the_first_errors_of_a_version_are_counted_as_they_are_new_series(history: History) -> None:
    assert history.counted("first-errors")["503"] == 101


def test_a_version_that_only_ever_failed_reads_as_failing_not_as_no_data(history: History) -> None:
    assert history.counted("all-failing") == Counter({"503": 70, "timed": 0, "slow": 0})


def test_a_series_without_a_request_has_every_tile_with_zero_counts(history: History) -> None:
    tiles = history.batch.tiles[Workload("shop", "idle")]

    assert sum(total(tiles).values()) == 0
    assert [after.start - before.end for before, after in itertools.pairwise(tiles)] == [0.0] * (len(tiles) - 1)


def test_a_target_that_is_not_scraped_any_more_goes_stale_though_its_counters_are_remembered(history: History) -> None:
    batch, silent, idle = history.batch, Workload("shop", "silent"), Workload("shop", "idle")

    assert len(batch.tiles[silent]) == len(batch.tiles[idle])
    assert batch.newest_ends[silent] <= batch.newest_ends[idle] - 5
    assert batch.newest_end == max(batch.newest_ends.values())


def test_a_step_back_within_a_redundant_pair_is_not_a_reset(history: History) -> None:
    counted, true = history.counted("pair")["200"], history.true["pair"]["200"]

    assert true <= counted <= true + 20


def test_a_reset_histogram_invents_no_slow_requests(history: History) -> None:
    counted, true = history.counted("slow-reset"), history.true["slow-reset"]

    assert counted["slow"] <= true["slow"]
    assert counted["timed"] <= true["timed"]
    assert counted["slow"] / counted["timed"] <= 0.06  # 3 of 50 were slow before, none of the new ones


def test_a_workload_without_series_is_absent(history: History) -> None:
    nobody = Workload("shop", "nobody")
    end = history.batch.newest_end or 0.0

    batch = history.source.tiles([nobody], [500.0], first_end=end, last_end=end, tile_s=1.0)

    assert nobody not in batch.tiles
    assert nobody not in batch.seen
    assert batch.newest_end is None


@pytest.mark.parametrize("name", ["steady", "bare-answer", "first-errors"])
def test_a_restart_of_prometheus_loses_no_request(name: str, history: History) -> None:
    counted, true = history.kept[name]

    assert counted == true


def test_a_prometheus_that_lost_its_data_counts_no_lifetime_total(history: History) -> None:
    for counted, true in history.lost.values():
        assert counted == true


def test_a_slow_scrape_fills_its_tile_late_and_a_settled_tile_is_final(tmp_path: Path) -> None:
    target = Target("late")
    target.handle(1, code="503")
    target.true.clear()
    target.delay_s = 1.5
    scrape = ScrapeTarget(target.address, namespace="shop", keep=None)
    just_ended: dict[float, Counter[str]] = {}
    just_settled: dict[float, Counter[str]] = {}
    with PrometheusServer(tmp_path, [scrape], scrape_interval_s=2.0) as server:
        source = PrometheusSource(SourceSettings(server.url))
        scraped([target], 3)
        facts = source.facts()
        first = float(math.ceil(time.time()))
        target.handle(259)
        target.handle(101, code="503")

        while time.time() < first + 2 * facts.settle_s + 4:
            last = float(math.floor(time.time()))
            if last >= first:
                batch = source.tiles([target.workload], [500.0], first_end=first, last_end=last, tile_s=1.0)
                for tile in batch.tiles.get(target.workload, ()):
                    just_ended.setdefault(tile.end, total((tile,)))
                    if tile.end <= last - facts.settle_s:
                        just_settled.setdefault(tile.end, total((tile,)))
            time.sleep(0.1)
        final = {
            tile.end: total((tile,))
            for tile in source.tiles(
                [target.workload], [500.0], first_end=first, last_end=max(just_settled), tile_s=1.0
            ).tiles[target.workload]
        }
    target.close()

    assert facts.scrape_interval_s == pytest.approx(2.0, abs=0.1)
    assert 1.5 <= facts.longest_scrape_s < 2.0
    assert sum((+counts for counts in final.values()), Counter()) == +target.true
    assert any(just_ended[end] != final[end] for end in final), "the trap did not happen: nothing arrived late"
    assert just_settled == final
