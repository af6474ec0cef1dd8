"""What is said before and after a release agrees with the release: planned, lived through, and judged once more."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import pytest

from canary.model.rollout import Phase
from canary.sandbox import example

if TYPE_CHECKING:
    from .conftest import Stage

pytestmark = pytest.mark.slow

POLICY = "quick"


def asked(stage: Stage, *arguments: str) -> Any:
    """The document that a command prints about the sandbox's Prometheus and its policies."""
    settings = stage.sandbox.settings
    source = ["--prometheus", stage.sandbox.prometheus.url, "--policies", str(settings.policies)]
    deadline = time.monotonic() + 30
    while True:
        done = stage.canary(*arguments, *source, "-n", example.NAMESPACE, "-o", "json", timeout_s=180)
        if "counted no request" not in done.stderr or time.monotonic() > deadline:
            break  # a sandbox that has just begun was scraped once, and a count takes two scrapes
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_bad_release_is_noticed_about_as_soon_as_planned_and_a_backtest_repeats_its_sentence(stage: Stage) -> None:
    stable = example.deployment_name(stage.stable)
    plan = asked(stage, "plan", stable, "--policy", POLICY)

    version = stage.release(example.FAILS_SOMETIMES, POLICY)
    ended = stage.wait_phase(version, Phase.ROLLED_BACK)
    found = asked(stage, "backtest", ended.name)

    planned = plan["badFromTheStart"]["errors_5"]
    assert planned["share"] == 1.0
    assert planned["step"] == 1
    assert ended.status.cause is not None
    assert found["decision"] == "rollback"
    assert found["failed"]["sentence"].removesuffix(".") in ended.status.cause.sentence
    assert found["really"]["phase"].startswith("RolledBack")
    # the same windows, so the same moment: a tile had settled, and a tick came
    over = next(entry.at for entry in ended.status.history if entry.phase is Phase.ROLLING_BACK)
    assert over.timestamp() - 5 < found["failed"]["at"] < over.timestamp() + 3


def test_a_good_release_is_promoted_and_no_backtest_would_have_stopped_it(stage: Stage) -> None:
    version = stage.release(example.HEALTHY, POLICY)
    ended = stage.wait_phase(version, Phase.SUCCEEDED)

    found = asked(stage, "backtest", ended.name)
    again = asked(stage, "backtest", example.deployment_name(version))

    assert found["decision"] == "none"
    assert [step["outcome"] for step in found["steps"]] == ["pass", "pass", "pass"]
    assert [step["weight"] for step in found["steps"]] == [10, 50, 100]
    assert found["really"]["phase"].startswith("Succeeded")
    # the second may see one tile more: the first asked while the last one was still settling
    assert again["steps"][:2] == found["steps"][:2]
    assert (again["decision"], again["baseline"], again["really"]) == (
        found["decision"],
        found["baseline"],
        found["really"],
    )
