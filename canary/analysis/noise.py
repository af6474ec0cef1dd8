"""Disturbances that are not the canary's fault, as one cause in words.

A window with a cause is no evidence about latency. It must never excuse errors, and never be claimed on figures that
are missing.
"""

from __future__ import annotations

from collections.abc import Sequence

from canary.analysis.sentence import share_text

STEAL_SHARE = 0.05
STEAL_POINTS = 0.05
STEAL_RATIO = 2.0


def noise_of(canary_steal: Sequence[float], stable_steal: Sequence[float], control_plane: str) -> str:
    """What disturbed this window, "" for nothing. `canary_steal` and `stable_steal` are the shares (0-1) of CPU time
    stolen from the nodes of either version, one entry per node that is measured; `control_plane` is what is wrong
    with it, "" for nothing.

    Steal is a cause when the mean over the canary's nodes is at least 5 %, at least twice stable's, and at least 5
    points more. Reasons: a stolen share s stretches computing to 1 / (1 - s) of its time, and below 5 % that is well
    inside the default tolerance of 1.25; what is stolen from both versions' nodes is in both arms, and only a
    difference makes one look slower than the other; and at 30 against 25 % the two are slowed nearly alike. Without a
    measured node on either side nothing is known of a difference.
    Raises ValueError for a share outside of 0 to 1.
    """
    for share in (*canary_steal, *stable_steal):
        if not 0 <= share <= 1:
            raise ValueError(f"a share of stolen CPU time is from 0 to 1, not {share}")
    causes = [_stolen(canary_steal, stable_steal), control_plane]
    return " and ".join(cause for cause in causes if cause)


def _stolen(canary_steal: Sequence[float], stable_steal: Sequence[float]) -> str:
    if not canary_steal or not stable_steal:
        return ""
    canary, stable = (sum(shares) / len(shares) for shares in (canary_steal, stable_steal))
    if canary < max(STEAL_SHARE, STEAL_RATIO * stable, stable + STEAL_POINTS):
        return ""
    return f"CPU steal on the canary's nodes {share_text(canary)} against {share_text(stable)} on stable's"
