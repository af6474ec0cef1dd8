"""The gateway and the reflector against a server that breaks: what no well-behaved API server can show."""

from __future__ import annotations

import datetime
import ipaddress
import json
import queue
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from kubernetes.client import ApiClient, Configuration

from canary.cluster.backoff import Backoff
from canary.cluster.connection import api_client
from canary.cluster.gateway import Gateway
from canary.cluster.kinds import POD
from canary.cluster.reflector import Change, Reflector
from canary.errors import Ambiguous, Unavailable

Answer = Callable[["Handler"], None]


class Handler(BaseHTTPRequestHandler):
    """Plays the next scripted answer; keeps the request line. An answer that returns leaves the connection open."""

    protocol_version = "HTTP/1.1"
    server: Server

    def _play(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        self.rfile.read(length)
        self.server.asked.append(self.path)
        try:
            answer = self.server.script.get_nowait()
        except queue.Empty:
            answer = silence
        try:
            answer(self)
        except (BrokenPipeError, ConnectionResetError, ssl.SSLError):
            self.close_connection = True

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _play

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  the base class names it so
        """Quiet."""

    def send_json(self, status: int, document: Any, *, length: int | None = None) -> None:
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()

    def begin_stream(self) -> None:
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.wfile.flush()

    def chunk(self, data: bytes) -> None:
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()


class Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.script: queue.Queue[Answer] = queue.Queue()
        self.asked: list[str] = []
        self.ended = threading.Event()

    def plays(self, *answers: Answer) -> None:
        for answer in answers:
            self.script.put(answer)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away in the middle is what these tests are about."""


@contextmanager
def running(server: Server) -> Iterator[Server]:
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield server
    finally:
        server.ended.set()
        server.shutdown()
        thread.join(5)
        server.server_close()


@pytest.fixture
def server() -> Iterator[Server]:
    with running(Server()) as started:
        yield started


@pytest.fixture
def gateway(server: Server) -> Iterator[Gateway]:
    connected = Gateway(
        ApiClient(Configuration(host=f"http://127.0.0.1:{server.server_port}")),
        timeout_seconds=2.0,
        write_timeout_seconds=0.1,
    )
    yield connected
    connected.close()


def silence(handler: Handler) -> None:
    """No answer until the test is over."""
    handler.server.ended.wait(20)
    handler.close_connection = True


def hang_up(handler: Handler) -> None:
    handler.close_connection = True
    handler.connection.shutdown(socket.SHUT_RDWR)


def pod(name: str, version: str, **labels: str) -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": "shop", "resourceVersion": version, "labels": labels}}


def listing(version: str, *pods: dict[str, Any]) -> Answer:
    return lambda handler: handler.send_json(200, {"metadata": {"resourceVersion": version}, "items": pods})


def failing(status: int, message: str = "broken") -> Answer:
    return lambda handler: handler.send_json(status, {"kind": "Status", "code": status, "message": message})


def watching(*events: tuple[str, dict[str, Any]], then: Answer) -> Answer:
    """A watch with these events, then whatever `then` does to the open stream."""

    def play(handler: Handler) -> None:
        handler.begin_stream()
        for kind, obj in events:
            handler.chunk(json.dumps({"type": kind, "object": obj}).encode() + b"\n")
        then(handler)

    return play


def gone(handler: Handler) -> None:
    """410 inside a 200, as a watch says it."""
    status = {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old resource version"}
    handler.chunk(json.dumps({"type": "ERROR", "object": status}).encode() + b"\n")
    handler.chunk(b"")


def until(holds: Callable[[], bool], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.005)


@contextmanager
def reflecting(gateway: Gateway) -> Iterator[tuple[Reflector[dict[str, str]], list[Change[dict[str, str]]]]]:
    changes: list[Change[dict[str, str]]] = []
    reflector = Reflector(
        gateway,
        POD,
        "shop",
        project=lambda raw: dict(raw["metadata"]["labels"]),
        on_change=changes.append,
        backoff=Backoff(base_seconds=0.001, cap_seconds=0.01),
    )
    reflector.start()
    try:
        yield reflector, changes
    finally:
        assert reflector.stop(), "stop() did not end the reflector"


def told(changes: list[Change[dict[str, str]]]) -> list[tuple[str, str]]:
    return [(change.type, change.key[1]) for change in changes]


def test_a_write_without_an_answer_in_time_is_ambiguous_and_was_sent_once(server: Server, gateway: Gateway) -> None:
    began = time.monotonic()

    with pytest.raises(Ambiguous, match="cannot tell whether it happened: delete pods shop/p"):
        gateway.delete(POD, "shop", "p")

    assert time.monotonic() - began < 5
    assert len(server.asked) == 1


def test_a_connection_cut_before_the_answer_is_ambiguous_for_a_write_and_not_repeated(
    server: Server, gateway: Gateway
) -> None:
    server.plays(hang_up, hang_up, hang_up, hang_up)

    with pytest.raises(Ambiguous):
        gateway.create(POD, "shop", pod("p", "1"))
    with pytest.raises(Unavailable):
        gateway.get(POD, "shop", "p")

    assert len(server.asked) == 2


def test_an_answer_cut_in_the_middle_is_no_answer(server: Server, gateway: Gateway) -> None:
    def cut(handler: Handler) -> None:
        handler.send_json(200, pod("p", "1"), length=5000)
        hang_up(handler)

    server.plays(cut, cut)

    with pytest.raises(Unavailable):
        gateway.get(POD, "shop", "p")
    with pytest.raises(Ambiguous):
        gateway.replace(POD, "shop", "p", pod("p", "1"))


def test_an_answer_that_trickles_is_given_up_although_each_piece_of_it_is_in_time(
    server: Server, gateway: Gateway
) -> None:
    def trickle(handler: Handler) -> None:
        handler.begin_stream()
        handler.chunk(b'{"metadata": {"name": "')
        while not handler.server.ended.wait(0.05):
            handler.chunk(b"p")

    gateway.timeout_seconds = 0.5
    server.plays(trickle, trickle)

    with pytest.raises(Unavailable, match="did not end in time"):
        gateway.get(POD, "shop", "p")
    with pytest.raises(Ambiguous, match="did not end in time"):
        gateway.replace(POD, "shop", "p", pod("p", "1"))


def test_a_refused_connection_is_unavailable_at_once_also_for_a_write_and_names_the_address() -> None:
    with running(Server()) as server:
        port = server.server_port
    gateway = Gateway(ApiClient(Configuration(host=f"http://127.0.0.1:{port}")))
    began = time.monotonic()

    with pytest.raises(Unavailable, match=f"port={port}.*refused"):
        gateway.get(POD, "shop", "p")
    with pytest.raises(Unavailable, match="refused"):
        gateway.delete(POD, "shop", "p")

    assert time.monotonic() - began < 1
    gateway.close()


def test_a_redirect_to_a_login_page_is_not_followed(server: Server, gateway: Gateway) -> None:
    def redirect(handler: Handler) -> None:
        handler.send_response(302)
        handler.send_header("Location", "/login")
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    server.plays(redirect)

    with pytest.raises(Unavailable, match="HTTP 302"):
        gateway.get(POD, "shop", "p")
    assert len(server.asked) == 1


def test_a_cut_watch_goes_on_where_it_was_without_listing_again(server: Server, gateway: Gateway) -> None:
    server.plays(
        listing("5", pod("a", "4")),
        watching(("ADDED", pod("b", "6")), ("BOOKMARK", {"metadata": {"resourceVersion": "90"}}), then=hang_up),
        failing(503),
        watching(("DELETED", pod("a", "91")), then=silence),
    )

    with reflecting(gateway) as (reflector, changes):
        until(lambda: len(changes) == 3)

        assert told(changes) == [("added", "a"), ("added", "b"), ("deleted", "a")]
        assert reflector.failures == 2
        assert reflector.has_synced
    watches = [path for path in server.asked if "watch=1" in path]
    assert len(server.asked) - len(watches) == 1
    assert ["resourceVersion=5&" in watches[0], *("resourceVersion=90&" in path for path in watches[1:])] == [True] * 3
    assert all("allowWatchBookmarks=true" in path for path in watches)


def test_410_inside_a_200_lists_again_and_tells_only_the_differences(server: Server, gateway: Gateway) -> None:
    server.plays(
        listing("5", pod("same", "1", x="1"), pod("changes", "2", x="1"), pod("goes", "3", x="1")),
        watching(then=gone),
        listing("50", pod("same", "41", x="1"), pod("changes", "42", x="2"), pod("comes", "43", x="1")),
        watching(then=silence),
    )

    with reflecting(gateway) as (reflector, changes):
        until(lambda: len(changes) == 6)

        assert sorted(told(changes)[3:]) == [("added", "comes"), ("deleted", "goes"), ("modified", "changes")]
        assert len(reflector.items()) == 3
    assert "resourceVersion=50&" in server.asked[-1]


def test_a_server_that_always_says_410_is_not_asked_in_a_busy_loop(server: Server, gateway: Gateway) -> None:
    for version in range(1, 40):
        server.plays(listing(str(version)), watching(then=gone))
    waits: list[int] = []

    class Counted(Backoff):
        def delay(self, failures: int, _at_least: float | None = None) -> float:
            waits.append(failures)
            return 0.001 if len(waits) < 5 else 30.0

    reflector = Reflector(gateway, POD, "shop", project=dict, backoff=Counted(base_seconds=1, cap_seconds=1))
    reflector.start()
    until(lambda: len(waits) == 5)
    began = time.monotonic()

    assert reflector.stop()
    assert time.monotonic() - began < 2, "a waiting reflector stops at once"
    assert waits == [2, 3, 4, 5, 6], "only the first 410 is followed by a list at once"


def test_a_broken_event_ends_the_watch_and_not_the_reflector(server: Server, gateway: Gateway) -> None:
    def garbage(handler: Handler) -> None:
        handler.chunk(b'{"type": "MODIFIED", "obj\n')

    server.plays(
        listing("5"),
        watching(then=garbage),
        watching(("ADDED", {"kind": "no metadata"}), then=silence),
        listing("6", pod("a", "6")),
        watching(then=silence),
    )

    with reflecting(gateway) as (reflector, changes):
        until(lambda: len(changes) == 1)
        assert reflector.failures == 2


def test_an_object_that_cannot_be_projected_hides_nothing_and_is_no_deletion(server: Server, gateway: Gateway) -> None:
    strange = pod("a", "7")
    strange["metadata"]["labels"] = 17
    server.plays(
        listing("5", pod("a", "5", x="1")),
        watching(("MODIFIED", strange), ("ADDED", pod("b", "8")), then=silence),
    )

    with reflecting(gateway) as (reflector, changes):
        until(lambda: len(changes) == 2)

        assert told(changes) == [("added", "a"), ("added", "b")]
        assert reflector.get("shop", "a") == {"x": "1"}
        assert reflector.last_error == "pods shop/a cannot be read"


def test_a_handler_that_fails_keeps_no_other_from_hearing(server: Server, gateway: Gateway) -> None:
    heard: list[str] = []

    def breaks(change: Change[Any]) -> None:
        raise RuntimeError("a bug")

    reflector: Reflector[Any] = Reflector(gateway, POD, "shop", project=len, on_change=breaks)
    reflector.subscribe(lambda change: heard.append(change.key[1]))
    server.plays(listing("5", pod("a", "5")), watching(then=silence))
    reflector.start()

    assert reflector.wait_synced(10)
    assert reflector.stop()
    assert heard == ["a"]
    assert "a handler failed on pods shop/a" in reflector.last_error


def test_a_list_that_breaks_between_pages_changes_nothing_and_is_begun_again(server: Server, gateway: Gateway) -> None:
    def first_page(handler: Handler) -> None:
        handler.send_json(200, {"metadata": {"resourceVersion": "5", "continue": "t"}, "items": [pod("a", "1")]})

    server.plays(
        listing("4", pod("a", "1"), pod("b", "2")),
        watching(then=gone),
        first_page,
        failing(410, "continue token expired"),
        listing("6", pod("a", "1"), pod("b", "2")),
        watching(then=silence),
    )

    with reflecting(gateway) as (reflector, changes):
        until(lambda: "resourceVersion=6&" in "".join(server.asked[-1:]))

        assert told(changes) == [("added", "a"), ("added", "b")]
        assert len(reflector.items("shop")) == 2


def test_staleness_grows_while_there_is_no_watch_and_is_zero_with_one(server: Server, gateway: Gateway) -> None:
    now = [100.0]
    server.plays(listing("5"), failing(503), failing(503))
    waiting = threading.Event()

    class Stuck(Backoff):
        def delay(self, _failures: int, _at_least: float | None = None) -> float:
            waiting.set()
            return 30.0

    reflector = Reflector(
        gateway, POD, "shop", project=dict, backoff=Stuck(base_seconds=1, cap_seconds=1), clock=lambda: now[0]
    )
    reflector.start()
    assert waiting.wait(10)
    now[0] += 45

    assert reflector.has_synced
    assert reflector.staleness_seconds == 45
    assert not reflector.is_stuck
    now[0] += 400
    assert reflector.is_stuck
    assert reflector.stop()
    assert not reflector.is_stuck


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    built = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    files = tmp_path / "cert.pem", tmp_path / "key.pem"
    files[0].write_bytes(built.public_bytes(serialization.Encoding.PEM))
    plain = serialization.NoEncryption()
    encoded = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
    files[1].write_bytes(encoded)
    return files


def kubeconfig_for(tmp_path: Path, port: int, **cluster: str) -> str:
    path = tmp_path / "kubeconfig"
    document = {
        "current-context": "x",
        "contexts": [{"name": "x", "context": {"cluster": "x", "user": "x"}}],
        "clusters": [{"name": "x", "cluster": {"server": f"https://127.0.0.1:{port}", **cluster}}],
        "users": [{"name": "x", "user": {"token": "t"}}],
    }
    path.write_text(json.dumps(document))
    return str(path)


def test_a_watch_over_tls_closes_as_promptly_and_an_unknown_ca_was_never_sent(
    tmp_path: Path, certificate: tuple[Path, Path]
) -> None:
    server = Server()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    with running(server):
        trusting = Gateway(
            api_client(kubeconfig_for(tmp_path, server.server_port, **{"certificate-authority": str(certificate[0])}))
        )
        server.plays(listing("5", pod("a", "5")), watching(("ADDED", pod("b", "6")), then=silence))
        with reflecting(trusting) as (reflector, changes):
            until(lambda: len(changes) == 2)
            began = time.monotonic()
            assert reflector.stop()
            assert time.monotonic() - began < 1
            assert reflector.failures == 0
        trusting.close()

        doubting = Gateway(api_client(kubeconfig_for(tmp_path, server.server_port)))
        with pytest.raises(Unavailable, match="certificate verify failed"):
            doubting.delete(POD, "shop", "p")
        doubting.close()
    assert len(server.asked) == 2
