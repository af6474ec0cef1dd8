"""What the demo shows while it runs: on a terminal everything fits, in a log there is one line per change."""

from __future__ import annotations

import io
from datetime import UTC, datetime

import pytest
from rich.console import Console

from canary.model.phase import Phase
from canary.model.rollout import RolloutStatus
from canary.sandbox.demo.releases import RELEASES
from canary.sandbox.demo.screen import Screen, drawn
from canary.sandbox.demo.view import Recent, Standing, View
from canary.sandbox.load import Request

LONG = "ROLLBACK at 10 %: 10 of 118 canary requests (8.5 %) took longer than 100ms, so P99 is over that limit. " * 4


def standing(number: int, phase: str, step: str, weight: int, sentence: str) -> Standing:
    return Standing(RELEASES[number], phase, step, weight, sentence, seconds=12.3)


@pytest.fixture
def view() -> View:
    """The fullest screen: four releases with long sentences, three kinds of answers."""
    standings = [standing(n, "RollingBack", "header", 100, LONG) for n in range(4)]
    recent = Recent()
    recent.add(
        [Request(99.0, 0.02, 200, "v2"), Request(99.0, 0.2, 503, "v5"), Request(99.0, 0.01, 503, "", "UH")], now=100.0
    )
    traffic = recent.traffic("v2", "v5")
    return View(2000.0, standings, "/tmp/canary-demo-abcdefgh/kubeconfig", 754.0, 12, "v2", "v5", traffic)


@pytest.mark.parametrize(("width", "height"), [(80, 24), (100, 30), (200, 60)])
def test_everything_fits_on_the_terminal(view: View, width: int, height: int) -> None:
    console = Console(file=io.StringIO(), width=width, height=height)
    console.print(drawn(view, width, height))
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]

    assert len(lines) < height
    assert max(len(line.rstrip()) for line in lines) <= width
    text = "\n".join(lines)
    for shown in ("2000 requests/s", "12:34", "12 lost", "100 %", "P99 three times as slow", "RollingBack", "200 ms"):
        assert shown in text
    assert "export KUBECONFIG=/tmp/canary-demo-abcdefgh/kubeconfig; kubectl get crol -w" in text


def test_a_log_gets_a_line_when_something_changed_and_only_then() -> None:
    console = Console(file=io.StringIO(), width=80, markup=False, highlight=False)
    assert not console.is_terminal
    view = View(400.0, [Standing(release) for release in RELEASES], "/k", stable="v1", canary="v2")

    with Screen(console) as screen:
        screen.show(view)
        view.standings[0] = standing(0, "Progressing", "1/5", 10, "no settled window of this step yet.")
        screen.show(view)
        view.seconds += 1
        screen.show(view)
        view.standings[0] = standing(0, "Progressing", "2/5", 25, LONG)
        screen.show(view)

    first, second = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert "v2 Progressing 1/5 10 % no settled window of this step yet." in first
    assert f"v2 Progressing 2/5 25 % {LONG.strip()}" in second


def test_a_standing_says_what_the_status_says() -> None:
    status = RolloutStatus.model_validate(
        {
            "phase": "Progressing",
            "step": {"index": 2, "of": 5},
            "weight": {"desired": 50, "configured": 25},
            "message": "going on",
            "verdict": {"outcome": "hold", "reason": "no_data", "sentence": "12 \u202eof\u2028 100", "at": _now()},
        }
    )
    shown = Standing(RELEASES[0])
    shown.follow(status)

    assert (shown.phase, shown.step, shown.weight) == ("Progressing", "2/5", 25)
    assert shown.sentence == "12  of  100"


@pytest.mark.parametrize(("index", "text"), [(0, "header"), (1, "1/5"), (5, "5/5"), (6, "bake")])
def test_steps_are_named(index: int, text: str) -> None:
    shown = Standing(RELEASES[0])
    shown.follow(RolloutStatus.model_validate({"phase": Phase.PROGRESSING, "step": {"index": index, "of": 5}}))

    assert shown.step == text


def test_rates_are_of_the_last_two_seconds_and_without_probes() -> None:
    recent = Recent()
    recent.add([Request(at / 100, 0.02, 200, "v1") for at in range(1000)], now=10.0)
    recent.add([Request(9.0, 0.02, 500, "v2"), Request(9.5, 0.02, 200, "v2", is_probe=True)], now=10.0)

    stable, canary = recent.traffic("v1", "v2")

    assert (stable.version, stable.role, stable.errors) == ("v1", "stable", 0.0)
    assert stable.requests == pytest.approx(100, abs=2)
    assert (canary.requests, canary.errors) == (0.5, 0.5)


def _now() -> str:
    return datetime.now(UTC).isoformat()
