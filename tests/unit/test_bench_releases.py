"""What the bench of releases says of its runs."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.console import Console

from bench.releases import report
from bench.releases.cases import CASES
from bench.releases.page import page
from bench.releases.stage import Run

FAILING, ERRORS, SLOW, IDENTICAL = CASES
ROLLED_BACK = Run(
    rollout="payment-v2-x-1",
    outcome="RolledBack",
    seconds=12.0,
    seconds_to_off=4.25,
    errors=20,
    exposed=21,
    requests=600,
    lost=0,
    weights=[10],
    tile_s=5.0,
    stable_slow_share=0.0,
    from_first_bad=None,
    sentence="ROLLBACK at 10 %: all failed.",
)
PROMOTED = replace(ROLLED_BACK, outcome="Succeeded", seconds_to_off=None, errors=0, exposed=4000, sentence="")


def test_the_median_must_hold_and_the_worst_is_shown_beside_it() -> None:
    runs = [replace(ROLLED_BACK, errors=errors) for errors in (10, 30, 200)]

    assert report.failures(FAILING, runs) == []
    assert report.failures(FAILING, runs + runs[2:]) == [
        "failing: median of user-visible errors is 115, at most 40 expected"
    ]
    document = report.document({FAILING: runs}, {"seed": 1})
    (case,) = document["cases"]
    assert (case["median"]["errors"], case["worst"]["errors"]) == (30, 200)
    assert case["others"]["Flagger"] == {"seconds": 60.0, "errors": 298, "exposed": None}
    assert document["seed"] == 1


def test_every_outcome_must_be_the_expected_one_and_no_request_lost() -> None:
    assert report.failures(IDENTICAL, [PROMOTED, replace(ROLLED_BACK, lost=2)]) == [
        "identical: payment-v2-x-1 ended as RolledBack, expected Succeeded",
        "identical: 2 requests lost on the way, expected 0",
    ]


@pytest.mark.parametrize("runs", [[], [PROMOTED], [ROLLED_BACK, PROMOTED]])
def test_the_table_has_the_others_figures_and_a_sentence_whatever_was_measured(runs: list[Run]) -> None:
    out = io.StringIO()

    report.print_table({case: list(runs) for case in CASES}, Console(file=out, width=120))

    said = out.getvalue()
    assert "Argo Rollouts" in said
    assert "1,089" in said
    assert ("no sentence" in said) is (runs == [PROMOTED])
    assert said.count("ROLLBACK at 10 %") == (4 if runs[:1] == [ROLLED_BACK] else 0)


def test_the_page_says_where_the_seconds_went_and_what_was_not_kept() -> None:
    known = {"at": 2.25, "requests": 12, "bad": 11}
    at = {"scraped": known, "tile": known | {"at": -2.0}, "decided": known, "off": known, "written": {"at": 2.5}}
    slow = replace(ROLLED_BACK, from_first_bad=at, exposed=401)
    about = dict.fromkeys(("runsPerCase", "seed", "commit", "machine"), "x")
    about |= {"requestsPerSecond": 50.0, "scrapeSeconds": 5.0, "stableRanSeconds": 120.0}

    said = page({FAILING: [ROLLED_BACK], SLOW: [slow], IDENTICAL: []}, about)

    assert "| every request fails | 1 RolledBack | **4.2** (4.2) | **20** (20) | **21** (21) |" in said
    assert "| Argo Rollouts |  | 38 | 453 |  |" in said
    assert "- slow: median of requests exposed is 401, at most 400 expected" in said
    assert "| end of the newest settled tile | before it |" in said
    assert "| decision | 2.2 s (12, 11) |" in said
    assert "| weight 0 on the route | 2.5 s |" in said
