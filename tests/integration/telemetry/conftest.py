"""A real Prometheus over a history that was never lived through: what was scraped, and when, is written down.

Samples go through Prometheus' own `promtool` into its storage before it starts, so tests know every count, and minutes
of scrapes take no time.
"""

from __future__ import annotations

import math
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from canary.sandbox.prometheus import PrometheusServer, find_prometheus
from canary.telemetry import PrometheusSource, SourceSettings

BEGIN = float(math.floor(time.time() / 600) * 600 - 3600)
"""Second 0 of every history: an hour ago or so, a multiple of every tile that tests use."""


class Recording:
    """What Prometheus has scraped. Times are seconds since `BEGIN`."""

    def __init__(self) -> None:
        self._samples: dict[str, dict[float, float]] = {}

    def sample(self, series: str, values: Mapping[float, float]) -> None:
        """One series, written as in PromQL, with its value by time."""
        assert series not in self._samples, f"recorded twice: {series}"
        self._samples[series] = dict(values)

    def target(self, labels: str, scrapes: Sequence[float], failed: Sequence[float] = ()) -> None:
        """`up` of a target (`job="a",instance="b"`) that was scraped at these times, in vain at `failed` ones."""
        self.sample(f"up{{{labels}}}", {at: float(at not in failed) for at in scrapes})

    def tiles(self, first: float, last: float, tile_s: float) -> dict[str, float]:
        """Arguments of a range of tiles that end from `first` to `last`."""
        return {"first_end": BEGIN + first, "last_end": BEGIN + last, "tile_s": tile_s}

    @staticmethod
    def by_second(by_end: Mapping[float, Any]) -> dict[float, Any]:
        """An answer by tile end, in the seconds of the recording."""
        return {end - BEGIN: value for end, value in by_end.items()}

    @staticmethod
    def second(at: float) -> float:
        """A moment (Unix seconds) in the seconds of the recording."""
        return round(at - BEGIN, 3)

    def write(self, directory: Path) -> None:
        """Into Prometheus' storage in `directory`."""
        text = directory.parent / "openmetrics.txt"
        lines = [
            f"{series} {value!r} {BEGIN + at:.3f}"
            for series, values in sorted(self._samples.items())
            for at, value in sorted(values.items())
        ]
        text.write_text("\n".join([*lines, "# EOF\n"]), encoding="utf-8")
        promtool = find_prometheus().with_name("promtool")
        subprocess.run(
            [promtool, "tsdb", "create-blocks-from", "openmetrics", text, directory], check=True, capture_output=True
        )


Replay = Callable[..., PrometheusSource]


@pytest.fixture
def recording() -> Recording:
    return Recording()


@pytest.fixture
def replay(recording: Recording, tmp_path: Path) -> Iterator[Replay]:
    """Start Prometheus over what was recorded; gives a source with the settings asked for."""
    servers: list[PrometheusServer] = []
    sources: list[PrometheusSource] = []

    def start(**settings: Any) -> PrometheusSource:
        if not servers:
            (tmp_path / "prometheus").mkdir()
            recording.write(tmp_path / "prometheus" / "data")
            servers.append(PrometheusServer(tmp_path / "prometheus", []).start())
        # The preflight looks at the present, where nothing is scraped any more.
        options = {"reporter": "source", "timeout_s": 20.0} | settings
        sources.append(PrometheusSource(SourceSettings(servers[0].url, **options)))  # type: ignore[arg-type]
        return sources[-1]

    yield start
    for source in sources:
        source.close()
    for server in servers:
        server.stop()
