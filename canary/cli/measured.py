"""A service's traffic as Prometheus has it, for plans: the last hour of stable, and of whoever shares the service."""

from __future__ import annotations

from dataclasses import dataclass

from canary.analysis.baseline import baseline_of
from canary.analysis.traffic import Traffic, traffic_of
from canary.cli.metrics_source import Asked
from canary.cli.release import Release
from canary.errors import TelemetryAnswer
from canary.mesh.objects import name_of
from canary.mesh.services import selected, service_named
from canary.model.verdict import ArmCounts, Baseline
from canary.telemetry.queries import Workload
from canary.telemetry.tiles import arm_counts

HOUR_S = 3600.0


@dataclass(frozen=True, slots=True)
class Measured:
    """`traffic` over `seconds` until `until` (Unix seconds), and the baseline that a rollout would learn from it."""

    traffic: Traffic
    baseline: Baseline
    seconds: float
    until: float


def measure(asked: Asked, release: Release, now: float) -> Measured:
    """The last hour, or as much of it as there is. Raises TelemetryError when stable had no request in it."""
    tile_s = asked.tile_s
    last_end = (now - asked.settle_s) // tile_s * tile_s
    first_end = last_end - max(1, round(HOUR_S / tile_s) - 1) * tile_s
    versions = {release.stable, release.target, *map(name_of, selected(release.view, _service(release)))}

    def tiles(name: str) -> list[ArmCounts]:
        found = asked.source.history(
            Workload(release.namespace, name), first_end=first_end, last_end=last_end, tile_s=tile_s
        )
        return [arm_counts(tile, release.policy.analysis.grpc_errors) for tile in found]

    stable = tiles(release.stable)
    others = [tiles(name) for name in sorted(versions - {release.stable})]
    begun = next((place for place, tile in enumerate(stable) if tile.requests), None)
    if begun is None:
        raise TelemetryAnswer(
            f"Prometheus counted no request to Deployment {release.namespace}/{release.stable} (stable) in the last "
            "hour: there is nothing to plan by"
        )
    stable = stable[begun:]  # a service, or a Prometheus, that is younger than an hour
    seconds = len(stable) * tile_s
    baseline = baseline_of(stable, tile_s, release.policy)
    elsewhere = sum(tile.requests for arm in others for tile in arm[begun:])
    return Measured(traffic_of(stable, seconds, elsewhere, baseline.errors_phi), baseline, seconds, last_end)


def _service(release: Release) -> dict[str, object]:
    return dict(service_named(release.view, release.service))
