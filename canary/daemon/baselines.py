"""Stable's past, read once for each rollout: the ten minutes before the canary could be reached. Those who begin at
the same time share the questions.

Which tiles those are follows from recorded times alone, so a restarted controller reads the same ones and comes to the
same baseline. Nothing is judged without it: how bursty stable is, and at which latency bounds the versions are
compared, must be known before the first figure of the canary is looked at.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from canary.analysis.baseline import HISTORY_S, baseline_of
from canary.daemon import windows
from canary.daemon.tracks import Case
from canary.model.verdict import ArmCounts, Baseline
from canary.telemetry.source import PrometheusSource
from canary.telemetry.tiles import Tile, arm_counts


def history_ends(case: Case) -> tuple[float, float] | None:
    """The ends of the first and the last tile (Unix seconds) of stable's past, None before anything was asked for."""
    last_end = windows.last_tile_before(case.rollout.status, case.tile_s)
    if last_end is None:
        return None
    tile_ms = round(case.tile_s * 1000)
    earlier = max(0, round(HISTORY_S * 1000) // tile_ms - 1)
    return (round(last_end * 1000) - earlier * tile_ms) / 1000, last_end


def read_baselines(source: PrometheusSource, cases: Collection[Case], ends: tuple[float, float]) -> dict[str, Baseline]:
    """What is known of each stable from before its rollout, by uid: all of them `history_ends` and a tile in common.

    Raises TelemetryError when the source does not answer, or not with something that can be read for all of them.
    """
    first_end, last_end = ends
    tile_s = next(iter(cases)).tile_s
    pasts = source.histories({case.stable for case in cases}, first_end=first_end, last_end=last_end, tile_s=tile_s)
    without_version = source.unattributed(
        {case.service for case in cases}, first_end=first_end, last_end=last_end, tile_s=tile_s
    )
    return {
        case.rollout.uid: _baseline(case, pasts.get(case.stable, ()), without_version.get(case.service, {}))
        for case in cases
    }


def _baseline(case: Case, tiles: Sequence[Tile], without_version: Mapping[float, ArmCounts]) -> Baseline:
    counts = [arm_counts(tile, case.policy.analysis.grpc_errors) for tile in tiles]
    unattributed = without_version.values()
    failed = sum(arm.errors for arm in unattributed)
    requests = sum(arm.requests for arm in (*counts, *unattributed))
    return baseline_of(counts, case.tile_s, case.policy, (failed, requests))
