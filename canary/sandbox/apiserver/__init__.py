"""An embedded Kubernetes API server for the laptop cluster: in memory, on loopback, for one user.

Good enough for the official client and kubectl; what only the real server can do (CEL rules, admission webhooks,
RBAC, strict decoding of built-in kinds) it does not pretend to do.
"""
