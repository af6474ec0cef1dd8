"""The load generator as a process, against a real backend process."""

import ast
import json
import socket
import sys
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from canary.sandbox.load import Tally, probe
from canary.sandbox.process import Child, free_port
from canary.sandbox.workloads import backend

PYTHON = [sys.executable, "-I", "-S"]


@pytest.fixture
def serve(tmp_path):
    """Start a backend of a version with an env; returns its URL. All end with the test."""
    children = []

    def start(version, port=0, **env):
        port = port or free_port()
        argv = [*PYTHON, backend.__file__, "--port", str(port), "--version", version]
        child = Child(f"backend {version}", argv, log=tmp_path / f"{version}.log", env=env).start()
        children.append(child)
        url = f"http://127.0.0.1:{port}/"
        child.wait_ready(url + "healthz")
        return child, url

    yield start
    for child in children:
        child.stop()


@pytest.fixture
def load(tmp_path):
    """Start a load run; returns the process and its record file. All end with the test."""
    children = []

    def start(url, **options):
        out = tmp_path / f"load-{len(children)}.txt"
        flags = [part for name, value in options.items() for part in (f"--{name.replace('_', '-')}", str(value))]
        argv = [sys.executable, "-m", "canary.sandbox.load", "--url", url, "--out", out, *flags]
        child = Child("load", argv, log=tmp_path / "load.log").start()
        children.append(child)
        return child, out

    yield start
    for child in children:
        child.stop()


def until(predicate, seconds=10.0):
    deadline = time.monotonic() + seconds
    while not predicate():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def test_every_request_of_a_run_is_in_its_record(serve, load):
    _, url = serve("v1", LATENCY_MEDIAN="5ms", ERROR_RATE="20%")

    child, out = load(url, rate=400, duration=2, host="payment.default.svc.cluster.local")
    assert child.wait(15) == 0

    tally = Tally.read(out)
    assert tally.run["host"] == "payment.default.svc.cluster.local"
    assert tally.ending["sent"] == tally.requests == pytest.approx(800, abs=2)
    assert (tally.lost, tally.ending["skipped"], tally.ending["unanswered"]) == (0, 0, 0)
    assert tally.version("v1").requests == tally.requests
    assert tally.version("v1").error_share == pytest.approx(0.2, abs=0.08)
    assert tally.version("v1").percentile(0.5) == pytest.approx(0.005, abs=0.004)
    assert tally.version("v1").last - tally.version("v1").first == pytest.approx(2.0, abs=0.3)


def test_a_slow_backend_does_not_slow_its_callers_down(serve, load):
    _, url = serve("v1", LATENCY_MEDIAN="500ms", LATENCY_SIGMA="0.01")

    child, out = load(url, rate=200, duration=1.5)
    assert child.wait(15) == 0

    tally = Tally.read(out)
    assert tally.requests == pytest.approx(300, abs=2)  # a closed loop of one connection would have sent 3
    assert tally.version("v1").percentile(0.5) == pytest.approx(0.5, abs=0.1)


def test_a_record_is_read_while_it_grows_and_sigterm_completes_it(serve, load):
    _, url = serve("v1")
    child, out = load(url, rate=200, duration=600, arrivals="poisson")
    tally = Tally.follow(out)

    until(lambda: tally.refresh() is not None and tally.requests > 40)
    assert not tally.ending
    child.stop()

    tally.refresh()
    assert child.exit_code == 0
    assert tally.ending["sent"] == tally.requests
    assert tally.lost == 0


def test_a_backend_that_is_killed_costs_exactly_the_requests_it_held_and_those_it_refused(serve, load):
    backend_process, url = serve("v1", LATENCY_MEDIAN="300ms", LATENCY_SIGMA="0.01")
    child, out = load(url, rate=50, duration=600)
    tally = Tally.follow(out)
    until(lambda: tally.refresh() is not None and tally.requests > 20)

    backend_process.kill()
    until(lambda: tally.refresh() is not None and tally.lost > 30)
    child.stop()

    tally.refresh()
    flags = {request.flags for request in tally.lost_examples}
    assert flags == {"reset", "connect"}
    assert tally.first_bad is not None
    assert tally.version("v1").errors == 0  # the lost are nobody's answers
    assert tally.version("").requests == tally.lost


def test_sigterm_lets_a_backend_finish_what_it_began(serve):
    child, url = serve("v1", LATENCY_MEDIAN="600ms", LATENCY_SIGMA="0.01")
    with ThreadPoolExecutor(1) as pool:
        pending = pool.submit(probe, url)
        until(lambda: _report(url)["requests"] == 1)
        child.stop()

        assert pending.result().status == 200
    assert child.exit_code == 0


def test_header_probes_are_in_the_record_and_in_nobodys_count(serve, load):
    _, url = serve("v2", ERROR_RATE="100%", ERROR_CODE="500")
    child, out = load(url, rate=20, duration=1, probe_header="x-debug-user=true", probe_rate=10)
    assert child.wait(15) == 0

    tally = Tally.read(out)
    assert tally.requests == tally.errors == pytest.approx(20, abs=1)
    assert tally.probes["v2"].statuses[500] == pytest.approx(10, abs=1)


def test_one_probe_says_which_version_answered(serve):
    _, url = serve("v2")

    answer = probe(url, "payment", {"x-debug-user": "true"})

    assert (answer.status, answer.version, answer.flags, answer.is_probe) == (200, "v2", "", True)
    assert probe(f"http://127.0.0.1:{free_port()}/").flags == "connect"


def test_anything_but_loopback_is_refused_before_the_first_packet(load, tmp_path):
    child, out = load("http://192.0.2.1/", rate=1, duration=1)

    assert child.wait(10) == 2
    assert "loopback only" in (tmp_path / "load.log").read_text()
    assert not out.exists()


def test_a_backend_changes_its_behaviour_while_it_runs(serve):
    _, url = serve("v1")
    assert probe(url).status == 200

    _report(url, b'{"error_rate": "100%", "error_code": 500, "ready": "false"}')

    assert probe(url).status == 500
    assert probe(url + "healthz").status == 503
    report = _report(url)
    assert report["statuses"] == {"200": 1, "500": 1}
    assert report["behaviour"]["error_rate"] == 1.0


def test_pipelined_requests_are_answered_in_order_and_bodies_are_skipped(serve):
    _, url = serve("v1", LATENCY_MEDIAN="10ms")
    post = b"POST /pay HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\nhello"
    last = b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
    with socket.create_connection(("127.0.0.1", int(url.split(":")[2].rstrip("/"))), timeout=5) as client:
        client.sendall(post[:40])
        client.sendall(post[40:] + post + last)
        received = b"".join(iter(lambda: client.recv(65536), b""))

    assert received.count(b"HTTP/1.1 200 OK") == 3
    assert received.count(b"connection: close") == 1


def test_a_backend_refuses_an_env_it_does_not_understand(tmp_path):
    argv = [*PYTHON, backend.__file__, "--port", str(free_port()), "--version", "v1"]
    child = Child("backend", argv, log=tmp_path / "log", env={"ERROR_RATE": "lots"}).start()

    assert child.wait(10) == 2
    assert "error_rate: 'lots' must be a share such as 5% or 0.05" in child.log_tail()


def test_a_backend_crashes_when_it_is_told_to(serve):
    child, _ = serve("v1", CRASH_AFTER="300ms")

    assert child.wait(10) == 1


def test_the_backend_imports_the_standard_library_only():
    tree = ast.parse(Path(backend.__file__).read_text())
    modules = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    modules |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}

    assert {module.split(".")[0] for module in modules} <= sys.stdlib_module_names


def _report(url, body=None):
    with urllib.request.urlopen(url + "__control", data=body, timeout=5) as answer:
        return json.load(answer)
