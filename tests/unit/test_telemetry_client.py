"""Every way in which a metrics source fails to answer, from a small server that does so on demand."""

import base64
import json
import socket
import ssl
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from canary.errors import TelemetryAnswer, TelemetryUnavailable
from canary.telemetry import BreakerState, PrometheusSource, SourceSettings, SubsetName, Workload
from canary.telemetry.client import PrometheusClient

PAY = Workload("shop", "pay-v1")


def success(kind: str, rows: list[Any], **more: Any) -> bytes:
    return json.dumps({"status": "success", "data": {"resultType": kind, "result": rows}} | more).encode()


class FaultServer(ThreadingHTTPServer):
    """Answers as it is told to and keeps what it was asked."""

    daemon_threads = True

    def __init__(self) -> None:
        self.status, self.body = 200, success("vector", [])
        self.hang = threading.Event()
        self.hang.set()
        self.asked: list[tuple[str, dict[str, str], dict[str, str]]] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"])).decode()
                headers = {name.lower(): value for name, value in self.headers.items()}
                server.asked.append((self.path, dict(urllib.parse.parse_qsl(body)), headers))
                server.hang.wait(10)
                self.send_response(server.status)
                self.send_header("location", "http://127.0.0.1:1/elsewhere")
                self.send_header("content-length", str(len(server.body)))
                self.end_headers()
                try:
                    self.wfile.write(server.body)
                except OSError:
                    return  # the client gave up first

            def log_message(self, *args: Any) -> None:
                pass

        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"


@pytest.fixture
def server() -> Iterator[FaultServer]:
    server = FaultServer()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server
    server.hang.set()
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def client(server: FaultServer) -> Iterator[PrometheusClient]:
    client = PrometheusClient(SourceSettings(server.url, timeout_s=20))
    yield client
    client.close()


def test_a_refused_connection_is_unavailable_at_once_and_says_so() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    client = PrometheusClient(SourceSettings(url))

    began = time.monotonic()
    with pytest.raises(TelemetryUnavailable, match=f"^Prometheus at {url}: Connection refused$"):
        client.at("up", 0)
    assert time.monotonic() - began < 1  # one attempt: the library's default makes three and takes 6 s


def test_a_server_that_hangs_is_unavailable_after_the_timeout(server: FaultServer) -> None:
    server.hang.clear()
    hasty = PrometheusClient(SourceSettings(server.url, timeout_s=0.5))

    with pytest.raises(TelemetryUnavailable, match=r"no answer within 0.5 s"):
        hasty.at("up", 0)
    hasty.close()
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    ("status", "body", "sentence"),
    [
        (500, b"boom", "HTTP 500 boom"),
        (503, b"", "HTTP 503$"),
        (502, b"<html>\x1b[31mbad gateway</html>", r"HTTP 502 <html> \[31mbad gateway"),
        (401, b"who are you", "HTTP 401 who are you"),
        (429, b"slow down", "HTTP 429 slow down"),
        (302, b"", "HTTP 302$"),
        (400, b'{"status":"error","errorType":"bad_data","error":"parse error at char 3"}', "HTTP 400 parse error at"),
        (422, b'{"status":"error","error":"query timed out"}', "HTTP 422 query timed out"),
        (500, b"[1]", "HTTP 500$"),
        (500, b"caf\xe9", "HTTP 500 caf\ufffd$"),
        (500, b"x" * 10_000, r"HTTP 500 x{290,297}\.\.\.$"),
    ],
)
def test_an_http_error_is_unavailable_with_the_servers_own_words(
    server: FaultServer, client: PrometheusClient, status: int, body: bytes, sentence: str
) -> None:
    server.status, server.body = status, body

    with pytest.raises(TelemetryUnavailable, match=sentence):
        client.at("up", 0)
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (b"<!DOCTYPE html><title>Grafana</title>", "not JSON.*Grafana"),
        (success("vector", [])[:-5], "not JSON"),
        (b"", "not JSON"),
        (b"[]", "not Prometheus' success"),
        (b'{"status":"error","error":"x"}', "not Prometheus' success"),
        (b'{"status":"success"}', "answered a 'None', not a vector"),
        (b'{"status":"success","data":[]}', "answered a 'None'"),
        (b'{"status":"success","data":{"resultType":"vector","result":null}}', "answered a 'vector'"),
        (success("scalar", [1, "1"]), "answered a 'scalar'"),
        (success("vector", [], warnings=["store gateway-2 did not answer"]), "warnings.*store gateway-2 did not"),
        (success("vector", [], warnings=True), "warnings"),
    ],
)
def test_an_answer_that_is_not_what_was_asked_is_not_taken_for_no_data(
    server: FaultServer, client: PrometheusClient, body: bytes, sentence: str
) -> None:
    server.body = body

    with pytest.raises(TelemetryAnswer, match=sentence):
        client.at("up", 0)


def test_an_empty_answer_and_notes_on_the_query_are_an_answer(server: FaultServer, client: PrometheusClient) -> None:
    server.body = success("vector", [], warnings=[], infos=["metric might not be a counter"])

    assert client.at("up", 0) == []


def test_a_range_answered_with_a_vector_is_not_understood(server: FaultServer, client: PrometheusClient) -> None:
    with pytest.raises(TelemetryAnswer, match="'vector', not a matrix"):
        client.over("up", 0, 10, 1)


def test_a_body_that_breaks_off_is_unavailable(server: FaultServer, client: PrometheusClient) -> None:
    class Short(bytes):
        def __len__(self) -> int:
            return 10_000

    server.body = Short(b'{"status":"succ')

    with pytest.raises(TelemetryUnavailable):
        client.at("up", 0)


def test_queries_go_into_the_body_with_times_exact_to_the_millisecond(
    server: FaultServer, client: PrometheusClient
) -> None:
    server.body = success("matrix", [])
    query = "|".join(f"a-long-name-of-a-workload-{number}" for number in range(4000))

    client.over(query, 1700000000.25, 1700000009.75, 0.5)

    path, body, headers = server.asked[0]
    assert path == "/api/v1/query_range"
    expected = {"start": "1700000000.250", "end": "1700000009.750", "step": "500ms", "timeout": "20000ms"}
    assert body == {"query": query, **expected}
    assert "authorization" not in headers


def test_credentials_and_tenant_are_sent_and_a_rotated_token_is_used_at_once(
    server: FaultServer, tmp_path: Path
) -> None:
    token = tmp_path / "token"
    token.write_text("first\n")
    settings = SourceSettings(server.url, headers={"X-Scope-OrgID": "team-a"}, bearer_token_file=token)
    client = PrometheusClient(settings)

    client.at("up", 0)
    token.write_text("second\n")
    client.at("up", 0)

    assert [headers["authorization"] for _, _, headers in server.asked] == ["Bearer first", "Bearer second"]
    assert {headers["x-scope-orgid"] for _, _, headers in server.asked} == {"team-a"}


@pytest.mark.parametrize("content", ["", "two\nlines", "a\x00b", b"\xff"])
def test_a_token_file_that_holds_no_token_is_unavailable_and_nothing_is_sent(
    server: FaultServer, tmp_path: Path, content: str | bytes
) -> None:
    token = tmp_path / "token"
    token.write_bytes(content if isinstance(content, bytes) else content.encode())
    client = PrometheusClient(SourceSettings(server.url, bearer_token_file=token))

    with pytest.raises(TelemetryUnavailable, match=r"token (cannot be read: not UTF-8|are not one line of text)$"):
        client.at("up", 0)
    assert server.asked == []


def test_basic_auth_reads_its_password_from_the_file(server: FaultServer, tmp_path: Path) -> None:
    password = tmp_path / "password"
    password.write_text("geheim ☃\n", encoding="utf-8")
    client = PrometheusClient(SourceSettings(server.url, username="canary", password_file=password))

    client.at("up", 0)

    scheme, _, encoded = server.asked[0][2]["authorization"].partition(" ")
    assert (scheme, base64.b64decode(encoded).decode()) == ("Basic", "canary:geheim ☃")


def test_a_missing_token_file_is_unavailable_and_nothing_is_sent(server: FaultServer, tmp_path: Path) -> None:
    client = PrometheusClient(SourceSettings(server.url, bearer_token_file=tmp_path / "token"))

    with pytest.raises(TelemetryUnavailable, match=r"token cannot be read: No such file"):
        client.at("up", 0)
    assert server.asked == []


def test_no_error_text_holds_a_credential(server: FaultServer, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("tok-3n-53cr37")
    headers = {"X-Api-Key": "k3y-53cr37", "X-Scope-OrgID": "1"}
    settings = SourceSettings(server.url, headers=headers, bearer_token_file=token)
    client = PrometheusClient(settings)

    texts = [repr(settings)]
    for status, body in ((401, b"bad token tok-3n-53cr37 or k3y-53cr37"), (200, b"you sent tok-3n-53cr37: k3y-53cr37")):
        server.status, server.body = status, body
        with pytest.raises((TelemetryUnavailable, TelemetryAnswer)) as caught:
            client.at("up", 0)
        texts.append(str(caught.value))

    assert not [text for text in texts if "53cr37" in text]
    assert "HTTP 401 bad token *** or ***" in texts[1]


def test_the_environment_has_no_say(server: FaultServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login other password other\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")

    PrometheusClient(SourceSettings(server.url)).at("up", 0)

    assert "authorization" not in server.asked[0][2]


def test_an_outage_is_answered_at_once_until_a_probe_gets_through(server: FaultServer) -> None:
    now = 0.0
    source = PrometheusSource(SourceSettings(server.url, reporter="source"), clock=lambda: now)
    server.status = 503

    for _ in range(5):
        with pytest.raises(TelemetryUnavailable, match="HTTP 503"):
            source.recent([PAY], now=1.0, interval_s=1)
    assert (source.queries_sent, len(server.asked)) == (3, 3)
    assert source.breaker_state is BreakerState.OPEN

    server.status = 200
    now += 1.5
    assert source.recent([PAY], now=1.0, interval_s=1) == {}
    assert source.breaker_state is BreakerState.CLOSED


RANGE = {"first_end": 1.0, "last_end": 2.0, "tile_s": 1.0}


@pytest.mark.parametrize("status", [400, 422])
def test_a_metric_that_prometheus_refuses_is_its_authors_fault_and_no_outage(server: FaultServer, status: int) -> None:
    source = PrometheusSource(SourceSettings(server.url, reporter="source"))
    server.status, server.body = status, b'{"status":"error","errorType":"bad_data","error":"parse error"}'

    for _ in range(5):
        with pytest.raises(TelemetryAnswer, match=f"HTTP {status} parse error"):
            source.metric("sum(", **RANGE)
    assert len(server.asked) == 5
    with pytest.raises(TelemetryUnavailable, match=f"HTTP {status} parse error"):
        source.tiles([PAY], [], **RANGE)


@pytest.mark.parametrize(
    "question",
    [
        lambda source: source.metric("slow", **RANGE),
        lambda source: source.control_plane(**RANGE),
        lambda source: source.steal(["node-a"], **RANGE),
        lambda source: source.ejections([SubsetName("shop", "pay", "v2")], **RANGE),
    ],
)
def test_what_only_helps_never_shuts_off_the_counts(
    server: FaultServer, question: Callable[[PrometheusSource], Any]
) -> None:
    source = PrometheusSource(SourceSettings(server.url, reporter="source"))
    server.status = 503
    for _ in range(5):
        with pytest.raises(TelemetryUnavailable, match="HTTP 503"):
            question(source)
    assert len(server.asked) == 3
    assert source.breaker_state is BreakerState.CLOSED

    server.status, server.body = 200, success("matrix", [])
    assert source.tiles([PAY], [], **RANGE).tiles == {}


def test_nothing_is_asked_for_no_nodes_subsets_or_services(server: FaultServer) -> None:
    source = PrometheusSource(SourceSettings(server.url, reporter="source"))

    assert source.steal([], **RANGE) == source.ejections([], **RANGE) == source.unattributed([], **RANGE) == {}
    with pytest.raises(ValueError, match="tile"):
        source.steal([], first_end=1.5, last_end=2.0, tile_s=1.0)
    assert server.asked == []
    assert source.steal(["node-a"], **RANGE) == {}  # nobody claims to be it: its CPU time is not asked for
    assert len(server.asked) == 1


def test_nothing_is_asked_for_no_workloads(server: FaultServer) -> None:
    source = PrometheusSource(SourceSettings(server.url, reporter="source"))

    assert source.recent([], now=1.0, interval_s=1) == {}
    assert source.tiles([], [500.0], first_end=1, last_end=2, tile_s=1).tiles == {}
    assert server.asked == []


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A self-signed certificate for 127.0.0.1 with its key, in one PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "prometheus")])
    now = datetime.now(UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(minutes=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    file = tmp_path / "server.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    file.write_bytes(signed.public_bytes(serialization.Encoding.PEM) + private)
    return file


@pytest.fixture
def tls_server(server: FaultServer, certificate: Path) -> FaultServer:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.url = server.url.replace("http", "https")
    return server


def test_the_ca_file_decides_whom_to_trust(tls_server: FaultServer, certificate: Path) -> None:
    trusting = PrometheusClient(SourceSettings(tls_server.url, ca_file=certificate))
    doubting = PrometheusClient(SourceSettings(tls_server.url))

    assert trusting.at("up", 0) == []
    with pytest.raises(TelemetryUnavailable, match=r"(?i)certificate verify failed"):
        doubting.at("up", 0)


def test_a_missing_ca_file_is_unavailable(tls_server: FaultServer, tmp_path: Path) -> None:
    client = PrometheusClient(SourceSettings(tls_server.url, ca_file=tmp_path / "none.pem"))

    with pytest.raises(TelemetryUnavailable, match=r"none\.pem"):
        client.at("up", 0)
