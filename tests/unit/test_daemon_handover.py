"""What comes with a slot: a list that is up to date, looks at all of it; and nothing stays of what others drive."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from canary.cluster.kinds import CANARYROLLOUT, DESTINATIONRULE, VIRTUALSERVICE, Kind
from canary.cluster.queue import KeyedQueue
from canary.cluster.slots import slot_of
from canary.daemon.handover import Handover
from canary.daemon.pulse import SLOTS, TICK
from canary.errors import Conflict, Forbidden, NotFound

MINE, OTHERS = "shop", "till"


def item(kind: Kind, namespace: str, version: str) -> dict[str, Any]:
    return {"kind": kind.kind, "metadata": {"namespace": namespace, "name": "payment", "resourceVersion": version}}


class Cluster:
    """The API server, the local copies of a watch that is behind, and the records."""

    def __init__(self) -> None:
        self.listed: list[tuple[Kind, str | None]] = []
        self.remembered: list[tuple[str, str, str]] = []
        self.flushed: list[str] = []
        self.forgotten: list[str] = []
        self.looked_at: list[str] = []
        self.asked: list[str] = []
        self.refusals: list[Exception] = []
        self.known = {VIRTUALSERVICE: "7", DESTINATIONRULE: "5", CANARYROLLOUT: "5"}
        self.reflectors = {kind: SimpleNamespace(get=self._copy(kind)) for kind in self.known}

    def _copy(self, kind: Kind) -> Callable[[str, str], Any]:
        return lambda namespace, _name: item(kind, namespace, self.known[kind])

    def pages(self, kind: Kind, namespace: str | None) -> Iterator[tuple[list[dict[str, Any]], str]]:
        self.listed.append((kind, namespace))
        yield [item(kind, MINE, "7")], "9"
        yield [item(kind, OTHERS, "8")], "9"

    def beside(self, _may_write: Any) -> Cluster:
        return self

    def objects(self, kind: Kind, _namespace: str | None) -> list[dict[str, Any]]:
        return [item(kind, MINE, "5"), item(kind, OTHERS, "5")]

    def patch(self, kind: Kind, namespace: str, _name: str, _body: Any, **how: Any) -> dict[str, Any]:
        assert (kind, how["subresource"], how["dry_run"]) == (CANARYROLLOUT, "status", True)
        assert self.listed == [], "what is written until the fence knows us must be in the list"
        self.asked.append(namespace)
        if self.refusals:
            raise self.refusals.pop(0)
        return {}

    def remember(self, kind: Kind, document: dict[str, Any]) -> None:
        meta = document["metadata"]
        self.remembered.append((kind.plural, meta["namespace"], meta["resourceVersion"]))

    def flush(self, _seconds: float, of: Callable[[str], bool]) -> None:
        self.flushed += [name for name in (MINE, OTHERS) if of(name)]

    def forget(self, of: Callable[[str], bool]) -> None:
        self.forgotten += [name for name in (MINE, OTHERS) if of(name)]

    def look_at(self, of: Callable[[str], bool]) -> None:
        self.looked_at += [name for name in (MINE, OTHERS) if of(name)]


@pytest.fixture
def cluster() -> Cluster:
    return Cluster()


def handover(cluster: Cluster, pulses: KeyedQueue[str], namespace: str | None = None) -> Handover:
    stand_in: Any = cluster
    return Handover(stand_in, namespace, stand_in, stand_in, pulses=pulses, look_at=cluster.look_at)


def test_what_the_former_owner_wrote_last_is_in_the_copies_before_anything_is_decided(cluster: Cluster) -> None:
    handover(cluster, KeyedQueue()).prepare([slot_of(MINE)])

    assert cluster.listed == [(VIRTUALSERVICE, None), (DESTINATIONRULE, None), (CANARYROLLOUT, None)]
    assert cluster.remembered == [("destinationrules", MINE, "7"), ("canaryrollouts", MINE, "7")]


def test_nothing_is_read_for_good_before_the_fence_lets_the_new_owner_through(cluster: Cluster) -> None:
    fenced = Forbidden("slot 3 is held by old, not by new")
    fenced.policy = "canary-fence"
    cluster.refusals = [fenced, fenced]

    handover(cluster, KeyedQueue()).prepare([slot_of(MINE)])

    assert cluster.asked == [MINE] * 3
    assert len(cluster.listed) == 3


def test_a_fence_that_never_hears_of_the_new_owner_keeps_the_slot_unused(cluster: Cluster) -> None:
    fenced = Forbidden("slot 3 is held by old, not by new")
    fenced.policy = "canary-fence"
    cluster.refusals = [fenced] * 100

    with pytest.raises(Forbidden):
        handover(cluster, KeyedQueue()).prepare([slot_of(MINE)])
    assert cluster.listed == []


@pytest.mark.parametrize("refusal", [Forbidden("no right to patch"), NotFound("gone"), Conflict("changed")])
def test_what_is_no_word_of_the_fence_keeps_nobody_waiting(cluster: Cluster, refusal: Exception) -> None:
    cluster.refusals = [refusal]

    handover(cluster, KeyedQueue()).prepare([slot_of(MINE)])

    assert cluster.asked == [MINE]
    assert len(cluster.listed) == 3


def test_who_serves_one_namespace_lists_it_and_only_with_its_own_slot(cluster: Cluster) -> None:
    only = handover(cluster, KeyedQueue(), MINE)

    only.prepare([(slot_of(MINE) + 1) % 16])
    assert cluster.listed == []
    only.prepare([slot_of(MINE)])
    assert {namespace for _, namespace in cluster.listed} == {MINE}


def test_a_gained_slot_is_looked_at_and_its_evidence_asked_for_at_once(cluster: Cluster) -> None:
    pulses: KeyedQueue[str] = KeyedQueue()

    handover(cluster, pulses).gained([slot_of(MINE)])

    assert cluster.looked_at == [MINE]
    assert pulses.get(0) == TICK


def test_a_lost_slot_leaves_nothing_behind_and_one_that_is_given_up_is_stored_first(cluster: Cluster) -> None:
    pulses: KeyedQueue[str] = KeyedQueue()
    mine = handover(cluster, pulses)

    mine.leaving([slot_of(MINE)])
    mine.lost([slot_of(MINE)])

    assert cluster.flushed == cluster.forgotten == [MINE]
    assert pulses.get(0) == SLOTS
