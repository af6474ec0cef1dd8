"""A sample of the kill points of every rollout, on the embedded API server; `make crash` tries them all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.cluster import EmbeddedCluster
from tests.faults.crash.campaign import campaign
from tests.faults.crash.run import Stand
from tests.faults.crash.stories import STORIES
from tests.faults.crash.traffic import CROSSINGS, lane

pytestmark = pytest.mark.slow

SAMPLE, JOBS = 21, 12
SEED = int(os.environ.get("SEED", "1"))
"""Another one by hand: a failure names the point, and is found again with the same."""


@pytest.fixture
def stand(tmp_path: Path) -> Iterator[Stand]:
    with Stand(tmp_path, EmbeddedCluster(tmp_path)) as made:
        yield made


def test_killed_at_any_write_a_rollout_goes_as_if_nothing_had_happened(stand: Stand) -> None:
    outcome = campaign(stand, list(STORIES.values()), jobs=JOBS, size=SAMPLE, seed=SEED)

    assert outcome.failed == []
    assert outcome.differences == []
    assert {name: len(points) for name, points in outcome.found.items() if len(points) < 2 * FEWEST_WRITES[name]} == {}
    assert outcome.kills >= SAMPLE - len(STORIES), outcome.not_met


FEWEST_WRITES = {
    "promoted": 20,
    "rolled back": 22,
    "aborted": 22,
    "header then weights": 24,
    "superseded": 40,
    "tried again": 36,
    "deleted": 22,
}
"""Fewer, and the harness does not see what is written."""


def test_no_request_is_lost_while_it_is_killed_at_every_write_to_the_mesh(tmp_path: Path) -> None:
    with lane(tmp_path) as driven:
        crossing = driven.cross("promoted", CROSSINGS["promoted"])

    assert crossing.wrong == ()
    assert crossing.route == ("v1=75 v2=25", "v2=100")
    assert crossing.kills >= 6  # the subset and two weights, on both sides
    assert crossing.requests > 1000
    assert crossing.lost == 0, crossing.lost_examples
