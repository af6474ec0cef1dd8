"""The gateway against scripted answers: what each status means, and what exactly is sent."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import certifi
import pytest
from kubernetes.client import ApiClient, Configuration
from urllib3 import HTTPResponse
from urllib3.exceptions import MaxRetryError, NewConnectionError, ProtocolError, ReadTimeoutError

from canary.cluster import connection
from canary.cluster.connection import api_client, default_namespace
from canary.cluster.gateway import Gateway
from canary.cluster.kinds import CANARYROLLOUT, CRD, DEPLOYMENT, NAMESPACE, POD, VIRTUALSERVICE, Kind
from canary.cluster.patience import patiently
from canary.errors import (
    Ambiguous,
    ClusterError,
    Conflict,
    Expired,
    Forbidden,
    InputError,
    Invalid,
    NotFound,
    NotOurs,
    PreconditionLost,
    Unavailable,
)


class ScriptedPool:
    """In the place of urllib3's pool: hands out the next answer, or raises it, and keeps what was asked."""

    def __init__(self, *answers: tuple[int, Any] | tuple[int, Any, dict[str, str]] | Exception) -> None:
        self.answers = list(answers)
        self.asked: list[dict[str, Any]] = []

    def request(self, method: str, url: str, **arguments: Any) -> HTTPResponse:
        self.asked.append({"method": method, "url": url, **arguments})
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        status, body, *headers = answer
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        return HTTPResponse(BytesIO(raw), status=status, headers=headers[0] if headers else {}, preload_content=False)

    @property
    def query(self) -> dict[str, list[str]]:
        return parse_qs(urlsplit(self.asked[-1]["url"]).query)


def gateway_of(pool: ScriptedPool, **options: Any) -> Gateway:
    client = ApiClient(Configuration(host="https://cluster.example"))
    client.rest_client.pool_manager = pool  # type: ignore[assignment]
    return Gateway(client, **options)


def status(code: int, message: str = "no", **details: Any) -> dict[str, Any]:
    return {"kind": "Status", "code": code, "message": message, "details": details}


def patch_route(gateway: Gateway) -> object:
    return gateway.patch(VIRTUALSERVICE, "shop", "payment", [{"op": "test"}], patch_type="json")


def _at(second: int) -> str:
    """A moment as HTTP writes it."""
    return f"Sat, 21 Nov 2026 19:00:{second:02d} GMT"


READS: tuple[tuple[int, type[ClusterError]], ...] = (
    (302, Unavailable),
    (400, Invalid),
    (401, Forbidden),
    (403, Forbidden),
    (404, NotFound),
    (405, Invalid),
    (409, Conflict),
    (410, Expired),
    (429, Unavailable),
    (500, Unavailable),
    (502, Unavailable),
    (503, Unavailable),
    (504, Unavailable),
)


@pytest.mark.parametrize(("code", "error"), READS)
def test_each_status_of_a_read_is_one_error_whose_sentence_says_what_was_tried(
    code: int, error: type[ClusterError]
) -> None:
    gateway = gateway_of(ScriptedPool((code, status(code, "the server's own words"))))

    with pytest.raises(ClusterError) as caught:
        gateway.get(DEPLOYMENT, "shop", "payment-v2")

    assert type(caught.value) is error
    assert caught.value.status == code
    assert str(caught.value) == f"cannot get deployments.apps shop/payment-v2: the server's own words (HTTP {code})"


def test_a_lost_json_patch_test_is_told_from_a_schema_violation_by_its_causes() -> None:
    causes = [{"field": "spec.weight", "message": "must be positive"}]
    gateway = gateway_of(ScriptedPool((422, status(422)), (422, status(422, "invalid", causes=causes))))

    with pytest.raises(PreconditionLost):
        patch_route(gateway)
    with pytest.raises(Invalid):
        patch_route(gateway)


def test_a_request_too_large_is_permanent_though_the_server_says_500() -> None:
    gateway = gateway_of(ScriptedPool((500, status(500, "etcdserver: request is too large"))))

    with pytest.raises(Invalid):
        patch_route(gateway)


@pytest.mark.parametrize("code", [502, 504])
def test_a_gateway_timeout_of_a_write_may_have_happened(code: int) -> None:
    gateway = gateway_of(ScriptedPool((code, b"<html>upstream timed out</html>")))

    with pytest.raises(Ambiguous, match="upstream timed out"):
        patch_route(gateway)


@pytest.mark.parametrize(
    ("answer", "seconds"),
    [
        ((429, status(429), {"Retry-After": "7"}), 7.0),
        ((503, status(503, retryAfterSeconds=3)), 3.0),
        ((503, status(503), {"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"}), None),
        ((503, status(503), {"Retry-After": "-1"}), None),
        ((503, b"not json", {"Retry-After": "nan"}), None),
        ((429, {}, {"Retry-After": "86400"}), 60.0),
        ((429, {}, {"Retry-After": _at(12), "Date": _at(5)}), 7.0),
        ((429, {}, {"Retry-After": _at(5), "Date": _at(12)}), 0.0),
        ((429, {}, {"Retry-After": _at(12)}), None),
        ((429, {}, {"Retry-After": "soon", "Date": _at(5)}), None),
    ],
)
def test_the_wait_a_busy_server_asks_for_is_handed_on(answer: Any, seconds: float | None) -> None:
    gateway = gateway_of(ScriptedPool(answer))

    with pytest.raises(Unavailable) as caught:
        gateway.get(POD, "shop", "p")

    assert caught.value.retry_after == seconds


def lost(reason: Exception) -> MaxRetryError:
    return MaxRetryError(None, "/", reason)  # type: ignore[arg-type]


NO_ANSWER: tuple[tuple[Exception, type[ClusterError]], ...] = (
    (lost(NewConnectionError(None, "Connection refused")), Unavailable),  # type: ignore[arg-type]
    (lost(ReadTimeoutError(None, "/", "Read timed out.")), Ambiguous),  # type: ignore[arg-type]
    (lost(ProtocolError("Connection aborted.")), Ambiguous),
)


@pytest.mark.parametrize(("cause", "of_write"), NO_ANSWER)
def test_no_answer_to_a_write_is_ambiguous_unless_it_was_never_sent(
    cause: Exception, of_write: type[ClusterError]
) -> None:
    gateway = gateway_of(ScriptedPool(cause, cause))

    with pytest.raises(ClusterError) as of_the_write:
        patch_route(gateway)
    with pytest.raises(ClusterError) as of_the_read:
        gateway.get(POD, "shop", "p")

    assert type(of_the_write.value) is of_write
    assert type(of_the_read.value) is Unavailable
    assert of_the_write.value.status == 0


@pytest.mark.parametrize("body", [b'{"metadata": {"na', b"", b"[]", b"<html>login</html>"])
def test_an_answer_that_is_no_object_is_no_answer(body: bytes) -> None:
    gateway = gateway_of(ScriptedPool((200, body), (200, body)))

    with pytest.raises(Unavailable):
        gateway.get(POD, "shop", "p")
    with pytest.raises(Ambiguous):
        patch_route(gateway)


@pytest.mark.parametrize(
    ("patch_type", "content_type"),
    [
        ("json", "application/json-patch+json"),
        ("merge", "application/merge-patch+json"),
        ("apply", "application/apply-patch+yaml"),
    ],
)
def test_a_patch_names_its_type_its_manager_and_how_long_the_server_may_take(
    patch_type: Any, content_type: str
) -> None:
    pool = ScriptedPool((200, {}))

    gateway_of(pool, field_manager="canary-test").patch(
        CANARYROLLOUT, "shop", "a b/c", {"x": 1}, patch_type=patch_type, subresource="status", force=True
    )

    asked = pool.asked[0]
    assert asked["method"] == "PATCH"
    assert (
        urlsplit(asked["url"]).path == "/apis/canary.delivery/v1alpha1/namespaces/shop/canaryrollouts/a%20b%2Fc/status"
    )
    assert asked["headers"]["Content-Type"] == content_type
    assert asked["body"] == b'{"x":1}'
    assert asked["timeout"].total == 2.5
    assert pool.query["timeout"] == ["2000ms"]
    assert pool.query["fieldManager"] == ["canary-test"]
    assert pool.query.get("force") == (["true"] if patch_type == "apply" else None)


def test_every_write_asks_first_and_a_refused_one_sends_nothing() -> None:
    pool = ScriptedPool()
    asked: list[str | None] = []

    def not_mine(namespace: str | None) -> None:
        asked.append(namespace)
        raise NotOurs("another replica has this namespace")

    gateway = gateway_of(pool, may_write=not_mine)
    writes: tuple[Callable[[], object], ...] = (
        lambda: gateway.create(POD, "shop", {"metadata": {"name": "p"}}),
        lambda: gateway.replace(POD, "shop", "p", {}),
        lambda: gateway.delete(POD, "shop", "p"),
        lambda: patch_route(gateway),
        lambda: gateway.create(NAMESPACE, None, {}),
    )

    for write in writes:
        with pytest.raises(NotOurs):
            write()

    assert asked == ["shop", "shop", "shop", "shop", None]
    assert pool.asked == []


def test_deleting_this_very_object_is_pinned_by_uid() -> None:
    pool = ScriptedPool((200, status(200)))

    gateway_of(pool).delete(POD, "shop", "p", uid="u-1", propagation="Foreground")

    body = json.loads(pool.asked[0]["body"])
    assert body["preconditions"] == {"uid": "u-1"}
    assert body["propagationPolicy"] == "Foreground"


def test_each_request_is_counted_with_its_verb_and_status_and_zero_without_an_answer() -> None:
    counted: list[tuple[str, str, int]] = []
    gateway = gateway_of(
        ScriptedPool((200, {}), (404, status(404)), lost(ProtocolError("gone"))),
        on_request=lambda verb, plural, code, _seconds: counted.append((verb, plural, code)),
    )

    gateway.get(POD, "shop", "a")
    with pytest.raises(NotFound):
        gateway.delete(POD, "shop", "b")
    with pytest.raises(Ambiguous):
        gateway.replace(POD, "shop", "c", {})

    assert counted == [("get", "pods", 200), ("delete", "pods", 404), ("update", "pods", 0)]


def page(*names: str, token: str = "", version: str = "7") -> dict[str, Any]:
    return {
        "metadata": {"resourceVersion": version, "continue": token},
        "items": [{"metadata": {"name": name}} for name in names],
    }


def test_a_list_follows_the_pages_and_says_what_its_items_are() -> None:
    pool = ScriptedPool((200, page("a", "b", token="t1")), (200, page("c")))

    items, version = gateway_of(pool).list(DEPLOYMENT, "shop", label_selector="app=x", page=2)

    assert [item["metadata"]["name"] for item in items] == ["a", "b", "c"]
    assert {(item["apiVersion"], item["kind"]) for item in items} == {("apps/v1", "Deployment")}
    assert version == "7"
    assert pool.query == {"limit": ["2"], "continue": ["t1"], "labelSelector": ["app=x"]}


def test_a_list_whose_token_expires_between_pages_begins_again_and_shows_nothing_twice() -> None:
    gone = (410, status(410, "The provided continue parameter is too old"))
    pool = ScriptedPool((200, page("old", token="t1")), gone, (200, page("new", version="9")))

    items, version = gateway_of(pool).list(POD)

    assert [item["metadata"]["name"] for item in items] == ["new"]
    assert version == "9"


def test_a_server_that_always_expires_ends_in_an_error_not_in_a_loop() -> None:
    pool = ScriptedPool(*[(410, status(410))] * 10)

    with pytest.raises(Expired):
        gateway_of(pool).list(POD)

    assert len(pool.asked) == 4


def test_something_that_is_no_list_is_said_to_be_none() -> None:
    with pytest.raises(Unavailable, match="in all namespaces: the answer is not a list"):
        gateway_of(ScriptedPool((200, {"items": None}))).list(POD)


def test_patience_waits_at_least_as_long_as_asked_and_gives_up_before_its_time_is_over() -> None:
    busy = (503, status(503), {"Retry-After": "4"})
    gateway = gateway_of(ScriptedPool(busy, busy, (200, {"ok": True})))
    slept: list[float] = []

    answer = patiently(lambda: gateway.get(POD, "shop", "p"), within_seconds=30, sleep=slept.append)

    assert answer == {"ok": True}
    assert len(slept) == 2
    assert min(slept) >= 4

    with pytest.raises(Unavailable):
        patiently(
            lambda: gateway_of(ScriptedPool((503, status(503), {"Retry-After": "60"}))).get(POD, "shop", "p"),
            within_seconds=30,
            sleep=slept.append,
        )
    assert len(slept) == 2


def test_patience_does_not_repeat_what_is_final() -> None:
    pool = ScriptedPool((403, status(403)))

    with pytest.raises(Forbidden):
        patiently(lambda: gateway_of(pool).get(POD, "shop", "p"), sleep=lambda _: pytest.fail("slept"))


@pytest.mark.parametrize(
    ("kind", "arguments", "path"),
    [
        (POD, (), "/api/v1/pods"),
        (POD, ("shop",), "/api/v1/namespaces/shop/pods"),
        (DEPLOYMENT, ("shop", "x"), "/apis/apps/v1/namespaces/shop/deployments/x"),
        (NAMESPACE, (None, "shop"), "/api/v1/namespaces/shop"),
        (CRD, ("ignored", "x"), "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/x"),
        (POD, ("../..", "a?b", "status"), "/api/v1/namespaces/..%2F../pods/a%3Fb/status"),
    ],
)
def test_paths_are_those_of_the_api_and_no_name_escapes_its_place(
    kind: Kind, arguments: tuple[str | None, ...], path: str
) -> None:
    assert kind.path(*arguments) == path


def test_an_object_without_its_namespace_is_a_mistake_not_a_request() -> None:
    with pytest.raises(ValueError, match="needs a namespace"):
        POD.path(None, "p")


KUBECONFIG: Mapping[str, Any] = {
    "apiVersion": "v1",
    "kind": "Config",
    "current-context": "one",
    "clusters": [{"name": "c", "cluster": {"server": "https://127.0.0.1:6443"}}],
    "users": [{"name": "u", "user": {"token": "secret"}}],
    "contexts": [
        {"name": "one", "context": {"cluster": "c", "user": "u", "namespace": "shop"}},
        {"name": "two", "context": {"cluster": "c", "user": "u"}},
    ],
}


def test_a_kubeconfig_gives_server_credentials_and_namespace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "config"
    file.write_text(json.dumps(KUBECONFIG))
    monkeypatch.setenv("KUBECONFIG", str(file))

    for gateway in (Gateway.connect(str(file)), Gateway.connect()):
        assert gateway.server == "https://127.0.0.1:6443"
        gateway.close()
    assert default_namespace() == "shop"
    assert default_namespace(str(file), "two") == "default"


@pytest.mark.parametrize(
    ("content", "context"),
    [
        ("", None),
        ("just a sentence", None),
        ("- a\n- list", None),
        ("a: [unclosed", None),
        ("\x00\x01", None),
        (json.dumps({**KUBECONFIG, "current-context": "nowhere"}), None),
        (json.dumps({**KUBECONFIG, "clusters": "none"}), None),
        (json.dumps({**KUBECONFIG, "contexts": None}), None),
        (json.dumps(KUBECONFIG), "nowhere"),
    ],
)
def test_a_broken_kubeconfig_is_one_sentence_naming_the_file(tmp_path: Path, content: str, context: str | None) -> None:
    file = tmp_path / "config"
    file.write_text(content)

    with pytest.raises(InputError) as caught:
        Gateway.connect(str(file), context)

    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_kubeconfig_says_what_to_pass(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist: pass --kubeconfig, or set KUBECONFIG"):
        Gateway.connect(str(tmp_path / "nowhere"))


def test_a_review_is_no_write_and_gives_its_status() -> None:
    def nobody(_namespace: str | None) -> None:
        raise NotOurs("not the holder")

    kind = Kind("authorization.k8s.io", "v1", "reviews", "Review", namespaced=False)
    pool = ScriptedPool((201, {"status": {"allowed": True}}), ReadTimeoutError(None, "", "late"), (201, {}))  # type: ignore[arg-type]
    gateway = gateway_of(pool, may_write=nobody)

    assert gateway.review(kind, {"verb": "get"}) == {"allowed": True}
    sent = json.loads(pool.asked[0]["body"])
    assert sent == {"apiVersion": "authorization.k8s.io/v1", "kind": "Review", "spec": {"verb": "get"}}
    for why in ("late", "no status"):
        with pytest.raises(Unavailable, match=why):
            gateway.review(kind, {})


def test_a_pods_token_is_read_anew_for_each_request(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "ca.crt").write_bytes(Path(certifi.where()).read_bytes())
    (tmp_path / "namespace").write_text("canary-system")
    token = tmp_path / "token"
    token.write_text("first\n")
    monkeypatch.setattr(connection, "SERVICE_ACCOUNT", tmp_path)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    monkeypatch.delenv("KUBECONFIG", raising=False)
    client = api_client()
    pool = ScriptedPool(*[(200, {"metadata": {}})] * 2)
    client.rest_client.pool_manager = pool  # type: ignore[assignment]
    gateway = Gateway(client)

    gateway.get(DEPLOYMENT, "shop", "payment")
    token.write_text("second")
    gateway.get(DEPLOYMENT, "shop", "payment")
    sent = [asked["headers"]["authorization"] for asked in pool.asked]
    assert (gateway.server, default_namespace(), sent) == (
        "https://10.0.0.1:443", "canary-system", ["Bearer first", "Bearer second"]
    )  # fmt: skip

    token.write_text("")
    with pytest.raises(Unavailable, match=r"credentials could not be renewed: .*token is empty"):
        gateway.get(DEPLOYMENT, "shop", "payment")
