"""What stable's own past tells before a rollout: how bursty its counts are, and at which bucket bounds to compare.

Everything here is fixed before the first request reaches the canary, so no choice depends on the outcome. Errors come
in bursts in real services; evidence computed as if requests were independent would then be too sure of itself, so it
is divided by the Pearson dispersion D of stable's counts. Dividing by phi >= 1 keeps the bound on false rollbacks;
that phi is *enough* under over-dispersion is simulated (docs/bench-verdict.md), not proved.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from canary.analysis.interval import upper_bound
from canary.model.policy import Policy
from canary.model.verdict import ArmCounts, Baseline

HISTORY_S = 600.0
"""How far back stable's history is read (seconds)."""

BURST_S = 30.0
"""The second length of window at which bursts are looked for, beside the tile."""

TAIL = (0.002, 0.30)
"""Shares of slow requests between which a bucket bound tells something: neither empty nor the rule."""

UNATTRIBUTED_RATIO, UNATTRIBUTED_SLACK = 1.2, 0.0005


def baseline_of(
    tiles: Sequence[ArmCounts], tile_s: float, policy: Policy, unattributed: tuple[int, int] = (0, 0)
) -> Baseline:
    """The baseline of stable's `tiles` (of `tile_s` seconds each, in order) from before the rollout.

    `slower` holds every bound that stable's histogram has (ms). `unattributed` is (requests that failed for want of a
    host, all requests of the service) of the same time. No tiles, or none with requests: nothing is known, and counts
    are taken as independent.
    """
    errors = [(tile.requests, tile.errors) for tile in tiles]
    bounds = _telling(tiles)
    p99 = policy.analysis.p99.max_ms
    failed, total = unattributed
    return Baseline(
        errors_phi=dispersion(errors, tile_s),
        latency_phi={bound: dispersion(_slow(tiles, bound), tile_s) for bound in bounds},
        p99_phi=dispersion(_slow(tiles, p99), tile_s) if p99 is not None else 1.0,
        unattributed_bound=_tolerated(failed, total) if total else None,
        history_s=sum(1 for tile in tiles if tile.requests) * tile_s,
    )


def dispersion(counts: Sequence[tuple[int, int]], tile_s: float) -> float:
    """phi >= 1 of (requests, bad ones) per tile: the larger significant D of tiles and of windows of about 30 s.

    D is the mean of (s - n p)^2 / (n p) with the pooled p (Pearson). It counts only if it is more than chance makes of
    independent requests: D > 1 + 2.5 sqrt((2 + 1/mu) / (k - 1)), for k windows with mu bad ones each on average.
    """
    merged = max(1, round(BURST_S / tile_s))
    windows = [list(counts)]
    if merged > 1:
        windows.append([_sum(counts[start : start + merged]) for start in range(0, len(counts), merged)])
    return max([1.0, *(found for one in windows if (found := _significant(one)) is not None)])


def _significant(counts: Iterable[tuple[int, int]]) -> float | None:
    seen = [(total, bad) for total, bad in counts if total]
    bad_ones, requests = sum(bad for _, bad in seen), sum(total for total, _ in seen)
    if len(seen) < 2 or not bad_ones:
        return None
    share = bad_ones / requests
    found = sum((bad - total * share) ** 2 / (total * share) for total, bad in seen) / len(seen)
    mean = bad_ones / len(seen)
    by_chance = 1 + 2.5 * math.sqrt((2 + 1 / mean) / (len(seen) - 1))
    return found if found > by_chance else None


def _sum(counts: Sequence[tuple[int, int]]) -> tuple[int, int]:
    return sum(total for total, _ in counts), sum(bad for _, bad in counts)


def _slow(tiles: Sequence[ArmCounts], bound: float) -> list[tuple[int, int]]:
    return [(tile.timed, tile.slower.get(bound, 0)) for tile in tiles]


def _telling(tiles: Sequence[ArmCounts]) -> list[float]:
    """The bounds at which stable's tail is within `TAIL`, and the next one up; none when no tail is."""
    timed = sum(tile.timed for tile in tiles)
    if not timed:
        return []
    known = sorted({bound for tile in tiles for bound in tile.slower})
    shares = [sum(tile.slower.get(bound, 0) for tile in tiles) / timed for bound in known]
    within = [place for place, share in enumerate(shares) if TAIL[0] <= share <= TAIL[1]]
    if not within:
        return []
    return [known[place] for place in (*within, within[-1] + 1) if place < len(known)]


def _tolerated(failed: int, total: int) -> float:
    return min(1.0, UNATTRIBUTED_RATIO * upper_bound(total, failed, 0.01) + UNATTRIBUTED_SLACK)
