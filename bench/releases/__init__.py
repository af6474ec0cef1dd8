"""Releases on real Envoy and Prometheus, run again and again: `make bench-releases`.

    cases.py     four releases, what each must not cost, and what the same cost with others
    policy.yaml  the policy of all of them
    stage.py     one release in a sandbox of its own; one.py runs it as a process
    instants.py  where the seconds between the first bad response and the end of the traffic went
    report.py    medians and worst beside the targets, and one JSON file
    page.py      the same as docs/bench-releases.md

Every figure is counted from the callers' own record of their requests, never from what the controller says of itself.
"""
