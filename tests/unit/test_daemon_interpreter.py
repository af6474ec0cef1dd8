"""What is let go of after a start, and where the C library is another one."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator

import pytest

from canary.daemon import interpreter


@pytest.fixture(autouse=True)
def thawed() -> Iterator[None]:
    switch_s, thresholds = sys.getswitchinterval(), gc.get_threshold()
    yield
    gc.unfreeze()
    gc.set_threshold(*thresholds)
    sys.setswitchinterval(switch_s)


def test_what_is_there_after_the_start_is_not_looked_at_again() -> None:
    before = gc.get_freeze_count()

    interpreter.prepare()
    interpreter.settle()

    assert gc.get_freeze_count() > before


def test_a_wave_of_short_lived_objects_is_no_reason_to_look_through_everything() -> None:
    interpreter.prepare()
    before = gc.get_stats()[2]["collections"]

    kept = [[[number] for number in range(100_000)] for _ in range(5)]

    assert len(kept) == 5
    assert gc.get_stats()[2]["collections"] == before
    interpreter.collect()
    assert gc.get_stats()[2]["collections"] == before + 1


def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ctypes.CDLL", lambda _name: object())

    interpreter.prepare()
    interpreter.trim()
