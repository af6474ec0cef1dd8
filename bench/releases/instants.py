"""Where the seconds between the first bad response and the end of the traffic went, instant by instant.

What the controller could know at its decision is reconstructed from Prometheus' own samples; of the controller only
the times in the rollout's status are read.
"""

from __future__ import annotations

import json
import urllib.parse
from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass
from typing import Any

from canary.model.phase import Phase
from canary.model.rollout import Rollout
from canary.sandbox.load import Request
from canary.sandbox.process import fetch

_LOOK_BACK = "30m"


@dataclass(frozen=True, slots=True)
class Known:
    """The canary's requests that had been answered by an instant, in epoch seconds."""

    at: float
    requests: int
    bad: int


@dataclass(frozen=True, slots=True)
class Instants:
    """Of a release that went back; epoch seconds. None for what did not happen."""

    first_bad: float | None
    scraped: Known | None
    """The newest scrape of the callers' proxy before the decision: what a look for disasters could see."""
    tile: Known
    """The end of the newest tile that was settled at the decision: what the evidence could hold."""
    decided: Known
    written: float | None
    """The weight of 0 was on the route object."""
    off: Known
    """The last request that the canary was given had its answer."""

    def document(self) -> dict[str, Any]:
        """Times as seconds from the first bad response (null without one), counts as they are."""

        def seconds(at: float | None) -> float | None:
            return None if at is None or self.first_bad is None else round(at - self.first_bad, 3)

        known = {name: getattr(self, name) for name in ("scraped", "tile", "decided", "off")}
        said = {name: asdict(one) | {"at": seconds(one.at)} for name, one in known.items() if one is not None}
        return said | {"written": {"at": seconds(self.written)}}


def scrape_times(prometheus_url: str) -> list[float]:
    """When the callers' proxy was scraped lately. Raises OSError when Prometheus does not answer."""
    query = urllib.parse.urlencode({"query": f'up{{job="envoy-stats"}}[{_LOOK_BACK}]'})
    series = json.loads(fetch(f"{prometheus_url}/api/v1/query?{query}", timeout_s=5.0))["data"]["result"]
    return sorted(float(at) for one in series for at, _ in one["values"])


def instants(
    rollout: Rollout,
    exposed: Collection[Request],
    is_bad: Callable[[Request], bool],
    scrapes: Collection[float],
    settle_s: float,
) -> Instants | None:
    """Of a rollout and the requests `exposed` to its canary; None when it did not decide to go back."""
    status = rollout.status
    decided = next((entry.at.timestamp() for entry in status.history if entry.phase is Phase.ROLLING_BACK), None)
    if decided is None or status.tile is None or not exposed:
        return None

    def known(at: float) -> Known:
        answered = [request for request in exposed if request.end <= at]
        return Known(at, len(answered), sum(map(is_bad, answered)))

    last = status.weight_changes[-1] if status.weight_changes else None
    scraped = max((at for at in scrapes if at <= decided), default=None)
    tile_s = status.tile.total_seconds()
    return Instants(
        first_bad=min((request.end for request in exposed if is_bad(request)), default=None),
        scraped=None if scraped is None else known(scraped),
        tile=known((decided - settle_s) // tile_s * tile_s),
        decided=known(decided),
        written=last.reached.timestamp() if last and not last.weight and last.reached else None,
        off=known(max(request.end for request in exposed)),
    )
