"""Which Service a host names, and whether it is ours to touch.

Istio's rule: a name without a dot means the Service of that name in the object's own namespace; a name with any dot
is a literal FQDN. So `payment.default` is not the Service `payment`, although DNS would resolve it.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Hosts:
    """Host names as objects of one namespace write them."""

    namespace: str
    cluster_domain: str = "cluster.local"

    @property
    def _own(self) -> str:
        return f".{self.namespace}{self._services}"

    @property
    def _services(self) -> str:
        return f".svc.{self.cluster_domain}"

    def fqdn(self, service: str) -> str:
        """`payment` -> `payment.default.svc.cluster.local`."""
        return service + self._own

    def service(self, host: object) -> str | None:
        """The name of the Service in this namespace that a host means; None when it means anything else."""
        if not isinstance(host, str) or not host or host.startswith("*"):
            return None
        name = host.removesuffix(self._own)
        return None if "." in name else name

    def is_foreign(self, host: object, *, in_mesh: bool) -> bool:
        """Whether a host in `spec.hosts` would also take the requests of another namespace's Services.

        Public names (`payment.example.com`) are nobody's Service. `in_mesh`: the sidecars apply the VirtualService,
        so that a wildcard covers every Service it matches, and `bank.prod` is what a caller may write for the Service
        bank of the namespace prod; at a gateway alone both are ordinary public names.
        """
        if not isinstance(host, str):
            return True
        host = host.lower().rstrip(".")
        if host.startswith("*"):
            return self._is_foreign_wildcard(host[1:], in_mesh=in_mesh)
        if host.endswith(self._services):
            return not host.endswith(self._own)
        _, dot, rest = host.removesuffix(".svc").partition(".")
        if not dot or "." in rest:
            return False
        return (in_mesh or host.endswith(".svc")) and rest != self.namespace

    def _is_foreign_wildcard(self, suffix: str, *, in_mesh: bool) -> bool:
        if suffix.endswith(self._services):
            return not suffix.endswith(self._own)
        return in_mesh and self._services.endswith(suffix)
