"""A real Kubernetes API server on this machine: its programs, and one run of them. Never part of a running canary."""
