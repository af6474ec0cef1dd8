"""Copies of a judge, so that many imagined futures can begin at one past.

In memory only: what is kept for later is `canary.analysis.state`, which refuses what is not its own.
"""

from __future__ import annotations

import io
import pickle
from typing import Any

from canary.analysis.judge import Judge
from canary.model.policy import Policy


class Branch:
    """A judge as it was at one moment. `judge()` gives an independent one each time; the policy is shared."""

    __slots__ = ("_data", "_policy")

    def __init__(self, judge: Judge, policy: Policy) -> None:
        self._policy = policy
        written = io.BytesIO()
        _Writer(written, policy).dump(judge)
        self._data = written.getvalue()

    def judge(self) -> Judge:
        read: Judge = _Reader(io.BytesIO(self._data), self._policy).load()
        return read


class _Writer(pickle.Pickler):
    def __init__(self, file: io.BytesIO, policy: Policy) -> None:
        super().__init__(file, pickle.HIGHEST_PROTOCOL)
        self._policy = policy

    def persistent_id(self, obj: Any) -> str | None:
        return "policy" if obj is self._policy else None


class _Reader(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, policy: Policy) -> None:
        super().__init__(file)
        self._policy = policy

    def persistent_load(self, _pid: Any) -> Policy:
        return self._policy
