"""The windows of a record while it grows: compressed by the hundred, the oldest folded into a judge's state.

A controller keeps thousands of rollouts; a window costs it about 20 bytes here instead of 2 KB as an object. A chunk
can be read on its own, so that nothing is packed twice and the oldest can go. Folding is one `observe` per window that
goes, when it goes: never more work than judging it was.
"""

from __future__ import annotations

import gzip
import json
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from canary.analysis.entries import Base, Seen, StepSum, step_sums
from canary.analysis.judge import Judge
from canary.analysis.lines import WindowLines
from canary.analysis.state import dump, load
from canary.model.policy import Policy
from canary.model.verdict import Baseline


@dataclass(frozen=True, slots=True)
class Member:
    """Lines as one gzip member: members put after each other are a gzip file. `raw` is their size before packing."""

    data: bytes
    raw: int

    @classmethod
    def of(cls, texts: Iterable[str]) -> Member:
        text = "".join(f"{text}\n" for text in texts).encode()
        return cls(gzip.compress(text, mtime=0), len(text))

    def lines(self) -> list[str]:
        return gzip.decompress(self.data).decode().splitlines()


@dataclass(frozen=True, slots=True)
class _Chunk:
    member: Member
    windows: int


class Chunks:
    """The windows of one judge, in order; `base` stands for those that gave way."""

    WINDOWS = 128
    """Windows in a chunk: larger ones pack a little better and weigh more until they are full."""

    MOST_PACKED = 224 * 1024
    """Bytes of packed windows; what else a record holds finds room in the rest of its 256 KB."""

    MOST_RAW = 12 * 1024 * 1024
    """Bytes of text, for windows so much alike that they pack to nothing."""

    def __init__(self, policy: Policy, baseline: Baseline, *, most_windows: int) -> None:
        self.base: Base | None = None
        self.last_end: float | None = None
        self._policy, self._baseline = policy, baseline
        self._most_windows = most_windows
        self._sealed: deque[_Chunk] = deque()
        self._form = WindowLines()
        self._open: list[str] = []
        self._open_windows = 0

    def add(self, seen: Seen) -> None:
        """Take in a window; the oldest go when there are too many."""
        self._open += self._form.write(seen)
        self._open_windows += 1
        self.last_end = seen.window.end
        if self._open_windows >= self.WINDOWS:
            self._seal()
            while self._is_full():
                self.fold()

    @property
    def upto(self) -> float | None:
        """Up to when windows gave way (Unix seconds), None when all are here."""
        return self.base.upto if self.base else None

    def packed(self) -> Iterator[Member]:
        """All windows, as gzip members of lines."""
        yield from (chunk.member for chunk in self._sealed)
        if self._open:
            yield Member.of(self._open)

    def read(self) -> Iterator[Seen]:
        """All windows again."""
        for chunk in self._sealed:
            yield from _read(chunk.member.lines())
        yield from _read(self._open)

    def fold(self) -> bool:
        """Let the oldest chunk give way to the state of a judge that has seen it; false when there is none left."""
        if not self._sealed:
            self._seal()
        if not self._sealed:
            return False
        oldest = list(_read(self._sealed.popleft().member.lines()))
        judge = Judge(self._policy, self._baseline)
        steps: tuple[StepSum, ...] = ()
        folded = 0
        if self.base is not None:
            load(judge, self.base.state)
            steps, folded = self.base.steps, self.base.windows
        for seen in oldest:
            judge.take_in(seen.window, seen.now)
        sums = step_sums((*steps, *(StepSum.of(seen.window) for seen in oldest)))
        self.base = Base(oldest[-1].window.end, folded + len(oldest), dump(judge), sums)
        return True

    def _is_full(self) -> bool:
        return bool(self._sealed) and (
            sum(chunk.windows for chunk in self._sealed) > self._most_windows
            or sum(len(chunk.member.data) for chunk in self._sealed) > self.MOST_PACKED
            or sum(chunk.member.raw for chunk in self._sealed) > self.MOST_RAW
        )

    def _seal(self) -> None:
        if self._open:
            self._sealed.append(_Chunk(Member.of(self._open), self._open_windows))
        self._form.begin()
        self._open, self._open_windows = [], 0


def _read(texts: Iterable[str]) -> Iterator[Seen]:
    form = WindowLines()
    for text in texts:
        kind, *values = json.loads(text)
        if kind == "bounds":
            form.read_bounds(values)
        else:
            yield form.read(values)
