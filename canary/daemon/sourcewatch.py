"""How the metrics source is doing: what its preflight found, whether it answers, and the tile that follows from it."""

from __future__ import annotations

import threading
from datetime import timedelta

import structlog

from canary.daemon.surroundings import Exported
from canary.daemon.wallclock import WallClock
from canary.errors import TelemetryError
from canary.telemetry.preflight import SourceFacts
from canary.telemetry.source import PrometheusSource

DEFAULT_TILE_S = 15.0
SHORTEST_TILE_S = 1.0
LEARNING_TICK_S = 1.0
CLOCKS_DIFFER_S = 5.0
ABOUT = 1.02
"""A scrape interval is measured, and may come out a little longer than it is."""

log = structlog.get_logger(__name__)


class SourceWatch:
    """Keeps the facts and the last failure. Written by the telemetry thread, read by all."""

    def __init__(
        self,
        source: PrometheusSource,
        tile_s: float | None = None,
        settle_s: float | None = None,
        tick_s: float | None = None,
        *,
        clock: WallClock | None = None,
    ) -> None:
        """Seconds as the user set them; None means auto. `clock` is what rollouts go by, where any do."""
        self._source = source
        self._clock = clock
        self._tick_s = tick_s
        self._tile_s = tile_s
        self._settle_s = settle_s
        self.facts: SourceFacts | None = None
        self.problem = ""
        """Why it cannot be used now, as it was when it went away; "" when it can be used or was not asked yet."""
        self.asked = threading.Event()
        """It was asked once, whatever came of it."""

    def refresh(self) -> None:
        """Ask for the facts again; a failure is kept as the problem."""
        try:
            facts = self._source.facts(refresh=True)
        except TelemetryError as error:
            self.failed(str(error))
            return
        finally:
            self.asked.set()
        if not self.compare_clocks():
            self.answered()
        if self.facts is None or facts.problems != self.facts.problems:
            for problem in facts.problems:
                log.warning("metrics source", problem=problem)
        self.facts = facts

    def compare_clocks(self) -> str:
        """Why nothing can be judged when our clock and Prometheus' differ, "" when they agree.

        Steps are timed by our clock and counts by its: apart, a step would be judged by requests that were not its own.
        """
        theirs = self._source.server_now()
        if self._clock is None or theirs is None:
            return ""
        self._clock.heard(theirs)
        ahead = self._clock.time() - theirs
        if abs(ahead) <= CLOCKS_DIFFER_S:
            return ""
        apart = f"{abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} Prometheus'"
        why = f"the controller's clock is {apart}: set it right; nothing is judged until they agree"
        self.failed(why)
        return why

    def answered(self) -> None:
        if self.problem or self.facts is None:
            log.info("metrics source answers")
        self.problem = ""

    def failed(self, why: str) -> None:
        if self.problem:
            return  # the sentence stands for as long as it lasts: a countdown in it would be news at every tick
        log.warning("metrics source does not answer", problem=why)
        self.problem = why

    @property
    def is_available(self) -> bool:
        """It was asked, and answers."""
        return self.facts is not None and not self.problem

    @property
    def finding(self) -> str:
        """What about the source's answers keeps a rollout from starting, "" when nothing does."""
        return self.facts.blocking if self.facts else ""

    @property
    def not_yet(self) -> str:
        """What is still to be learnt about it before a rollout can begin, "" when nothing is."""
        if self.facts is None:
            return "the metrics source was not asked yet"
        is_measured = self._tile_s is not None or self.facts.scrape_interval_s is not None
        if is_measured or not self.facts.has_requests or not self.facts.up_joined:
            return ""  # without `up` the interval is never known: the default tile serves
        return "the scrape interval is not known yet: that takes two scrapes"

    @property
    def known(self) -> tuple[object, ...]:
        """All that rollouts go by: another one after each change that a look at them could hear of."""
        return self.problem, self.finding, self.not_yet, self.tile_s, self.settle_s

    @property
    def exported(self) -> Exported:
        """What there is to ask for besides the versions' counts."""
        facts = self.facts
        if facts is None:
            return Exported()
        return Exported(facts.has_ejections, facts.has_steal, facts.has_control_plane)

    @property
    def tick_s(self) -> float:
        """Time between two ticks in seconds: as set, else a tile; quick while there is something to learn."""
        if self.facts is None or self.not_yet or self.finding:
            return LEARNING_TICK_S
        return self._tick_s or self.tile_s

    @property
    def tile_s(self) -> float:
        """Length of a tile in seconds: as set, else the scrape interval found; never shorter than that.

        A shorter tile would hold what was counted before it began, a weight before the last one included.
        """
        found = self.facts.scrape_interval_s if self.facts else None
        if self._tile_s:
            return found if found and found > self._tile_s * ABOUT else self._tile_s
        return max(found, SHORTEST_TILE_S) if found else DEFAULT_TILE_S

    @property
    def tile(self) -> timedelta:
        return timedelta(milliseconds=round(self.tile_s * 1000))

    @property
    def settle_s(self) -> float:
        """Age in seconds from which a tile is final."""
        return self._settle_s or (self.facts.settle_s if self.facts else 2.0)
