"""A service in a namespace of its own, as its owners write and read it.

Nobody runs pods here: Deployments, ReplicaSets and Pods are objects that tests write as Kubernetes would.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from canary.cluster.gateway import Gateway
from canary.cluster.kinds import (
    CANARYROLLOUT,
    DEPLOYMENT,
    DESTINATIONRULE,
    EVENT,
    POD,
    REPLICASET,
    SERVICE,
    VIRTUALSERVICE,
    Kind,
)
from canary.errors import NotFound
from canary.model.rollout import Phase, Rollout
from canary.model.verdict import Outcome

Object = dict[str, Any]


def until(holds: Callable[[], Any], seconds: float = 20.0, what: str = "") -> Any:
    """The first true value of `holds`, which must come in time."""
    deadline = time.monotonic() + seconds
    while not (value := holds()):
        assert time.monotonic() < deadline, f"waited {seconds:g} s in vain {what}"
        time.sleep(0.02)
    return value


@dataclass
class Shop:
    """The service `payment` in a namespace, as its owner writes and reads it."""

    gateway: Gateway
    namespace: str
    generation: int = 0

    def create(self, kind: Kind, obj: Object) -> Object:
        whole = {"apiVersion": kind.api_version, "kind": kind.kind, **obj}
        return self.gateway.create(kind, self.namespace, whole)

    def get(self, kind: Kind, name: str = "payment") -> Object:
        return self.gateway.get(kind, self.namespace, name)

    def patch(self, kind: Kind, name: str, body: Object, subresource: str | None = None) -> Object:
        """`kubectl patch --type=merge`. A Deployment's annotations count in its generation, as its controller sees."""
        done = self.gateway.patch(kind, self.namespace, name, body, patch_type="merge", subresource=subresource)
        if kind is DEPLOYMENT and body.keys() == {"metadata"}:
            seen = {"status": {"observedGeneration": done["metadata"]["generation"]}}
            done = self.gateway.patch(kind, self.namespace, name, seen, patch_type="merge", subresource="status")
        return done

    def service(self) -> Object:
        spec = {"selector": {"app": "payment"}, "ports": [{"name": "http", "port": 80}]}
        return self.create(SERVICE, {"metadata": {"name": "payment"}, "spec": spec})

    def rule(self, *subsets: Object) -> Object:
        spec = {"host": "payment", "subsets": [{"name": "v1", "labels": {"version": "v1"}}, *subsets]}
        return self.create(DESTINATIONRULE, {"metadata": {"name": "payment"}, "spec": spec})

    def rule_now(self) -> Object:
        return self.get(DESTINATIONRULE)

    def virtual_service(self, name: str = "payment", *, subset: str | None = "v1") -> Object:
        destination = {"host": "payment"} | ({"subset": subset} if subset else {})
        http = [{"name": "primary", "route": [{"destination": destination, "weight": 100}], "timeout": "2s"}]
        return self.create(VIRTUALSERVICE, {"metadata": {"name": name}, "spec": {"hosts": ["payment"], "http": http}})

    def mesh(self) -> None:
        self.service()
        self.rule()
        self.virtual_service()

    def deploy(self, version: str, annotations: Mapping[str, str] | None = None, *, ready: bool = True) -> Object:
        """A Deployment of one pod, with what its controllers make of it."""
        self._second_passes()
        labels = {"app": "payment", "version": version}
        made = self.create(
            DEPLOYMENT,
            {
                "metadata": {
                    "name": f"payment-{version}", "labels": labels,
                    "annotations": {**(annotations or {}), "deployment.kubernetes.io/revision": "1"},
                },
                "spec": {
                    "replicas": 1,
                    "selector": {"matchLabels": labels},
                    "template": {
                        "metadata": {"labels": labels},
                        "spec": {"containers": [{"name": "app", "image": f"example.com/payment:{version}"}]},
                    },
                },
            },
        )  # fmt: skip
        self.revise(made, f"{version}a", 1, ready=ready)
        return made

    def release(self, version: str, policy: str = "quick", *, ready: bool = True, **more: str) -> Object:
        """A Deployment that opts in."""
        annotations = {f"canary.delivery/{key.replace('_', '-')}": value for key, value in more.items()}
        return self.deploy(version, {"canary.delivery/policy": policy, **annotations}, ready=ready)

    def revise(self, deployment: Object, revision: str, number: int, *, ready: bool = True) -> None:
        """Its controller made a ReplicaSet for the newest template, and one pod."""
        name = deployment["metadata"]["name"]
        labels = deployment["spec"]["template"]["metadata"]["labels"] | {"pod-template-hash": revision}
        made = self.create(
            REPLICASET,
            {
                "metadata": {
                    "name": f"{name}-{revision}", "labels": labels, "ownerReferences": [owner(deployment)],
                    "annotations": {"deployment.kubernetes.io/revision": str(number)},
                },
                "spec": {"replicas": 1, "selector": {"matchLabels": labels}, "template": {
                    "metadata": {"labels": labels}, "spec": deployment["spec"]["template"]["spec"]}},
            },
        )  # fmt: skip
        self.patch(DEPLOYMENT, name, {"metadata": {"annotations": {"deployment.kubernetes.io/revision": str(number)}}})
        self.create(
            POD,
            {
                "metadata": {"name": f"{name}-{revision}-0", "labels": labels, "ownerReferences": [owner(made)]},
                "spec": deployment["spec"]["template"]["spec"],
            },
        )
        if ready:
            self.make_ready(f"{name}-{revision}-0")

    def update_in_place(self, version: str, revision: str) -> None:
        """A new template on the same Deployment, rolled out by Kubernetes."""
        self._second_passes()
        container = {"name": "app", "image": f"example.com/payment:{revision}"}
        body = {"spec": {"template": {"spec": {"containers": [container]}}}}
        self.revise(self.patch(DEPLOYMENT, f"payment-{version}", body), revision, 2)

    def make_ready(self, pod: str) -> None:
        condition = {"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}
        self.patch(POD, pod, {"status": {"phase": "Running", "conditions": [condition]}}, "status")

    def start(self, name: str, target: str, policy: str = "quick", **spec: Any) -> Object:
        """`kubectl create` of a CanaryRollout."""
        return self.create(
            CANARYROLLOUT, {"metadata": {"name": name}, "spec": {"target": target, "policyName": policy, **spec}}
        )

    def patch_abort(self, name: str) -> None:
        """`canary abort`."""
        self.patch(CANARYROLLOUT, name, {"spec": {"abort": {"reason": "test", "actor": "me"}}})

    def rollouts(self) -> list[Rollout]:
        items, _ = self.gateway.list(CANARYROLLOUT, self.namespace)
        return sorted((Rollout.parse(item) for item in items), key=lambda one: (one.created, one.name))

    def rollout(self, name: str) -> Rollout:
        return Rollout.parse(self.get(CANARYROLLOUT, name))

    def reaches(self, name: str, *phases: Phase, seconds: float = 30.0) -> Rollout:
        """The rollout, once it is in one of the phases."""

        last: Rollout | None = None

        def there() -> Rollout | None:
            nonlocal last
            try:
                last = self.rollout(name)
            except NotFound:
                return None
            return last if last.status.phase in phases else None

        try:
            found: Rollout = until(there, seconds)
        except AssertionError:
            status = last.status if last else None
            shown = (status.phase.value, status.message, status.verdict) if status else "there is no rollout"
            raise AssertionError(f"{name} is not {phases} within {seconds:g} s: {shown}") from None
        return found

    def until_judged(self, name: str) -> Rollout:
        """The rollout, once its step has a verdict from settled tiles and no write of its own is due."""

        def judged() -> Rollout | None:
            found = next((one for one in self.rollouts() if one.name == name), None)
            verdict = found.status.verdict if found else None
            return found if verdict and verdict.outcome is Outcome.PASS else None

        found: Rollout = until(judged, what=f"for a verdict on {name}")
        return found

    def ended(self, name: str) -> bool:
        """Whether a rollout is over, pruned ones included."""
        try:
            return self.rollout(name).status.phase.is_terminal
        except NotFound:
            return True

    def stalled(self, name: str, reason: str) -> Rollout:
        """The rollout, once it says that it stalls for this reason."""

        def there() -> Rollout | None:
            try:
                found = self.rollout(name)
            except NotFound:
                return None
            says = [(one.status, one.reason) for one in found.status.conditions if one.type == "Stalled"]
            return found if says == [("True", reason)] else None

        stalled: Rollout = until(there, what=f"for {name} to stall because of {reason}")
        return stalled

    def events(self, about: str) -> list[tuple[str, str]]:
        """(reason, message) of the Events about an object."""
        items, _ = self.gateway.list(EVENT, self.namespace)
        return [(item["reason"], item["message"]) for item in items if item["involvedObject"]["name"] == about]

    def is_stalled(self, name: str) -> bool:
        return any(one.type == "Stalled" and one.status == "True" for one in self.rollout(name).status.conditions)

    def event(self, about: str, reason: str) -> str:
        """The message of an Event, which must come."""
        message: str = until(
            lambda: next((text for why, text in self.events(about) if why == reason), None),
            what=f"for an Event {reason} about {about}",
        )
        return message

    def written(self) -> list[Object]:
        """VirtualServices and DestinationRules as they stand, resourceVersions and all."""
        return [
            item for kind in (VIRTUALSERVICE, DESTINATIONRULE) for item in self.gateway.list(kind, self.namespace)[0]
        ]

    def weights(self) -> dict[str, int]:
        route = self.get(VIRTUALSERVICE)["spec"]["http"][-1]["route"]
        return {entry["destination"]["subset"]: entry.get("weight", 100) for entry in route}

    def _second_passes(self) -> None:
        """Creation times have whole seconds, and who is newer matters."""
        second = int(time.time())
        until(lambda: int(time.time()) > second)


def owner(obj: Object) -> Object:
    return {
        "apiVersion": obj["apiVersion"], "kind": obj["kind"], "name": obj["metadata"]["name"],
        "uid": obj["metadata"]["uid"], "controller": True,
    }  # fmt: skip
