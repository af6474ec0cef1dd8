"""Services to release, which leave nothing behind that the controllers of later tests would look at."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from uuid import uuid4

from canary.cluster.gateway import Gateway
from canary.cluster.kinds import CANARYROLLOUT, DEPLOYMENT, NAMESPACE
from canary.errors import NotFound
from tests.shop import Shop


@contextmanager
def shops(admin: Gateway) -> Iterator[Callable[..., Shop]]:
    """Makes services: `make()` in a namespace of its own, `make(namespace)` in that one."""
    made: list[Shop] = []

    def make(namespace: str = "") -> Shop:
        shop = Shop(admin, namespace or f"shop-{uuid4().hex[:8]}")
        if not namespace:
            admin.create(NAMESPACE, None, {"metadata": {"name": shop.namespace}})
        made.append(shop)
        shop.mesh()
        shop.deploy("v1")
        return shop

    yield make
    for shop in made:
        for kind in (DEPLOYMENT, CANARYROLLOUT):
            for one in admin.list(kind, shop.namespace)[0]:
                name = one["metadata"]["name"]
                with suppress(NotFound):  # one that is being deleted goes with its last finalizer
                    shop.patch(kind, name, {"metadata": {"finalizers": None}})
                    admin.delete(kind, shop.namespace, name)
        with suppress(NotFound):
            admin.delete(NAMESPACE, None, shop.namespace)
