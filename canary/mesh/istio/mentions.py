"""Which services of its namespace a VirtualService or a DestinationRule is about: who hears of a change looks at these,
and at no others. Decides nothing."""

from __future__ import annotations

from collections.abc import Iterator

from canary.mesh.istio.hosts import Hosts
from canary.mesh.objects import listed, section
from canary.mesh.router import Object


def mentioned(hosts: Hosts, thing: Object) -> frozenset[str]:
    """The Services that it names as host or as destination."""
    return frozenset(service for host in _named(thing) if (service := hosts.service(host)) is not None)


def _named(thing: Object) -> Iterator[object]:
    spec = section(thing, "spec")
    yield spec.get("host")
    own = spec.get("hosts")
    yield from own if isinstance(own, list | tuple) else ()
    for protocol in ("http", "tls", "tcp"):
        for route in listed(spec, protocol):
            for entry in listed(route, "route"):
                yield section(entry, "destination").get("host")
