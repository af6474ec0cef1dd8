"""Workloads of the laptop cluster: Deployments become ReplicaSets and Pods, every Pod one real HTTP process.

    deployments.py  Deployment -> ReplicaSets          pods.py        which Pods get a process
    replicasets.py  ReplicaSet -> Pods                 podprocess.py  one Pod's process from start to end
    revisions.py    which ReplicaSet is which revision podstatus.py   what a Pod asks for, what is said of it
    rolling.py      how far each may grow or shrink    addresses.py   an address and a port for each Pod
    conditions.py   what a Deployment's status says    backend.py     the process: faults as its env describes
    ownership.py    who made what
    loop.py         one worker, one queue

All of it is an ordinary client of the Kubernetes API. Against a real API server with the real Deployment controller
only the pod runner is used (`python -m canary.sandbox.workloads --no-deployments`).
"""
