"""The observed share of requests against the configured weight."""

from __future__ import annotations

import random

import pytest

from canary.analysis.share import ShareWatch
from canary.model.verdict import ArmCounts, Window


def tile(canary: int, stable: int, *, step: int = 1, weight: int = 10, at: float = 0.0) -> Window:
    return Window(at, at + 1, step, weight, ArmCounts(canary), ArmCounts(stable))


def test_callers_that_bypass_the_route_are_noticed_in_a_sentence_that_names_the_weight() -> None:
    watch = ShareWatch()

    for second in range(5):
        watch.add(tile(1, 299, at=second))

    assert "weight of 10 %" in watch.problem
    assert watch.newest == pytest.approx(1 / 300)


@pytest.mark.parametrize("weight", [1, 10, 50, 90])
def test_a_healthy_mesh_is_never_suspected(weight: int) -> None:
    rng = random.Random(weight)

    for _ in range(20):
        watch = ShareWatch()
        for second in range(60):
            canary = sum(rng.random() < weight / 100 for _ in range(50))
            watch.add(tile(canary, 50 - canary, weight=weight, at=second))
            assert watch.problem == ""


def test_a_new_step_begins_the_count_again() -> None:
    watch = ShareWatch()
    watch.add(tile(0, 1000))
    assert watch.problem

    watch.add(tile(250, 750, step=2, weight=25, at=1))

    assert watch.problem == ""
    assert watch.newest == 0.25


def test_few_requests_and_the_ends_of_the_scale_say_nothing() -> None:
    few, header, full = ShareWatch(), ShareWatch(), ShareWatch()

    few.add(tile(0, 99))
    header.add(tile(40, 1000, step=0, weight=0))
    full.add(tile(1000, 40, step=5, weight=100))

    assert [few.problem, header.problem, full.problem] == ["", "", ""]
    assert few.newest == 0.0
