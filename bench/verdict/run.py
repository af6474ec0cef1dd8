"""Run cases on all cores. The same seed gives the same endings, whatever the number of processes.

A case is cut into batches of a fixed size; each batch has random numbers of its own, made of the seed, the case's name
and its number, so neither the order of the work nor its division changes what happens.
"""

from __future__ import annotations

import multiprocessing
import os
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping

import numpy as np

from bench.verdict import rivals
from bench.verdict.drive import drive
from bench.verdict.figures import Endings
from bench.verdict.scenarios import STANDARD_SEEDS, Case
from bench.verdict.traffic import draw

OURS = "this judge"
BATCH = 25
Task = tuple[Case, int, int, int]


def run(
    cases: Iterable[Case],
    seed: int,
    standard: int = STANDARD_SEEDS,
    processes: int | None = None,
    on_batch: Callable[[int, int], None] | None = None,
) -> dict[str, dict[str, Endings]]:
    """The endings of every case by its key, then by who judged (`OURS`, or a rule's name).

    `standard` scales the cases' seeds (2,000 is as they are); `on_batch` is told (batches done, all of them).
    """  # fmt: skip
    tasks = [task for case in cases for task in _tasks(case, seed, standard)]
    found: dict[tuple[str, int], Mapping[str, Endings]] = {}
    for done, (key, number, batched) in enumerate(_all(tasks, processes or os.cpu_count() or 1), start=1):
        found[key, number] = batched
        if on_batch is not None:
            on_batch(done, len(tasks))
    joined: dict[str, dict[str, list[Endings]]] = {}
    for case, number, _, _ in tasks:
        for who, endings in found[case.key, number].items():
            joined.setdefault(case.key, {}).setdefault(who, []).append(endings)
    return {key: {who: np.concatenate(parts) for who, parts in by.items()} for key, by in joined.items()}


def batch(task: Task) -> dict[str, Endings]:
    """One batch of one case: (the case, the batch's number, its rollouts, the seed)."""
    case, number, rollouts, seed = task
    source = np.random.SeedSequence(seed, spawn_key=(zlib.crc32(case.key.encode()), number))
    drawn = draw(case.traffic, case.plan, rollouts, np.random.default_rng(source))
    found = {OURS: drive(drawn, case.traffic, case.driving, source.spawn(rollouts))}
    return found | {rule.name: rivals.endings(rule, drawn) for rule in case.rules}


def _all(tasks: list[Task], processes: int) -> Iterator[tuple[str, int, dict[str, Endings]]]:
    if min(len(tasks), processes) <= 1:
        yield from map(_named, tasks)
        return
    with multiprocessing.get_context("spawn").Pool(min(len(tasks), processes)) as pool:
        yield from pool.imap_unordered(_named, tasks)


def _named(task: Task) -> tuple[str, int, dict[str, Endings]]:
    return task[0].key, task[1], batch(task)


def _tasks(case: Case, seed: int, standard: int) -> list[Task]:
    wanted = max(1, round(case.seeds * standard / STANDARD_SEEDS))
    return [(case, number, min(BATCH, wanted - first), seed) for number, first in enumerate(range(0, wanted, BATCH))]
