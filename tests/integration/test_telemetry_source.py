"""The metrics source on a real Prometheus: whom it believes, what it costs, what it finds out about itself."""

import threading
import time
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from prometheus_api_client import PrometheusConnect

from canary.errors import TelemetryAnswer
from canary.model.policy import GrpcStatus
from canary.sandbox.prometheus import PrometheusServer, ScrapeTarget
from canary.telemetry import PrometheusSource, SourceSettings, Workload
from canary.telemetry.queries import literal, quoted

pytestmark = pytest.mark.slow

PAY, LEDGER = Workload("shop", "pay-v1"), Workload("bank", "ledger-v1")
MANY = [Workload("crowd", f"app-{number:03d}") for number in range(500)]
PER_SCRAPE = 10


def requests(workload: Workload, reporter: str, code: str = "200", extra: str = "") -> str:
    return (
        f'istio_requests_total{{reporter="{reporter}",destination_workload_namespace="{workload.namespace}",'
        f'destination_workload="{workload.name}",response_code="{code}"{extra}}}'
    )


def bucket(workload: Workload, bound: str) -> str:
    labels = requests(workload, "source").removeprefix("istio_requests_total").rstrip("}")
    return f'istio_request_duration_milliseconds_bucket{labels},le="{bound}"}}'


SHOP = [requests(PAY, "source"), bucket(PAY, "500"), bucket(PAY, "+Inf")] + [requests(w, "source") for w in MANY]
HELPFUL = [
    'envoy_cluster_membership_total{cluster_name="outbound|80|v1|pay.shop.svc.cluster.local"}',
    'envoy_cluster_outlier_detection_ejections_active{cluster_name="outbound|80|v1|pay.shop.svc.cluster.local"}',
    'node_cpu_seconds_total{cpu="0",mode="steal"}',
    'node_uname_info{nodename="node-a"}',
]
BANK = [
    requests(LEDGER, "destination"),
    requests(PAY, "destination", "503"),  # a pod in bank speaks of shop's workload
    requests(PAY, "source", "503"),
    requests(LEDGER, "source"),
]


class Counting(ThreadingHTTPServer):
    """Every series it exposes grows by PER_SCRAPE with each scrape."""

    daemon_threads = True

    def __init__(self, series: list[str]) -> None:
        self.scrapes = 0
        server = self

        class Exposition(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server.scrapes += 1
                self.send_response(200)
                self.end_headers()
                self.wfile.write("".join(f"{name} {server.scrapes * PER_SCRAPE}\n" for name in series).encode())

            def log_message(self, *args: Any) -> None:
                pass

        super().__init__(("127.0.0.1", 0), Exposition)
        threading.Thread(target=self.serve_forever, daemon=True).start()


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    exposed = {"shop": Counting(SHOP + HELPFUL), "bank": Counting(BANK)}
    targets = [
        ScrapeTarget(f"127.0.0.1:{server.server_port}", namespace=namespace, keep=None)
        for namespace, server in exposed.items()
    ]
    with PrometheusServer(tmp_path_factory.mktemp("prometheus"), targets, scrape_interval_s=0.5) as prometheus:
        deadline = time.monotonic() + 30
        while min(server.scrapes for server in exposed.values()) < 8:
            assert time.monotonic() < deadline, "Prometheus does not scrape"
            time.sleep(0.05)
        yield prometheus.url
    for server in exposed.values():
        server.shutdown()
        server.server_close()


def settled_end() -> float:
    return float(int(time.time()) - 1)


def codes(source: PrometheusSource, workload: Workload) -> Counter[str]:
    """Requests of the last seconds by response code."""
    found: Counter[str] = Counter()
    answer = source.recent([workload], now=time.time(), interval_s=3).get(workload)
    for (code, _), count in answer.by_status.items() if answer else ():
        found[code] += count
    return found


def test_the_number_of_queries_does_not_depend_on_the_number_of_workloads(url: str) -> None:
    source = PrometheusSource(SourceSettings(url, timeout_s=20))
    source.facts()
    end = settled_end()

    before = source.queries_sent
    one = source.tiles([PAY], [500.0], first_end=end - 2, last_end=end, tile_s=0.5)
    of_one = source.queries_sent - before
    before = source.queries_sent
    all_of_them = source.tiles([PAY, *MANY], [500.0], first_end=end - 2, last_end=end, tile_s=0.5)
    of_all = source.queries_sent - before

    assert (of_one, of_all) == (2, 2)
    assert all_of_them.tiles[PAY] == one.tiles[PAY]
    assert all_of_them.seen == {PAY, *MANY}

    def succeeded(workload: Workload) -> list[int]:
        return [tile.status.get(("200", ""), 0) for tile in all_of_them.tiles[workload]]

    assert sum(succeeded(PAY)) >= PER_SCRAPE
    assert all(succeeded(workload) == succeeded(PAY) for workload in MANY)


def test_whoever_has_failures_among_all_counts_is_found_and_who_has_none_is_not(url: str) -> None:
    source = PrometheusSource(SourceSettings(url))
    now = time.time() - 0.6  # a scrape ago, so that both questions see the same
    asked = [PAY, LEDGER, *MANY]

    every = source.recent(asked, now=now, interval_s=3)
    found = source.failing(asked, [GrpcStatus.UNAVAILABLE], now=now, interval_s=3)

    failed = {one for one, answer in every.items() if any(code.startswith("5") for code, _ in answer.by_status)}
    assert PAY in failed
    assert found == failed


def test_a_long_range_is_asked_for_in_pieces_and_reads_the_same(url: str) -> None:
    source = PrometheusSource(SourceSettings(url, timeout_s=20))
    source.facts()
    end = settled_end()
    recent = source.tiles([PAY], [], first_end=end - 1, last_end=end, tile_s=0.5)

    before = source.queries_sent
    batch = source.tiles([PAY], [], first_end=end - 6000, last_end=end, tile_s=0.5)

    assert len(batch.tiles[PAY]) == 12_001  # over Prometheus' 11,000 points
    assert source.queries_sent - before == 25
    assert batch.tiles[PAY][-3:] == recent.tiles[PAY]


@pytest.mark.parametrize("tile_s", [1.013, 0.999, 1.1])
def test_a_tile_of_any_milliseconds_ends_where_it_was_asked_to(url: str, tile_s: float) -> None:
    source = PrometheusSource(SourceSettings(url, reporter="source"))
    tile_ms = round(tile_s * 1000)
    last = int(time.time() * 1000) // tile_ms
    first_end, last_end = (last - 60) * tile_ms / 1000, last * tile_ms / 1000

    tiles = source.tiles([PAY], [500.0], first_end=first_end, last_end=last_end, tile_s=tile_s).tiles[PAY]

    assert [tile.end for tile in tiles] == [(last - 60 + index) * tile_ms / 1000 for index in range(61)]


def test_a_pods_own_proxy_is_believed_about_its_own_namespace_only(url: str) -> None:
    source = PrometheusSource(SourceSettings(url, reporter="destination"))

    assert codes(source, LEDGER)["200"] > 0
    assert codes(source, PAY) == Counter()


def test_only_trusted_namespaces_are_believed_about_the_requests_they_sent(url: str) -> None:
    anybody = PrometheusSource(SourceSettings(url))
    shop_only = PrometheusSource(SourceSettings(url, trusted_namespaces=frozenset({"shop"})))

    assert set(codes(anybody, PAY)) == {"200", "503"}
    assert set(codes(shop_only, PAY)) == {"200"}


def test_the_preflight_finds_reporter_scrape_interval_and_settle_time(url: str) -> None:
    facts = PrometheusSource(SourceSettings(url)).facts()

    assert facts.reporter == "source"
    assert facts.scrape_interval_s == pytest.approx(0.5, abs=0.05)
    assert 0 < facts.longest_scrape_s < 0.5
    assert facts.settle_s == 2.0
    assert facts.up_joined
    assert facts.problems == ()


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"reporter": "waypoint"}, 'no istio_requests_total{reporter="waypoint"}: nothing can be counted'),
        ({"trusted_namespaces": frozenset({"ops"})}, "no target in a trusted namespace (ops) reports"),
    ],
)
def test_the_preflight_says_what_cannot_work(url: str, settings: dict[str, Any], problem: str) -> None:
    facts = PrometheusSource(SourceSettings(url, **settings)).facts()

    assert facts.problems[0].startswith(problem)


def test_a_mesh_without_the_asked_bucket_is_an_error_not_a_hundred_percent_slow(url: str) -> None:
    source = PrometheusSource(SourceSettings(url))
    end = settled_end()

    with pytest.raises(TelemetryAnswer, match=r"shop/pay-v1 has no bucket le=250 \(ms\)"):
        source.tiles([PAY], [250.0], first_end=end - 2, last_end=end, tile_s=1.0)


@pytest.mark.parametrize(
    "name",
    [
        "pay-v1",
        'a"} or vector(1) #',
        "back\\slash",
        "a|b",
        ".*",
        "^x$",
        "(?i)PAY",
        "[a-z]{2}",
        "tab\tnewline\n",
        "é☃\x1b",
    ],
)
def test_prometheus_reads_any_name_as_itself(url: str, name: str) -> None:
    client = PrometheusConnect(url, timeout=5)
    as_replacement = quoted(name.replace("$", "$$"))

    def matches(text: str) -> bool:
        labelled = f'label_replace(vector(1), "x", {as_replacement if text == name else quoted(text)}, "", "")'
        query = f'label_replace({labelled}, "hit", "yes", "x", {quoted(literal(name))})'
        answer: dict[str, str] = client.custom_query(query)[0]["metric"]
        assert answer["x"] == text
        return "hit" in answer

    assert matches(name)
    assert not matches("another")
    assert not matches("pay")
