"""How long to wait after the n-th failure in a row: exponential, capped, with full jitter.

Pure apart from the random source; it never sleeps. Full jitter keeps many clients of one API server from coming back
all at the same moment (https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/).
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Backoff:
    """Delays between `floor_share` and all of `base_seconds * 2**failures`, never above `cap_seconds`."""

    base_seconds: float
    cap_seconds: float
    floor_share: float = 0.0
    """Share of the delay that is always waited, 0-1: 0 is full jitter, 0.5 keeps a retried key from coming at once."""
    rng: random.Random = field(default_factory=random.Random)

    def delay(self, failures: int, at_least: float | None = None) -> float:
        """Seconds to wait after `failures` >= 1 failures in a row; `at_least` is a server's Retry-After."""
        # the exponent is bounded, or a key that failed for a week overflows a float
        ceiling = min(self.cap_seconds, self.base_seconds * 2.0 ** min(max(failures - 1, 0), 60))
        return max(self.rng.uniform(self.floor_share * ceiling, ceiling), at_least or 0.0)
