"""What a Pod asks of its process, and what is said of it."""

import socket
import sys
import threading
from datetime import UTC, datetime, timedelta

import pytest

from canary.sandbox.workloads.addresses import Addresses, Endpoint
from canary.sandbox.workloads.nodes import is_ours, node_of
from canary.sandbox.workloads.podprocess import PodProcess, Surroundings
from canary.sandbox.workloads.podstatus import (
    Ended,
    Process,
    environment_of,
    pod_status,
    port_of,
    version_of,
)
from canary.sandbox.workloads.replicasets import deletion_order, is_active, replicaset_status

NOW = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)


def pod(name="payment-abc-x1", *, ready=None, created="2026-01-01T00:00:00Z", phase="Running", **metadata):
    conditions = [{"type": "Ready", "status": "True", "lastTransitionTime": ready}] if ready else []
    app = {
        "name": "app",
        "image": "payment:v1",
        "ports": [{"containerPort": 9000}],
        "env": [{"name": "ERROR_RATE", "value": "5%"}, {"name": "PATH", "value": "/bin"}],
    }
    return {
        "metadata": {"name": name, "uid": name, "labels": {"version": "v1"}, "creationTimestamp": created, **metadata},
        "spec": {"containers": [{"name": "istio-proxy"}, app]},
        "status": {"phase": phase, "conditions": conditions},
    }


def test_the_application_container_describes_the_process_and_not_the_proxy():
    assert port_of(pod()) == 9000
    assert version_of(pod()) == "v1"
    environment = environment_of(pod())
    assert environment["ERROR_RATE"] == "5%"
    assert environment["LATENCY_MEDIAN"] == ""  # said, so that the runner's own environment does not shine through
    assert "PATH" not in environment


def test_a_pod_without_port_or_label_still_has_both():
    bare = {"metadata": {"name": "bare"}, "spec": {"containers": [{"name": "app"}]}}

    assert (port_of(bare), version_of(bare)) == (8080, "bare")


def test_a_pod_is_pending_then_running_then_ready_and_keeps_its_times():
    starting = Process(Endpoint("127.9.0.1", 9000), NOW)
    status = pod_status(pod(phase="Pending"), starting, NOW)
    assert status["phase"] == "Pending"
    assert status["containerStatuses"][1]["state"] == {"waiting": {"reason": "ContainerCreating"}}

    running = Process(starting.endpoint, NOW, running_since=NOW, is_ready=True)
    status = pod_status(pod() | {"status": status}, running, NOW + timedelta(seconds=1))
    assert (status["phase"], status["podIP"]) == ("Running", "127.9.0.1")
    times = {c["type"]: (c["status"], c["lastTransitionTime"]) for c in status["conditions"]}
    assert times["Ready"] == times["ContainersReady"] == ("True", "2026-01-01T12:00:01Z")
    assert times["Initialized"] == ("True", "2026-01-01T12:00:00Z")

    later = pod_status(pod() | {"status": status}, running, NOW + timedelta(hours=1))
    assert later == status


def test_a_crashed_process_says_its_exit_code_and_last_words():
    ended = Ended(-9, NOW, NOW, "cannot listen")
    crashed = Process(
        Endpoint("127.9.0.1", 9000), NOW, restarts=2, ended=ended, waits={"reason": "CrashLoopBackOff", "message": ""}
    )

    container = pod_status(pod(), crashed, NOW)["containerStatuses"][1]

    assert (container["restartCount"], container["ready"]) == (2, False)
    assert container["state"]["waiting"]["reason"] == "CrashLoopBackOff"
    assert container["lastState"]["terminated"]["exitCode"] == 137
    assert container["lastState"]["terminated"]["message"] == "cannot listen"


def test_only_pods_that_may_serve_count():
    assert is_active(pod())
    assert not is_active(pod(phase="Failed"))
    assert not is_active(pod(deletionTimestamp="2026-01-01T00:00:00Z"))


def test_a_scale_down_takes_the_unready_first_and_then_the_youngest():
    old = pod("old", ready="2026-01-01T00:00:00Z", created="2026-01-01T00:00:00Z")
    young = pod("young", ready="2026-01-01T00:00:09Z", created="2026-01-01T00:00:09Z")
    unready = pod("unready", created="2026-01-01T00:00:01Z")

    assert [p["metadata"]["name"] for p in deletion_order([old, young, unready])] == ["unready", "young", "old"]


def test_a_pod_is_available_once_it_was_ready_long_enough():
    replicaset = {"metadata": {"generation": 2}, "spec": {"minReadySeconds": 10}}
    pods = [pod("a", ready="2026-01-01T11:59:00Z"), pod("b", ready="2026-01-01T11:59:55Z"), pod("c")]

    status = replicaset_status(replicaset, pods, NOW)

    assert (status["replicas"], status["readyReplicas"], status["availableReplicas"]) == (3, 2, 1)


def test_without_addresses_of_their_own_pods_get_free_ports():
    taken = {Addresses(own_addresses=False).take(8080) for _ in range(3)}

    assert all(endpoint.address == "127.0.0.1" and endpoint.port != 8080 for endpoint in taken)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has all of 127.0.0.0/8")
def test_every_pod_has_an_address_of_its_own_and_busy_ones_are_passed_over():
    addresses = Addresses()
    first = addresses.take(8123)
    base, _, last = first.address.rpartition(".")
    with socket.socket() as somebody:
        somebody.bind((f"{base}.{int(last) + 1}", 8123))
        somebody.listen()
        second = addresses.take(8123)

    assert first.port == second.port == 8123
    assert second.address == f"{base}.{int(last) + 2}"


@pytest.mark.parametrize(
    ("spec", "node"),
    [
        ({}, "sandbox"),
        ({"nodeSelector": {"kubernetes.io/hostname": "sandbox-b"}}, "sandbox-b"),
        ({"nodeSelector": {"kubernetes.io/hostname": "worker-1", "disk": "ssd"}}, "sandbox"),
        ({"nodeSelector": None}, "sandbox"),
        ({"nodeName": "worker-1"}, "worker-1"),
    ],
)
def test_a_pod_is_on_the_node_it_asks_for_if_the_sandbox_has_it(spec, node):
    assert node_of(spec) == node
    assert is_ours(node) is (node != "worker-1")


class ApiThatWaitsForAKubelet:
    """Holds a deleted Pod until it is told that the process has ended, as a real one does for a Pod on a node."""

    def __init__(self):
        self.is_ready, self.taken_away = threading.Event(), []

    def patch(self, *what, **_):
        body = what[-1]
        if body.get("status", {}).get("containerStatuses", [{}])[-1].get("ready"):
            self.is_ready.set()

    def delete(self, *what, **options):
        self.taken_away.append((*what[1:], options))


@pytest.mark.parametrize("is_deleted", [True, False])
def test_a_deleted_pod_is_taken_away_when_its_process_has_ended_and_one_of_an_ending_runner_is_not(
    is_deleted, tmp_path
):
    api = ApiThatWaitsForAKubelet()
    ended = []
    process = PodProcess(pod(namespace="default"), Surroundings(api, Addresses(), tmp_path, drain_s=0.0), ended.append)
    process.start()
    assert api.is_ready.wait(10)

    process.end(drain=is_deleted)
    process.join()

    assert ended == ["payment-abc-x1"]
    taken = ("default", "payment-abc-x1", {"uid": "payment-abc-x1", "grace_seconds": 0})
    assert api.taken_away == ([taken] if is_deleted else [])
