"""What a rollout was judged by, kept: so that its verdicts can be asked for, and computed again, without Prometheus.

`Recorder` is what the controller fills while it judges: every window, each change of verdict, each fast abort. What it
packs is at most 256 KB: when it would be more, the oldest windows give way to the state of a judge that has seen them,
so that everything from there on is still computed exactly. `Record` (recorded.py) is the same, read back.

A record is for people and never decides: it lies in the namespace of those it is about, who may write to it.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from canary import __version__
from canary.analysis import lines
from canary.analysis.chunks import Chunks, Member
from canary.analysis.entries import Aborted, Judged, Life, Seen
from canary.analysis.recorded import LARGEST_TEXT, Record
from canary.errors import InputError
from canary.model.policy import Policy
from canary.model.verdict import ArmCounts, Baseline, Ejections, SourceState, Verdict, Window

__all__ = ["LARGEST_PACKED", "Record", "Recorder"]

LARGEST_PACKED = 256 * 1024
"""Bytes of a packed record (decisions.md 9)."""

MOST_WINDOWS = 20_000
MOST_ENTRIES = 300
"""Verdicts and aborts kept; a verdict that flaps for a day must not push the windows out."""


@dataclass(frozen=True, slots=True)
class _Earlier:
    """A life of before a restart, packed: whole, and without its windows for when room is needed."""

    whole: Member
    bare: Member


class Recorder:
    """Keeps what one judge is given and says. One thread may record while another packs.

    `window` follows each `Judge.observe` that did not raise, and nothing may come between the two: a verdict says
    which windows the judge had seen by which were recorded. `about` is copied into the record, for whoever finds one.
    """

    def __init__(
        self,
        policy: Policy,
        baseline: Baseline,
        *,
        tile_s: float,
        settle_s: float,
        about: Mapping[str, str] | None = None,
    ) -> None:
        self.policy = policy
        self._baseline = baseline
        self._tile_s, self._about = tile_s, dict(about or {})
        self._settle_s = settle_s
        self._chunks = Chunks(policy, baseline, most_windows=MOST_WINDOWS)
        self._entries: list[Judged | Aborted] = []
        self._latest: Judged | None = None
        self._lost = 0
        self._earlier: list[_Earlier] = []
        self._awaited: Life | None = None
        self._lock = threading.Lock()
        self.changes = 0
        """Grows with everything recorded, so that a keeper can tell whether there is anything new."""

    def window(self, window: Window, now: float) -> None:
        """A settled window that the judge has just taken in, at `now` (Unix seconds)."""
        with self._lock:
            self._chunks.add(Seen(window, now))
            self.changes += 1

    def verdict(self, now: float, step: int | None, source: SourceState, verdict: Verdict) -> None:
        """What `Judge.verdict(now, source, step)` said, or a fast abort repeated. Kept: the first of each outcome,
        reason and step, the last of each step, and the newest of all."""
        with self._lock:
            judged = Judged(now, step, source, self._chunks.last_end, verdict)
            newest = self._latest or next((one for one in reversed(self._entries) if isinstance(one, Judged)), None)
            if newest is not None and _run(newest) == _run(judged):
                self._latest = judged
                return
            if self._latest is not None and self._latest.step != step:
                self._keep(self._latest)
            self._latest = None
            self._keep(judged)
            self.changes += 1

    def abort(
        self, now: float, canary: ArmCounts, stable: ArmCounts, ejections: Ejections | None, verdict: Verdict
    ) -> None:
        """A fast abort that `Judge.abort(canary, stable, ejections)` decided at `now` (Unix seconds)."""
        with self._lock:
            self._keep(Aborted(now, canary, stable, ejections, self._chunks.last_end, verdict))
            self.changes += 1

    def resume(self, stored: Record) -> None:
        """Go on from what was stored before a restart. Its verdicts stay; its windows, too, until ours are the same.

        Nothing of it is believed: where our windows are others, it stays beside them as an earlier life.
        """
        with self._lock:
            self._earlier = [_earlier(life) for life in stored.lives]
            self._awaited = stored.lives[-1] if stored.lives else None
            self.changes += 1

    def pack(self) -> bytes:
        """The record as gzip, at most `LARGEST_PACKED` bytes; the same for the same content."""
        with self._lock:
            self._settle()
            while True:
                members = list(self._members())
                is_readable = sum(member.raw for member in members) <= LARGEST_TEXT
                if is_readable and sum(len(member.data) for member in members) <= LARGEST_PACKED:
                    return b"".join(member.data for member in members)
                self._make_room()

    @property
    def last_end(self) -> float | None:
        """The end of the newest window, None before the first (Unix seconds)."""
        return self._chunks.last_end

    def _keep(self, entry: Judged | Aborted) -> None:
        self._entries.append(entry)
        if len(self._entries) > MOST_ENTRIES:
            del self._entries[_spare(self._entries)]
            self._lost += 1

    def _life(self) -> Life:
        entries = (*self._entries, *((self._latest,) if self._latest else ()))
        return Life(self._baseline, self._settle_s, self._chunks.base, entries, lost=self._lost)

    def _members(self) -> Iterator[Member]:
        policy = self.policy
        about = (self._tile_s, self._about, policy.digest, policy.document())
        yield Member.of([lines.line(lines.FORMAT, lines.VERSION, __version__, *about)])
        yield from (life.whole for life in self._earlier)
        yield Member.of(_life_lines(self._life()))
        yield from self._chunks.packed()

    def _settle(self) -> None:
        """Once we have seen as much as the life before the restart: one life if both saw the same, else two."""
        awaited = self._awaited
        ours = self._chunks.last_end
        if awaited is None or (awaited.last_end is not None and (ours is None or ours < awaited.last_end)):
            return
        if awaited.baseline == self._baseline and _same_windows(awaited, self._chunks):
            self._lost = max(self._lost, awaited.lost)
            ours_alone = [entry for entry in self._entries if entry not in awaited.entries]
            self._entries = []
            for entry in (*awaited.entries, *ours_alone):
                self._keep(entry)
            self._earlier.pop()
        self._awaited = None

    def _make_room(self) -> None:
        """The least loss first: verdicts where they take most of it, windows of earlier lives, our oldest windows,
        earlier lives, verdicts."""
        said = Member.of(_life_lines(self._life()))
        if len(said.data) > LARGEST_PACKED // 2 or said.raw > LARGEST_TEXT // 2:
            self._forget_half()
            return
        for place, earlier in enumerate(self._earlier):
            if earlier.whole is not earlier.bare:
                self._earlier[place] = _Earlier(earlier.bare, earlier.bare)
                return
        if self._chunks.fold():
            return
        if self._earlier:
            del self._earlier[0]
            self._awaited = self._awaited if self._earlier else None
        else:
            self._forget_half()

    def _forget_half(self) -> None:
        """The older half of the verdicts, the newest of all in the end."""
        gone = (len(self._entries) + 1) // 2
        del self._entries[:gone]
        self._lost += gone
        if not gone and self._latest is None:
            raise InputError(f"the policy {self.policy.name} alone is more than {LARGEST_PACKED} bytes")
        if not gone:
            self._latest = None


def _run(judged: Judged) -> tuple[object, ...]:
    return judged.verdict.outcome, judged.verdict.reason, judged.step


def _spare(entries: Sequence[Judged | Aborted]) -> int:
    """The oldest entry that is not the last of its step, nor a fast abort."""
    for place, (entry, after) in enumerate(itertools.pairwise(entries)):
        if isinstance(entry, Judged) and isinstance(after, Judged) and entry.step == after.step:
            return place
    return 0


def _same_windows(stored: Life, ours: Chunks) -> bool:
    """Whether both saw the same, as far as both still have their windows."""
    end = stored.last_end
    if end is None:
        return True
    since = max(upto for upto in (stored.upto, ours.upto, float("-inf")) if upto is not None)
    theirs = [seen.window for seen in stored.windows if seen.window.end > since]
    return theirs == [seen.window for seen in ours.read() if since < seen.window.end <= end]


def _life_lines(life: Life) -> list[str]:
    return [lines.life_line(life), *(lines.entry_line(entry) for entry in life.entries)]


def _earlier(life: Life) -> _Earlier:
    form = lines.WindowLines()
    windows = [text for seen in life.windows for text in form.write(seen)]
    bare = Member.of(_life_lines(replace(life, base=None)))
    return _Earlier(Member.of([*_life_lines(life), *windows]) if windows or life.base else bare, bare)
