"""Windows from files: the controller's record, the document that explain prints, and anybody's own."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from canary.analysis.judge import Judge
from canary.analysis.record import Record, Recorder
from canary.cli.account import Account
from canary.cli.figures import figures
from canary.cli.window_file import read_windows
from canary.errors import InputError
from canary.model.policy import Policy
from canary.model.verdict import ArmCounts, Baseline, Ejections, Window

POLICY = Policy.model_validate(
    {
        "name": "story",
        "strategy": {"weights": [10, 100], "hold": "1m"},
        "analysis": {"warmup": "0s", "errorRate": {"max": "1%"}, "p99": {"max": "500ms"}},
    }
)
BASELINE = Baseline(errors_phi=1.5, latency_phi={250.0: 1.25}, unattributed_bound=0.01, history_s=300.0)
COUNTS = ArmCounts(100, 2, 98, {250.0: 4, 500.0: 1})
WINDOWS = tuple(
    Window(
        1000.0 + 5 * place, 1005.0 + 5 * place, 1, 10, COUNTS, COUNTS, ArmCounts(3, 1), Ejections(1, 2, 0, 2),
        warm=place > 0, noise="steal" if place == 2 else "", metrics={"queue": 3.5},
    )
    for place in range(3)
)  # fmt: skip


def recorder() -> Recorder:
    kept, judge = Recorder(POLICY, BASELINE, tile_s=5.0, settle_s=2.5), Judge(POLICY, BASELINE)
    for window in WINDOWS:
        judge.observe(window, window.end + 3)
        kept.window(window, window.end + 3)
    return kept


def written(folder: Path, document: Any) -> Path:
    path = folder / "windows.json"
    path.write_text(json.dumps(document), encoding="utf-8")
    return path


def test_the_controllers_record_is_read_with_its_policy_and_baseline(tmp_path: Path) -> None:
    path = tmp_path / "record.gz"
    path.write_bytes(recorder().pack())

    read = read_windows(path)

    assert read.windows == WINDOWS
    assert (read.baseline, read.tile_s, read.settle_s) == (BASELINE, 5.0, 2.5)
    assert read.policy is not None
    assert read.policy.digest == POLICY.digest


def test_what_explain_prints_as_json_is_the_same(tmp_path: Path) -> None:
    record = Record.unpack(recorder().pack())

    read = read_windows(written(tmp_path, figures(Account(record, ""), None, None)))

    assert read.windows == WINDOWS
    assert (read.baseline, read.tile_s, read.settle_s) == (BASELINE, 5.0, 2.5)
    assert read.policy is not None
    assert read.policy.digest == POLICY.digest


def test_the_least_that_somebody_has_to_write(tmp_path: Path) -> None:
    window = {
        "start": 1000, "end": 1015, "weight": 10,
        "canary": {"requests": 50, "errors": 1}, "stable": {"requests": 450, "errors": 2},
    }  # fmt: skip

    read = read_windows(written(tmp_path, {"windows": [window]}))

    assert read.windows == (Window(1000.0, 1015.0, 1, 10, ArmCounts(50, 1), ArmCounts(450, 2)),)
    assert (read.baseline, read.tile_s, read.policy) == (Baseline(), 15.0, None)


GOOD: dict[str, Any] = {
    "start": 1000, "end": 1015, "step": 1, "weight": 10, "canary": {"requests": 50}, "stable": {"requests": 450},
}  # fmt: skip


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ([], "the document must be an object"),
        ({}, "no list `windows`"),
        ({"windows": []}, "no list `windows`"),
        ({"windows": ["x"]}, "windows[0] must be an object"),
        ({"windows": [{**GOOD, "start": "noon"}]}, "windows[0].start must be a number"),
        ({"windows": [{**GOOD, "weight": 10.5}]}, "windows[0].weight must be a whole number"),
        ({"windows": [{**GOOD, "canary": None}]}, "windows[0].canary must be an object"),
        ({"windows": [{**GOOD, "stable": {}}]}, "windows[0].stable.requests must be a whole number"),
        ({"windows": [{**GOOD, "canary": {"requests": 1, "slower": {"fast": 1}}}]}, "bucket bounds in milliseconds"),
        ({"windows": [GOOD], "baseline": {"errorsPhi": "much"}}, "baseline.errorsPhi must be a number"),
        ({"windows": [GOOD], "policy": {"name": "story"}}, "policy.strategy: Field required"),
    ],
)
def test_a_file_of_another_shape_says_where_it_is_wrong(document: Any, said: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        read_windows(written(tmp_path, document))

    assert said in str(caught.value)
    assert "windows.json" in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"not json", b"\xff\xfe", gzip.compress(b"something else", mtime=0)])
def test_a_file_that_is_something_else_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)

    with pytest.raises(InputError, match="file"):
        read_windows(path)
