"""What a record says about a rollout: its steps, what was said in each, what came of them. Nothing fetched or decided.

The words for people are in `account_rows`. Texts are as they came from the record, which anybody with rights in the
namespace may have written: who prints them makes them safe.
"""

from __future__ import annotations

from dataclasses import dataclass

from canary.analysis.entries import Judged, Life, StepSum
from canary.analysis.record import Record
from canary.model.phase import Phase
from canary.model.verdict import Evidence, Outcome, Verdict

FOR = "pass"
TOLERATED = "error_rate_vs_tolerated"
"""The one that convicts together with "worse at all" only, so that it is never the strongest by itself."""

_ENDED = {
    Phase.SUCCEEDED: "promoted",
    Phase.ROLLING_BACK: "rolling back",
    Phase.ROLLED_BACK: "rolled back",
    Phase.ABORTED: "aborted",
    Phase.SUPERSEDED: "superseded",
    Phase.FAILED: "failed",
}


@dataclass(frozen=True, slots=True)
class Step:
    """One step: what was counted in it (None where nothing was), the last verdict in it, and what came of it."""

    index: int
    weight: int
    counted: StepSum | None
    verdict: Verdict | None
    came: str

    @property
    def against(self) -> Evidence | None:
        """The evidence of damage that was nearest to its limit."""
        found = [one for one in (self.verdict.evidence if self.verdict else ()) if one.metric not in (FOR, TOLERATED)]
        return max(found, key=lambda one: one.e_value / one.limit, default=None)

    @property
    def in_favour(self) -> Evidence | None:
        """The evidence of health."""
        return next((one for one in (self.verdict.evidence if self.verdict else ()) if one.metric == FOR), None)


@dataclass(frozen=True, slots=True)
class Account:
    """A record, and the phase of its rollout as the cluster has it ("" where only the record is at hand)."""

    record: Record
    phase: str = ""

    @property
    def life(self) -> Life | None:
        """The judge that got furthest: after a restart with other counts the later one, once it has caught up."""
        lives = self.record.lives
        return max(reversed(lives), key=lambda life: life.last_end or 0.0, default=None)

    @property
    def judged(self) -> list[Judged]:
        """Every verdict that was kept, in order."""
        return [entry for life in self.record.lives for entry in life.entries if isinstance(entry, Judged)]

    @property
    def last(self) -> Judged | None:
        """The verdict that counts: the first that failed it, else the newest."""
        failed = (entry for entry in self.judged if entry.verdict.outcome is Outcome.FAIL)
        return next(failed, self.judged[-1] if self.judged else None)

    @property
    def weighed(self) -> Judged | None:
        """The verdict whose numbers are shown: the one that counts, or before a fast abort the newest with any."""
        last = self.last
        if last is None or last.verdict.evidence:
            return last
        before = (entry for entry in reversed(self.judged) if entry.verdict.evidence and entry.at <= last.at)
        return next(before, last)

    def steps(self) -> list[Step]:
        """A row for every step that was counted or judged."""
        policy = self.record.policy
        counted = {one.step: one for one in (self.life.steps if self.life else ())}
        said = {entry.step: entry.verdict for entry in self.judged if entry.step is not None}
        indexes = sorted(counted.keys() | said.keys())
        rows = []
        for index in indexes:
            sums, verdict = counted.get(index), said.get(index)
            is_newest = index == indexes[-1]
            weight = sums.weight if sums else policy.weight_of(min(index, policy.strategy.last_step))
            rows.append(Step(index, weight, sums, verdict, self._came_of(verdict, is_newest=is_newest)))
        return rows

    def _came_of(self, verdict: Verdict | None, *, is_newest: bool) -> str:
        if not is_newest:
            if verdict is None or verdict.outcome is Outcome.PASS:
                return "passed"
            return f"went on ({reason_text(verdict)})"
        word = _ENDED.get(Phase(self.phase), "") if self.phase in set(Phase) else ""
        if verdict is None:
            return word or "not judged yet"
        if verdict.outcome is Outcome.FAIL:
            return f"{word or 'failed'}: {reason_text(verdict)}"
        now = "passes" if verdict.outcome is Outcome.PASS else f"holds: {reason_text(verdict)}"
        return word or now

    @property
    def slow_bound(self) -> float | None:
        """The bucket bound (ms) whose slow requests are shown: the policy's limit, else one that is compared at."""
        limit = self.record.policy.analysis.p99.max_ms
        compared = sorted(self.life.baseline.latency_phi) if self.life else []
        return limit if limit is not None else compared[0] if compared else None


def reason_text(verdict: Verdict) -> str:
    return verdict.reason.replace("_", " ")
