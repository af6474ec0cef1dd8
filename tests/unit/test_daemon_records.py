"""The records in the cluster: when they are written, what becomes of a restart, and that a failure stops nothing."""

from __future__ import annotations

import base64
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest

from canary.analysis import Judge
from canary.analysis.record import Record, Recorder
from canary.analysis.replay import replay
from canary.cluster.evidence import KEY, evidence_name
from canary.daemon.metrics import Metrics
from canary.daemon.records import RETRY_S, SAVE_EVERY_S, SWEEP_S, Records
from canary.errors import CanaryError, Conflict, Forbidden, NotFound, NotOurs, Unavailable
from canary.model.policy import Policy
from canary.model.rollout import Phase, Rollout, RolloutSpec, RolloutStatus, StepStatus, VerdictStatus
from canary.model.verdict import ArmCounts, Baseline, Outcome, Reason, SourceState, Window

BEGIN, TILE = 1_772_452_800.0, 5.0
POLICY = Policy.model_validate(
    {"name": "quick", "strategy": {"weights": [10, 100], "hold": "1m"}, "analysis": {"warmup": "0s"}}
)
Object = dict[str, Any]


@dataclass
class Cluster:
    """ConfigMaps as the API server keeps them; `fails` is raised by the next writes."""

    objects: dict[str, Object] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    fails: CanaryError | None = None
    hangs: threading.Event | None = None
    write_timeout_seconds: float = 2.0
    version: int = 0

    def get(self, kind: Any, namespace: str | None, name: str) -> Object:
        del kind, namespace
        self.asked.append("get")
        if name not in self.objects:
            raise NotFound(f"there is no {name}", status=404)
        return self.objects[name]

    def create(self, kind: Any, namespace: str | None, obj: Mapping[str, Any]) -> Object:
        del kind, namespace
        self._write("create")
        name = obj["metadata"]["name"]
        if name in self.objects:
            raise Conflict("it is there already", status=409)
        return self._store(name, dict(obj))

    def patch(self, kind: Any, namespace: str | None, name: str, body: Mapping[str, Any], *, patch_type: str) -> Object:
        del kind, namespace, patch_type
        self._write("patch")
        if name not in self.objects:
            raise NotFound(f"there is no {name}", status=404)
        found = self.objects[name]
        if found["metadata"]["resourceVersion"] != body["metadata"]["resourceVersion"]:
            raise Conflict("it was changed", status=409)
        return self._store(name, {**found, "binaryData": body["binaryData"]})

    def _write(self, verb: str) -> None:
        if self.hangs is not None:
            self.hangs.wait(20)
        self.asked.append(verb)
        if self.fails is not None:
            raise self.fails

    def _store(self, name: str, obj: Object) -> Object:
        self.version += 1
        self.objects[name] = {**obj, "metadata": {**obj["metadata"], "resourceVersion": str(self.version)}}
        return self.objects[name]

    def record(self, name: str = "payment-v2-abc-1") -> Record:
        return Record.unpack(base64.b64decode(self.objects[evidence_name(name)]["binaryData"][KEY]))

    @property
    def writes(self) -> list[str]:
        return [verb for verb in self.asked if verb != "get"]


class Process:
    """One controller's judge of one rollout, and its records."""

    def __init__(self, cluster: Cluster, name: str = "payment-v2-abc-1") -> None:
        self.cluster, self.time = cluster, 0.0
        self.metrics = Metrics()
        self.records = Records(cluster, self.metrics, clock=lambda: self.time)  # type: ignore[arg-type]
        self.records.start()
        self.rollout = Rollout(
            namespace="shop", name=name, uid="u-1", resource_version="1", generation=1,
            created=datetime(2026, 3, 2, tzinfo=UTC), deleting=False, finalizers=(),
            spec=RolloutSpec(target="payment-v2", policy_name="quick"), status=RolloutStatus(),
        )  # fmt: skip
        self.begin()

    def begin(self, baseline: Baseline | None = None) -> None:
        self.judge = Judge(POLICY, baseline or Baseline())
        self.recorder = Recorder(POLICY, baseline or Baseline(), tile_s=TILE, settle_s=2.0)

    def sees(self, first: int, last: int, *, step: int = 1) -> None:
        """The tiles of these numbers, judged as they come."""
        for number in range(first, last):
            start = BEGIN + number * TILE
            one = Window(start, start + TILE, step, 10, ArmCounts(20 + number % 7), ArmCounts(180, number % 2))
            now = one.end + 3.25
            self.judge.observe(one, now)
            self.recorder.window(one, now)
            source = SourceState(True, TILE, 2.0, one.end)
            self.recorder.verdict(now, step, source, self.judge.verdict(now, source, step))

    def looks(self, *, step: int = 1, phase: Phase = Phase.PROGRESSING, failed: bool = False) -> None:
        """A worker has looked, and what it asked to be written is written."""
        verdict = VerdictStatus(
            outcome=Outcome.FAIL if failed else Outcome.PASS, reason=Reason.HEALTHY, sentence="",
            at=datetime(2026, 3, 2, tzinfo=UTC),
        )  # fmt: skip
        status = RolloutStatus(phase=phase, step=StepStatus(index=step, of=2), verdict=verdict)
        self.records.consider(self.rollout, status, self.recorder)
        self.settle()

    def settle(self) -> None:
        assert self.records._due.wait_idle(10)

    def passes(self, seconds: float) -> None:
        """Time passes; what is due by then is tried again."""
        self.time += seconds
        with self.records._due._changed:
            self.records._due._changed.notify_all()  # the clock is ours: nobody else wakes the queue

    def failures(self, reason: str) -> float:
        return float(self.metrics.registry.get_sample_value("canary_record_failures_total", {"reason": reason}) or 0)


@pytest.fixture
def cluster() -> Cluster:
    return Cluster()


@pytest.fixture
def start(cluster: Cluster) -> Iterator[Callable[..., Process]]:
    started: list[Process] = []

    def process(**options: Any) -> Process:
        started.append(Process(cluster, **options))
        return started[-1]

    yield process
    for one in started:
        one.records.stop(0.1)


def test_one_write_at_each_step_at_the_end_and_at_most_every_ten_minutes(
    cluster: Cluster, start: Callable[..., Process]
) -> None:
    process = start()

    process.looks()
    assert cluster.asked == []  # nothing to tell yet
    for number in range(10):
        process.sees(number, number + 1)
        process.looks()
    assert cluster.asked == ["get", "create"]

    process.passes(SAVE_EVERY_S - 1)
    process.looks()
    assert cluster.writes == ["create"]
    process.passes(2)
    process.looks()
    process.looks()
    assert cluster.writes == ["create", "patch"]

    process.sees(10, 11, step=2)
    process.looks(step=2)
    assert cluster.writes == ["create", "patch", "patch"]
    process.sees(11, 12, step=2)
    process.looks(step=2, phase=Phase.ROLLING_BACK, failed=True)
    process.looks(step=2, phase=Phase.ROLLED_BACK, failed=True)
    assert cluster.writes == ["create", "patch", "patch", "patch"]  # nothing new was recorded after the way back
    assert cluster.asked.count("get") == 1

    found = cluster.objects["canary-evidence-payment-v2-abc-1"]
    (owner,) = found["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["name"], owner["uid"]) == ("CanaryRollout", "payment-v2-abc-1", "u-1")
    assert found["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "canary"
    assert len(cluster.record().lives[0].windows) == 12
    assert replay(cluster.record()).agrees


def test_after_a_restart_the_record_goes_on_from_what_was_stored(
    cluster: Cluster, start: Callable[..., Process]
) -> None:
    before = start()
    before.sees(0, 10)
    before.looks()
    earlier = cluster.record().lives[0].entries

    after = start()
    after.sees(0, 12)  # from the first traffic on, as the metrics source still has it
    after.looks()

    (life,) = cluster.record().lives
    assert len(life.windows) == 12
    assert life.entries[: len(earlier)] == earlier
    assert replay(cluster.record()).agrees
    assert cluster.asked[2:] == ["get", "patch"]


def test_a_judge_begun_afresh_within_the_process_goes_on_with_its_own_record(
    cluster: Cluster, start: Callable[..., Process]
) -> None:
    process = start()
    process.sees(0, 10)
    process.looks()
    process.sees(10, 15)
    process.looks()  # not written, and known only here
    unsaved = Record.unpack(process.recorder.pack()).lives[0].entries

    process.begin()
    process.sees(0, 16)
    process.looks(step=2)

    (life,) = cluster.record().lives
    assert len(life.windows) == 16
    assert life.entries[: len(unsaved)] == unsaved


@pytest.mark.parametrize(
    "error", [Unavailable("503", status=503), Forbidden("no right", status=403), ValueError("a fault of ours")]
)
def test_a_save_that_fails_is_counted_and_tried_again_and_stops_nothing(
    cluster: Cluster, start: Callable[..., Process], error: Any
) -> None:
    process = start()
    cluster.fails = error
    process.sees(0, 3)

    process.looks(phase=Phase.ROLLED_BACK)

    reason = getattr(error, "reason", "Unexpected")
    assert process.failures(reason) == 1
    assert cluster.objects == {}
    cluster.fails = None
    process.passes(RETRY_S + 1)
    process.looks(phase=Phase.ROLLED_BACK)
    wait_for(lambda: cluster.objects)
    assert len(cluster.record().lives[0].windows) == 3


def test_an_api_server_that_hangs_holds_up_nobody_who_looks(cluster: Cluster, start: Callable[..., Process]) -> None:
    process = start()
    cluster.hangs = threading.Event()
    process.sees(0, 3)
    status = RolloutStatus(phase=Phase.ROLLING_BACK, step=StepStatus(index=1, of=2))

    for _ in range(3):
        process.records.consider(process.rollout, status, process.recorder)  # returns: it only notes

    assert cluster.objects == {}
    cluster.hangs.set()
    process.settle()
    assert len(cluster.record().lives[0].windows) == 3


def test_somebody_elses_config_map_of_that_name_is_left_alone(cluster: Cluster, start: Callable[..., Process]) -> None:
    name = evidence_name("payment-v2-abc-1")
    theirs = {"metadata": {"name": name, "namespace": "shop", "resourceVersion": "7"}, "data": {"theirs": "yes"}}
    cluster.objects[name] = theirs
    process = start()
    process.sees(0, 3)

    process.looks()

    assert cluster.objects[name] == theirs
    assert process.failures("ForeignEvidence") == 1
    process.passes(RETRY_S + 1)
    process.looks()
    assert cluster.asked == ["get"]  # it waits for a person, not for time
    del cluster.objects[name]
    process.sees(3, 4, step=2)
    process.looks(step=2)
    assert len(cluster.record().lives[0].windows) == 4


def test_a_name_too_long_for_a_config_map_is_said_and_not_tried(
    cluster: Cluster, start: Callable[..., Process]
) -> None:
    process = start(name="x" * 250)
    process.sees(0, 3)

    process.looks()

    assert cluster.asked == []
    assert process.failures("NameTooLong") == 1


def test_a_stored_record_that_cannot_be_read_is_written_anew(cluster: Cluster, start: Callable[..., Process]) -> None:
    before = start()
    before.sees(0, 3)
    before.looks()
    name = evidence_name("payment-v2-abc-1")
    cluster.objects[name]["binaryData"][KEY] = "bm8gcmVjb3Jk"

    after = start()
    after.sees(0, 5)
    after.looks()

    assert len(cluster.record().lives[0].windows) == 5


def test_a_record_that_somebody_changed_or_deleted_is_made_again(
    cluster: Cluster, start: Callable[..., Process]
) -> None:
    process = start()
    process.sees(0, 3)
    process.looks()
    cluster._store(evidence_name("payment-v2-abc-1"), cluster.objects[evidence_name("payment-v2-abc-1")])

    process.sees(3, 6, step=2)
    process.looks(step=2)
    process.passes(RETRY_S + 1)
    wait_for(lambda: len(cluster.record().lives[0].windows) == 6)
    assert process.failures("Conflict") == 1

    del cluster.objects[evidence_name("payment-v2-abc-1")]
    process.sees(6, 7, step=2)
    process.looks(step=2, phase=Phase.ROLLED_BACK)
    process.passes(RETRY_S + 1)
    wait_for(lambda: cluster.objects)
    (life,) = cluster.record().lives
    assert len(life.windows) == 7
    assert replay(cluster.record()).agrees


def test_a_replica_that_lost_its_lease_writes_again_when_it_has_it_back(
    cluster: Cluster, start: Callable[..., Process]
) -> None:
    process = start()
    process.sees(0, 3)
    cluster.fails = NotOurs("the Lease is not ours")
    process.looks()
    assert cluster.objects == {}

    cluster.fails = None
    process.looks()

    assert len(cluster.record().lives[0].windows) == 3
    assert process.failures("NotOurs") == 0


def test_a_controller_told_to_stop_writes_what_it_has(cluster: Cluster, start: Callable[..., Process]) -> None:
    process = start()
    process.sees(0, 3)
    process.looks()
    process.sees(3, 9)
    process.looks()

    process.records.stop(5)

    assert len(cluster.record().lives[0].windows) == 9


def test_what_was_judged_since_the_last_save_is_written_before_another_replica_goes_on(
    cluster: Cluster, start: Callable[..., Process]
) -> None:
    process = start()
    process.sees(0, 3)
    process.looks()
    process.sees(3, 9)
    process.looks()

    process.records.flush(5, lambda namespace: namespace == "elsewhere")
    assert len(cluster.record().lives[0].windows) == 3
    process.records.flush(5, lambda namespace: namespace == "shop")
    assert len(cluster.record().lives[0].windows) == 9


def test_of_what_another_replica_drives_nothing_more_is_written(
    cluster: Cluster, start: Callable[..., Process]
) -> None:
    process = start()
    process.sees(0, 3)
    process.looks()
    process.sees(3, 9)

    process.records.forget(lambda namespace: namespace == "shop")
    process.records.stop(5)

    assert len(cluster.record().lives[0].windows) == 3


def test_who_has_ended_and_is_saved_is_let_go_of(cluster: Cluster, start: Callable[..., Process]) -> None:
    process = start()
    process.sees(0, 3)
    cluster.fails = Unavailable("503", status=503)
    process.looks(phase=Phase.ROLLED_BACK)

    process.time += SWEEP_S
    process.records.sweep(lambda: {"u-1": Phase.ROLLED_BACK})
    assert process.records._kept  # not saved yet
    cluster.fails = None
    process.passes(RETRY_S + SWEEP_S)
    wait_for(lambda: cluster.objects)
    process.settle()
    process.records.sweep(lambda: {"u-1": Phase.ROLLED_BACK})
    assert not process.records._kept


def wait_for(holds: Callable[[], object]) -> None:
    done = threading.Event()
    for _ in range(1_000):
        if holds():
            return
        done.wait(0.01)
    raise AssertionError("waited in vain")
