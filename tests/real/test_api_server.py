"""What the tests rely on: the API server is a real one, and its accounts, tokens, audit and outages are Kubernetes'."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from canary.cluster.gateway import Gateway
from canary.cluster.kinds import CANARYROLLOUT, CONFIGMAP, DEPLOYMENT, NAMESPACE, POD, VIRTUALSERVICE, Kind
from canary.errors import Forbidden, Invalid, SandboxError
from canary.sandbox.realapi.server import Options, RealApiServer

SERVICEACCOUNT = Kind("", "v1", "serviceaccounts", "ServiceAccount")


def test_the_version_is_kubernetes_own(real: RealApiServer) -> None:
    said = json.loads(real.kubectl("version", "-o", "json"))
    assert said["serverVersion"]["gitVersion"].startswith("v1.")
    assert said["serverVersion"]["gitVersion"] == said["clientVersion"]["gitVersion"]


def test_a_service_account_may_do_nothing_until_a_role_is_bound_to_it(
    real: RealApiServer, admin: Gateway, space: str, tmp_path: Path
) -> None:
    admin.create(SERVICEACCOUNT, space, {"metadata": {"name": "nobody"}})
    kubeconfig = real.kubeconfig_for(real.token(space, "nobody"), tmp_path / "kubeconfig")
    gateway = Gateway.connect(str(kubeconfig))
    with pytest.raises(Forbidden, match="configmaps"):
        gateway.list(CONFIGMAP, space)
    real.kubectl(
        "create", "rolebinding", "reads", "--clusterrole=view", f"--serviceaccount={space}:nobody", "-n", space
    )
    real.wait_allowed(kubeconfig, "list", "configmaps", space)
    assert gateway.list(CONFIGMAP, space)[0] == []
    with pytest.raises(Forbidden, match="configmaps"):
        gateway.list(CONFIGMAP, "default")
    gateway.close()


def test_a_token_names_the_pod_it_is_bound_to_and_ends_with_it(
    real: RealApiServer, admin: Gateway, space: str, tmp_path: Path
) -> None:
    admin.create(SERVICEACCOUNT, space, {"metadata": {"name": "canary"}})
    spec = {"serviceAccountName": "canary", "containers": [{"name": "canary", "image": "canary"}]}
    uid = admin.create(POD, space, {"metadata": {"name": "canary-0"}, "spec": spec})["metadata"]["uid"]
    token = real.token(space, "canary", pod=("canary-0", uid))
    kubeconfig = real.kubeconfig_for(token, tmp_path / "kubeconfig")
    who = json.loads(real.kubectl("auth", "whoami", "-o", "json", kubeconfig=kubeconfig))["status"]["userInfo"]
    assert who["username"] == f"system:serviceaccount:{space}:canary"
    assert who["extra"]["authentication.kubernetes.io/pod-name"] == ["canary-0"]
    admin.delete(POD, space, "canary-0", grace_seconds=0)
    with pytest.raises(SandboxError, match="not found"):
        real.token(space, "canary", pod=("canary-0", uid))


def test_istio_s_own_schema_is_what_a_route_is_checked_by(admin: Gateway, space: str) -> None:
    route = {"apiVersion": VIRTUALSERVICE.api_version, "kind": "VirtualService", "metadata": {"name": "a"}}
    refused = {**route, "spec": {"hosts": ["a"], "http": [{"route": [{"destination": {}, "weight": 100}]}]}}
    with pytest.raises(Invalid, match="host"):
        admin.create(VIRTUALSERVICE, space, refused)


def test_a_rollout_without_its_required_fields_is_refused(admin: Gateway, space: str) -> None:
    rollout = {"apiVersion": CANARYROLLOUT.api_version, "kind": "CanaryRollout", "metadata": {"name": "a"}, "spec": {}}
    with pytest.raises(Invalid, match="Required value"):
        admin.create(CANARYROLLOUT, space, rollout)


@pytest.mark.slow
def test_an_outage_keeps_the_objects_and_audit_tells_who_wrote_them(tmp_path: Path) -> None:
    policy = tmp_path / "policy.yaml"
    rules = [{"level": "Metadata", "verbs": ["create"], "omitStages": ["RequestReceived"]}]
    policy.write_text(json.dumps({"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "rules": rules}))
    with RealApiServer(tmp_path / "cluster", Options(audit_policy=policy)) as server:
        gateway = Gateway.connect(str(server.kubeconfig), field_manager="a-test")
        made = gateway.create(CONFIGMAP, "default", {"metadata": {"name": "kept"}})
        server.stop()
        assert not server.is_running
        server.start()
        assert gateway.get(CONFIGMAP, "default", "kept")["metadata"]["uid"] == made["metadata"]["uid"]
        gateway.close()
        server.kill()
        server.start()
        events = [json.loads(line) for line in server.audit_log.read_text().splitlines()]
    written = [event for event in events if (event.get("objectRef") or {}).get("name") == "kept"]
    assert [(event["user"]["username"], event["userAgent"]) for event in written] == [("canary-admin", "a-test")]


@pytest.mark.slow
def test_with_controllers_a_deployment_has_pods_and_a_namespace_goes_with_its_contents(tmp_path: Path) -> None:
    with RealApiServer(tmp_path / "cluster", Options(controllers=True)) as server:
        gateway = Gateway.connect(str(server.kubeconfig))
        labels = {"app": "a"}
        template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "a", "image": "a"}]}}
        spec = {"replicas": 2, "selector": {"matchLabels": labels}, "template": template}
        gateway.create(DEPLOYMENT, "default", {"metadata": {"name": "a"}, "spec": spec})
        server.kubectl("wait", "--for=jsonpath={.status.unavailableReplicas}=2", "deployment/a", "--timeout=30s")
        pods, _ = gateway.list(POD, "default")
        assert [pod["spec"]["serviceAccountName"] for pod in pods] == ["default", "default"]
        gateway.create(NAMESPACE, None, {"metadata": {"name": "doomed"}})
        gateway.create(CONFIGMAP, "doomed", {"metadata": {"name": "plain"}})
        server.kubectl("delete", "namespace", "doomed", "--timeout=60s")
        assert gateway.list(CONFIGMAP, "doomed")[0] == []
        gateway.close()
