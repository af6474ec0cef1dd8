"""Istio as a Router: the order of the steps; each step has a module of its own beside this one.

Pure: a snapshot of one namespace in, writes out. Nothing given is ever changed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from canary.errors import FindingError
from canary.mesh import managers
from canary.mesh import services as services_
from canary.mesh.istio import clean_up, destination_rule, find, outsiders, virtual_service
from canary.mesh.istio.arms import arms_of, stable_of
from canary.mesh.istio.hosts import Hosts
from canary.mesh.istio.mentions import mentioned
from canary.mesh.istio.subsets import rules_of, subsets_of
from canary.mesh.istio.thresholds import thresholds_of
from canary.mesh.objects import by_name, name_of, names, refuse_unless_plain, section, title, within
from canary.mesh.router import MeshView, Object, Request, Thresholds, Write
from canary.model.policy import Match, Policy
from canary.model.route import Route, RouteState


@dataclass(frozen=True, slots=True)
class IstioRouter:
    """VirtualService and DestinationRule (networking.istio.io/v1). `cluster_domain` is the cluster's DNS suffix."""

    cluster_domain: str = "cluster.local"

    def service_of(self, view: MeshView, target: Object, named: str = "") -> str:
        """See `Router.service_of`; the findings are those of `canary.mesh.services.service_of`."""
        return services_.service_of(_own(view), target, named)

    def mentions(self, namespace: str, thing: Object) -> frozenset[str]:
        """See `Router.mentions`."""
        return mentioned(Hosts(namespace, self.cluster_domain), thing)

    def resolve(self, view: MeshView, request: Request) -> Route:
        """See `Router.resolve`. A target that carries the traffic already is FindingError AlreadyStable."""
        view = _own(view)
        refuse_unless_plain(request.target, "target")
        target = by_name(view.deployments, request.target)
        if target is None:
            raise FindingError(
                "TargetMissing",
                f"{title('Deployment', view.namespace, request.target)} does not exist",
                candidates=names(view.deployments),
            )
        service = services_.service_of(view, target, request.service)
        http = find.choose(view, self._hosts(view), service, request.virtual_service, request.route)
        stable, canary = arms_of(view, service, http, target)
        destination = http.destinations[http.position(service, stable.subset) or 0]
        return Route(
            namespace=view.namespace,
            service=service,
            virtual_service=name_of(http.virtual_service),
            http_name=http.name,
            host=str(section(destination.entry, "destination")["host"]),
            port=destination.port,
            stable=stable,
            canary=canary,
        )

    def stable_deployment(self, view: MeshView, service: str, virtual_service: str = "", route: str = "") -> str:
        """See `Router.stable_deployment`."""
        view = _own(view)
        services_.service_named(view, service)
        http = find.choose(view, self._hosts(view), service, virtual_service, route)
        return name_of(stable_of(view, service, http).deployment)

    def read(self, view: MeshView, route: Route, *, promoted: bool = False) -> RouteState:
        """See `Router.read`. Raises FindingError RouteGone, AmbiguousRoute or SubsetGone."""
        view = _own(view)
        return virtual_service.state_of(find.again(view, self._hosts(view), route), route, promoted=promoted)

    def thresholds(self, view: MeshView, route: Route) -> Thresholds | None:
        """See `Router.thresholds`: those of the DestinationRules, for the canary's subset."""
        view = _own(view)
        return thresholds_of(view, self._hosts(view), route)

    def header_from_outside(self, view: MeshView, route: Route, match: Match | None) -> str:
        """See `Router.header_from_outside`."""
        return outsiders.header_from_outside(_own(view), route, match)

    def prepare(self, view: MeshView, route: Route, policy: Policy) -> list[Write]:
        """See `Router.prepare`. Empty means that the view shows both subsets: traffic may move."""
        view = _own(view)
        return destination_rule.prepare(view, self._hosts(view), route, policy)

    def lost_subsets(self, view: MeshView, route: Route) -> frozenset[str]:
        """See `Router.lost_subsets`."""
        view = _own(view)
        known = subsets_of(view, self._hosts(view), route.service)
        return frozenset({route.stable.subset, route.canary.subset} - known.keys())

    def shift(self, view: MeshView, route: Route, weight: int, match: Match | None, mark: str = "") -> Write | None:
        """See `Router.shift`. Raises FindingError RouteGone, AmbiguousRoute, SubsetGone or HeaderConflict."""
        view = _own(view)
        return virtual_service.shift(find.again(view, self._hosts(view), route), route, weight, match, mark)

    def clean_up(self, view: MeshView, route: Route, *, keep: frozenset[str]) -> list[Write]:
        """See `Router.clean_up`. The route's write first; the rules' once a view shows the route clean; then none."""
        view = _own(view)
        hosts = self._hosts(view)
        first = clean_up.clean_route(view, hosts, route, keep)
        return [first] if first else clean_up.clean_rules(view, hosts, route, keep)

    def last_manager(self, view: MeshView, route: Route) -> tuple[str, str]:
        """See `Router.last_manager`: the owner of `spec.http`, one atomic list in Istio's CRD."""
        found = by_name(_own(view).virtual_services, route.virtual_service)
        return managers.last_manager(found, "spec", "http") if found else ("", "")

    def rules(self, view: MeshView, route: Route) -> list[str]:
        """See `Router.rules`: the DestinationRules of the service's host."""
        view = _own(view)
        return [name_of(rule) for rule in rules_of(view, self._hosts(view), route.service)]

    def last_rule_manager(self, view: MeshView, route: Route) -> tuple[str, str]:
        """See `Router.last_rule_manager`: the newest owner of `spec.subsets`, one atomic list in Istio's CRD."""
        view = _own(view)
        found = [
            managers.last_manager(rule, "spec", "subsets") for rule in rules_of(view, self._hosts(view), route.service)
        ]
        return max(found, key=lambda entry: entry[1], default=("", ""))

    def _hosts(self, view: MeshView) -> Hosts:
        return Hosts(view.namespace, self.cluster_domain)


def _own(view: MeshView) -> MeshView:
    """The view without objects of other namespaces, should a caller ever hand one in (security: tenant boundary)."""

    def own(things: Sequence[Object]) -> list[Object]:
        return within(view.namespace, things)

    return replace(
        view,
        virtual_services=own(view.virtual_services),
        destination_rules=own(view.destination_rules),
        services=own(view.services),
        deployments=own(view.deployments),
    )
