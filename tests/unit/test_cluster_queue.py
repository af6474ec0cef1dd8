"""The work queue: never lost, never twice at once, and back off where a key fails."""

from __future__ import annotations

import random
import threading
from queue import SimpleQueue

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from canary.cluster.backoff import Backoff
from canary.cluster.queue import KeyedQueue


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def make_queue(clock: Clock | None = None) -> KeyedQueue[str]:
    backoff = Backoff(base_seconds=1.0, cap_seconds=8.0, floor_share=0.5, rng=random.Random(7))
    return KeyedQueue(backoff=backoff, clock=clock or Clock())


def test_a_key_added_three_times_is_handed_out_once() -> None:
    queue = make_queue()

    for _ in range(3):
        queue.add("payment")

    assert queue.depth == 1
    assert queue.get(0) == "payment"
    assert queue.get(0) is None


def test_a_key_that_rests_comes_back_after_what_the_server_asked_for_or_with_news() -> None:
    clock = Clock()
    queue = make_queue(clock)
    queue.add("payment")
    assert queue.get(0) == "payment"
    assert queue.add_rate_limited("payment", at_least=30.0) == 30.0
    queue.done("payment")

    clock.now += 29
    queue.add_unless_resting("payment")
    assert queue.get(0) is None
    queue.add("payment")
    assert queue.get(0) == "payment", "news"
    queue.done("payment")
    clock.now += 1
    assert queue.get(0) == "payment", "its time"
    queue.done("payment")
    queue.add_unless_resting("payment")
    assert queue.get(0) == "payment"


def test_a_key_that_only_backs_off_is_no_later_than_the_next_tick() -> None:
    queue = make_queue()
    queue.add_rate_limited("a")
    queue.add_rate_limited("b", rests=True)

    queue.add_unless_resting("a")
    queue.add_unless_resting("b")

    assert queue.get(0) == "a"
    assert queue.get(0) is None
    queue.forget("b")
    queue.add_unless_resting("b")
    assert queue.get(0) == "b"


def test_a_key_added_while_a_worker_has_it_comes_back_only_after_done() -> None:
    queue = make_queue()
    queue.add("payment")
    assert queue.get(0) == "payment"

    queue.add("payment")
    assert queue.get(0) is None

    queue.done("payment")
    assert queue.get(0) == "payment"


def test_of_several_delays_the_earliest_counts_and_it_comes_once() -> None:
    clock = Clock()
    queue = make_queue(clock)
    queue.add_after("payment", 10)
    queue.add_after("payment", 3)
    queue.add_after("payment", 7)
    assert queue.delayed == 1

    clock.now += 2.9
    assert queue.get(0) is None
    clock.now += 0.2
    assert queue.get(0) == "payment"
    queue.done("payment")
    clock.now += 60
    assert queue.get(0) is None


def test_a_failing_key_waits_longer_each_time_and_starts_over_when_forgotten() -> None:
    queue = make_queue(Clock())

    delays = [queue.add_rate_limited("payment") for _ in range(6)]
    other = queue.add_rate_limited("checkout")
    queue.forget("payment")
    again = queue.add_rate_limited("payment")

    for delay, ceiling in zip(delays, (1, 2, 4, 8, 8, 8), strict=True):
        assert ceiling / 2 <= delay <= ceiling
    assert other <= 1
    assert again <= 1


def test_who_has_one_key_does_not_wait_for_who_has_a_thousand() -> None:
    queue: KeyedQueue[tuple[str, int]] = KeyedQueue(group=lambda key: key[0], clock=Clock())
    for number in range(1000):
        queue.add(("crowd", number))
    queue.add(("payment", 0))
    queue.add(("cart", 0))

    first = [queue.get(0) for _ in range(5)]

    assert first == [("crowd", 0), ("payment", 0), ("cart", 0), ("crowd", 1), ("crowd", 2)]


def test_what_is_news_comes_before_what_is_only_due_and_keeps_its_own_order() -> None:
    queue: KeyedQueue[str] = KeyedQueue()
    for number in range(5):
        queue.add_unless_resting(f"due-{number}")
    queue.add("first")
    queue.add("due-3")
    queue.add("due-3")

    assert [queue.get(0) for _ in range(7)] == ["first", "due-3", "due-0", "due-1", "due-2", "due-4", None]


def test_news_of_a_key_that_a_worker_has_comes_before_what_is_due_once_the_worker_is_done() -> None:
    queue: KeyedQueue[str] = KeyedQueue()
    queue.add("here")
    assert queue.get(0) == "here"
    queue.add_unless_resting("due")
    queue.add_unless_resting("here")
    queue.add("here")

    queue.done("here")

    assert [queue.get(0) for _ in range(3)] == ["here", "due", None]


def test_a_worker_that_waits_for_a_time_is_heard_although_another_was_given_something_else() -> None:
    queue: KeyedQueue[str] = KeyedQueue()
    seen: SimpleQueue[str | None] = SimpleQueue()
    workers = [threading.Thread(target=lambda: seen.put(queue.get(5.0)), daemon=True) for _ in range(2)]
    for worker in workers:
        worker.start()

    queue.add_after("later", 0.2)
    queue.add("now")

    assert {seen.get(timeout=5), seen.get(timeout=5)} == {"now", "later"}
    for worker in workers:
        worker.join()


def test_a_group_never_has_all_the_workers() -> None:
    queue: KeyedQueue[tuple[str, int]] = KeyedQueue(group=lambda key: key[0], share=2, clock=Clock())
    for number in range(3):
        queue.add(("crowd", number))

    assert [queue.get(0) for _ in range(3)] == [("crowd", 0), ("crowd", 1), None]
    queue.add(("payment", 0))
    assert queue.get(0) == ("payment", 0)

    queue.done(("crowd", 0))
    assert queue.get(0) == ("crowd", 2)


def test_a_worker_waits_for_its_group_s_turn_also_when_the_queue_is_closed() -> None:
    queue: KeyedQueue[str] = KeyedQueue(share=1)
    queue.add("a")
    queue.add("b")
    assert queue.get() == "a"
    queue.close()
    got: list[str | None] = []
    worker = threading.Thread(target=lambda: got.append(queue.get()))
    worker.start()

    queue.done("a")
    worker.join(10)

    assert got == ["b"]


def test_closing_hands_out_what_is_ready_and_takes_nothing_more() -> None:
    clock = Clock()
    queue = make_queue(clock)
    queue.add("ready")
    queue.add_after("later", 5)

    queue.close()
    queue.add("new")
    queue.add_after("soon", 0)
    clock.now += 10

    assert queue.get(0) == "ready"
    assert not queue.wait_idle(0)
    queue.done("ready")
    assert queue.get(0) is None
    assert queue.wait_idle(0)
    assert queue.is_closed


def test_closing_with_discard_leaves_only_what_workers_have() -> None:
    queue = make_queue()
    queue.add("first")
    queue.add("second")
    assert queue.get(0) == "first"

    queue.close(discard=True)

    assert queue.get(0) is None
    assert queue.in_progress == 1
    queue.done("first")
    assert queue.wait_idle(0)


def test_figures_show_a_key_nobody_takes_and_a_worker_that_hangs() -> None:
    clock = Clock()
    queue = make_queue(clock)
    queue.add("hangs")
    queue.get(0)
    clock.now += 5
    queue.add("waits")
    clock.now += 30

    assert queue.oldest_seconds == 30
    assert queue.longest_running_seconds == 35


def test_a_waiting_worker_wakes_for_an_add_and_for_close() -> None:
    queue: KeyedQueue[str] = KeyedQueue()
    taken: list[str | None] = []

    def work() -> None:
        while (key := queue.get()) is not None:
            taken.append(key)
            queue.done(key)

    worker = threading.Thread(target=work)
    worker.start()
    queue.add("now")
    queue.add_after("soon", 0.01)
    queue.add_rate_limited("later")
    assert queue.wait_idle(10)
    while len(taken) < 3:  # the delayed ones are not part of being idle
        assert worker.is_alive()
        worker.join(0.01)
    queue.close()
    worker.join(10)

    assert not worker.is_alive()
    assert sorted(taken) == ["later", "now", "soon"]  # type: ignore[type-var]


def test_many_workers_never_have_the_same_key_and_see_every_last_add() -> None:
    queue: KeyedQueue[int] = KeyedQueue()
    wanted = dict.fromkeys(range(5), 0)  # the newest version of each key
    seen = dict.fromkeys(range(5), 0)
    having: set[int] = set()
    collisions: list[int] = []
    guard = threading.Lock()

    def work() -> None:
        while (key := queue.get()) is not None:
            with guard:
                if key in having:
                    collisions.append(key)
                having.add(key)
                version = wanted[key]
            with guard:
                seen[key] = max(seen[key], version)
                having.discard(key)
            queue.done(key)

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    for turn in range(400):
        with guard:
            wanted[turn % 5] += 1
        queue.add(turn % 5)
    assert queue.wait_idle(10)
    queue.close()
    for worker in workers:
        worker.join(10)

    assert collisions == []
    assert seen == wanted


class QueueAsAMachine(RuleBasedStateMachine):
    """Against a model: a key is owed from each add until a get that begins after it."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.queue = make_queue(self.clock)
        self.owed: set[str] = set()
        self.later: dict[str, float] = {}
        self.held: set[str] = set()

    def _fall_due(self) -> None:
        for key in [key for key, due in self.later.items() if due <= self.clock.now]:
            del self.later[key]
            self.owed.add(key)

    @rule(key=st.sampled_from("abcd"))
    def add(self, key: str) -> None:
        self.queue.add(key)
        self.owed.add(key)

    @rule(key=st.sampled_from("abcd"), seconds=st.integers(0, 5))
    def add_after(self, key: str, seconds: int) -> None:
        self.queue.add_after(key, seconds)
        if seconds == 0:
            self.owed.add(key)
        else:
            self.later[key] = min(self.later.get(key, float("inf")), self.clock.now + seconds)

    @rule(key=st.sampled_from("abcd"))
    def fail(self, key: str) -> None:
        delay = self.queue.add_rate_limited(key)
        self.later[key] = min(self.later.get(key, float("inf")), self.clock.now + delay)

    @rule(key=st.sampled_from("abcd"))
    def forget(self, key: str) -> None:
        self.queue.forget(key)

    @rule(seconds=st.integers(1, 4))
    def time_passes(self, seconds: int) -> None:
        self.clock.now += seconds

    @rule()
    def get(self) -> None:
        self._fall_due()
        key = self.queue.get(0)
        if key is None:
            assert self.owed <= self.held, "a key is owed, free, and not handed out"
            return
        assert key in self.owed, "a key nobody asked for"
        assert key not in self.held, "two workers have the key"
        self.owed.discard(key)
        self.held.add(key)

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def done(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(self.held)))
        self.queue.done(key)
        self.held.discard(key)

    @invariant()
    def figures_agree(self) -> None:
        assert self.queue.in_progress == len(self.held)

    def teardown(self) -> None:
        """Nothing was lost: once time passes and workers are done, each owed key comes out exactly once."""
        self.clock.now += 1000
        self._fall_due()
        for key in self.held:
            self.queue.done(key)
        out = []
        while (key := self.queue.get(0)) is not None:
            out.append(key)
            self.queue.done(key)
        assert sorted(out) == sorted(self.owed)


QueueAsAMachine.TestCase.settings = settings(
    max_examples=150, stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
TestQueueAsAMachine = QueueAsAMachine.TestCase
