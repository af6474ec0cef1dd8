"""The fast abort: near-total failure of the canary alone, in Envoy's terms."""

from __future__ import annotations

import pytest

from canary.analysis import Judge
from canary.model.policy import Policy
from canary.model.verdict import ArmCounts, Ejections, Outcome, Reason

POLICY = Policy.model_validate(
    {
        "name": "story",
        "strategy": {"weights": [100]},
        "outlierDetection": {"consecutive5xxErrors": 5, "interval": "10s"},
    }
)


@pytest.fixture
def judge() -> Judge:
    return Judge(POLICY)


def test_a_release_that_fails_everything_is_aborted_within_its_first_five_requests(judge: Judge):
    verdict = judge.abort(ArmCounts(5, 5), ArmCounts(110))

    assert verdict is not None
    assert (verdict.outcome, verdict.reason) == (Outcome.FAIL, Reason.FAST_ABORT)
    assert verdict.sentence == (
        "5 of 5 canary requests (100 %) failed within 10s, a near-total failure (at least 5 errors and half of the "
        "requests); stable 0 of 110 (0 %)."
    )


@pytest.mark.parametrize(
    ("canary", "stable", "aborts"),
    [
        pytest.param(ArmCounts(4, 4), ArmCounts(100), False, id="one error short of k"),
        pytest.param(ArmCounts(10, 5), ArmCounts(100), True, id="exactly half"),
        pytest.param(ArmCounts(11, 5), ArmCounts(100), False, id="less than half"),
        pytest.param(ArmCounts(1000, 50), ArmCounts(9000), False, id="5 % of many is for the evidence"),
        pytest.param(ArmCounts(20, 20), ArmCounts(100, 25), True, id="stable at a quarter of it"),
        pytest.param(ArmCounts(20, 20), ArmCounts(100, 26), False, id="stable above a quarter: not the canary's fault"),
        pytest.param(ArmCounts(20, 20), ArmCounts(100, 100), False, id="an outage of both"),
        pytest.param(ArmCounts(20, 12), ArmCounts(0), True, id="no stable request: the canary's share alone"),
        pytest.param(ArmCounts(0), ArmCounts(0), False, id="nobody came"),
        pytest.param(ArmCounts(0), ArmCounts(100, 100), False, id="only stable fails"),
    ],
)
def test_thresholds_and_the_look_at_stable(judge: Judge, canary: ArmCounts, stable: ArmCounts, aborts: bool):
    assert (judge.abort(canary, stable) is not None) is aborts


def test_the_policys_own_threshold_counts():
    judge = Judge(
        POLICY.model_copy(
            update={"outlier_detection": POLICY.outlier_detection.model_copy(update={"consecutive5xx_errors": 30})}
        )
    )

    assert judge.abort(ArmCounts(29, 29), ArmCounts(100)) is None
    assert judge.abort(ArmCounts(30, 30), ArmCounts(100)) is not None


def test_it_keeps_nothing_between_two_looks(judge: Judge):
    for _ in range(10):
        assert judge.abort(ArmCounts(4, 4), ArmCounts(100)) is None


def test_a_canary_whose_hosts_are_all_ejected_goes_back_at_once_whatever_its_own_figures_say(judge: Judge):
    gone = judge.abort(ArmCounts(0), ArmCounts(100), Ejections(canary=2, canary_members=2, stable_members=2))

    assert gone is not None
    assert gone.sentence == (
        "Envoy has ejected 2 of 2 canary hosts (outlierDetection) and none of stable's 2; no canary request; "
        "stable 0 of 100 (0 %)."
    )


@pytest.mark.parametrize(
    "ejections",
    [
        Ejections(canary=1, canary_members=2),
        Ejections(canary=2, canary_members=2, stable=1, stable_members=2),
        Ejections(canary=0, canary_members=0),
    ],
)
def test_some_ejected_hosts_or_those_of_both_versions_decide_nothing(judge: Judge, ejections: Ejections):
    assert judge.abort(ArmCounts(100), ArmCounts(100), ejections) is None


def test_more_ejected_than_max_ejection_percent_is_enough():
    thresholds = {"maxEjectionPercent": 50}
    judge = Judge(Policy.model_validate({"name": "x", "strategy": {"weights": [100]}, "outlierDetection": thresholds}))

    assert judge.abort(ArmCounts(9), ArmCounts(9), Ejections(canary=2, canary_members=4)) is None
    assert judge.abort(ArmCounts(9), ArmCounts(9), Ejections(canary=3, canary_members=4)) is not None


def test_impossible_counts_are_refused(judge: Judge):
    with pytest.raises(ValueError, match="canary has 6 errors in 5 requests"):
        judge.abort(ArmCounts(5, 6), ArmCounts(100))
