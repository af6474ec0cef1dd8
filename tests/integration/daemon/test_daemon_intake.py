"""Who starts a rollout, which one it is, and who is left alone."""

from __future__ import annotations

from typing import Any

from canary.model.rollout import Phase


def test_an_annotated_deployment_is_released_in_one_object_named_after_its_revision(
    released: Any, controller: Any
) -> None:
    released.release("v2", release_id="build/77")

    done = released.reaches("payment-v2-v2a-1", Phase.SUCCEEDED)

    assert [one.name for one in released.rollouts()] == ["payment-v2-v2a-1"]
    assert (done.spec.trigger.by, done.spec.trigger.id) == ("annotation", "build/77")
    assert released.weights() == {"v1": 0, "v2": 100}
