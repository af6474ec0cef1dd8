"""Workloads of the laptop cluster: Deployments become ReplicaSets and Pods, every Pod one real HTTP process.

    rolling.py      how far each ReplicaSet may grow or shrink now: arithmetic, no I/O
    revisions.py    which ReplicaSet is which revision of a Deployment: hashes, names, history
    conditions.py   what a Deployment's and a ReplicaSet's status say
    replicasets.py  ReplicaSet -> Pods
    deployments.py  Deployment -> ReplicaSets
    podstatus.py    what a Pod's status says
    addresses.py    an address and a port for each Pod
    pods.py         Pod -> process: start, probe, restart, drain, stop
    backend.py      the process: an HTTP server that fails and dawdles as its environment tells it

All of it is an ordinary client of the Kubernetes API. Against a real API server with the real Deployment controller
only the pod runner is used (`python -m canary.sandbox.workloads --no-deployments`).
"""
