"""The cluster layer against a whole API server: what we send is what it takes, what it sends is what we read."""

from __future__ import annotations

import json
import random
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from canary.cluster.events import EventRecorder, reference_to
from canary.cluster.gateway import Gateway
from canary.cluster.kinds import CANARYROLLOUT, CONFIGMAP, CRD, DEPLOYMENT, EVENT, LEASE, SERVICE
from canary.cluster.leases import MEMBERS, controller_is_alive
from canary.cluster.projections import project_whole
from canary.cluster.reflector import Change, Reflector
from canary.cluster.replica import Replica
from canary.cluster.slots import SLOTS
from canary.cluster.status import StatusWriter
from canary.errors import Conflict, Expired, Forbidden, Invalid, NotFound, NotOurs

CRD_FILE = Path(__file__).parents[2] / "deploy" / "crd.yaml"


@pytest.fixture
def gateway(kubeconfig: Path) -> Iterator[Gateway]:
    connected = Gateway.connect(str(kubeconfig), field_manager="canary-test")
    yield connected
    connected.close()


def config_map(name: str, **data: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def until(holds: Callable[[], bool], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


def test_an_object_is_created_read_changed_in_three_ways_replaced_and_deleted(gateway: Gateway, namespace: str) -> None:
    created = gateway.create(CONFIGMAP, namespace, config_map("a", x="1", y="2"))
    pin = {"op": "replace", "path": "/metadata/resourceVersion", "value": created["metadata"]["resourceVersion"]}
    by_json = gateway.patch(
        CONFIGMAP, namespace, "a", [pin, {"op": "replace", "path": "/data/x", "value": "3"}], patch_type="json"
    )
    by_merge = gateway.patch(CONFIGMAP, namespace, "a", {"data": {"y": None, "z": "4"}}, patch_type="merge")
    applied = gateway.patch(CONFIGMAP, namespace, "a", config_map("a", own="5"), patch_type="apply")

    assert by_json["data"] == {"x": "3", "y": "2"}
    assert by_merge["data"] == {"x": "3", "z": "4"}
    assert applied["data"] == {"x": "3", "z": "4", "own": "5"}
    assert "canary-test" in {entry["manager"] for entry in applied["metadata"]["managedFields"]}

    replaced = gateway.replace(CONFIGMAP, namespace, "a", {**applied, "data": {"only": "6"}})
    assert gateway.get(CONFIGMAP, namespace, "a")["data"] == {"only": "6"}

    gateway.delete(CONFIGMAP, namespace, "a", uid=replaced["metadata"]["uid"])
    with pytest.raises(NotFound, match=f"cannot get configmaps {namespace}/a"):
        gateway.get(CONFIGMAP, namespace, "a")


def test_a_write_on_something_stale_is_a_conflict_in_each_way_to_write(gateway: Gateway, namespace: str) -> None:
    old = gateway.create(CONFIGMAP, namespace, config_map("a", x="1"))
    gateway.patch(CONFIGMAP, namespace, "a", {"data": {"x": "2"}}, patch_type="merge")
    version = old["metadata"]["resourceVersion"]
    writes: tuple[Callable[[], object], ...] = (
        lambda: gateway.create(CONFIGMAP, namespace, config_map("a")),
        lambda: gateway.replace(CONFIGMAP, namespace, "a", old),
        lambda: gateway.patch(
            CONFIGMAP,
            namespace,
            "a",
            [{"op": "replace", "path": "/metadata/resourceVersion", "value": version}],
            patch_type="json",
        ),
        lambda: gateway.patch(
            CONFIGMAP, namespace, "a", {"metadata": {"resourceVersion": version}, "data": {}}, patch_type="merge"
        ),
        lambda: gateway.delete(CONFIGMAP, namespace, "a", uid="another"),
    )

    for write in writes:
        with pytest.raises(Conflict):
            write()

    assert gateway.get(CONFIGMAP, namespace, "a")["data"] == {"x": "2"}


def test_what_changes_between_two_pages_of_a_list_is_told_by_the_watch_that_follows(
    gateway: Gateway, namespace: str
) -> None:
    for number in range(7):
        gateway.create(CONFIGMAP, namespace, config_map(f"m{number}", n=str(number)))

    pages = gateway.pages(CONFIGMAP, namespace, page=3)
    first, version = next(pages)
    gateway.patch(CONFIGMAP, namespace, "m0", {"data": {"n": "changed"}}, patch_type="merge")
    gateway.create(CONFIGMAP, namespace, config_map("m9"))
    rest = list(pages)

    assert [len(items) for items, _ in rest[:1]] == [len(first)] == [3]
    assert {at for _, at in rest} == {version}
    assert {item["kind"] for item in first} == {"ConfigMap"}
    with gateway.watch(CONFIGMAP, namespace, resource_version=version, timeout_seconds=30) as watch:
        events = iter(watch)
        told = [(kind, obj["metadata"]["name"]) for kind, obj in (next(events), next(events))]
    assert told == [("MODIFIED", "m0"), ("ADDED", "m9")]
    chosen, _ = gateway.list(CONFIGMAP, namespace, field_selector="metadata.name=m9")
    assert [item["metadata"]["name"] for item in chosen] == ["m9"]


def test_a_watch_tells_of_changes_and_ends_at_once_when_closed_from_elsewhere(gateway: Gateway, namespace: str) -> None:
    _, version = gateway.list(CONFIGMAP, namespace)
    heard: list[tuple[str, str]] = []
    opened = threading.Event()

    def listen() -> None:
        with gateway.watch(CONFIGMAP, namespace, resource_version=version, timeout_seconds=60) as watch:
            watches.append(watch)
            opened.set()
            heard.extend((kind, obj["metadata"]["name"]) for kind, obj in watch if kind != "BOOKMARK")

    watches: list[Any] = []
    listener = threading.Thread(target=listen)
    listener.start()
    assert opened.wait(10)
    gateway.create(CONFIGMAP, namespace, config_map("a"))
    gateway.patch(CONFIGMAP, namespace, "a", {"data": {"x": "1"}}, patch_type="merge")
    gateway.delete(CONFIGMAP, namespace, "a")
    until(lambda: len(heard) == 3)
    began = time.monotonic()
    watches[0].close()
    listener.join(5)

    assert not listener.is_alive()
    assert time.monotonic() - began < 1.0
    assert heard == [("ADDED", "a"), ("MODIFIED", "a"), ("DELETED", "a")]


def test_a_wrong_token_is_forbidden_and_says_which_verb_on_what(kubeconfig: Path, namespace: str) -> None:
    config = yaml.safe_load(kubeconfig.read_text())
    config["users"][0]["user"] = {"token": "wrong"}
    kubeconfig.write_text(yaml.safe_dump(config))
    stranger = Gateway.connect(str(kubeconfig))

    with pytest.raises(Forbidden, match=f"cannot list deployments.apps in {namespace}"):
        stranger.list(DEPLOYMENT, namespace)
    stranger.close()


def test_credentials_of_a_plugin_are_used_and_renewed_when_they_expire(
    kubeconfig: Path, namespace: str, tmp_path: Path
) -> None:
    config = yaml.safe_load(kubeconfig.read_text())
    credential, runs = tmp_path / "credential", tmp_path / "runs"

    def plugin_gives(expires: str) -> None:
        status = {"token": token, "expirationTimestamp": expires}
        kind = {"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential"}
        credential.write_text(json.dumps({**kind, "status": status}))

    token = config["users"][0]["user"]["token"]
    plugin = f"print(open({str(credential)!r}).read()); open({str(runs)!r}, 'a').write('x')"
    config["users"][0]["user"] = {
        "exec": {
            "apiVersion": "client.authentication.k8s.io/v1",
            "command": sys.executable,
            "args": ["-c", plugin],
            "interactiveMode": "Never",
        }
    }
    kubeconfig.write_text(yaml.safe_dump(config))

    plugin_gives("2000-01-01T00:00:00Z")
    plugged = Gateway.connect(str(kubeconfig))
    plugin_gives("2999-01-01T00:00:00Z")
    for _ in range(3):
        plugged.list(CONFIGMAP, namespace)
    plugged.close()

    assert runs.read_text() == "xx", "once at the start, once because it had expired, then no more"


def test_a_refused_schema_is_permanent(gateway: Gateway, namespace: str) -> None:
    with pytest.raises(Invalid):
        gateway.create(CONFIGMAP, namespace, config_map("Not A Name"))


def test_a_reflector_keeps_a_copy_and_tells_each_difference_once(gateway: Gateway, namespace: str) -> None:
    gateway.create(CONFIGMAP, namespace, config_map("before", x="1"))
    changes: list[Change[str]] = []
    reflector = Reflector(
        gateway, CONFIGMAP, namespace, project=lambda raw: json.dumps(raw.get("data", {})), on_change=changes.append
    )
    more: list[str] = []
    reflector.subscribe(lambda change: more.append(change.key[1]))
    reflector.start()
    try:
        assert reflector.wait_synced(10)
        assert reflector.get(namespace, "before") == '{"x": "1"}'

        gateway.create(CONFIGMAP, namespace, config_map("after", y="1"))
        gateway.patch(CONFIGMAP, namespace, "after", {"metadata": {"labels": {"same": "data"}}}, patch_type="merge")
        gateway.patch(CONFIGMAP, namespace, "after", {"data": {"y": "2"}}, patch_type="merge")
        gateway.delete(CONFIGMAP, namespace, "before")
        until(lambda: len(changes) == 4)
        assert reflector.staleness_seconds == 0
        assert not reflector.is_stuck
    finally:
        began = time.monotonic()
        assert reflector.stop()
    assert time.monotonic() - began < 1.0

    told = [(change.type, change.key[1], change.old, change.new) for change in changes]
    assert told == [
        ("added", "before", None, '{"x": "1"}'),
        ("added", "after", None, '{"y": "1"}'),
        ("modified", "after", '{"y": "1"}', '{"y": "2"}'),
        ("deleted", "before", '{"x": "1"}', None),
    ]
    assert more == ["before", "after", "after", "before"]
    assert reflector.items() == reflector.items(namespace) == ['{"y": "2"}']
    assert reflector.items("elsewhere") == []
    assert reflector.failures == 0
    with pytest.raises(RuntimeError, match="subscribe before start"):
        reflector.subscribe(changes.append)


def test_a_resource_version_too_old_is_expired(start_apiserver: Callable[..., Any]) -> None:
    gateway = Gateway.connect(str(start_apiserver("--history", "5").kubeconfig))
    _, version = gateway.list(CONFIGMAP, "default")
    for number in range(20):
        gateway.create(CONFIGMAP, "default", config_map(f"m{number}"))

    with (
        pytest.raises(Expired),
        gateway.watch(CONFIGMAP, "default", resource_version=version, timeout_seconds=5) as watch,
    ):
        next(iter(watch))
    gateway.close()


@pytest.fixture
def rollout(gateway: Gateway, namespace: str) -> dict[str, Any]:
    """A CanaryRollout in a cluster with our CRD."""
    for document in yaml.safe_load_all(CRD_FILE.read_text()):
        gateway.patch(CRD, None, document["metadata"]["name"], document, patch_type="apply", force=True)
    obj = {
        "apiVersion": CANARYROLLOUT.api_version,
        "kind": CANARYROLLOUT.kind,
        "metadata": {"name": "payment-v2-abc-1"},
        "spec": {"target": "payment-v2", "service": "payment", "policyName": "standard"},
    }
    created: list[dict[str, Any]] = []

    def served() -> bool:
        try:
            created.append(gateway.create(CANARYROLLOUT, namespace, obj))
        except NotFound:
            return False
        return True

    until(served)
    return project_whole(created[0])


def test_a_status_is_written_beside_the_spec_and_a_second_writer_is_told_of_the_first(
    gateway: Gateway, rollout: dict[str, Any]
) -> None:
    statuses = StatusWriter(gateway)
    condition = {"type": "Ready", "status": "False", "reason": "Progressing", "message": ""}

    first = statuses.write(rollout, {"phase": "Checking", "message": "looking", "conditions": [condition]})
    second = statuses.write(project_whole(first), {"phase": "Progressing", "conditions": [condition]})
    with pytest.raises(Conflict):
        statuses.write(rollout, {"phase": "Aborted"})

    stored = gateway.get(CANARYROLLOUT, rollout["metadata"]["namespace"], rollout["metadata"]["name"])
    assert stored["status"]["phase"] == "Progressing"
    assert "message" not in stored["status"]
    assert stored["status"]["conditions"] == first["status"]["conditions"]
    assert stored["spec"] == rollout["spec"]
    assert stored["metadata"]["generation"] == rollout["metadata"]["generation"]
    assert statuses.write(project_whole(second), second["status"]) == project_whole(second)


def test_events_are_found_as_describe_finds_them(gateway: Gateway, rollout: dict[str, Any]) -> None:
    namespace = rollout["metadata"]["namespace"]
    events = EventRecorder(gateway)
    events.start()
    for _ in range(3):
        events.record(reference_to(rollout), "Warning", "RolledBack", "5.1 % errors, limit 1 %")
    events.stop(10)

    found, _ = gateway.list(
        EVENT,
        namespace,
        field_selector=f"involvedObject.uid={rollout['metadata']['uid']},involvedObject.kind=CanaryRollout",
    )

    assert [(event["reason"], event["type"], event["count"]) for event in found] == [("RolledBack", "Warning", 3)]
    assert (events.sent, events.dropped, events.failed) == (3, 0, 0)


class Silent:
    """An owner that has nothing to read, to look at or to forget; it notes what it was told."""

    def __init__(self) -> None:
        self.gained_slots: set[int] = set()
        self.lost_slots: set[int] = set()

    def prepare(self, slots: Collection[int]) -> None:
        """Nobody wrote before."""

    def gained(self, slots: Collection[int]) -> None:
        self.gained_slots |= set(slots)

    def leaving(self, slots: Collection[int]) -> None:
        """Nothing is left to write."""

    def lost(self, slots: Collection[int]) -> None:
        self.lost_slots |= set(slots)


def test_a_replica_takes_all_slots_writes_and_leaves_them_to_the_next(
    gateway: Gateway, kubeconfig: Path, namespace: str
) -> None:
    first, second = Silent(), Silent()
    one, two = Replica(gateway, namespace, "one", first), Replica(gateway, namespace, "two", second)
    worker = Gateway.connect(str(kubeconfig))
    worker.may_write, worker.under_way = one.may_write, one.under_way
    with pytest.raises(NotOurs):
        worker.create(CONFIGMAP, namespace, config_map("a"))

    one.start()
    one.serve()
    until(lambda: len(one.owned) == SLOTS, 30)
    worker.create(CONFIGMAP, namespace, config_map("a"))
    members, _ = gateway.list(LEASE, namespace, label_selector=MEMBERS)
    assert [controller_is_alive(member, datetime.now(UTC)) for member in members] == [True]

    two.start()
    two.serve()
    one.drain()
    assert one.leave()
    with pytest.raises(NotOurs):
        worker.delete(CONFIGMAP, namespace, "a")
    worker.close()
    until(lambda: len(two.owned) == SLOTS, 30)
    assert two.leave()

    assert first.gained_slots == first.lost_slots == second.gained_slots == set(range(SLOTS))
    assert gateway.list(LEASE, namespace, label_selector=MEMBERS)[0] == []
    slots, _ = gateway.list(LEASE, namespace)
    assert {lease["spec"].get("holderIdentity") or "" for lease in slots} == {""}
    assert all(lease["spec"]["leaseTransitions"] >= 1 for lease in slots)


def test_a_copy_of_random_changes_ends_equal_to_the_cluster(gateway: Gateway, namespace: str) -> None:
    rng = random.Random(11)
    copied: dict[str, Any] = {}

    def follow(change: Change[dict[str, Any]]) -> None:
        assert copied.get(change.key[1]) == change.old
        copied[change.key[1]] = change.new

    reflector = Reflector(gateway, SERVICE, namespace, project=project_whole, on_change=follow)
    reflector.start()
    assert reflector.wait_synced(10)
    alive: set[str] = set()
    for step in range(120):
        name = f"s{rng.randrange(8)}"
        if name not in alive:
            ports = [{"port": 80}]
            gateway.create(SERVICE, namespace, {"metadata": {"name": name}, "spec": {"ports": ports}})
            alive.add(name)
        elif rng.random() < 0.5:
            gateway.patch(SERVICE, namespace, name, {"metadata": {"labels": {"step": str(step)}}}, patch_type="merge")
        else:
            gateway.delete(SERVICE, namespace, name)
            alive.discard(name)
    wanted = {item["metadata"]["name"]: project_whole(item) for item in gateway.list(SERVICE, namespace)[0]}

    until(lambda: {name: obj for name, obj in copied.items() if obj is not None} == wanted)
    assert reflector.stop()
    assert reflector.failures == 0
