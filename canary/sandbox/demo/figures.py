"""What one release cost its callers, counted from the requests they sent. Pure.

A canary is reached by its weight on the route; header probes are nobody's harm and are left out of every figure but
`lost` (decisions.md 22).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from canary.sandbox.load import Request


@dataclass(frozen=True, slots=True)
class Figures:
    """Counts of callers' requests while one release was under way; times are epoch seconds."""

    requests: int = 0
    """Of all versions together."""
    errors: int = 0
    """Callers saw so many errors, whoever answered."""
    exposed: int = 0
    """Requests that the route gave to the canary."""
    slow: int = 0
    """Of those, answered without an error but too late."""
    lost: int = 0
    """Lost on the way: connection errors and Envoy's flags NC, NR, UF, UC. What a weight change must never cause."""
    first_exposed: float | None = None
    """Start of the first request to the canary."""
    first_bad: float | None = None
    """End of the canary's first bad response: an error, or too late."""
    off: float | None = None
    """End of the last request that went to the canary."""

    @property
    def seconds_to_off(self) -> float | None:
        """From the first bad response to the end of the last request; None without a bad one."""
        return None if self.first_bad is None or self.off is None else self.off - self.first_bad

    def seconds_to_detect(self, decided: float | None) -> float | None:
        """From the first bad response to the decision; None where either is missing."""
        return None if self.first_bad is None or decided is None else decided - self.first_bad


def figures(requests: Iterable[Request], version: str, slow_s: float) -> Figures:
    """Count the requests of a release of `version`, whose answers are bad when they come after `slow_s` seconds.

    An error without a version is the canary's: once its pods are ejected, Envoy answers in their place (UH).
    """
    total = errors = exposed = slow = lost = 0
    first_exposed: float | None = None
    first_bad: float | None = None
    off: float | None = None
    for request in requests:
        lost += request.is_lost
        if request.is_probe:
            continue
        total += 1
        errors += request.is_bad
        in_its_place = not request.version and request.is_bad and not request.is_lost
        if request.version != version and not in_its_place:
            continue
        exposed += 1
        is_slow = request.latency > slow_s and not request.is_bad
        slow += is_slow
        first_exposed = request.start if first_exposed is None else min(first_exposed, request.start)
        off = request.end if off is None else max(off, request.end)
        if request.is_bad or is_slow:
            first_bad = request.end if first_bad is None else min(first_bad, request.end)
    return Figures(total, errors, exposed, slow, lost, first_exposed, first_bad, off)
