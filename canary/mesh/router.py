"""What the controller asks of a mesh, whichever it is. Pure: objects in, writes out; the daemon carries them out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from canary.model.policy import Match, OutlierDetection, Policy
from canary.model.route import Route, RouteState

Object = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class MeshView:
    """A snapshot of one namespace, as plain Kubernetes objects."""

    namespace: str
    virtual_services: Sequence[Object] = ()
    destination_rules: Sequence[Object] = ()
    services: Sequence[Object] = ()
    deployments: Sequence[Object] = ()


@dataclass(frozen=True, slots=True)
class Request:
    """What a rollout asks to have resolved; the optional names are plain DNS labels or an HTTP route's name."""

    target: str
    service: str = ""
    virtual_service: str = ""
    route: str = ""


@dataclass(frozen=True, slots=True)
class Write:
    """One write to the API server. `body` is a list of JSON patch operations, or the object to create."""

    verb: Literal["create", "patch", "delete"]
    kind: Literal["VirtualService", "DestinationRule"]
    namespace: str
    name: str
    body: Any = None
    why: str = ""
    pins: str = field(default="", kw_only=True)
    """The resourceVersion this was decided on (already inside `body` for a patch)."""


@dataclass(frozen=True, slots=True)
class Thresholds:
    """When a mesh ejects a host, and where that is written, in words."""

    outlier_detection: OutlierDetection
    source: str


class Router(Protocol):
    """A mesh. Every method raises FindingError with a reason and the candidates when the objects do not allow it."""

    def service_of(self, view: MeshView, target: Object, named: str = "") -> str:
        """The Service that selects the target's pods; `named` must be one of them."""

    def mentions(self, namespace: str, thing: Object) -> frozenset[str]:
        """The Services of its namespace that an object of the mesh is about: a change of it is news for them alone."""

    def resolve(self, view: MeshView, request: Request) -> Route:
        """The one route that carries the service, with stable and canary arms told apart.

        For the start of a rollout: exactly one version of the service may have weight then (FindingError
        AmbiguousStable otherwise). A rollout in flight keeps the Route it got. FindingError AlreadyStable when the
        target carries the traffic already.
        """

    def stable_deployment(self, view: MeshView, service: str, virtual_service: str = "", route: str = "") -> str:
        """The Deployment that carries the traffic of a service now."""

    def read(self, view: MeshView, route: Route, *, promoted: bool = False) -> RouteState:
        """What the route says now; FindingError RouteGone or SubsetGone when a part of it was taken out.

        With `promoted` stable may be missing: the clean-up after a promotion takes it out where it was added by us.

        Beside foreign destinations several weights round to the same numbers, and the least of them is given: whether
        the route says exactly what was asked is `shift(...) is None`.
        """

    def thresholds(self, view: MeshView, route: Route) -> Thresholds | None:
        """The outlier thresholds that the service's owner gave the mesh, None where there are none.

        FindingError BadOutlierDetection when they cannot be read.
        """

    def header_from_outside(self, view: MeshView, route: Route, match: Match | None) -> str:
        """Why requests from outside the mesh may carry the header stage's header, as a sentence; "" when none can."""

    def prepare(self, view: MeshView, route: Route, policy: Policy) -> list[Write]:
        """What must exist before traffic can move (subsets); empty when the view shows that it does.

        `shift` does not look for it (a rollback must never wait): give a canary traffic only while this is empty.
        """

    def lost_subsets(self, view: MeshView, route: Route) -> frozenset[str]:
        """Those of the two arms' subsets that the mesh does not know: traffic for them is answered 503."""

    def shift(self, view: MeshView, route: Route, weight: int, match: Match | None, mark: str = "") -> Write | None:
        """Set the canary's weight (integer percent), and have the header route exactly when `match` is given.

        One write, also when the header route ends. None when the route says so already. `mark` is stored in the same
        write as the annotation `canary.delivery/rollback` (empty: taken away), so that a controller that died right
        after a rollback's first write knows why the traffic is back.
        """

    def clean_up(self, view: MeshView, route: Route, *, keep: frozenset[str]) -> list[Write]:
        """Take away what was added for versions whose subset is not in `keep`; never what a user wrote.

        In steps, each decided on a view that shows the one before: call again until it is empty. Moves no traffic,
        and leaves alone what still has some. Takes the rollback's mark away.
        """

    def last_manager(self, view: MeshView, route: Route) -> tuple[str, str]:
        """Who last changed the route's weights, and when (from managedFields; unauthenticated)."""

    def rules(self, view: MeshView, route: Route) -> list[str]:
        """The names of the objects that define the service's subsets."""

    def last_rule_manager(self, view: MeshView, route: Route) -> tuple[str, str]:
        """Who last changed the subsets, and when (likewise)."""
