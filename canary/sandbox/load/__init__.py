"""Open-loop HTTP load on a loopback address: what callers of the sandbox's mesh see, request by request.

Requests leave at their rate whether or not earlier ones were answered, so that a slow version cannot slow its callers
down and hide itself. Nothing is retried: a connection that breaks is a request lost, which is what is being counted.
It must never send to anything but loopback, and always ends: by duration, by count, or by SIGTERM.

    python -m canary.sandbox.load --url http://127.0.0.1:8080/ --host payment.default.svc.cluster.local \\
        --rate 400 --duration 60 --out load.txt

`Tally` reads the file, also while it grows (`Tally.follow`); `probe` sends one request with headers of your choice.
"""

from canary.sandbox.load.tally import FollowedTally, Request, Tally, VersionTally, read
from canary.sandbox.load.target import Target, probe

__all__ = ["FollowedTally", "Request", "Tally", "Target", "VersionTally", "probe", "read"]
