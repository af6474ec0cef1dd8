"""The workload half as a process against an API server: what users' Deployments and Pods come to."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request

import pytest

from canary.cluster.gateway import Gateway
from canary.cluster.kinds import CRD, DEPLOYMENT, DESTINATIONRULE, POD, REPLICASET, SERVICE, VIRTUALSERVICE
from canary.sandbox.load import Tally, probe
from canary.sandbox.process import Child, free_port

needs_kubectl = pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not on PATH")


def until(condition, what, seconds=15.0):
    """What `condition()` returned once it was true."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"no {what} within {seconds} s"
        time.sleep(0.02)
    return found


def is_alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


class Cluster:
    """A namespace with the workload processes running; what tests ask of it."""

    def __init__(self, kubeconfig, namespace, tmp_path):
        self.kubeconfig, self.namespace, self.tmp_path = kubeconfig, namespace, tmp_path
        self.gateway = Gateway.connect(str(kubeconfig))
        self.children = []

    def run(self, *flags):
        argv = [sys.executable, "-m", "canary.sandbox.workloads", "--kubeconfig", self.kubeconfig]
        argv += ["--namespace", self.namespace, "--logs", self.tmp_path / "pods", *flags]
        child = Child("workloads", argv, log=self.tmp_path / f"workloads-{len(self.children)}.log").start()
        self.children.append(child)
        child.wait_ready(lambda: "workloads: ready" in child.log_tail())
        return child

    def close(self):
        for child in self.children:
            child.stop(10)
        self.gateway.close()

    def deploy(self, name="payment-v1", replicas=2, image="payment:v1", **env):
        labels = {"app": "payment", "version": name.rpartition("-")[2]}
        container = {
            "name": "app",
            "image": image,
            "ports": [{"containerPort": 8080}],
            "env": [{"name": key, "value": value} for key, value in env.items()],
        }
        spec = {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
        }
        body = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": spec}
        return self.gateway.create(DEPLOYMENT, self.namespace, body)

    def change(self, body, name="payment-v1"):
        return self.gateway.patch(DEPLOYMENT, self.namespace, name, body, patch_type="merge")

    def set_image(self, image, **env):
        container = {"name": "app", "image": image, "ports": [{"containerPort": 8080}]}
        container["env"] = [{"name": key, "value": value} for key, value in env.items()]
        return self.change({"spec": {"template": {"spec": {"containers": [container]}}}})

    def pods(self):
        """Those that are not being deleted: with a kubelet a Pod is there until its process has ended."""
        return [pod for pod in self.gateway.list(POD, self.namespace)[0] if "deletionTimestamp" not in pod["metadata"]]

    def replicasets(self):
        return self.gateway.list(REPLICASET, self.namespace)[0]

    def status(self, name="payment-v1"):
        return self.gateway.get(DEPLOYMENT, self.namespace, name).get("status", {})

    def is_rolled_out(self, name="payment-v1"):
        """Kubectl's own rule (rollout_status.go)."""
        deployment = self.gateway.get(DEPLOYMENT, self.namespace, name)
        wanted, status = deployment["spec"]["replicas"], deployment.get("status", {})
        counts = {status.get(field) for field in ("replicas", "updatedReplicas", "availableReplicas")}
        return status.get("observedGeneration", 0) >= deployment["metadata"]["generation"] and counts == {wanted}

    def rolled_out(self, name="payment-v1"):
        until(lambda: self.is_rolled_out(name), f"rollout of {name}")
        return self.pods()


def url(pod):
    port = pod["spec"]["containers"][0]["ports"][0]["containerPort"]
    port = (pod["metadata"].get("annotations") or {}).get("sandbox.canary.delivery/port", port)
    return f"http://{pod['status']['podIP']}:{port}/"


def control(pod, **changes):
    body = json.dumps(changes).encode() if changes else None
    with urllib.request.urlopen(url(pod) + "__control", data=body, timeout=5) as answer:
        return json.load(answer)


def is_ready(pod):
    return any(c["type"] == "Ready" and c["status"] == "True" for c in pod.get("status", {}).get("conditions", ()))


def container(pod):
    return (pod.get("status", {}).get("containerStatuses") or [{}])[0]


@pytest.fixture
def cluster(kubeconfig, namespace, tmp_path):
    cluster = Cluster(kubeconfig, namespace, tmp_path)
    yield cluster
    cluster.close()


def test_a_deployment_becomes_processes_that_answer_with_its_version(cluster):
    cluster.run()
    cluster.deploy("payment-v2", replicas=3)

    pods = cluster.rolled_out("payment-v2")

    assert [probe(url(pod)).version for pod in pods] == ["v2"] * 3
    assert len({url(pod) for pod in pods}) == 3
    (replicaset,) = cluster.replicasets()
    digest = replicaset["metadata"]["labels"]["pod-template-hash"]
    assert replicaset["metadata"]["name"] == f"payment-v2-{digest}"
    assert all(pod["metadata"]["labels"]["pod-template-hash"] == digest for pod in pods)
    annotations = cluster.gateway.get(DEPLOYMENT, cluster.namespace, "payment-v2")["metadata"]["annotations"]
    assert annotations["deployment.kubernetes.io/revision"] == "1"


def test_a_deployments_pods_are_on_the_node_it_selects_and_else_on_the_sandboxs_own(cluster):
    cluster.run()
    cluster.deploy("payment-v1", replicas=1)
    cluster.deploy("payment-v2", replicas=0)
    node = {"nodeSelector": {"kubernetes.io/hostname": "sandbox-b"}}
    cluster.change({"spec": {"replicas": 2, "template": {"spec": node}}}, "payment-v2")
    cluster.rolled_out("payment-v1")
    pods = cluster.rolled_out("payment-v2")

    nodes = {(pod["metadata"]["labels"]["version"], pod["spec"]["nodeName"]) for pod in pods}
    assert nodes == {("v1", "sandbox"), ("v2", "sandbox-b")}
    assert all(probe(url(pod)).status == 200 for pod in pods)


def test_a_template_that_comes_back_reuses_its_replicaset_under_a_new_number(cluster):
    cluster.run()
    cluster.deploy(image="payment:v1")
    first = {pod["metadata"]["labels"]["pod-template-hash"] for pod in cluster.rolled_out()}
    cluster.set_image("payment:v2")
    second = {pod["metadata"]["labels"]["pod-template-hash"] for pod in cluster.rolled_out()}
    assert first != second

    cluster.set_image("payment:v1")
    third = {pod["metadata"]["labels"]["pod-template-hash"] for pod in cluster.rolled_out()}

    assert third == first
    revisions = {
        rs["metadata"]["labels"]["pod-template-hash"]: rs["metadata"]["annotations"][
            "deployment.kubernetes.io/revision"
        ]
        for rs in cluster.replicasets()
    }
    assert revisions == {first.pop(): "3", second.pop(): "2"}


def test_a_rolling_update_always_has_a_pod_that_answers_and_no_more_than_it_may(cluster):
    cluster.run("--drain", "0.3")
    cluster.deploy(replicas=4, START_DELAY="100ms")
    cluster.rolled_out()

    cluster.set_image("payment:v2", START_DELAY="100ms")
    seen = []
    until(lambda: seen.append(cluster.pods()) or cluster.is_rolled_out(), "rollout")

    assert max(len(pods) for pods in seen) <= 5  # maxSurge 25 %
    assert min(sum(map(is_ready, pods)) for pods in seen) >= 3  # maxUnavailable 25 %


def test_a_deleted_pod_serves_on_until_the_mesh_has_let_go_of_it(cluster):
    cluster.run("--drain", "1")
    cluster.deploy(replicas=1)
    (pod,) = cluster.rolled_out()
    pid = control(pod)["pid"]

    cluster.gateway.delete(POD, cluster.namespace, pod["metadata"]["name"])
    deleted, served_for = time.monotonic(), 0.0
    while (answer := probe(url(pod))).status == 200:
        served_for = time.monotonic() - deleted
        assert served_for < 10, "it was never stopped"
        time.sleep(0.01)

    assert served_for >= 0.9
    assert answer.status == 0
    until(lambda: not is_alive(pid), "end of the process")
    (replacement,) = cluster.rolled_out()
    assert replacement["metadata"]["uid"] != pod["metadata"]["uid"]


def test_a_crashed_process_is_unready_at_once_and_started_again(cluster):
    cluster.run()
    cluster.deploy(replicas=1)
    (pod,) = cluster.rolled_out()

    os.kill(control(pod)["pid"], signal.SIGKILL)

    until(lambda: not is_ready(cluster.pods()[0]), "unready pod", 3)
    (pod,) = until(lambda: [p for p in cluster.pods() if is_ready(p)], "ready pod")
    assert container(pod)["restartCount"] == 1
    assert container(pod)["lastState"]["terminated"]["exitCode"] == 137
    assert probe(url(pod)).status == 200


def test_an_env_that_cannot_be_is_said_in_the_pods_status(cluster):
    cluster.run()
    cluster.deploy(replicas=1, ERROR_RATE="often")

    def crashing():
        states = [(pod, container(pod).get("state", {})) for pod in cluster.pods()]
        return [pod for pod, state in states if state.get("waiting", {}).get("reason") == "CrashLoopBackOff"]

    (pod,) = until(crashing, "crash loop")
    terminated = container(pod)["lastState"]["terminated"]
    assert terminated["exitCode"] == 2
    assert "error_rate: 'often' must be a share such as 5%" in terminated["message"]


@needs_kubectl
def test_kubectl_sees_a_rollout_that_works_and_one_that_exceeds_its_deadline(cluster):
    def rollout_status(name):
        argv = ["kubectl", "--kubeconfig", cluster.kubeconfig, "-n", cluster.namespace]
        argv += ["rollout", "status", f"deployment/{name}", "--timeout=20s"]
        return subprocess.run(argv, capture_output=True, text=True, check=False)

    cluster.run()
    cluster.deploy("payment-v1")
    works = rollout_status("payment-v1")
    assert (works.returncode, "successfully rolled out" in works.stdout) == (0, True)

    cluster.deploy("payment-v2", replicas=1, READY="false")
    cluster.change({"spec": {"progressDeadlineSeconds": 1}}, "payment-v2")
    stuck = rollout_status("payment-v2")
    assert stuck.returncode == 1
    assert "exceeded its progress deadline" in stuck.stderr


@needs_kubectl
def test_kubectl_rollout_undo_brings_the_previous_template_back(cluster):
    cluster.run()
    cluster.deploy(image="payment:v1")
    cluster.rolled_out()
    cluster.set_image("payment:v2")
    cluster.rolled_out()

    argv = ["kubectl", "--kubeconfig", cluster.kubeconfig, "-n", cluster.namespace, "rollout", "undo"]
    subprocess.run([*argv, "deployment/payment-v1"], check=True, capture_output=True)

    pods = until(lambda: cluster.is_rolled_out() and cluster.pods(), "rollout")
    assert {pod["spec"]["containers"][0]["image"] for pod in pods} == {"payment:v1"}


def test_scales_that_chase_each_other_end_in_exactly_the_last_one(cluster):
    cluster.run("--no-pods")
    cluster.deploy(replicas=1)
    for replicas in (6, 0, 5, 2, 7, 3):
        cluster.change({"spec": {"replicas": replicas}})

    until(lambda: cluster.status().get("replicas") == 3, "three replicas")
    assert len(cluster.pods()) == 3
    assert cluster.status()["unavailableReplicas"] == 3  # nobody runs their processes


def test_a_controller_killed_while_it_creates_goes_on_without_a_duplicate(cluster):
    first = cluster.run("--no-pods")
    cluster.deploy(replicas=8)
    until(cluster.pods, "first pod")
    first.kill()

    cluster.run("--no-pods")
    until(lambda: cluster.status().get("replicas") == 8, "eight replicas")

    assert len(cluster.pods()) == 8


def test_paused_nothing_rolls_but_it_still_scales(cluster):
    cluster.run()
    cluster.deploy(replicas=1)
    cluster.rolled_out()
    cluster.change({"spec": {"paused": True}})
    cluster.set_image("payment:v2")
    cluster.change({"spec": {"replicas": 2}})

    until(lambda: cluster.status().get("availableReplicas") == 2, "second pod")
    assert {pod["spec"]["containers"][0]["image"] for pod in cluster.pods()} == {"payment:v1"}

    cluster.change({"spec": {"paused": False}})
    pods = cluster.rolled_out()
    assert {pod["spec"]["containers"][0]["image"] for pod in pods} == {"payment:v2"}


def test_a_deleted_deployment_leaves_no_process_behind(cluster):
    cluster.run("--drain", "0.1")
    cluster.deploy()
    pids = [control(pod)["pid"] for pod in cluster.rolled_out()]

    cluster.gateway.delete(DEPLOYMENT, cluster.namespace, "payment-v1")

    until(lambda: not any(map(is_alive, pids)), "end of the processes")
    assert cluster.pods() == []


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel ends orphans on Linux only")
def test_a_killed_runner_leaves_no_process_behind_and_the_next_one_takes_over(cluster):
    runner = cluster.run()
    cluster.deploy()
    pids = [control(pod)["pid"] for pod in cluster.rolled_out()]

    os.kill(runner.pid, signal.SIGKILL)
    until(lambda: not any(map(is_alive, pids)), "end of the orphans")

    cluster.run()
    until(lambda: all(container(p).get("restartCount") == 1 and is_ready(p) for p in cluster.pods()), "new processes")
    assert [probe(url(pod)).status for pod in cluster.pods()] == [200, 200]


def test_a_runner_that_is_told_to_end_takes_its_processes_along(cluster):
    runner = cluster.run()
    cluster.deploy()
    pids = [control(pod)["pid"] for pod in cluster.rolled_out()]

    begin = time.monotonic()
    runner.stop(10)

    assert runner.exit_code == 0
    assert time.monotonic() - begin < 5
    assert not any(map(is_alive, pids))
    assert not any(map(is_ready, cluster.pods()))


def test_beside_the_real_controllers_only_pods_are_run_and_only_those_of_no_node(cluster):
    cluster.run("--no-deployments")
    cluster.deploy()
    spec = {"containers": [{"name": "app", "image": "any", "ports": [{"containerPort": 8080}]}]}
    body = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "ours"}, "spec": spec}
    cluster.gateway.create(POD, cluster.namespace, body)
    elsewhere = body | {"metadata": {"name": "elsewhere"}, "spec": spec | {"nodeName": "worker-1"}}
    cluster.gateway.create(POD, cluster.namespace, elsewhere)

    ours = until(lambda: [p for p in cluster.pods() if is_ready(p)], "ready pod")

    assert [pod["metadata"]["name"] for pod in ours] == ["ours"]
    assert cluster.replicasets() == []


def test_a_backend_told_to_be_unready_takes_its_pod_out_and_back_in(cluster):
    cluster.run()
    cluster.deploy(replicas=1)
    (pod,) = cluster.rolled_out()

    control(pod, ready="false")
    until(lambda: not is_ready(cluster.pods()[0]), "unready pod")
    control(pod, ready="true")

    until(lambda: is_ready(cluster.pods()[0]), "ready pod")
    assert container(cluster.pods()[0])["restartCount"] == 0


@pytest.mark.slow
def test_without_the_api_server_processes_serve_on_and_are_restarted_and_it_hears_of_it_later(
    start_apiserver, tmp_path
):
    server = start_apiserver()
    cluster = Cluster(server.kubeconfig, "default", tmp_path)
    try:
        cluster.run()
        cluster.deploy(replicas=2)
        survivor, victim = cluster.rolled_out()
        server.process.send_signal(signal.SIGSTOP)

        os.kill(pid := control(victim)["pid"], signal.SIGKILL)
        until(lambda: probe(url(victim)).status == 200, "restarted process", 30)
        assert control(victim)["pid"] != pid
        assert probe(url(survivor)).status == 200

        server.process.send_signal(signal.SIGCONT)
        until(
            lambda: sorted(container(p)["restartCount"] for p in cluster.pods() if is_ready(p)) == [0, 1], "report", 30
        )
        assert len(cluster.pods()) == 2
    finally:
        server.process.send_signal(signal.SIGCONT)
        cluster.close()


def mesh_objects(gateway, namespace):
    """A Service of all versions, a subset for v1 and a route to it; first the kinds these need."""
    for kind in (VIRTUALSERVICE, DESTINATIONRULE):
        schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
        names = {"plural": kind.plural, "singular": kind.kind.lower(), "kind": kind.kind}
        versions = [{"name": kind.version, "served": True, "storage": True, "schema": schema}]
        spec = {"group": kind.group, "names": names, "scope": "Namespaced", "versions": versions}
        body = {"apiVersion": CRD.api_version, "kind": CRD.kind, "metadata": {"name": kind.resource}, "spec": spec}
        gateway.create(CRD, None, body)
    route = {"route": [{"destination": {"host": "payment", "subset": "v1"}, "weight": 100}], "timeout": "2s"}
    for kind, spec in (
        (SERVICE, {"selector": {"app": "payment"}, "ports": [{"port": 80, "targetPort": 8080}]}),
        (DESTINATIONRULE, {"host": "payment", "subsets": [{"name": "v1", "labels": {"version": "v1"}}]}),
        (VIRTUALSERVICE, {"hosts": ["payment"], "http": [route]}),
    ):
        body = {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": {"name": "payment"}, "spec": spec}
        gateway.create(kind, namespace, body)


@pytest.mark.slow
def test_a_rolling_update_under_load_through_envoy_loses_no_request(start_apiserver, tmp_path):
    cluster = Cluster(start_apiserver().kubeconfig, "default", tmp_path)
    try:
        mesh_objects(cluster.gateway, "default")
        cluster.run()
        cluster.deploy(replicas=3, LATENCY_MEDIAN="20ms")
        cluster.rolled_out()
        port, admin = free_port(), free_port()
        argv = [sys.executable, "-m", "canary.sandbox.envoy", "--kubeconfig", cluster.kubeconfig]
        argv += ["--dir", tmp_path / "mesh", "--listen", f"127.0.0.1:{port}", "--admin", f"127.0.0.1:{admin}"]
        mesh = Child("mesh", argv, log=tmp_path / "mesh.log").start()
        cluster.children.insert(0, mesh)
        mesh.wait_ready(f"http://127.0.0.1:{admin}/ready", timeout_s=30)
        host, out = "payment.default.svc.cluster.local", tmp_path / "load.txt"
        until(lambda: probe(f"http://127.0.0.1:{port}/", host).status == 200, "first answer")
        argv = [sys.executable, "-m", "canary.sandbox.load", "--url", f"http://127.0.0.1:{port}/", "--host", host]
        load = Child("load", [*argv, "--rate", "300", "--duration", "60", "--out", out], log=tmp_path / "load.log")
        cluster.children.insert(0, load.start())
        tally = Tally.follow(out)
        until(lambda: tally.refresh() is not None and tally.requests > 100, "load")

        for image in ("payment:v1.1", "payment:v1.2"):
            before = {pod["metadata"]["uid"] for pod in cluster.pods()}
            cluster.set_image(image, LATENCY_MEDIAN="20ms")
            assert before.isdisjoint(pod["metadata"]["uid"] for pod in cluster.rolled_out())
        cluster.change({"spec": {"replicas": 1}})
        (pod,) = cluster.rolled_out()
        old = tally.requests
        until(lambda: tally.refresh() is not None and tally.requests > old + 900, "three more seconds of load")
        load.stop()

        tally.refresh()
        assert control(pod)["requests"] > 0
        assert tally.ending["sent"] == tally.requests
        assert (tally.lost, tally.lost_examples, tally.errors) == (0, [], 0)
    finally:
        cluster.close()
