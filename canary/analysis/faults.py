"""Ways in which a new version can be worse than stable, for the question how soon each would be noticed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from canary.analysis.traffic import Behaviour


@dataclass(frozen=True, slots=True)
class Fault:
    """A way to be worse than stable. `of` makes the canary's behaviour, None where stable is as bad or cannot tell."""

    name: str
    words: str
    of: Callable[[Behaviour], Behaviour | None]


def _errors(share: float) -> Callable[[Behaviour], Behaviour | None]:
    return lambda stable: stable.failing(share) if stable.error_share < share else None


FAULTS: tuple[Fault, ...] = (
    Fault("all_fail", "every request fails", _errors(1.0)),
    Fault("errors_5", "5 % errors", _errors(0.05)),
    Fault("errors_1", "1 % errors", _errors(0.01)),
    Fault(
        "errors_doubled",
        "twice stable's errors",
        lambda stable: stable.failing(2 * stable.error_share) if 0 < stable.error_share <= 0.5 else None,
    ),
    Fault(
        "p99_half_more",
        "every latency x1.5, so P99 +50 %",
        lambda stable: stable.slowed(1.5) if stable.timed_share and stable.slower else None,
    ),
)
