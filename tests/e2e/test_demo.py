"""`canary demo` as a whole: what it promises is measured at the callers, and nothing of it is left."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow

DEMO = [sys.executable, "-m", "canary.cli.app", "demo"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the demo makes its own folder."""
    return tmp_path_factory.mktemp("demo")


@pytest.fixture(scope="module")
def run(folder: Path) -> subprocess.CompletedProcess[str]:
    """One demo from start to end."""
    return subprocess.run(
        [*DEMO, "-o", "json"],
        env=os.environ | {"TMPDIR": str(folder)},
        capture_output=True,
        text=True,
        check=False,
        timeout=420,
    )


@pytest.fixture(scope="module")
def document(run: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert run.stdout, run.stderr
    said: dict[str, Any] = json.loads(run.stdout)
    return said


@pytest.fixture(scope="module")
def releases(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {release["version"]: release for release in document["releases"]}


def test_everything_is_as_promised(run: subprocess.CompletedProcess[str], document: dict[str, Any]) -> None:
    assert document["failures"] == [], run.stderr
    assert document["ok"] is True
    assert run.returncode == 0


def test_the_good_release_is_promoted_over_every_weight(releases: dict[str, dict[str, Any]]) -> None:
    v2 = releases["v2"]

    assert (v2["outcome"], v2["weights"]) == ("Succeeded", [10, 25, 50, 75, 100])
    assert v2["errors"] == 0
    assert v2["exposed"] > 1000


@pytest.mark.parametrize(
    ("version", "says"), [("v3", "errors"), ("v4", "took longer than"), ("v5", "near-total failure")]
)
def test_bad_releases_are_rolled_back_at_the_first_weight_for_what_is_wrong_with_them(
    releases: dict[str, dict[str, Any]], version: str, says: str
) -> None:
    release = releases[version]

    assert (release["outcome"], release["weights"]) == ("RolledBack", [10])
    assert says in release["sentence"]
    assert 0 < release["secondsToDetect"] <= release["secondsToTrafficOff"] + 1
    # a tenth of the requests for the seconds that it took, not more
    assert 0 < release["exposed"] < 0.15 * release["requests"]


def test_the_total_failure_loses_its_traffic_within_five_seconds(releases: dict[str, dict[str, Any]]) -> None:
    v5 = releases["v5"]

    assert v5["secondsToTrafficOff"] <= 5
    assert v5["errors"] == v5["exposed"] > 0


def test_the_slow_release_fails_nobody(releases: dict[str, dict[str, Any]]) -> None:
    assert releases["v4"]["errors"] == 0
    assert releases["v4"]["slow"] > 0


def test_no_request_is_lost_by_a_weight_change(document: dict[str, Any]) -> None:
    assert document["lost"] == 0
    assert document["requests"] > 0.9 * document["requestsPerSecond"] * document["seconds"]


def test_a_request_with_the_debug_header_comes_first(document: dict[str, Any]) -> None:
    assert document["debugHeader"] == {"reached": "v2", "status": 200, "beforeAnyWeight": True}


def test_a_log_says_every_step_once(run: subprocess.CompletedProcess[str]) -> None:
    lines = run.stderr.splitlines()

    for said in ("v2 Progressing 1/5 10 %", "v2 Succeeded", "v3 RolledBack", "v4 RolledBack", "v5 RolledBack"):
        assert any(said in line for line in lines), run.stderr
    assert len(lines) == len(set(lines))


def test_nothing_is_left_behind(run: subprocess.CompletedProcess[str], folder: Path) -> None:
    assert list(folder.iterdir()) == []


def test_ctrl_c_ends_it_at_once_and_leaves_nothing(tmp_path: Path) -> None:
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    with subprocess.Popen(DEMO, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            deadline = time.monotonic() + 60
            while not list(tmp_path.glob("canary-demo-*/load.txt")):
                assert process.poll() is None
                assert time.monotonic() < deadline, "no load within 60 s"
                time.sleep(0.05)
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=30)
        finally:
            process.kill()

    assert process.returncode == 130
    assert out == ""
    assert "Traceback" not in err
    assert list(tmp_path.iterdir()) == []
