"""Where the health server listens, and what it answers."""

from __future__ import annotations

import socket
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest
from prometheus_client import CollectorRegistry, Counter

from canary.daemon.health import HealthServer, parse_address
from canary.errors import InputError


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:8080", ("127.0.0.1", 8080)),
        (":8080", ("0.0.0.0", 8080)),
        ("[::1]:0", ("::1", 0)),
        ("localhost:65535", ("localhost", 65535)),
    ],
)
def test_an_address_is_a_host_and_a_port(text: str, address: tuple[str, int]) -> None:
    assert parse_address(text) == address


@pytest.mark.parametrize("text", ["", "8080", "127.0.0.1", "host:http", "host:-1", "host:65536", "host:"])
def test_anything_else_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(InputError, match=r'like "127\.0\.0\.1:8080"'):
        parse_address(text)


def test_a_host_that_does_not_exist_is_one_clear_error() -> None:
    with pytest.raises(InputError, match=r"--listen 203\.0\.113\.7:0"):
        serve("203.0.113.7:0")


def serve(listen: str, *, alive: str = "", ready: str = "") -> HealthServer:
    registry = CollectorRegistry()
    Counter("canary_something", "For the test", registry=registry).inc()
    return HealthServer(listen, alive=lambda: alive, ready=lambda: ready, registry=registry)


@pytest.fixture
def wrong() -> Iterator[HealthServer]:
    server = serve("127.0.0.1:0", alive="a worker thread hangs", ready="not listed yet: pods")
    server.start()
    yield server
    server.stop()


def ask(url: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_what_is_wrong_is_said_in_the_answer(wrong: HealthServer) -> None:
    url = f"http://127.0.0.1:{wrong.port}"

    assert ask(f"{url}/healthz") == (503, "a worker thread hangs\n")
    assert ask(f"{url}/readyz?verbose") == (503, "not listed yet: pods\n")
    assert "canary_something_total 1.0" in ask(f"{url}/metrics")[1].splitlines()
    assert ask(f"{url}/admin")[0] == 404


@pytest.mark.skipif(not socket.has_ipv6, reason="no IPv6 here")
def test_it_listens_on_ipv6_too() -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("no IPv6 loopback here")
    server = serve("[::1]:0")
    server.start()
    try:
        assert ask(f"http://[::1]:{server.port}/healthz") == (200, "ok\n")
    finally:
        server.stop()


def test_a_server_that_was_never_started_can_be_stopped() -> None:
    serve("127.0.0.1:0").stop()


def test_who_is_ready_says_below_it_what_a_person_should_know_all_the_same() -> None:
    notes = ["namespace shop has not let canary in"]
    server = HealthServer(
        "127.0.0.1:0",
        alive=lambda: "",
        ready=lambda: "",
        notes=lambda: "\n".join(notes),
        registry=CollectorRegistry(),
    )
    server.start()
    try:
        url = f"http://127.0.0.1:{server.port}"
        assert ask(f"{url}/readyz") == (200, "ok\nnamespace shop has not let canary in\n")
        assert ask(f"{url}/healthz") == (200, "ok\n")
        notes.clear()
        assert ask(f"{url}/readyz") == (200, "ok\n")
    finally:
        server.stop()
