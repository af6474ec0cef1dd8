"""What a soak found: counts that must be zero, with what is behind each, and how much really happened."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from canary.model.rollout import Phase
from tests.faults.soak.owners import Release, Truth

SILENT_S = 120.0
"""A rollout that neither moved nor said why for so long was stuck; no fault lasts so long."""


@dataclass
class Report:
    """`must_be_zero` maps each thing that must not happen to what was found of it."""

    must_be_zero: dict[str, list[str]] = field(default_factory=dict)
    happened: dict[str, str] = field(default_factory=dict)

    @property
    def is_clean(self) -> bool:
        return not any(self.must_be_zero.values())

    def text(self) -> str:
        rows = [(name, str(len(found))) for name, found in self.must_be_zero.items()]
        width = max(len(name) for name in (*self.must_be_zero, *self.happened))
        lines = [f"| {'must be zero':<{width}} | found |", f"| {'-' * width} | ----: |"]
        lines += [f"| {name:<{width}} | {found:>5} |" for name, found in rows]
        lines += ["", f"| {'happened':<{width}} | |", f"| {'-' * width} | --- |"]
        lines += [f"| {name:<{width}} | {text} |" for name, text in self.happened.items()]
        for name, found in self.must_be_zero.items():
            lines += ["", f"{name}:", *(f"  {each}" for each in found)] if found else []
        return "\n".join(lines)


def judged(releases: Sequence[Release], unfinished: Sequence[str], lost: Mapping[str, str]) -> dict[str, list[str]]:
    """What became of the releases that must not have."""
    over = [(release, release.life) for release in releases if release.life is not None and release.life.is_over]
    ended = {release: life.rollout.status for release, life in over}
    return {
        "wrong promotions": [
            _told(release) for release, status in ended.items() if status.phase is Phase.SUCCEEDED and _is_bad(release)
        ],
        "bad releases past their first step": [
            f"{_told(release)} (at {life.highest_weight} %)"
            for release, life in over
            if release.truth in (Truth.FAILING, Truth.DEAD, Truth.SLOW) and life.highest_weight > FIRST_WEIGHT
        ],
        "healthy releases sent back": [
            _told(release)
            for release, status in ended.items()
            if release.truth.is_good and not release.by_a_person and status.phase is not Phase.SUCCEEDED
        ],
        "others ended for no fault of theirs": [
            _told(release)
            for release, status in ended.items()
            if _is_bad(release) and not release.by_a_person and status.phase is not _due_end(release)
        ],
        "stuck rollouts": [
            *unfinished,
            *(
                f"{_told(release)}: {release.life.longest_silence_s:.0f} s without a word"
                for release in releases
                if release.life is not None and release.life.longest_silence_s > SILENT_S
            ),
        ],
        "services with lost requests": [f"{namespace}: {what}" for namespace, what in lost.items()],
    }


FIRST_WEIGHT = 20


def _due_end(release: Release) -> Phase | None:
    """How a bad release ends by itself; an idle one never does. Promoted ones are counted as such."""
    assert release.life is not None
    if release.life.rollout.status.phase is Phase.SUCCEEDED:
        return Phase.SUCCEEDED
    return None if release.truth is Truth.IDLE else Phase.ROLLED_BACK


def _is_bad(release: Release) -> bool:
    return not release.truth.is_good


def _told(release: Release) -> str:
    if release.life is None:
        return f"{release.namespace} {release.version} ({release.truth}): no rollout"
    status = release.life.rollout.status
    return f"{release.namespace} {release.version} ({release.truth}) is {status.phase.value}: {status.message}"


def ends(releases: Iterable[Release]) -> str:
    """How many of which kind ended how."""
    counts = Counter(
        f"{release.truth} {release.life.rollout.status.phase.value}" for release in releases if release.life is not None
    )
    return ", ".join(f"{count} {what}" for what, count in sorted(counts.items()))


def counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items())) or "none"
