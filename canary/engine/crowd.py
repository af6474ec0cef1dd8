"""How many unfinished attempts of one namespace are looked at. Pure.

A tenant may create CanaryRollouts by the thousand. Each costs a look at every change in its namespace, so only so many
are looked at, and the others wait and say so. A ResourceQuota is what keeps them out of the cluster (docs/security.md).
"""

from __future__ import annotations

from collections.abc import Sequence

from canary.engine.intake import age
from canary.model.rollout import Phase, Rollout


def crowded_out(rollouts: Sequence[Rollout], most: int) -> frozenset[str]:
    """The uids of those that have to wait: the youngest Pending ones beyond `most` unfinished.

    What has begun is never among them: its traffic is divided, and somebody has to look.
    """
    unfinished = [rollout for rollout in rollouts if not rollout.status.phase.is_terminal]
    if len(unfinished) <= most:
        return frozenset()
    pending = sorted((one for one in unfinished if one.status.phase is Phase.PENDING and not one.deleting), key=age)
    room = max(0, most - (len(unfinished) - len(pending)))
    return frozenset(rollout.uid for rollout in pending[room:])


def sentence(namespace: str, most: int) -> str:
    """Why one waits. The same for all, and as long as it waits: no number in it that changes."""
    return (
        f"namespace {namespace} has more than {most} unfinished rollouts, and no more are looked at: this one waits "
        "until an older one has ended or is deleted"
    )
