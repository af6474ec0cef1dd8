"""Real Envoy, real Prometheus, real backends on loopback; the objects are given as dicts."""

import http.client
import json
import re
import statistics
import sys
import time
import urllib.parse
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from canary.sandbox.envoy.names import Client
from canary.sandbox.envoy.server import EnvoyServer
from canary.sandbox.envoy.translate import translate
from canary.sandbox.envoy.xds import XdsFiles
from canary.sandbox.load import tally
from canary.sandbox.process import Child, answers, fetch, free_port
from canary.sandbox.prometheus import CONTROLLER_METRICS, PrometheusServer, ScrapeTarget
from canary.sandbox.workloads import backend

Json = dict[str, Any]

HOST = "payment.default.svc.cluster.local"
ISTIO_BUCKETS_MS = (
    *(0.5, 1, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000),
    *(10000, 30000, 60000, 300000, 600000, 1800000, 3600000),
)
MISSING, NO_PODS = "missing", "no-pods"
"""A subset that no DestinationRule defines, and one that selects no pod."""


def wait_for(condition: Callable[[], Any], what: str, timeout_s: float = 10.0) -> Any:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.01)
    return pytest.fail(f"no {what} within {timeout_s} s")


def to(subset: str, weight: int = 100) -> Json:
    return {"destination": {"host": "payment", "subset": subset}, "weight": weight}


@dataclass
class Mesh:
    """Two versions of `payment`, one real pod each, behind one Envoy."""

    directory: Path
    traffic_policy: Json = field(default_factory=dict)
    subsets: dict[str, str] = field(default_factory=lambda: {"v1": "v1", "v2": "v2", NO_PODS: "nobody"})
    """Values of the label `version` by name of the subset."""

    def __post_init__(self) -> None:
        self.pods, self.backends = [], {}
        for version in ("v1", "v2"):
            port = free_port()
            program = [sys.executable, "-I", "-S", str(backend.__file__), "--port", str(port), "--version", version]
            child = Child(f"payment-{version}", program, log=self.directory / f"{version}.log").start()
            self.backends[version] = (child, f"http://127.0.0.1:{port}")
            self.pods.append(self._pod(version, port))
        for child, url in self.backends.values():
            child.wait_ready(f"{url}/healthz")
        self.server = EnvoyServer(self.directory / "envoy", client=Client("loadgen", "callers"))
        self.files = XdsFiles(self.server.xds_directory)
        self.apply([{"route": [to("v1")]}])
        self.server.start()
        self.files.follow(self.server.version_in_force)

    @staticmethod
    def _pod(version: str, port: int) -> Json:
        return {
            "metadata": {
                "name": f"payment-{version}-5f6-a",
                "namespace": "default",
                "labels": {"app": "payment", "version": version, "pod-template-hash": "5f6"},
                "ownerReferences": [{"kind": "ReplicaSet", "name": f"payment-{version}-5f6", "controller": True}],
            },
            "spec": {"containers": [{"ports": [{"name": "http", "containerPort": port}]}]},
            "status": {"podIP": "127.0.0.1", "conditions": [{"type": "Ready", "status": "True"}]},
        }

    def apply(self, http: list[Json]) -> None:
        """Bring the routes of the VirtualService in force; returns when Envoy runs with them."""
        rule = {
            "host": "payment",
            "subsets": [{"name": name, "labels": {"version": value}} for name, value in self.subsets.items()],
            "trafficPolicy": self.traffic_policy,
        }
        service = {"selector": {"app": "payment"}, "ports": [{"name": "http", "port": 80, "targetPort": "http"}]}
        meta = {"name": "payment", "namespace": "default"}
        resources = translate(
            [{"metadata": meta, "spec": {"hosts": ["payment"], "http": http}}],
            [{"metadata": meta, "spec": rule}],
            [{"metadata": meta, "spec": service}],
            self.pods,
        )
        assert resources.warnings == ()
        self.files.apply(resources)

    def behave(self, version: str, **behaviour: str) -> None:
        request = urllib.request.Request(
            f"{self.backends[version][1]}/__control", data=json.dumps(behaviour).encode(), method="POST"
        )
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=5):
            pass

    def get(self, path: str = "/", host: str = HOST, **headers: str) -> tuple[int, str, str]:
        """Status, the version that answered, and Envoy's response flags."""
        connection = http.client.HTTPConnection(*self.server.listen, timeout=10)
        try:
            connection.request("GET", path, headers={"Host": host, **headers})
            response = connection.getresponse()
            response.read()
            said = response.headers
            return response.status, said.get("x-version", ""), said.get("x-envoy-response-flags", "")
        finally:
            connection.close()

    def close(self) -> None:
        self.server.stop()
        for child, _ in self.backends.values():
            child.stop()


@pytest.fixture
def mesh(tmp_path: Path) -> Iterator[Mesh]:
    mesh = Mesh(tmp_path)
    yield mesh
    mesh.close()


@pytest.fixture
def breaking_mesh(tmp_path: Path) -> Iterator[Mesh]:
    """With the usual breaker: five errors in a row eject a pod."""
    policy = {"consecutive5xxErrors": 5, "interval": "10s", "baseEjectionTime": "30s", "maxEjectionPercent": 100}
    mesh = Mesh(tmp_path, {"outlierDetection": policy})
    yield mesh
    mesh.close()


def test_weights_decide_and_the_debug_header_reaches_the_canary_before_any_weight(mesh: Mesh) -> None:
    debug = {"match": [{"headers": {"x-debug-user": {"exact": "true"}}}], "route": [to("v2")]}

    mesh.apply([debug, {"route": [to("v1", 100), to("v2", 0)]}])
    assert Counter(mesh.get() for _ in range(20)) == {(200, "v1", ""): 20}
    assert mesh.get(**{"x-debug-user": "true"}) == (200, "v2", "")

    mesh.apply([debug, {"route": [to("v1", 50), to("v2", 50)]}])
    assert {mesh.get()[1] for _ in range(60)} == {"v1", "v2"}

    mesh.apply([{"route": [to("v1", 0), to("v2", 100)]}])
    assert {mesh.get()[1] for _ in range(20)} == {"v2"}


@pytest.mark.parametrize("host", ["payment.default", "payment.default.svc", f"{HOST}:80", "payment.default:80"])
def test_a_service_is_reached_under_every_name(mesh: Mesh, host: str) -> None:
    assert mesh.get(host=host) == (200, "v1", "")


def test_what_the_mesh_itself_answers_carries_its_flag(mesh: Mesh) -> None:
    mesh.apply(
        [
            {"match": [{"uri": {"prefix": "/missing"}}], "route": [to(MISSING)]},
            {"match": [{"uri": {"prefix": "/no-pods"}}], "route": [to(NO_PODS)]},
            {"match": [{"uri": {"prefix": "/slow"}}], "route": [to("v2")], "timeout": "50ms"},
            {"match": [{"uri": {"exact": "/only"}}], "route": [to("v1")]},
        ]
    )
    mesh.behave("v2", slow_share="100%", slow_by="500ms")

    assert mesh.get("/missing") == (503, "", "NC")
    assert mesh.get("/no-pods") == (503, "", "UH")
    assert mesh.get("/slow") == (504, "", "UT")
    assert mesh.get("/other") == (404, "", "NR")
    assert mesh.get("/", host="nobody.default") == (404, "", "NR")


def test_envoy_accepts_everything_the_translation_can_write(mesh: Mesh) -> None:
    mesh.apply(
        [
            {
                "name": "all",
                "match": [
                    {
                        "uri": {"regex": "/all/.*"},
                        "ignoreUriCase": False,
                        "method": {"exact": "GET"},
                        "authority": {"prefix": "payment"},
                        "headers": {"x-a": {"regex": "a+"}, "x-b": {}},
                        "withoutHeaders": {"x-c": {"exact": "no"}, "x-d": {}},
                        "queryParams": {"q": {"exact": "1"}, "r": {"regex": "z?"}},
                    }
                ],
                "route": [
                    {**to("v1", 1), "headers": {"request": {"set": {"host": "inner", "x-e": "1"}}}},
                    {**to("v2", 1), "headers": {"response": {"add": {"x-f": "1"}, "remove": ["x-g"]}}},
                ],
                "timeout": "2s",
                "retries": {"attempts": 3, "perTryTimeout": "500ms", "retryOn": "5xx,503", "backoff": "25ms"},
                "rewrite": {"uri": "/rewritten"},
                "mirrors": [{"destination": {"host": "payment", "subset": "v2"}, "percentage": {"value": 0.5}}],
                "corsPolicy": {
                    "allowOrigins": [{"exact": "https://a.example"}],
                    "allowMethods": ["GET"],
                    "maxAge": "24h",
                    "allowCredentials": True,
                },
                "fault": {"delay": {"fixedDelay": "1ms", "percentage": {"value": 100}}},
            },
            {"match": [{"uri": {"prefix": "/broken"}}], "fault": {"abort": {"httpStatus": 418}}, "route": [to("v1")]},
            {"match": [{"uri": {"prefix": "/old"}}], "redirect": {"uri": "/new", "redirectCode": 302}},
            {"match": [{"uri": {"prefix": "/tea"}}], "directResponse": {"status": 200, "body": {"string": "tea"}}},
            {"rewrite": {"uri": "/", "authority": "inner"}, "route": [to("v1")]},
        ]
    )

    assert {mesh.get("/all/x?q=1&r=z", **{"x-a": "aa", "x-b": ""})[:2] for _ in range(30)} == {
        (200, "v1"),
        (200, "v2"),
    }
    assert mesh.get("/broken")[0] == 418
    assert mesh.get("/old")[0] == 302
    assert mesh.get("/tea")[0] == 200
    assert mesh.get("/anything") == (200, "v1", "")


def answered_by(mesh: Mesh, version: str) -> None:
    wait_for(lambda: mesh.get()[1] == version, f"answer of {version}")


@contextmanager
def load_on(mesh: Mesh, record: Path) -> Iterator[None]:
    """400 requests per second, from the first answer on until the block ends."""
    program = [sys.executable, "-m", "canary.sandbox.load", "--url", mesh.server.url, "--host", HOST]
    options = ["--rate", "400", "--duration", "60", "--out", str(record)]
    with Child("load", program + options, log=record.with_suffix(".log")) as load:
        load.wait_ready(lambda: record.exists() and tally.Tally.read(record).requests > 0)
        yield


def assert_nothing_lost(mesh: Mesh, record: Path) -> None:
    result = tally.Tally.read(record)
    print(f"{result.requests} requests, {result.lost} lost")
    assert min(result.version("v1").requests, result.version("v2").requests) > 100
    assert (result.lost, result.errors, result.lost_examples) == (0, 0, [])
    assert set(mesh.server.stats("update_rejected$").values()) == {0}


@pytest.mark.slow
def test_a_weight_change_under_load_loses_no_request_and_is_in_force_at_once(mesh: Mesh, tmp_path: Path) -> None:
    delays = []
    with load_on(mesh, tmp_path / "record"):
        for weight in [10, 25, 50, 75, 100, 0] * 4:
            mesh.apply([{"route": [to("v1", 100 - weight), to("v2", weight)]}])
            time.sleep(0.1)  # some load at every weight; nothing is waited for
        for old, new in [("v1", "v2"), ("v2", "v1")] * 5:
            mesh.apply([{"route": [to(old)]}])
            answered_by(mesh, old)
            written = time.monotonic()
            mesh.apply([{"route": [to(new)]}])
            answered_by(mesh, new)
            delays.append(time.monotonic() - written)

    print(
        f"first request on the new weight after {statistics.median(delays) * 1e3:.1f} ms, at most {max(delays):.3f} s"
    )
    assert statistics.median(delays) < 0.1
    assert_nothing_lost(mesh, tmp_path / "record")


@pytest.mark.slow
def test_subsets_and_pods_come_and_go_under_load_and_nobody_meets_a_gap(mesh: Mesh, tmp_path: Path) -> None:
    mesh.behave("v2", latency_median="20ms")
    both, v1_only = mesh.pods, mesh.pods[:1]
    with load_on(mesh, tmp_path / "record"):
        for _ in range(8):
            mesh.pods, mesh.subsets = both, {"v1": "v1", "next": "v2"}
            mesh.apply([{"route": [to("v1", 20), to("next", 80)]}])  # a new subset and its weight in one step
            time.sleep(0.15)
            mesh.subsets = {"v1": "v1", "other": "v2"}
            mesh.apply([{"route": [to("v1", 20), to("other", 80)]}])  # the subset in use is renamed
            time.sleep(0.15)
            mesh.pods, mesh.subsets = v1_only, {"v1": "v1"}
            mesh.apply([{"route": [to("v1")]}])  # weight, subset and pod go at once, with requests under way
            time.sleep(0.05)

    assert_nothing_lost(mesh, tmp_path / "record")


def query(prometheus: PrometheusServer, expression: str) -> list[Json]:
    answer = fetch(f"{prometheus.url}/api/v1/query?{urllib.parse.urlencode({'query': expression})}", timeout_s=5)
    result: list[Json] = json.loads(answer)["data"]["result"]
    return result


@pytest.mark.slow
def test_an_ejected_canary_is_seen_in_prometheus_as_in_a_mesh(breaking_mesh: Mesh, tmp_path: Path) -> None:
    mesh = breaking_mesh
    admin = f"{mesh.server.admin[0]}:{mesh.server.admin[1]}"
    target = ScrapeTarget(admin, namespace="callers", pod="loadgen-0")
    mesh.apply(
        [
            {"match": [{"uri": {"prefix": "/missing"}}], "route": [to(MISSING)]},
            {"match": [{"uri": {"prefix": "/v2"}}], "route": [to("v2")]},
            {"route": [to("v1")]},
        ]
    )
    mesh.behave("v2", error_rate="100%", error_code="500", slow_share="100%", slow_by="30ms")

    with PrometheusServer(tmp_path / "prometheus", [target], scrape_interval_s=0.25) as prometheus:
        for _ in range(20):
            assert mesh.get() == (200, "v1", "")
        refused = [mesh.get("/v2") for _ in range(5)]
        wait_for(lambda: mesh.get("/v2") == (503, "", "UH"), "ejection")
        assert mesh.get("/missing") == (503, "", "NC")
        assert refused == [(500, "v2", "")] * 5

        def counted() -> dict[tuple[str, str, str], Json] | None:
            found = {
                (s["metric"]["destination_workload"], s["metric"]["response_code"], s["metric"]["response_flags"]): s
                for s in query(prometheus, "istio_requests_total")
            }
            return found if len(found) == 4 else None

        series = wait_for(counted, "series of all four outcomes", timeout_s=20)

        source = {
            "__name__": "istio_requests_total",
            "job": "envoy-stats",
            "instance": admin,
            "namespace": "callers",
            "pod": "loadgen-0",
            "reporter": "source",
            "source_workload": "loadgen",
            "source_workload_namespace": "callers",
            "request_protocol": "http",
            "connection_security_policy": "unknown",
        }
        service = {
            "destination_service": HOST,
            "destination_service_name": "payment",
            "destination_service_namespace": "default",
        }
        nobody = {
            "destination_workload": "unknown",
            "destination_workload_namespace": "unknown",
            "destination_version": "unknown",
            "destination_canonical_service": "unknown",
            "destination_canonical_revision": "latest",
        }
        v1 = {
            "destination_workload": "payment-v1",
            "destination_workload_namespace": "default",
            "destination_version": "v1",
            "destination_canonical_service": "payment",
            "destination_canonical_revision": "v1",
        }
        unnamed = {
            "destination_service": HOST,
            "destination_service_name": HOST,
            "destination_service_namespace": "unknown",
        }
        good, ejected, missing = ("payment-v1", "200", "-"), ("unknown", "503", "UH"), ("unknown", "503", "NC")
        assert series[good]["metric"] == source | service | v1 | {"response_code": "200", "response_flags": "-"}
        assert series[good]["value"][1] == "20"
        assert series[ejected]["metric"] == source | service | nobody | {
            "response_code": "503",
            "response_flags": "UH",
        }
        assert series[missing]["metric"] == source | unnamed | nobody | {
            "response_code": "503",
            "response_flags": "NC",
        }
        assert float(series["payment-v2", "500", "-"]["value"][1]) >= 5

        cluster = f'cluster_name="outbound|80|v2|{HOST}"'
        assert wait_for(
            lambda: query(prometheus, f"envoy_cluster_outlier_detection_ejections_active{{{cluster}}} == 1"), "ejection"
        )
        assert query(prometheus, f"envoy_cluster_membership_total{{{cluster}}}")[0]["value"][1] == "1"

        # Failures have a latency of their own, told apart by their code: 30 ms lies between the bounds 25 and 50.
        slow = 'istio_request_duration_milliseconds_bucket{destination_workload="payment-v2",response_code="500"'
        failures = wait_for(lambda: query(prometheus, f'{slow},le="50"}} > 4'), "latency of the failures")
        assert int(query(prometheus, f'{slow},le="25"}}')[0]["value"][1]) == 0
        assert float(failures[0]["value"][1]) >= 5
        bounds = {s["metric"]["le"] for s in query(prometheus, f"{slow}}}")}
        assert bounds == {*map(str, ISTIO_BUCKETS_MS), "+Inf"}


@pytest.mark.slow
def test_requests_over_the_connection_pool_belong_to_the_service_and_to_no_version(tmp_path: Path) -> None:
    pool = {"tcp": {"maxConnections": 1}, "http": {"http1MaxPendingRequests": 1}}
    mesh = Mesh(tmp_path, {"connectionPool": pool})
    target = ScrapeTarget(f"{mesh.server.admin[0]}:{mesh.server.admin[1]}", namespace="callers", pod="loadgen-0")
    try:
        mesh.behave("v1", slow_share="100%", slow_by="300ms")
        with PrometheusServer(tmp_path / "prometheus", [target], scrape_interval_s=0.25) as prometheus:
            with ThreadPoolExecutor(max_workers=8) as callers:
                answers_of = Counter(callers.map(lambda _: mesh.get(), range(8)))
            assert answers_of == {(200, "v1", ""): 2, (503, "", "UO"): 6}

            overflown = f'istio_requests_total{{response_flags="UO",destination_service="{HOST}"}}'
            series = wait_for(lambda: query(prometheus, overflown), "series of the overflow", timeout_s=20)
    finally:
        mesh.close()

    assert [s["value"][1] for s in series] == ["6"]
    labels = series[0]["metric"]
    assert labels["destination_workload"] == "unknown"
    assert (labels["destination_service_name"], labels["destination_service_namespace"]) == ("payment", "default")


@pytest.mark.slow
def test_a_scrape_holds_what_is_read_and_little_more(breaking_mesh: Mesh) -> None:
    mesh = breaking_mesh
    mesh.apply([{"route": [to("v1", 50), to("v2", 50)]}])
    for _ in range(40):
        mesh.get()
    page = f"{mesh.server.admin_url}/stats/prometheus"

    series = wait_for(  # histograms come with the next flush
        lambda: "request_duration_milliseconds_count" in (text := fetch(page).decode()) and text, "latency"
    ).splitlines()

    kept = re.compile(f"(envoy_(?=istio))?({CONTROLLER_METRICS})[{{]")
    others = [line for line in series if not line.startswith("#") and not kept.match(line)]
    # four clusters: v1, v2, one without pods, the whole service
    for metric in ("outlier_detection_ejections_active", "membership_total"):
        clusters = [line for line in series if line.startswith(f"envoy_cluster_{metric}{{")]
        assert len(clusters) == 4
        assert sum(f'{{cluster_name="outbound|80|v2|{HOST}"}}' in line for line in clusters) == 1
    assert len(others) < 12, others


def test_envoy_is_ended_by_its_server_object(mesh: Mesh) -> None:
    assert answers(f"{mesh.server.admin_url}/ready")

    mesh.server.stop()

    assert not mesh.server.is_running
    assert not answers(f"{mesh.server.admin_url}/ready")
