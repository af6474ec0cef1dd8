"""`canary explain`: why, in words and odds, from the cluster's objects alone; and the same again, computed."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from canary.analysis import Judge
from canary.analysis.record import Recorder
from canary.cluster.evidence import evidence_document, evidence_name
from canary.cluster.kinds import CANARYROLLOUT, CONFIGMAP
from canary.model.policy import Policy
from canary.model.verdict import ArmCounts, Baseline, Outcome, SourceState, Verdict, Window

if TYPE_CHECKING:
    from conftest import Shop

NAME = "payment-v2-abc-1"
BEGIN, TILE = 1_772_452_800.0, 5.0
POLICY = Policy.model_validate(
    {
        "name": "standard",
        "strategy": {"weights": [10, 50, 100], "hold": "1m"},
        "analysis": {"warmup": "5s", "minRequests": 50, "errorRate": {"max": "2%"}, "p99": {"max": "500ms"}},
    }
)
ESCAPE = "\x1b]0;owned\x07\u202e"


def judged(*, failing: bool = True, text: str = "", windows: int = 34) -> tuple[bytes, Verdict]:
    """The record of a rollout that is well at 10 %, and at 50 % as told; and its last verdict."""
    baseline = Baseline(1.25, {250.0: 1.0}, 1.0, 0.001, 600.0)
    judge = Judge(POLICY, baseline)
    about = {"namespace": "shop" + text, "name": NAME + text}
    recorder = Recorder(POLICY, baseline, tile_s=TILE, settle_s=2.0, about=about)
    verdict: Verdict | None = None
    for number in range(windows):
        start, step = BEGIN + number * TILE, 1 if number < 20 else 2
        errors = 3 if failing and number >= 28 else 0
        slower = {250.0: 1, 500.0: 0}
        one = Window(
            start, start + TILE, step, 10 if step == 1 else 50,
            ArmCounts(30, errors, 30 - errors, slower), ArmCounts(200, number % 2, 199, {250.0: 8, 500.0: 1}),
            warm=number > 0,
        )  # fmt: skip
        source = SourceState(True, TILE, 2.0, one.end, detail=text)
        judge.observe(one, one.end + 3)
        recorder.window(one, one.end + 3)
        verdict = judge.verdict(one.end + 3, source, step)
        recorder.verdict(one.end + 3, step, source, verdict)
    assert verdict is not None
    return recorder.pack(), verdict


def keep(shop: Shop, packed: bytes, name: str = NAME) -> None:
    """The rollout's ConfigMap, as the controller writes it."""
    uid = shop.gateway.get(CANARYROLLOUT, shop.namespace, name)["metadata"]["uid"]
    shop.gateway.create(CONFIGMAP, shop.namespace, evidence_document(shop.namespace, name, uid, packed))


@pytest.fixture
def rolled_back(shop: Shop) -> Verdict:
    """A rollout that ended long ago: no controller, no Prometheus, its record."""
    packed, verdict = judged()
    assert verdict.outcome is Outcome.FAIL
    cause = {"reason": "Verdict", "sentence": verdict.sentence}
    shop.rollout(NAME, phase="RolledBack", service="payment", step={"index": 2, "of": 3}, cause=cause)
    keep(shop, packed)
    return verdict


def test_explain_says_why_step_by_step_and_what_the_odds_mean(shop: Shop, rolled_back: Verdict) -> None:
    done = shop.canary("explain", NAME)

    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0] == f"{shop.namespace}/{NAME}: RolledBack"
    assert rolled_back.sentence in lines[1]
    first, second = (line for line in lines if line.startswith(("1/3", "2/3")))
    assert first.split()[1:4] == ["10%", "12:00:00", "100s"]
    assert "0 of 600 (0 %)" in first
    assert first.endswith("passed")
    assert second.endswith("rolled back: error rate")
    (worse,) = (one for one in rolled_back.evidence if one.metric == "error_rate_vs_stable")
    assert f"{worse.canary_bad:,} of {worse.canary_total:,}" in done.stdout
    assert "more errors than stable" in done.stdout
    assert "in at most one of 200 rollouts" in done.stdout


def test_a_deployments_name_means_its_newest_attempt(shop: Shop, rolled_back: Verdict) -> None:
    done = shop.canary("explain", "deploy/payment-v2")

    assert done.stdout.startswith(f"{shop.namespace}/{NAME}: RolledBack\n")


def test_replay_computes_everything_again_and_agrees(shop: Shop, rolled_back: Verdict) -> None:
    done = shop.canary("explain", NAME, "--replay")

    assert done.returncode == 0
    assert "verdicts come out the same, from 34 windows and no other source." in done.stdout
    assert "fail: error rate" in done.stdout


def test_json_has_every_figure_and_yaml_the_same(shop: Shop, rolled_back: Verdict) -> None:
    done = shop.canary("explain", NAME, "--replay", "-o", "json")
    document = json.loads(done.stdout)

    assert done.returncode == 0
    (judge,) = document["judges"]
    assert [round(one["end"] - one["start"], 6) for one in judge["windows"]] == [TILE] * 34
    assert [step["canary"]["requests"] for step in judge["steps"]] == [600, 420]
    (worse,) = (one for one in document["verdict"]["evidence"] if one["metric"] == "error_rate_vs_stable")
    assert worse["eValue"] == next(
        one.e_value for one in rolled_back.evidence if one.metric == "error_rate_vs_stable"
    )  # bit for bit
    assert document["replay"]["agrees"] is True
    assert {one["difference"] for one in document["replay"]["verdicts"]} == {""}
    assert yaml.safe_load(shop.canary("explain", NAME, "--replay", "-o", "yaml").stdout) == document


def test_a_record_that_says_something_else_is_exit_1_with_the_first_difference(shop: Shop) -> None:
    packed, verdict = judged()
    text = gzip.decompress(packed).decode()
    forged = text.replace(json.dumps(verdict.sentence)[1:-1], "all is well.")
    assert forged != text
    shop.rollout(NAME, phase="RolledBack")
    keep(shop, gzip.compress(forged.encode()))

    done = shop.canary("explain", NAME, "--replay")

    assert done.returncode == 1
    assert "does not come out the same" in done.stderr
    assert 'sentence: recorded "all is well."' in done.stderr


def test_a_rollout_under_way_says_what_it_waits_for(shop: Shop, running: dict[str, Any]) -> None:
    shop.rollout(NAME, **running)
    keep(shop, judged(failing=False, windows=21)[0])

    done = shop.canary("explain", NAME)

    assert done.returncode == 0
    assert done.stdout.startswith(f"{shop.namespace}/{NAME}: Progressing\n")
    assert "holds: inconclusive" in done.stdout
    assert "as of 12:01:48 UTC; what came since is in `canary status`" in done.stdout


def test_without_a_record_the_status_speaks_and_the_reader_is_told(shop: Shop) -> None:
    shop.rollout(NAME, phase="RolledBack", cause={"reason": "Verdict", "sentence": "too many errors"})

    done = shop.canary("explain", NAME)
    replayed = shop.canary("explain", NAME, "--replay")

    assert done.returncode == 0
    assert "too many errors" in done.stdout
    assert f"there is no ConfigMap {evidence_name(NAME)}" in done.stderr
    assert replayed.returncode == 7
    assert f"there is no ConfigMap {evidence_name(NAME)}" in replayed.stderr


def test_somebody_elses_config_map_is_not_taken_for_the_record(shop: Shop) -> None:
    shop.rollout(NAME, phase="RolledBack")
    document = evidence_document(shop.namespace, NAME, "another-uid", judged()[0])
    del document["metadata"]["ownerReferences"]
    shop.gateway.create(CONFIGMAP, shop.namespace, document)

    done = shop.canary("explain", NAME)

    assert done.returncode == 1
    assert "does not belong to it" in done.stderr


@pytest.mark.parametrize("data", [b"", b"hello", gzip.compress(b"\0" * 100_000_000), judged()[0][:200]])
def test_a_damaged_record_is_one_sentence(shop: Shop, data: bytes) -> None:
    shop.rollout(NAME, phase="RolledBack")
    keep(shop, data)

    done = shop.canary("explain", NAME)

    assert done.returncode == 1
    assert done.stdout == ""
    assert "no evidence record" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_saved_record_needs_no_cluster(shop: Shop, rolled_back: Verdict, tmp_path: Path) -> None:
    saved = tmp_path / "record.gz"
    saved.write_bytes(judged()[0])

    done = shop.canary("explain", "-f", str(saved), KUBECONFIG="/nowhere")
    replayed = shop.canary("explain", "--file", str(saved), "--replay", KUBECONFIG="/nowhere")
    (tmp_path / "other.gz").write_bytes(b"x" * 2_000_000)
    other = shop.canary("explain", "-f", str(tmp_path / "other.gz"))
    missing = shop.canary("explain", "-f", str(tmp_path / "missing.gz"))

    assert done.stdout.startswith(f"shop/{NAME}: as recorded\n")
    assert rolled_back.sentence in done.stdout
    assert replayed.returncode == 0
    assert "come out the same" in replayed.stdout
    assert (other.returncode, missing.returncode) == (1, 1)
    assert "larger than" in other.stderr


def test_hostile_text_in_a_record_acts_on_nothing(shop: Shop, tmp_path: Path) -> None:
    saved = tmp_path / "record.gz"
    packed, verdict = judged(text=ESCAPE)
    text = gzip.decompress(packed).decode()
    said = json.dumps(verdict.sentence)[1:-1]
    saved.write_bytes(gzip.compress(text.replace(said, json.dumps(f"{ESCAPE}sentence")[1:-1]).encode()))

    for options in ((), ("-o", "wide"), ("--replay",), ("-o", "json"), ("-o", "yaml")):
        done = shop.canary("explain", "-f", str(saved), *options)
        assert "sentence" in done.stdout
        assert not set("\x1b\x07\u202e") & set(done.stdout + done.stderr)


@pytest.mark.parametrize("arguments", [(), (NAME, "-f", "x"), (NAME, "-o", "name")])
def test_what_makes_no_sense_is_a_usage_error(shop: Shop, arguments: tuple[str, ...]) -> None:
    assert shop.canary("explain", *arguments).returncode == 2


def test_a_name_that_does_not_exist_is_exit_7(shop: Shop) -> None:
    assert shop.canary("explain", "payment-v9").returncode == 7
