"""The proxy that fault tests put before a server: it changes nothing by itself, and hooks change what they say."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from canary.cluster.gateway import Gateway
from canary.cluster.kinds import LEASE, NAMESPACE
from canary.errors import Ambiguous, Conflict
from tests.faults.asked import Asked, classify
from tests.faults.proxy import Answer, Dropped, Forward, Proxy, answer


def until(holds: Callable[[], Any], seconds: float = 30.0) -> Any:
    deadline = time.monotonic() + seconds
    while not (value := holds()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.005)
    return value


ISTIO = "/apis/networking.istio.io/v1/namespaces"


@pytest.mark.parametrize(
    ("method", "target", "words"),
    [
        ("GET", "/api/v1/pods?limit=250", ("list", "pods", "", "", "")),
        ("GET", "/api/v1/namespaces/shop/pods?watch=1&resourceVersion=5", ("watch", "pods", "", "shop", "")),
        ("GET", "/api/v1/namespaces/shop", ("get", "namespaces", "", "", "shop")),
        ("GET", "/api/v1/namespaces", ("list", "namespaces", "", "", "")),
        ("PUT", "/api/v1/namespaces/shop/finalize", ("update", "namespaces", "finalize", "", "shop")),
        ("PATCH", f"{ISTIO}/shop/virtualservices/payment?x=1", ("patch", "virtualservices", "", "shop", "payment")),
        (
            "PATCH",
            "/apis/canary.delivery/v1alpha1/namespaces/shop/canaryrollouts/payment-v2-1/status",
            ("patch", "canaryrollouts", "status", "shop", "payment-v2-1"),
        ),
        ("DELETE", "/api/v1/namespaces/shop/configmaps/c", ("delete", "configmaps", "", "shop", "c")),
        ("DELETE", "/api/v1/namespaces/shop/configmaps", ("deletecollection", "configmaps", "", "shop", "")),
        ("GET", "/apis/apps/v1", ("get", "", "", "", "")),
        ("POST", "/api/v1/query_range", ("create", "query_range", "", "", "")),
        ("GET", "/version", ("get", "", "", "", "")),
        ("GET", "/apis/apps/v1/namespaces/a%2Db/deployments/x", ("get", "deployments", "", "a-b", "x")),
    ],
)  # fmt: skip
def test_a_request_is_named_as_rbac_names_it(method: str, target: str, words: tuple[str, ...]) -> None:
    asked = classify(method, target)

    assert (asked.verb, asked.resource, asked.subresource, asked.namespace, asked.name) == words


def test_a_create_is_named_after_its_body() -> None:
    body = json.dumps({"metadata": {"name": "payment-v2-1"}}).encode()

    assert classify("POST", "/api/v1/namespaces/shop/configmaps", body).name == "payment-v2-1"
    assert classify("POST", "/api/v1/namespaces/shop/configmaps", b"\x00k8s").name == ""
    assert (
        str(classify("POST", "/api/v1/namespaces/shop/configmaps", body)) == "create configmaps #0 (shop/payment-v2-1)"
    )


class Upstream(ThreadingHTTPServer):
    """Answers as a test says; `seen` is what arrived."""

    daemon_threads = True

    def __init__(self) -> None:
        self.seen: list[tuple[str, str, dict[str, str], bytes]] = []
        self.release = threading.Event()
        """Set to let a held answer or the next event of a watch go."""
        self.watch_ended = threading.Event()
        upstream = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_any(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                upstream.seen.append((self.command, self.path, dict(self.headers), body))
                if "watch=1" in self.path:
                    self._watch()
                    return
                if self.path.endswith("/held"):
                    upstream.release.wait(30)
                self.send_response(201, "Created")
                self.send_header("Content-Length", str(len(body) + 1))
                self.send_header("X-Kubernetes-Pf-Flowschema-Uid", "f")
                self.end_headers()
                self.wfile.write(b"!" + body)

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = handle_any

            def _watch(self) -> None:
                self.send_response(200)
                self.send_header("Transfer-Encoding", "chunked")
                self.end_headers()
                try:
                    self._chunk(b'{"n": 1}\n{"n"')
                    upstream.release.wait(30)
                    while True:
                        self._chunk(b": 2}\n{")
                        time.sleep(0.02)
                except OSError:
                    upstream.watch_ended.set()

            def _chunk(self, data: bytes) -> None:
                self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))

            def log_message(self, *_: Any) -> None:
                """Requests are not news."""

        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    server = Upstream()
    yield server
    server.release.set()
    server.shutdown()
    server.server_close()


@pytest.fixture
def proxy(upstream: Upstream) -> Iterator[Proxy]:
    with Proxy(upstream.url) as running:
        yield running


def exchange(proxy: Proxy, text: str) -> bytes:
    """What comes back for a request written by hand, until the connection ends."""
    port = int(proxy.url.rsplit(":", 1)[1])
    with socket.create_connection(("127.0.0.1", port), 30) as connection:
        connection.sendall(text.replace("\n", "\r\n").encode())
        pieces = []
        while piece := connection.recv(65536):
            pieces.append(piece)
    return b"".join(pieces)


PATCH = f"PATCH {ISTIO}/shop/virtualservices/payment%2Dx?fieldManager=a%20b HTTP/1.1\nHost: x\nConnection: close\n"


def test_without_hooks_bytes_headers_and_credentials_go_through_as_they_come(proxy: Proxy, upstream: Upstream) -> None:
    got = exchange(proxy, PATCH + "Authorization: Bearer t\nContent-Type: a/b\nContent-Length: 3\n\n[1]")

    method, path, headers, body = upstream.seen[0]
    assert (method, path, body) == ("PATCH", f"{ISTIO}/shop/virtualservices/payment%2Dx?fieldManager=a%20b", b"[1]")
    assert (headers["Authorization"], headers["Content-Type"]) == ("Bearer t", "a/b")
    assert "Accept" not in headers
    assert got.startswith(b"HTTP/1.1 201 ")
    assert b"X-Kubernetes-Pf-Flowschema-Uid: f\r\n" in got
    assert got.endswith(b"\r\n\r\n![1]")


def test_requests_are_counted_by_kind_and_logged_with_their_status(proxy: Proxy) -> None:
    for _ in range(2):
        exchange(proxy, PATCH + "\n")
    exchange(proxy, "GET /version HTTP/1.1\nHost: x\nConnection: close\n\n")

    assert [(str(asked), status) for asked, status in proxy.log] == [
        ("patch virtualservices #1 (shop/payment-x)", 201),
        ("patch virtualservices #2 (shop/payment-x)", 201),
        ("get /version #1", 201),
    ]
    proxy.reset()
    exchange(proxy, PATCH + "\n")
    assert [asked.nth for asked, _ in proxy.log] == [1]


def test_hooks_are_middleware_and_may_answer_in_the_servers_place(proxy: Proxy, upstream: Upstream) -> None:
    async def outer(asked: Asked, forward: Forward) -> Answer:
        given = await forward()
        given.status += 1
        return given

    async def inner(asked: Asked, forward: Forward) -> Answer:
        return answer(429, b"{}", Retry_After="7") if asked.nth == 1 else await forward()

    proxy.hooks.extend([outer, inner])
    first, second = exchange(proxy, PATCH + "\n"), exchange(proxy, PATCH + "\n")

    assert first.startswith(b"HTTP/1.1 430 ")
    assert b"Retry-After: 7\r\n" in first
    assert second.startswith(b"HTTP/1.1 202 ")
    assert len(upstream.seen) == 1


def test_a_dropped_answer_cuts_the_connection_after_the_write_went_through(proxy: Proxy, upstream: Upstream) -> None:
    async def lose(asked: Asked, forward: Forward) -> Answer:
        await forward()
        raise Dropped

    proxy.hooks.append(lose)

    with pytest.raises(ConnectionResetError):
        exchange(proxy, PATCH + "\n")
    assert len(upstream.seen) == 1
    assert proxy.log[0][1] == 0


def test_a_write_whose_client_dies_is_carried_out_nevertheless(proxy: Proxy, upstream: Upstream) -> None:
    port = int(proxy.url.rsplit(":", 1)[1])
    with socket.create_connection(("127.0.0.1", port), 30) as connection:
        connection.sendall(b"PUT /api/v1/namespaces/shop/configmaps/held HTTP/1.1\r\nHost: x\r\n\r\n")
        until(lambda: upstream.seen)

    time.sleep(0.1)  # the proxy hears of the closed connection
    upstream.release.set()
    until(lambda: proxy.log)
    assert proxy.log[0][1] == 201


def test_a_watch_comes_event_by_event_and_ends_with_its_client(proxy: Proxy, upstream: Upstream) -> None:
    port = int(proxy.url.rsplit(":", 1)[1])
    with socket.create_connection(("127.0.0.1", port), 30) as connection:
        connection.sendall(b"GET /api/v1/pods?watch=1 HTTP/1.1\r\nHost: x\r\n\r\n")
        got = b""
        while b"1}" not in got:
            got += connection.recv(65536)
        assert got.endswith(b'{"n": 1}\n\r\n'), "one whole event, while the second is not complete"
        upstream.release.set()
        while b"2}" not in got:
            got += connection.recv(65536)
    assert upstream.watch_ended.wait(30)


def test_a_hook_may_cut_a_watch_or_put_events_into_it(proxy: Proxy) -> None:
    seen = threading.Event()

    async def meddle(asked: Asked, forward: Forward) -> Answer:
        given = await forward()
        lines = given.body
        assert not isinstance(lines, bytes)

        async def events() -> AsyncIterator[bytes]:
            async for line in lines:
                yield line
                yield b'{"type": "ERROR"}\n'
                await asyncio.to_thread(seen.wait, 30)
                raise Dropped

        given.body = events()
        return given

    proxy.hooks.append(meddle)
    port = int(proxy.url.rsplit(":", 1)[1])
    with socket.create_connection(("127.0.0.1", port), 30) as connection:
        connection.sendall(b"GET /api/v1/pods?watch=1 HTTP/1.1\r\nHost: x\r\n\r\n")
        got = b""
        while b"ERROR" not in got:
            got += connection.recv(65536)
        seen.set()
        with pytest.raises(ConnectionResetError):
            connection.recv(65536)


def test_a_server_that_is_away_is_a_cut_connection(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with Proxy(f"http://127.0.0.1:{port}") as proxy, pytest.raises(ConnectionResetError):
        exchange(proxy, PATCH + "\n")


def test_the_gateway_works_through_it_on_a_server_with_tls_and_tokens(embedded: Path, tmp_path: Path) -> None:
    namespace = f"proxy-{uuid4().hex[:8]}"
    lost = {"answers": False}

    async def lose(asked: Asked, forward: Forward) -> Answer:
        given = await forward()
        if asked.is_write and lost["answers"]:
            raise Dropped
        return given

    with Proxy.before(embedded, [lose]) as proxy:
        gateway = Gateway.connect(str(proxy.kubeconfig(embedded, tmp_path / "kubeconfig")))
        try:
            gateway.create(NAMESPACE, None, {"metadata": {"name": namespace}})
            lease = {"metadata": {"name": "one"}, "spec": {"holderIdentity": "me"}}
            lost["answers"] = True
            with pytest.raises(Ambiguous):
                gateway.create(LEASE, namespace, lease)
            lost["answers"] = False
            with pytest.raises(Conflict, match="already exists"):
                gateway.create(LEASE, namespace, lease)
            assert gateway.get(LEASE, namespace, "one")["spec"]["holderIdentity"] == "me"
            gateway.delete(NAMESPACE, None, namespace)
        finally:
            gateway.close()
    assert [(asked.verb, asked.resource, asked.name, asked.nth, status) for asked, status in proxy.log] == [
        ("create", "namespaces", namespace, 1, 201),
        ("create", "leases", "one", 1, 0),
        ("create", "leases", "one", 2, 409),
        ("get", "leases", "one", 1, 200),
        ("delete", "namespaces", namespace, 1, 200),
    ]
