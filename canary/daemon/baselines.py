"""Stable's past, read once for each rollout: the ten minutes before the canary could be reached.

Which tiles those are follows from recorded times alone, so a restarted controller reads the same ones and comes to the
same baseline. Nothing is judged without it: how bursty stable is, and at which latency bounds the versions are
compared, must be known before the first figure of the canary is looked at.
"""

from __future__ import annotations

from canary.analysis.baseline import HISTORY_S, baseline_of
from canary.daemon import windows
from canary.daemon.tracks import Case
from canary.model.verdict import Baseline
from canary.telemetry.source import PrometheusSource
from canary.telemetry.tiles import arm_counts


def history_ends(case: Case) -> tuple[float, float] | None:
    """The ends of the first and the last tile (Unix seconds) of stable's past, None before anything was asked for."""
    last_end = windows.last_tile_before(case.rollout.status, case.tile_s)
    if last_end is None:
        return None
    tile_ms = round(case.tile_s * 1000)
    earlier = max(0, round(HISTORY_S * 1000) // tile_ms - 1)
    return (round(last_end * 1000) - earlier * tile_ms) / 1000, last_end


def read_baseline(source: PrometheusSource, case: Case, settled_by: float) -> Baseline | None:
    """What is known of stable from before the rollout, None while its last tile may still fill up.

    Tiles that end by `settled_by` (Unix seconds) are final. Raises TelemetryError when the source does not answer, or
    not with something that can be read.
    """
    ends = history_ends(case)
    if ends is None or ends[1] > settled_by:
        return None
    first_end, last_end = ends
    tiles = source.history(case.stable, first_end=first_end, last_end=last_end, tile_s=case.tile_s)
    without_version = source.unattributed(
        [case.service], first_end=first_end, last_end=last_end, tile_s=case.tile_s
    ).get(case.service, {})
    counts = [arm_counts(tile, case.policy.analysis.grpc_errors) for tile in tiles]
    unattributed = without_version.values()
    failed = sum(arm.errors for arm in unattributed)
    requests = sum(arm.requests for arm in (*counts, *unattributed))
    return baseline_of(counts, case.tile_s, case.policy, (failed, requests))
