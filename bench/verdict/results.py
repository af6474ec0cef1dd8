"""All figures of one run, as plain rows: what the table, the markdown, the JSON and the pictures are made of."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from bench.verdict.curves import Curve
from bench.verdict.figures import Endings, Estimate
from bench.verdict.run import OURS
from bench.verdict.scenarios import Case


@dataclass(frozen=True)
class Line:
    """One figure of one case under one rule. `met` is None without a target."""

    row: str
    case: str
    who: str
    policy: str
    with_hold: bool
    figure: str
    estimate: Estimate
    target: str = ""
    met: bool | None = None

    @property
    def result(self) -> str:
        return {None: "", True: "met", False: "MISSED"}[self.met]


@dataclass(frozen=True)
class Results:
    """One run: `commit` as git names it, the seed, and for how many rollouts "2,000" stood."""

    commit: str
    seed: int
    standard: int
    lines: tuple[Line, ...]
    curves: tuple[Curve, ...] = field(default=())

    def of(self, row: str) -> tuple[Line, ...]:
        """The figures of our judge in a row."""
        return tuple(line for line in self.lines if line.row == row and line.who == OURS)

    @property
    def rules(self) -> tuple[str, ...]:
        """Who judged besides us."""
        return tuple(dict.fromkeys(line.who for line in self.lines if line.who != OURS))

    def compared(self, figure: str) -> tuple[str, ...]:
        """The cases that others judged too and that have such a figure."""
        return tuple(dict.fromkeys(line.case for line in self.lines if line.who != OURS and line.figure == figure))

    def one(self, case: str, who: str, figure: str) -> Estimate:
        """Raises KeyError when the run has no such figure."""
        for line in self.lines:
            if (line.case, line.who, line.figure) == (case, who, figure):
                return line.estimate
        raise KeyError((case, who, figure))

    @property
    def missed(self) -> tuple[Line, ...]:
        return tuple(line for line in self.lines if line.met is False)

    def document(self) -> dict[str, Any]:
        """JSON-able; what was not reached is null."""
        return {
            "commit": self.commit,
            "seed": self.seed,
            "standardRollouts": self.standard,
            "figures": [_plain(asdict(line)) for line in self.lines],
            "curves": [_plain({name: _listed(value) for name, value in vars(curve).items()}) for curve in self.curves],
        }


def lines_of(cases: Iterable[Case], endings: Mapping[str, Mapping[str, Endings]]) -> tuple[Line, ...]:
    """The figures of each case, ours first, then the rules'. A rule has no target."""
    found = []
    for case in cases:
        for who, ends in endings[case.key].items():
            for target in case.targets:
                estimate = target.figure.of(ends)
                is_ours = who == OURS
                found.append(
                    Line(
                        row=case.row,
                        case=case.name,
                        who=who,
                        policy=case.driving.policy if is_ours else "",
                        with_hold=case.driving.with_hold and is_ours,
                        figure=target.figure.name,
                        estimate=estimate,
                        target=target.text(estimate.unit) if is_ours else "",
                        met=target.is_met(estimate) if is_ours else None,
                    )
                )
    return tuple(found)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _listed(value: Any) -> Any:
    return value.tolist() if hasattr(value, "tolist") else value
