import json
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from canary.errors import SandboxError
from canary.sandbox.prometheus import PrometheusServer, ScrapeTarget, scrape_config

EXPOSED = """\
# TYPE envoy_istio_requests_total counter
envoy_istio_requests_total{destination_workload="pay-v1",destination_version="v1",response_code="200"} 7
envoy_istio_requests_total{destination_workload="",response_code="503",response_flags="UH"} 3
# TYPE envoy_cluster_membership_total gauge
envoy_cluster_membership_total{cluster_name="outbound|80|v1|pay"} 2
# TYPE envoy_cluster_upstream_cx_total counter
envoy_cluster_upstream_cx_total{cluster_name="outbound|80|v1|pay"} 9
"""


class Exposition(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/plain; version=0.0.4")
        self.end_headers()
        self.wfile.write(EXPOSED.encode())

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def exposition() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Exposition)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def query(server: PrometheusServer, expression: str) -> list[dict[str, Any]]:
    url = f"{server.url}/api/v1/query?{urllib.parse.urlencode({'query': expression})}"
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=5) as answer:
        result: list[dict[str, Any]] = json.load(answer)["data"]["result"]
        return result


def await_series(server: PrometheusServer, expression: str, timeout_s: float = 10.0) -> list[dict[str, Any]]:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if found := query(server, expression):
            return found
        time.sleep(0.05)
    return pytest.fail(f"no series for {expression} within {timeout_s} s")


@pytest.mark.slow
def test_prometheus_stores_what_the_controller_reads_under_istios_names(exposition: str, tmp_path: Path) -> None:
    target = ScrapeTarget(exposition, namespace="shop", pod="gateway-7")
    with PrometheusServer(tmp_path, [target], scrape_interval_s=0.2) as server:
        requests = await_series(server, "istio_requests_total")

        by_code = {series["metric"]["response_code"]: series["metric"] for series in requests}
        assert by_code["200"]["destination_workload"] == "pay-v1"
        assert by_code["503"]["destination_workload"] == "unknown"
        assert by_code["503"]["destination_version"] == "unknown"
        assert {series["namespace"] for series in by_code.values()} == {"shop"}
        assert {series["pod"] for series in by_code.values()} == {"gateway-7"}
        assert query(server, "envoy_cluster_membership_total")[0]["value"][1] == "2"
        assert query(server, "envoy_cluster_upstream_cx_total") == []


@pytest.mark.slow
def test_prometheus_comes_back_on_its_address_with_its_history_or_without(exposition: str, tmp_path: Path) -> None:
    server = PrometheusServer(tmp_path, [ScrapeTarget(exposition)], scrape_interval_s=0.2)
    with server:
        await_series(server, "istio_requests_total")
        before_the_outage = time.time()

        server.kill()
        with pytest.raises(OSError, match="refused"):
            query(server, "up")

        server.start()
        assert query(server, f"istio_requests_total @ {before_the_outage}")

        server.restart(lose_data=True)
        assert query(server, f"istio_requests_total @ {before_the_outage}") == []
    assert not server.is_running


def test_a_node_exporter_is_scraped_whole_and_under_its_nodes_name() -> None:
    node = ScrapeTarget("127.0.0.1:9100", path="/metrics", job="node", keep=None, labels={"node": "sandbox-b"})

    envoy, exporter = scrape_config([ScrapeTarget("127.0.0.1:1"), node])["scrape_configs"]

    assert envoy["static_configs"][0]["labels"] == {"namespace": "default", "pod": "gateway-0"}
    assert exporter["static_configs"][0]["labels"]["node"] == "sandbox-b"
    assert [rule for rule in exporter["metric_relabel_configs"] if rule.get("action") == "keep"] == []


def test_targets_of_one_job_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(SandboxError, match="'apps' differ in path"):
        scrape_config([ScrapeTarget("a:1", job="apps"), ScrapeTarget("b:1", job="apps", path="/metrics")])
