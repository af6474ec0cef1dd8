"""The account that the sandbox on a real cluster gives its controller: the shipped one, and nothing is missing."""

from __future__ import annotations

from contextlib import closing, suppress
from pathlib import Path

from canary.cluster.access import own_name
from canary.cluster.gateway import Gateway
from canary.cluster.kinds import NAMESPACE, Kind
from canary.daemon.questions import Questions
from canary.errors import Conflict, Forbidden
from canary.sandbox.realapi.account import controller_account
from canary.sandbox.realapi.server import RealApiServer
from tests.shop import until

SECRET = Kind("", "v1", "secrets", "Secret")


def test_the_sandboxs_controller_has_the_shipped_rights_and_no_others(
    real: RealApiServer, admin: Gateway, space: str, tmp_path: Path
) -> None:
    with suppress(Conflict):
        admin.create(NAMESPACE, None, {"metadata": {"name": "canary-system"}})

    kubeconfig = controller_account(real, [space], tmp_path / "kubeconfig")

    with closing(Gateway.connect(str(kubeconfig))) as gateway:
        assert own_name(gateway) == "system:serviceaccount:canary-system:canary"
        questions = Questions(gateway, None, "canary-system", lambda: 0.0)
        until(lambda: not questions.of_controller(()), what="for the roles to count")
        until(lambda: not questions.of_namespace(space).missing, what="for the binding to count")
        assert not questions.of_namespace("default").is_bound
        for namespace in (None, "canary-system", space):
            assert not is_secret_readable(gateway, namespace)


def is_secret_readable(gateway: Gateway, namespace: str | None) -> bool:
    try:
        gateway.list(SECRET, namespace)
    except Forbidden:
        return False
    return True
