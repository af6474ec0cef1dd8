"""The note that a rollback leaves on the route in the very write that moves the traffic.

A controller killed between that write and the status finds the note and goes on rolling back, instead of taking its
own write for somebody else's.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from canary.model.rollout import Cause
from canary.model.text import plain


@dataclass(frozen=True, slots=True)
class Mark:
    rollout: str
    cause: Cause
    sentence: str

    def render(self) -> str:
        """The annotation's value: one line of JSON, below 2,048 characters."""
        fields = {"rollout": self.rollout, "cause": self.cause.value, "sentence": plain(self.sentence, 512)}
        return json.dumps(fields, ensure_ascii=False, separators=(",", ":"))


def read_mark(text: str) -> Mark | None:
    """The mark in an annotation's value, None when it is not one (anybody may write anything there)."""
    try:
        fields = json.loads(text)
        return Mark(str(fields["rollout"]), Cause(fields["cause"]), plain(str(fields["sentence"]), 512))
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
