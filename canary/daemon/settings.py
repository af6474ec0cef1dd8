"""What the daemon is told at its start."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from canary.cluster.slots import PACE_S
from canary.telemetry.settings import SourceSettings


@dataclass(frozen=True, slots=True)
class Settings:
    """`namespace` None means all of them; `tile_s`, `tick_s`, `settle_s` None mean auto. Seconds are float."""

    policies: Path
    source: SourceSettings
    kubeconfig: str | None = None
    context: str | None = None
    namespace: str | None = None
    own_namespace: str = "canary-system"
    listen: str = "127.0.0.1:8080"
    tile_s: float | None = None
    tick_s: float | None = None
    settle_s: float | None = None
    abort_period_s: float = 0.25
    floor: str = ""
    """The policy that rollouts must not fall below where their Namespace's label names none; "" for none."""
    workers: int = 8
    """Threads that look at rollouts. Sixteen were no faster with 2,000 of them, and cost more with 100."""
    history_limit: int = 10
    """Ended attempts kept per service, besides the newest of each target."""
    namespace_limit: int = 200
    """Unfinished attempts of one namespace that are looked at; the others wait."""
    intake_grace_s: float = 5.0
    """How long a new Deployment may be ahead of its Service and route before that counts as a mistake."""
    drain_s: float = 1.0
    """How long looks under way may go on when the controller is told to stop; its successor goes on with the rest."""
    slot_pace_s: float = PACE_S
    """Between two slots of namespaces that this replica gives to another to share more evenly."""
