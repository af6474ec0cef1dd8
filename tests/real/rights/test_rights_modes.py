"""A controller of one namespace only, with Roles and nothing of the cluster; and one inside a pod."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from canary.cluster import connection
from canary.cluster.gateway import Gateway
from canary.cluster.kinds import CANARYROLLOUT, LEASE, POD
from canary.errors import Forbidden
from canary.model.rollout import Phase
from canary.sandbox.realapi.server import RealApiServer
from tests.real.rights.controller import Controller
from tests.real.rights.roles import (
    NAMESPACED,
    Grant,
    Installation,
)
from tests.real.rights.shops import shops
from tests.shop import Shop, until

pytestmark = pytest.mark.slow

ATTEMPT = "payment-v2-v2a-1"


@pytest.fixture
def new_shop(admin: Gateway) -> Iterator[Callable[..., Shop]]:
    with shops(admin) as make:
        yield make


def test_a_controller_of_one_namespace_needs_no_right_in_the_cluster(
    install: Callable[..., Installation], control: Callable[..., Controller], new_shop: Callable[..., Shop]
) -> None:
    installation = install(files=NAMESPACED)
    shop = new_shop(installation.own)
    controller = control(installation, namespace=installation.own)
    controller.ready()
    shop.release("v2", "headed")
    shop.reaches(ATTEMPT, Phase.SUCCEEDED)
    assert controller.page("/readyz") == (200, "ok\n")

    taken = Grant("canary", "virtualservices.networking.istio.io", "patch")
    installation.take(taken)
    said = controller.says(f"may not patch {taken.resource} in namespace {installation.own}", status=503)
    assert f"Role canary in namespace {installation.own} needs the rule" in said
    shop.release("v3")
    assert "may not patch virtualservices" in shop.event("payment-v3", "RightsMissing")
    installation.give_back(taken)
    shop.reaches("payment-v3-v3a-1", Phase.SUCCEEDED, seconds=60)
    controller.end()


@pytest.fixture
def pod(
    real: RealApiServer,
    admin: Gateway,
    install: Callable[..., Installation],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[[str], str]:
    """The process is in a pod, as far as it can see; `pod(name)` is the kubelet's exchange of its token by one that
    is bound to a pod of this name. Returns the token."""
    installation = install(files=NAMESPACED)
    address = urlsplit(real.url)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", str(address.hostname))
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(address.port))
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.setattr(connection, "SERVICE_ACCOUNT", tmp_path)

    def mount(name: str) -> str:
        spec = {"serviceAccountName": "canary", "containers": [{"name": "canary", "image": "canary"}]}
        made = admin.create(POD, installation.own, {"metadata": {"name": name}, "spec": spec})
        token = real.token(installation.own, "canary", pod=(name, made["metadata"]["uid"]))
        folder = tmp_path / f"..{name}"
        folder.mkdir()
        (folder / "token").write_text(token)
        (folder / "namespace").write_text(installation.own)
        (folder / "ca.crt").write_bytes(real.ca_file.read_bytes())
        (tmp_path / "..new").symlink_to(folder)
        (tmp_path / "..new").replace(tmp_path / "..data")
        for file in ("token", "namespace", "ca.crt"):
            if not (tmp_path / file).exists():
                (tmp_path / file).symlink_to(Path("..data") / file)
        return token

    return mount


def test_in_a_pod_a_release_goes_on_with_the_next_token_when_the_first_is_void(  # noqa: PLR0917  fixtures, given by name
    real: RealApiServer,
    admin: Gateway,
    pod: Callable[[str], str],
    control: Callable[..., Controller],
    new_shop: Callable[..., Shop],
    tmp_path: Path,
) -> None:
    first = pod("canary-first")
    own = connection.default_namespace()
    shop = new_shop(own)
    controller = control(None, namespace=own, own=own)
    controller.ready()
    shop.release("v2", "slow")
    until(lambda: shop.weights() == {"v1": 50, "v2": 50}, what="for the first weight")

    pod("canary-next")
    admin.delete(POD, own, "canary-first", grace_seconds=0)
    old = Gateway.connect(str(real.kubeconfig_for(first, tmp_path / "old")))
    until(lambda: is_refused(old, own), 60, "for the first token to be void")
    controller.cut_watches()

    shop.patch(CANARYROLLOUT, ATTEMPT, {"spec": {"promote": {"full": True, "reason": "good", "actor": "me"}}})
    shop.reaches(ATTEMPT, Phase.SUCCEEDED)
    assert controller.page("/readyz") == (200, "ok\n")
    controller.end()
    old.close()


def is_refused(gateway: Gateway, namespace: str) -> bool:
    try:
        gateway.list(LEASE, namespace)
    except Forbidden as error:
        return error.status == 401
    return False
