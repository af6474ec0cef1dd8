"""`make bench-releases`, in its shortest form: that it works, not what it measures."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_one_release_that_fails_every_request_is_measured_and_reported(tmp_path: Path) -> None:
    out = tmp_path / "result" / "releases.json"
    options = ["--runs", "1", "--case", "failing", "--before", "5", "--out", str(out)]

    done = subprocess.run(
        [sys.executable, "-m", "bench.releases", *options],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )

    assert out.exists(), done.stderr
    (case,) = json.loads(out.read_text())["cases"]
    (run,) = case["runs"]
    assert run["outcome"] == case["expected"] == "RolledBack"
    assert run["tile_s"] == 5.0, "tiles follow the scrape interval"
    assert run["weights"] == [10]
    assert 0 < run["errors"] == run["exposed"]
    assert run["lost"] == 0
    assert case["median"]["errors"] == case["worst"]["errors"] == run["errors"]
    phases = run["from_first_bad"]
    assert phases["decided"]["at"] <= phases["written"]["at"] + 0.1
    assert phases["scraped"]["requests"] <= phases["off"]["requests"] == run["exposed"]
    assert "near-total failure" in run["sentence"]
    assert "Flagger" in done.stdout
    assert f"failing-1: RolledBack in {run['seconds']:.0f} s" in done.stderr
