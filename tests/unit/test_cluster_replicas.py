"""Many replicas, whatever fails: never two that write for the same slot, and in the end an owner for each."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from canary.cluster.leases import State
from canary.cluster.slots import SLOTS
from tests.leases import Member, World

seconds = st.sampled_from((0.1, 0.5, 1.4, 2.0, 3.0, 5.5, 7.9, 8.1, 11.9, 12.1, 30.0))
who = st.integers(0, 3)
deeds = st.sampled_from(("renew", "cycle", "watch", "wait"))
meanwhile = st.lists(st.tuples(who, deeds, seconds), max_size=4)
PACE = 6.0

pytestmark = pytest.mark.slow


class Replicas(RuleBasedStateMachine):
    """Four replicas with clocks of their own, each of whose steps may be late, lost, doubled or interrupted."""

    @initialize(offsets=st.lists(st.floats(-1e6, 1e6), min_size=4, max_size=4))
    def begin(self, offsets: list[float]) -> None:
        self.world = World(pace=PACE)
        self.born = 0
        self.gone: set[str] = set()
        self.others: list[tuple[int, str, float]] = []
        for offset in offsets:
            self._join(offset)

    def _join(self, offset: float) -> Member:
        self.born += 1
        member = self.world.join(f"replica-{self.born}", offset)
        member.line.in_between = self._in_between
        return member

    def _in_between(self) -> None:
        """In the middle of one replica's request others go on, and time passes."""
        if not self.others:
            return
        index, deed, wait = self.others.pop()
        rest, self.others = self.others, []
        self.world.seconds += wait
        self._do(self.world.members[index], deed)
        self.world.check()
        self.others = rest

    def _do(self, member: Member, deed: str) -> None:
        if member.identity in self.gone:
            return
        match deed:
            case "renew":
                member.lease.cycle()
            case "cycle":
                member.turnover.cycle()
            case "watch":
                member.watch()

    @rule(index=who, others=meanwhile)
    def renew(self, index: int, others: list[Any]) -> None:
        self.others = others
        self._do(self.world.members[index], "renew")

    @rule(index=who, others=meanwhile)
    def cycle(self, index: int, others: list[Any]) -> None:
        self.others = others
        self._do(self.world.members[index], "cycle")

    @rule(index=who, number=st.integers(1, 20))
    def hear_some(self, index: int, number: int) -> None:
        self.world.members[index].watch(number)

    @rule(index=who)
    def hear_only_how_it_is_now(self, index: int) -> None:
        self.world.members[index].relist()

    @rule(wait=seconds)
    def wait(self, wait: float) -> None:
        self.world.seconds += wait

    @rule(turns=st.integers(1, 20))
    def nothing_special(self, turns: int) -> None:
        self.others = []
        for _ in range(turns):
            self.world.seconds += 1.0
            for member in self.world.members:
                if member.identity not in self.gone:
                    member.turn()
            self.world.check()

    @rule(index=who, down=st.booleans(), unanswered=st.booleans(), held=st.booleans())
    def trouble(self, index: int, down: bool, unanswered: bool, held: bool) -> None:
        line = self.world.members[index].line
        line.down, line.unanswered, line.held = down, unanswered, held

    @rule(index=who)
    def held_writes_arrive(self, index: int) -> None:
        self.world.members[index].line.deliver()

    @rule(index=who)
    def crash_and_replace(self, index: int) -> None:
        self.gone.add(self.world.members[index].identity)
        # who crashed stays in the world: its process may only be stopped, and think that it goes on
        self.world.members.append(self.world.members[index])
        self.world.members[index] = self._join(float(self.born))
        self.world.members.pop(-1)

    @rule(index=who)
    def leave_and_replace(self, index: int) -> None:
        self.others = []
        member = self.world.members[index]
        member.lease.say(State.DRAINING)
        member.lease.cycle()
        self.world.check()
        member.lease.stop(end=member.turnover.leave(0.0))
        self.crash_and_replace(index)

    @invariant()
    def nobody_writes_where_another_does(self) -> None:
        self.world.check()

    def teardown(self) -> None:
        """With every fault gone each slot gets one owner, the shares get even, and then nothing moves any more."""
        if not hasattr(self, "world"):
            return
        self.others = []
        alive = [member for member in self.world.members if member.identity not in self.gone]
        for member in self.world.members:
            member.line.down = member.line.unanswered = member.line.held = False
            member.line.deliver()
        for _ in range(90):
            self.world.seconds += 2.0
            for member in alive:
                member.turn()
            self.world.check()
        owned = [member.owned for member in alive]
        assert Counter(slot for slots in owned for slot in slots) == Counter(range(SLOTS))
        assert sorted(map(len, owned)) == [4, 4, 4, 4]
        for member in alive:
            member.turn()
        assert [member.owned for member in alive] == owned


Replicas.TestCase.settings = settings(
    max_examples=25, stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
TestReplicas = Replicas.TestCase
