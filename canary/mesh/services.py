"""Which Service a Deployment belongs to. Inside one namespace, and only a Service that selects pods."""

from __future__ import annotations

from canary.errors import FindingError
from canary.mesh.objects import by_name, name_of, names, refuse_unless_plain, section, selects, template_labels, title
from canary.mesh.router import MeshView, Object


def service_of(view: MeshView, target: Object, named: str = "") -> str:
    """The Service that selects the target's pods; `named` must be one that does.

    Raises FindingError InvalidName, ServiceMissing, UnusableService, ServiceMismatch or AmbiguousService.
    """
    labels = template_labels(target)
    selecting = [service for service in view.services if selects(section(service, "spec", "selector"), labels)]
    usable = [service for service in selecting if not _unusable(service)]
    if named:
        service = service_named(view, named)
        if service not in usable:
            raise FindingError(
                "ServiceMismatch",
                f"{title('Service', view.namespace, named)}: spec.selector does not select the pods of Deployment "
                f"{name_of(target)} (spec.template.metadata.labels); name a Service that does in "
                f"canary.delivery/service{_one_of(names(usable))}",
                candidates=names(usable),
            )
        return named
    if not usable:
        raise FindingError(
            "ServiceMissing",
            f"no Service in namespace {view.namespace} selects the pods of Deployment {name_of(target)} "
            f"(spec.template.metadata.labels {dict(labels)}); create one whose spec.selector matches them",
            candidates=names(view.services),
        )
    if len(usable) > 1:
        raise FindingError(
            "AmbiguousService",
            f"Deployment {view.namespace}/{name_of(target)}: {len(usable)} Services select its pods; name one in the "
            f"annotation canary.delivery/service{_one_of(names(usable))}",
            candidates=names(usable),
        )
    return name_of(usable[0])


def service_named(view: MeshView, name: str) -> Object:
    """The Service of this plain name. Raises FindingError InvalidName, ServiceMissing or UnusableService."""
    refuse_unless_plain(name, "service")
    service = by_name(view.services, name)
    if service is None:
        raise FindingError(
            "ServiceMissing",
            f"{title('Service', view.namespace, name)} does not exist; name one of the namespace's own"
            f"{_one_of(names(view.services))}",
            candidates=names(view.services),
        )
    why = _unusable(service)
    if why:
        raise FindingError("UnusableService", f"{title('Service', view.namespace, name)}: {why}")
    return service


def selected(view: MeshView, service: Object) -> list[Object]:
    """The Deployments whose pods a Service selects."""
    selector = section(service, "spec", "selector")
    return [deployment for deployment in view.deployments if selects(selector, template_labels(deployment))]


def _unusable(service: Object) -> str:
    if section(service, "spec").get("type") == "ExternalName":
        return "spec.type is ExternalName, which points out of the namespace; it must select pods (spec.selector)"
    if not section(service, "spec", "selector"):
        return "spec.selector is empty, so its endpoints are somebody else's choice; it must select pods"
    return ""


def _one_of(candidates: tuple[str, ...]) -> str:
    return f": {', '.join(candidates[:8])}" if candidates else ""
