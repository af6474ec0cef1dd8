"""What a rollout was judged by, packed and read back: exact, bounded, and safe to read whatever the bytes are."""

from __future__ import annotations

import contextlib
import functools
import gzip
import itertools
import json
import math
import random
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from canary.analysis import Judge
from canary.analysis.chunks import Chunks
from canary.analysis.entries import Aborted, Judged, Seen
from canary.analysis.record import LARGEST_PACKED, MOST_ENTRIES, Record, Recorder
from canary.analysis.recorded import LARGEST_TEXT
from canary.analysis.replay import replay
from canary.errors import InputError
from canary.model.policy import Policy
from canary.model.verdict import (
    ArmCounts,
    Baseline,
    Ejections,
    Evidence,
    Outcome,
    Reason,
    SourceState,
    Verdict,
    Window,
)

TILE, SETTLE, BEGIN = 5.0, 2.0, 1_772_452_800.0
POLICY = Policy.model_validate(
    {
        "name": "quick",
        "strategy": {"weights": [10, 50, 100], "hold": "1m"},
        "analysis": {"warmup": "10s", "minRequests": 50, "errorRate": {"max": "2%"}, "p99": {"max": "500ms"}},
    }
)
BASELINE = Baseline(1.25, {250.0: 1.1, 100.0: 1.7}, 1.3, 0.001, 600.0)
WEIGHTS = {1: 10, 2: 50, 3: 100}


def window(number: int, *, step: int = 1, errors: int = 0, tile: float = TILE, requests: int = 20) -> Window:
    """The tile of that number; its counts are a function of it, and so the same after every restart."""
    chance = random.Random(number)
    start = BEGIN + number * tile

    def arm(total: int, bad: int) -> ArmCounts:
        slow = sorted((chance.randint(0, max(total - bad, 0) // 10) for _ in range(3)), reverse=True)
        return ArmCounts(total, bad, total - bad, dict(zip((100.0, 250.0, 500.0), slow, strict=True)))

    canary = arm(requests + chance.randint(0, 9), errors)
    stable = arm(180 + chance.randint(0, 40), chance.randint(0, 1)) if step < 3 else ArmCounts()
    return Window(start, start + tile, step, WEIGHTS[step], canary, stable, warm=number >= 2)


def source_at(end: float | None) -> SourceState:
    return SourceState(True, TILE, SETTLE, end)


class Controller:
    """One process of the controller: a judge and its recorder, as `canary.daemon.tracks` joins them."""

    def __init__(self, baseline: Baseline = BASELINE, policy: Policy = POLICY) -> None:
        self.judge = Judge(policy, baseline)
        self.recorder = Recorder(policy, baseline, tile_s=TILE, settle_s=SETTLE, about={"name": "payment-v2-abc-1"})

    def sees(self, windows: Iterator[Window] | list[Window], *, judged: bool = True) -> Controller:
        for one in windows:
            now = one.end + SETTLE + 0.123456
            self.judge.observe(one, now)
            self.recorder.window(one, now)
            if judged:
                self.says(now, one.step, source_at(one.end))
        return self

    def says(self, now: float, step: int, source: SourceState) -> Verdict:
        verdict = self.judge.verdict(now, source, step)
        self.recorder.verdict(now, step, source, verdict)
        return verdict

    @property
    def record(self) -> Record:
        return Record.unpack(self.recorder.pack())


def three_steps(*, failing_from: int = 10_000) -> list[Window]:
    return [
        window(number, step=1 + number // 20, errors=3 if number >= failing_from else 0)
        for number in range(60)
    ]  # fmt: skip


# Exact


def test_a_rollout_comes_back_whole_and_every_verdict_comes_out_the_same() -> None:
    controller = Controller().sees(three_steps(failing_from=30))

    record = controller.record
    (life,) = record.lives
    again = replay(record)

    assert record.policy == POLICY
    assert record.about == {"name": "payment-v2-abc-1"}
    assert (life.baseline, list(life.baseline.latency_phi)) == (BASELINE, [250.0, 100.0])
    assert [seen.window for seen in life.windows] == three_steps(failing_from=30)
    assert [seen.now for seen in life.windows] == [one.end + SETTLE + 0.123456 for one in three_steps()]
    assert again.agrees
    assert again.computed == len(again.verdicts)
    assert [one.entry.verdict.outcome for one in again.verdicts][-1] is Outcome.FAIL
    assert {"warming_up", "error_rate"} <= {one.entry.verdict.reason for one in again.verdicts}


def test_the_first_of_each_verdict_the_last_of_each_step_and_the_newest_are_kept() -> None:
    controller = Controller()
    said = []
    for one in three_steps()[:30]:
        controller.sees([one], judged=False)
        now = one.end + SETTLE
        said.append((now, one.step, controller.says(now, one.step, source_at(one.end))))

    kept = [(entry.at, entry.step, entry.verdict) for entry in controller.record.lives[0].entries]  # type: ignore[union-attr]

    runs = [list(run) for _, run in itertools.groupby(said, lambda one: (one[2].outcome, one[2].reason, one[1]))]
    assert [run[0] for run in runs] == [one for one in kept if one in [run[0] for run in runs]]
    assert said[19] in kept
    assert kept[-1] == said[-1]
    assert len(kept) < len(said)


def test_a_fast_abort_is_computed_again_from_its_counts() -> None:
    controller = Controller().sees(three_steps()[:3])
    canary, stable, hosts = ArmCounts(12, 12), ArmCounts(110, 1), Ejections(1, 2, 0, 3)
    verdict = controller.judge.abort(canary, stable, hosts)
    assert verdict is not None
    controller.recorder.abort(BEGIN + 17.5, canary, stable, hosts, verdict)
    controller.recorder.verdict(BEGIN + 17.6, 1, source_at(BEGIN + 15), verdict)

    again = replay(controller.record)

    *_, aborted, repeated = again.verdicts
    assert isinstance(aborted.entry, Aborted)
    assert (aborted.entry.canary, aborted.entry.stable, aborted.entry.ejections) == (canary, stable, hosts)
    assert aborted.verdict == repeated.verdict == verdict
    assert again.agrees


def test_the_same_content_packs_to_the_same_bytes() -> None:
    first, second = (Controller().sees(three_steps()) for _ in range(2))

    assert first.recorder.pack() == first.recorder.pack() == second.recorder.pack()


counts = st.integers(0, 2**53)
figures = st.floats(allow_nan=False, width=64)
texts = st.text(max_size=40)


@st.composite
def arms(draw: st.DrawFn) -> ArmCounts:
    requests = draw(counts)
    timed = draw(counts)
    bounds = draw(st.lists(st.floats(0.5, 1e7), max_size=4, unique=True))
    slower = {bound: draw(st.integers(0, timed)) for bound in bounds}
    return ArmCounts(requests, draw(st.integers(0, requests)), timed, slower)


@st.composite
def any_windows(draw: st.DrawFn) -> list[Seen]:
    starts = draw(st.lists(st.floats(0, 1e10), max_size=6).map(sorted))
    found = []
    for start in starts:
        end = draw(st.floats(start, 1e11, exclude_min=True))
        hosts = st.builds(Ejections, counts, counts, counts, counts)
        found.append(
            Seen(
                Window(
                    start, end, draw(st.integers(0, 32)), draw(st.integers(0, 100)), draw(arms()), draw(arms()),
                    draw(arms()), draw(st.none() | hosts), draw(st.booleans()), draw(texts),
                    draw(st.dictionaries(texts, figures, max_size=3)),
                ),
                draw(st.floats(end, 1e12)),
            )
        )  # fmt: skip
    return found


@given(any_windows(), st.integers(1, 4))
@settings(max_examples=150, deadline=None)
def test_any_windows_come_back_bit_for_bit_however_they_fall_into_chunks(seen: list[Seen], chunk: int) -> None:
    recorder = Recorder(POLICY, BASELINE, tile_s=TILE, settle_s=SETTLE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Chunks, "WINDOWS", chunk)
        for one in seen:
            recorder.window(one.window, one.now)

    (life,) = Record.unpack(recorder.pack()).lives

    assert list(life.windows) == seen
    assert [repr(one) for one in life.windows] == [repr(_sorted(one)) for one in seen]  # 0.0 is not -0.0


def _sorted(seen: Seen) -> Seen:
    """Bounds in rising order: how a dictionary was filled is no part of what was counted."""
    one = seen.window

    def arm(counted: ArmCounts) -> ArmCounts:
        return ArmCounts(counted.requests, counted.errors, counted.timed, dict(sorted(counted.slower.items())))

    return Seen(
        Window(one.start, one.end, one.step, one.weight, arm(one.canary), arm(one.stable), arm(one.unattributed),
               one.ejections, one.warm, one.noise, dict(one.metrics)),
        seen.now,
    )  # fmt: skip


evidences = st.builds(
    Evidence, texts, counts, counts, counts, counts, figures, st.floats(0, math.inf), st.floats(1e-300, 1e300)
)
verdicts = st.builds(
    Verdict, st.sampled_from(Outcome), st.sampled_from(Reason), texts, st.lists(evidences, max_size=3).map(tuple)
)
sources = st.builds(SourceState, st.booleans(), figures, figures, st.none() | figures, st.booleans(), texts)


@given(st.lists(st.tuples(figures, st.none() | st.integers(0, 32), sources, verdicts), max_size=8))
@settings(max_examples=100, deadline=None)
def test_any_verdicts_come_back_bit_for_bit(
    said: list[tuple[float, int | None, SourceState, Verdict]],
) -> None:
    recorder = Recorder(POLICY, BASELINE, tile_s=TILE, settle_s=SETTLE)
    for at, step, source, verdict in said:
        recorder.verdict(at, step, source, verdict)

    (life,) = Record.unpack(recorder.pack()).lives

    everything = [Judged(at, step, source, None, verdict) for at, step, source, verdict in said]
    assert all(entry in everything for entry in life.entries)
    assert list(life.entries[-1:]) == everything[-1:]


# Bounded


@pytest.mark.slow
def test_a_rollout_of_a_day_in_tiles_of_a_second_stays_within_256_kb_and_is_still_exact() -> None:
    lean = {
        "warmup": "0s",
        "errorRate": {"max": "2%", "vsStable": "off"},
        "p99": {"vsStable": "off"},
    }  # 10 times as fast
    policy = Policy.model_validate({"name": "lean", "strategy": {"weights": [10, 100]}, "analysis": lean})
    controller = Controller(Baseline(), policy)
    day = 86_400
    for number in range(day):
        one = window(number, step=1, tile=1.0)
        # a verdict that flaps as fast as it can
        controller.sees([one], judged=number % 1_000 == 0)
        if number % 10_000 == 9_999:
            assert len(controller.recorder.pack()) <= LARGEST_PACKED

    record = controller.record
    (life,) = record.lives
    again = replay(record)

    assert life.base is not None
    assert life.base.windows + len(life.windows) == day
    assert len(life.windows) > 5_000
    (one,) = life.steps
    assert one.windows == day
    assert one.canary.requests == sum(window(number, tile=1.0).canary.requests for number in range(day))
    assert again.agrees
    assert again.computed > 0


def test_windows_that_gave_way_leave_a_judge_that_goes_on_exactly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Chunks, "WINDOWS", 4)
    whole, cut = Controller().sees(three_steps(failing_from=50)), Controller()
    for one in three_steps(failing_from=50):
        cut.sees([one])
        if one.step == 2:
            cut.recorder._chunks.fold()

    of_whole, of_cut = whole.record, cut.record
    again = replay(of_cut)

    (life,) = of_cut.lives
    assert life.base is not None
    assert life.base.windows >= 20
    assert life.steps == of_whole.lives[0].steps
    assert life.entries == of_whole.lives[0].entries
    assert again.agrees
    assert 0 < again.computed < len(again.verdicts)
    assert again.since == life.base.upto
    assert again.verdicts[-1].verdict == replay(of_whole).verdicts[-1].verdict


def test_a_verdict_that_flaps_all_day_pushes_nothing_else_out() -> None:
    controller = Controller().sees(three_steps()[:5])
    good, bad = source_at(BEGIN + 25), SourceState(False, TILE, SETTLE, None, True, "connection refused")
    for number in range(2_000):
        controller.says(BEGIN + 27 + number / 1000, 1, bad if number % 2 else good)
    last_of_step = controller.says(BEGIN + 30, 1, good)
    controller.says(BEGIN + 31, 2, good)

    (life,) = controller.record.lives

    assert len(life.entries) <= MOST_ENTRIES + 1
    assert life.lost > 1_000
    assert len(life.windows) == 5
    assert last_of_step in [entry.verdict for entry in life.entries]


def test_sentences_as_long_as_they_may_be_still_fit() -> None:
    recorder = Recorder(POLICY, BASELINE, tile_s=TILE, settle_s=SETTLE)
    chance = random.Random(7)
    for number in range(330):
        noise = "".join(chr(chance.randint(0x4E00, 0x9FFF)) for _ in range(1_500))
        outcome = Outcome.PASS if number % 2 else Outcome.HOLD
        recorder.verdict(float(number), number % 30, source_at(None), Verdict(outcome, Reason.HEALTHY, noise))

    packed = recorder.pack()

    assert len(packed) <= LARGEST_PACKED
    assert Record.unpack(packed).lives[0].lost > 0


def test_long_sentences_that_pack_to_nothing_can_still_be_read_back() -> None:
    controller = Controller().sees(three_steps()[:20], judged=False)
    recorder = controller.recorder
    page = "<html>" + "503 " * 20_000
    for number in range(300):
        source = SourceState(False, TILE, SETTLE, None, True, page)
        outcome = Outcome.PASS if number % 2 else Outcome.HOLD
        recorder.verdict(float(number), number, source, Verdict(outcome, Reason.UNAVAILABLE, page))

    (life,) = Record.unpack(recorder.pack()).lives

    assert life.entries
    assert life.entries[-1].verdict.sentence == page
    assert len(life.windows) == 20


# Restarted


def test_after_a_restart_the_record_goes_on_without_a_window_twice_and_without_a_verdict_lost() -> None:
    windows = three_steps(failing_from=50)
    before = Controller().sees(windows[:35])
    unbroken = Controller().sees(windows)

    after = Controller().sees(windows[:40], judged=False)
    after.recorder.resume(before.record)
    after.sees(windows[40:])

    (life,) = after.record.lives
    assert [seen.window for seen in life.windows] == windows
    assert replay(after.record).agrees
    kept = [entry.verdict for entry in life.entries]
    assert all(entry.verdict in kept for entry in before.record.lives[0].entries)
    assert kept[-1] == unbroken.record.lives[0].entries[-1].verdict


@pytest.mark.parametrize("caught_up", [0, 10, 34])
def test_saved_while_it_catches_up_nothing_of_before_is_lost(caught_up: int) -> None:
    windows = three_steps()
    before = Controller().sees(windows[:35])
    after = Controller()
    # asked before anything was fed, as a worker may
    after.says(windows[36].end, 2, source_at(None))
    after.sees(windows[:caught_up], judged=False)
    after.recorder.resume(before.record)

    halfway = after.record
    after.sees(windows[caught_up:])
    at_last = after.record

    assert [seen.window for seen in halfway.lives[0].windows] == windows[:35]
    assert replay(halfway).agrees
    assert replay(halfway).computed == len(replay(halfway).verdicts)
    (life,) = at_last.lives
    assert [seen.window for seen in life.windows] == windows
    assert replay(at_last).agrees
    assert replay(at_last).computed == len(replay(at_last).verdicts)
    assert "no_data" in {entry.verdict.reason for entry in life.entries}


def test_where_the_counts_came_out_otherwise_both_judges_stay_and_both_replay() -> None:
    windows = three_steps()
    before = Controller().sees(windows[:35])

    after = Controller(Baseline()).sees(windows[20:], judged=True)  # the metrics source has lost its past
    after.recorder.resume(before.record)

    first, second = after.record.lives
    assert [seen.window for seen in first.windows] == windows[:35]
    assert [seen.window for seen in second.windows] == windows[20:]
    again = replay(after.record)
    assert again.agrees
    assert again.computed == len(again.verdicts)


def test_our_own_record_read_again_doubles_nothing() -> None:
    controller = Controller().sees(three_steps()[:35])
    stored = controller.record

    controller.sees(three_steps()[35:40])
    before = controller.record
    controller.recorder.resume(stored)

    (life,) = controller.record.lives
    assert [seen.window for seen in life.windows] == three_steps()[:40]
    assert {entry.at for entry in life.entries} == {
        entry.at for entry in (*stored.lives[0].entries, *before.lives[0].entries)
    }
    assert len({id(entry) for entry in life.entries}) == len({entry.at for entry in life.entries})


def test_earlier_judges_give_way_before_our_own_windows_do(monkeypatch: pytest.MonkeyPatch) -> None:
    stored = Controller().sees(three_steps()[:35]).record
    after = Controller(Baseline()).sees(three_steps())
    after.recorder.resume(stored)
    room = len(after.recorder.pack()) - 1
    monkeypatch.setattr("canary.analysis.record.LARGEST_PACKED", room)

    record = after.record

    assert len(after.recorder.pack()) <= room
    assert [seen.window for seen in record.lives[-1].windows] == three_steps()
    assert record.lives[0].windows == ()
    assert record.lives[0].entries == stored.lives[0].entries


# Whatever the bytes


@functools.cache
def packed() -> bytes:
    """Some windows, and the state of a judge that has seen those before them."""
    controller = Controller().sees(three_steps()[:10])
    controller.recorder._chunks.fold()
    return controller.sees(three_steps()[10:15]).recorder.pack()


def test_bytes_that_are_no_record_are_one_clear_error() -> None:
    good = packed()
    text = gzip.decompress(good).decode()
    other = gzip.compress(text.replace('"warmup":"10s"', '"warmup":"11s"').encode())
    newer = gzip.compress(text.replace('"canary-evidence",1', '"canary-evidence",2').encode())
    for data, says in (
        (b"", "no evidence record"),
        (b"hello", "not gzip"),
        (gzip.compress(b""), "no evidence record"),
        (gzip.compress(b'{"a": 1}\n'), "no evidence record"),
        (gzip.compress(b'["something-else", 1]\n'), "does not begin as one"),
        (good[: len(good) // 2], "damaged"),
        (good[:-3], "cut short"),
        (good + b"x", "damaged"),
        (other, "its policy is not the one"),
        (newer, "format 2"),
        (gzip.compress(text.replace('["w"', '["x"').encode()), "unknown kind"),
        (gzip.compress(text.encode() + b"[" * 100_000), "damaged"),
    ):
        with pytest.raises(InputError, match=says):
            Record.unpack(data)


def test_a_small_file_that_holds_gigabytes_is_refused_before_it_is_read() -> None:
    bomb = gzip.compress(b"\0" * (4 * LARGEST_TEXT))
    many = gzip.compress(b"\0" * (LARGEST_TEXT // 2)) * 3

    assert len(bomb) < 70_000
    for data in (bomb, many):
        with pytest.raises(InputError, match="it holds more than"):
            Record.unpack(data)


@given(st.integers(0, 2**32), st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3))
@settings(max_examples=200, deadline=None)
def test_a_figure_changed_anywhere_is_read_or_refused_and_nothing_else(seed: int, value: object) -> None:
    lines = [json.loads(line) for line in gzip.decompress(packed()).decode().splitlines()]
    chance = random.Random(seed)
    here: object = lines
    while True:
        keys: list[object] = list(range(len(here))) if isinstance(here, list) else list(here)  # type: ignore[call-overload]
        key = chance.choice(keys)
        inner = here[key]  # type: ignore[index]
        if not isinstance(inner, list | dict) or not inner or chance.random() < 0.1:
            here[key] = chance.choice([value, [value], {}, "judge", ["same", 0]])  # type: ignore[index]
            break
        here = inner
    changed = gzip.compress("\n".join(json.dumps(line) for line in lines).encode())

    with contextlib.suppress(InputError):
        replay(Record.unpack(changed))


@given(st.binary(max_size=300), st.integers(0, 3_000))
@settings(max_examples=200, deadline=None)
def test_flipped_bytes_are_read_or_refused_and_nothing_else(noise: bytes, place: int) -> None:
    data = bytearray(packed())
    data[place : place + len(noise)] = noise

    with contextlib.suppress(InputError):
        Record.unpack(bytes(data))
