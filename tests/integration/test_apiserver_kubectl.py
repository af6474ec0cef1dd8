"""The embedded API server through kubectl, as a user of the sandbox types it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from kubernetes import client

KUBECTL = shutil.which("kubectl")
pytestmark = pytest.mark.skipif(KUBECTL is None, reason="NO KUBECTL ON PATH: nothing here says that kubectl works")

MANIFEST = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, labels: {app: web}}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
        - {name: web, image: "web:1", ports: [{containerPort: 80}], env: [{name: A, value: "1"}]}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{port: 80}]}
"""
DEFINITION = """
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: gadgets.example.com}
spec:
  group: example.com
  scope: Namespaced
  names: {kind: Gadget, plural: gadgets, shortNames: [gd], categories: [toys]}
  versions:
    - name: v1
      served: true
      storage: true
      subresources: {status: {}}
      schema:
        openAPIV3Schema:
          type: object
          properties:
            spec:
              type: object
              properties: {size: {type: integer, description: How big it is.}}
            status: {type: object, x-kubernetes-preserve-unknown-fields: true}
      additionalPrinterColumns:
        - {name: Size, type: integer, jsonPath: .spec.size}
        - {name: Ready, type: string, jsonPath: '.status.conditions[?(@.type=="Ready")].status'}
        - {name: Message, type: string, jsonPath: .status.message, priority: 1}
        - {name: Age, type: date, jsonPath: .metadata.creationTimestamp}
"""

Run = subprocess.CompletedProcess[str]
Kubectl = Callable[..., Run]


@pytest.fixture
def command(kubeconfig: Path, namespace: str, tmp_path: Path) -> tuple[list[str], dict[str, str]]:
    """The start of every kubectl command line, and its environment."""
    environment = {**os.environ, "KUBECONFIG": str(kubeconfig), "HOME": str(tmp_path)}
    return [str(KUBECTL), "--namespace", namespace, "--cache-dir", str(tmp_path / "cache")], environment


@pytest.fixture
def kubectl(command: tuple[list[str], dict[str, str]]) -> Kubectl:
    """Run kubectl in the test's namespace; fails the test unless it ends as expected."""
    start, environment = command

    def run(*words: str, stdin: str = "", code: int = 0) -> Run:
        ended = subprocess.run(
            [*start, *words], input=stdin, env=environment, capture_output=True, text=True, timeout=30, check=False
        )
        assert ended.returncode == code, ended.stdout + ended.stderr
        return ended

    return run


@pytest.fixture
def web(kubectl: Kubectl) -> None:
    """The manifest, applied."""
    kubectl("apply", "-f", "-", stdin=MANIFEST)


def table(run: Run) -> list[list[str]]:
    return [line.split() for line in run.stdout.splitlines()]


def observe(api: client.ApiClient, namespace: str) -> None:
    """Report the Deployment as rolled out, as its controller would."""
    replicas = dict.fromkeys(("replicas", "readyReplicas", "updatedReplicas", "availableReplicas"), 2)
    condition = {"type": "Available", "status": "True", "reason": "Tested", "message": ""}
    status = {**replicas, "observedGeneration": 1, "conditions": [condition]}
    client.AppsV1Api(api).patch_namespaced_deployment_status("web", namespace, {"status": status})


def test_apply_creates_then_says_unchanged_then_configured(kubectl: Kubectl) -> None:
    first = kubectl("apply", "-f", "-", stdin=MANIFEST)
    second = kubectl("apply", "-f", "-", stdin=MANIFEST)
    third = kubectl("apply", "-f", "-", stdin=MANIFEST.replace("web:1", "web:2").replace("name: A", "name: B"))

    assert first.stdout.splitlines() == ["deployment.apps/web created", "service/web created"]
    assert second.stdout.splitlines() == ["deployment.apps/web unchanged", "service/web unchanged"]
    assert third.stdout.splitlines() == ["deployment.apps/web configured", "service/web unchanged"]
    container = yaml.safe_load(kubectl("get", "deploy", "web", "-o", "yaml").stdout)["spec"]["template"]["spec"]
    assert [item["name"] for item in container["containers"][0]["env"]] == ["B"]


def test_server_side_apply_takes_over_from_client_side_apply(kubectl: Kubectl, web: None) -> None:
    changed = MANIFEST.replace("web:1", "web:2")

    kubectl("set", "image", "deployment/web", "web=web:3", "--field-manager=somebody")
    refused = kubectl("apply", "--server-side", "-f", "-", stdin=changed, code=1)
    kubectl("set", "image", "deployment/web", "web=web:1", "--field-manager=somebody")
    # what is as `kubectl apply` wrote it is kubectl's to change, whoever wrote it last
    kubectl("apply", "--server-side", "-f", "-", stdin=changed)

    told = 'conflict with "somebody" using apps/v1: .spec.template.spec.containers[name="web"].image'
    assert told in refused.stderr
    obj = yaml.safe_load(kubectl("get", "deploy", "web", "-o", "yaml", "--show-managed-fields").stdout)
    managers = {(entry["manager"], entry["operation"]) for entry in obj["metadata"]["managedFields"]}
    assert ("kubectl", "Apply") in managers
    assert ("kubectl-client-side-apply", "Update") not in managers


def test_get_prints_the_columns_everybody_knows(kubectl: Kubectl, web: None) -> None:
    assert table(kubectl("get", "deployments"))[0] == ["NAME", "READY", "UP-TO-DATE", "AVAILABLE", "AGE"]
    assert table(kubectl("get", "deploy", "web", "--no-headers"))[0][:4] == ["web", "0/2", "0", "0"]
    wide = table(kubectl("get", "deploy", "-o", "wide"))
    assert wide[0][5:] == ["CONTAINERS", "IMAGES", "SELECTOR"]
    assert wide[1][5:] == ["web", "web:1", "app=web"]
    assert table(kubectl("get", "svc"))[0] == ["NAME", "TYPE", "CLUSTER-IP", "EXTERNAL-IP", "PORT(S)", "AGE"]
    assert {row[0] for row in table(kubectl("get", "all")) if row} >= {"deployment.apps/web", "service/web"}


def test_annotate_and_label_change_metadata(kubectl: Kubectl, web: None) -> None:
    kubectl("annotate", "deployment", "web", "canary.delivery/policy=careful")
    kubectl("label", "deployment", "web", "tier=front")

    metadata = yaml.safe_load(kubectl("get", "deploy", "web", "-o", "yaml").stdout)["metadata"]
    assert metadata["annotations"]["canary.delivery/policy"] == "careful"
    assert metadata["labels"] == {"app": "web", "tier": "front"}
    assert metadata["generation"] == 2  # a Deployment's annotations count, labels do not


@pytest.mark.parametrize(
    ("kind", "patch"),
    [
        ("strategic", '{"spec": {"template": {"spec": {"containers": [{"name": "web", "image": "web:2"}]}}}}'),
        ("merge", '{"spec": {"template": {"spec": {"containers": [{"name": "web", "image": "web:2"}]}}}}'),
        ("json", '[{"op": "replace", "path": "/spec/template/spec/containers/0/image", "value": "web:2"}]'),
    ],
)
def test_every_patch_type_patches(kubectl: Kubectl, web: None, kind: str, patch: str) -> None:
    kubectl("patch", "deployment", "web", "--type", kind, "-p", patch)

    image = kubectl("get", "deploy", "web", "-o", "jsonpath={.spec.template.spec.containers[*].image}")
    assert image.stdout == "web:2"


def test_describe_shows_the_object_and_its_events(
    kubectl: Kubectl, web: None, api: client.ApiClient, namespace: str
) -> None:
    uid = kubectl("get", "deploy", "web", "-o", "jsonpath={.metadata.uid}").stdout
    about = {"kind": "Deployment", "name": "web", "namespace": namespace, "uid": uid, "apiVersion": "apps/v1"}
    event = {"metadata": {"name": "web.1"}, "involvedObject": about, "reason": "StepReached", "type": "Normal"}
    body = {**event, "message": "10 % of the traffic", "source": {"component": "canary"}, "count": 3}
    client.CoreV1Api(api).create_namespaced_event(namespace, body)

    described = kubectl("describe", "deployment", "web").stdout
    events = table(kubectl("get", "events"))

    assert re.search(r"Replicas:\s+2 desired", described)
    assert re.search(r"Normal\s+StepReached\s.*canary\s+10 % of the traffic", described)
    assert events[0] == ["LAST", "SEEN", "TYPE", "REASON", "OBJECT", "MESSAGE"]
    assert events[1][1:4] == ["Normal", "StepReached", "deployment/web"]


def test_scale_and_rollout_status(kubectl: Kubectl, web: None, api: client.ApiClient, namespace: str) -> None:
    observe(api, namespace)

    done = kubectl("rollout", "status", "deployment/web", "--timeout", "5s")
    kubectl("scale", "deployment", "web", "--replicas", "5")

    assert "successfully rolled out" in done.stdout
    assert kubectl("get", "deploy", "web", "-o", "jsonpath={.spec.replicas}").stdout == "5"


def test_wait_sees_a_condition_and_a_field_come(
    kubectl: Kubectl, web: None, api: client.ApiClient, namespace: str
) -> None:
    threading.Timer(0.3, observe, (api, namespace)).start()

    kubectl("wait", "--for=condition=Available", "deployment/web", "--timeout=10s")
    kubectl("wait", "--for=jsonpath={.status.readyReplicas}=2", "deployment/web", "--timeout=10s")

    kubectl("wait", "--for=condition=Progressing", "deployment/web", "--timeout=1s", code=1)


def test_get_watch_prints_a_row_for_each_change(
    kubectl: Kubectl, web: None, command: tuple[list[str], dict[str, str]], api: client.ApiClient, namespace: str
) -> None:
    start, environment = command
    words = [*start, "get", "deployments", "-w"]
    with subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, text=True) as watching:
        assert watching.stdout
        killer = threading.Timer(20, watching.kill)
        killer.start()
        seen = [watching.stdout.readline() for _ in range(2)]
        observe(api, namespace)
        seen.append(watching.stdout.readline())
        kubectl("scale", "deployment", "web", "--replicas", "4")
        seen.append(watching.stdout.readline())
        killer.cancel()
        watching.terminate()

    assert seen[0].split()[0] == "NAME"
    assert [line.split()[1] for line in seen[1:]] == ["0/2", "2/2", "2/4"]


def test_delete_waits_until_it_is_gone(kubectl: Kubectl, web: None) -> None:
    kubectl("delete", "deployment,service", "web", "--timeout", "5s")

    gone = kubectl("get", "deploy", "web", code=1)
    assert gone.stderr.strip() == 'Error from server (NotFound): deployments.apps "web" not found'


def test_create_sends_protobuf_and_is_understood(kubectl: Kubectl) -> None:
    kubectl("create", "configmap", "settings", "--from-literal", "mode=fast")
    kubectl("create", "secret", "generic", "key", "--from-literal", "token=abc")
    kubectl("create", "deployment", "app", "--image", "app:1", "--replicas", "2", "--port", "80", "--", "serve", "-v")
    kubectl("create", "service", "clusterip", "app", "--tcp", "80:8080")

    assert kubectl("get", "cm", "settings", "-o", "jsonpath={.data.mode}").stdout == "fast"
    assert kubectl("get", "secret", "key", "-o", "jsonpath={.data.token}").stdout == "YWJj"
    deployment = yaml.safe_load(kubectl("get", "deploy", "app", "-o", "yaml").stdout)
    container = deployment["spec"]["template"]["spec"]["containers"][0]
    assert deployment["spec"]["replicas"] == 2
    assert (container["image"], container["command"]) == ("app:1", ["serve", "-v"])
    assert container["ports"] == [{"containerPort": 80, "protocol": "TCP"}]
    assert kubectl("get", "svc", "app", "-o", "jsonpath={.spec.ports[0].targetPort}").stdout == "8080"


def test_replace_as_edit_does_it_refuses_a_stale_file(kubectl: Kubectl, web: None) -> None:
    seen = kubectl("get", "deploy", "web", "-o", "yaml").stdout

    kubectl("replace", "-f", "-", stdin=seen.replace("replicas: 2", "replicas: 3"))
    stale = kubectl("replace", "-f", "-", stdin=seen.replace("replicas: 2", "replicas: 4"), code=1)

    assert "the object has been modified" in stale.stderr


def test_custom_resources_have_their_own_columns_names_and_checks(kubectl: Kubectl) -> None:
    kubectl("apply", "-f", "-", stdin=DEFINITION)
    kubectl("wait", "--for=condition=Established", "crd/gadgets.example.com", "--timeout=5s")
    gadget = "apiVersion: example.com/v1\nkind: Gadget\nmetadata: {name: g}\nspec: {size: 3}\n"
    kubectl("apply", "-f", "-", stdin=gadget)
    status = '{"status": {"message": "hello", "conditions": [{"type": "Ready", "status": "True"}]}}'
    kubectl("patch", "gadget", "g", "--subresource", "status", "--type", "merge", "-p", status)

    rows = table(kubectl("get", "gd"))
    wide = table(kubectl("get", "toys", "-o", "wide"))
    typo = kubectl("apply", "-f", "-", stdin=gadget.replace("size", "sise"), code=1)
    warned = kubectl("apply", "--validate=warn", "-f", "-", stdin=gadget.replace("size: 3", "size: 3, sise: 4"))
    wrong = kubectl("apply", "-f", "-", stdin=gadget.replace("3", "big"), code=1)
    explained = kubectl("explain", "gadget.spec.size").stdout
    kubectl("delete", "crd", "gadgets.example.com", "--timeout", "5s")

    assert rows[0] == ["NAME", "SIZE", "READY", "AGE"]
    assert rows[1][:3] == ["g", "3", "True"]
    assert wide[0] == ["NAME", "SIZE", "READY", "MESSAGE", "AGE"]
    assert 'unknown field "spec.sise"' in typo.stderr
    assert 'Warning: unknown field "spec.sise"' in warned.stderr
    assert "spec.size: Invalid value" in wrong.stderr
    assert "How big it is." in explained
    assert "integer" in explained


def test_api_resources_and_rights_are_told(kubectl: Kubectl) -> None:
    listed = {row[-1]: row for row in table(kubectl("api-resources"))}

    assert listed["Deployment"] == ["deployments", "deploy", "apps/v1", "true", "Deployment"]
    assert listed["Namespace"][3] == "false"
    assert kubectl("auth", "can-i", "delete", "pods").stdout.strip() == "yes"
