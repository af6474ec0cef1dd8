"""The policy's own metrics: any PromQL with a limit, over it in N of the last M settled tiles.

They carry no bound on false rollbacks, and the sentence says so: nothing is known of what they count.
"""

from __future__ import annotations

from collections import deque

from canary.analysis import comparison
from canary.analysis.witness import HEADER_STEP, Finding
from canary.model.objectives import CustomMetric
from canary.model.verdict import Evidence, Reason, Window


class OwnMetric:
    """The newest `of` windows of one metric: its value in each, None where it had none."""

    def __init__(self, metric: CustomMetric) -> None:
        self._metric = metric
        self._values: deque[float | None] = deque(maxlen=metric.of)
        self._is_asked = False

    def observe(self, window: Window) -> None:
        self._is_asked = window.step != HEADER_STEP
        self._values.append(window.metrics.get(self._metric.name))

    def breach(self) -> Finding | None:
        over = [value for value in self._values if value is not None and value > self._metric.max]
        if len(over) < self._metric.breaches:
            return None
        return Finding(Reason.METRIC, comparison.own_metric(self._metric, over[-1], len(over), len(self._values)))

    def doubt(self) -> Finding | None:
        """Not one value: no data is never a pass. Not asked in the header stage, where there may be nobody to count."""
        if not self._is_asked or any(value is not None for value in self._values):
            return None
        return Finding(Reason.NO_DATA, comparison.own_metric_silent(self._metric, len(self._values)))

    @property
    def evidence(self) -> tuple[Evidence, ...]:
        """None: its numbers are no counts, and no evidence is weighed."""
        return ()
