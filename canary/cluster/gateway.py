"""The one door to the Kubernetes API: plain dicts in and out, a time limit on every request, no hidden retry.

It stands on the official client (configuration, credentials, TLS, connection pool) but not on its models: a typed
read followed by a replace silently drops the fields the model does not know. Every write asks `may_write` first.
What is never done here: deciding to try again, caching, and looking into an object beyond its metadata.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import TYPE_CHECKING, Any, Literal

import orjson

from canary.cluster.answers import parsed
from canary.cluster.connection import api_client
from canary.cluster.kinds import Kind
from canary.cluster.transport import OnRequest, Request, Transport, nobody_counts
from canary.errors import Ambiguous, Expired, Unavailable

if TYPE_CHECKING:
    from kubernetes.client import ApiClient

    from canary.cluster.watch import Watch

PatchType = Literal["json", "merge", "apply"]
MayWrite = Callable[[str | None], None]
UnderWay = Callable[[Request], AbstractContextManager[None]]
Objects = list[dict[str, Any]]

WRITE_SLACK_SECONDS = 0.5
"""The client waits this much longer than `?timeout=` lets the server work, so that the server's answer wins."""

PAGE = 250
"""Objects per page of a list; 2,000 of 8.6 KB then cost 57 MB instead of 105 (cluster.md)."""

RESTARTS = 3
"""Times a list begins again because its continue token expired, before Expired is raised."""

CONTENT_TYPES: Mapping[PatchType, str] = {
    "json": "application/json-patch+json",
    "merge": "application/merge-patch+json",
    "apply": "application/apply-patch+yaml",  # JSON is YAML
}


def anybody_may_write(_namespace: str | None) -> None:
    """The write seam of a single controller or a command: everything is ours."""


def nobody_minds(_request: Request) -> AbstractContextManager[None]:
    """Around a write where nobody waits for its answer but its sender."""
    return nullcontext()


class Gateway:
    """Requests against one cluster by one identity. Safe for use by several threads.

    Every method raises an error of the ClusterError tree whose sentence names verb, resource and object.
    `may_write(namespace)` is called before each write and raises NotOurs to refuse it; `under_way(request)` is entered
    before that and left when the write was answered or given up. They and `on_request` may be replaced later.
    """

    def __init__(
        self,
        client: ApiClient,
        *,
        field_manager: str = "canary",
        timeout_seconds: float = 10.0,
        write_timeout_seconds: float = 2.0,
        may_write: MayWrite = anybody_may_write,
        on_request: OnRequest = nobody_counts,
    ) -> None:
        self.field_manager = field_manager
        self.timeout_seconds = timeout_seconds
        self.write_timeout_seconds = write_timeout_seconds
        self.may_write = may_write
        self.under_way: UnderWay = nobody_minds
        client.user_agent = field_manager
        self._transport = Transport(client, on_request)

    @classmethod
    def connect(
        cls,
        kubeconfig: str | None = None,
        context: str | None = None,
        field_manager: str = "canary",
        timeout_seconds: float = 10.0,
        write_timeout_seconds: float = 2.0,
    ) -> Gateway:
        """A gateway for a kubeconfig, for the pod's own account, or for ~/.kube/config, in this order.

        Sends nothing yet. Raises InputError where the kubeconfig cannot be used.
        """
        return cls(
            api_client(kubeconfig, context),
            field_manager=field_manager,
            timeout_seconds=timeout_seconds,
            write_timeout_seconds=write_timeout_seconds,
        )

    def beside(self, may_write: MayWrite) -> Gateway:
        """The same connections and hooks with another write seam, for objects that belong to no namespace's slot."""
        other = copy.copy(self)
        other.may_write, other.under_way = may_write, nobody_minds
        return other

    def close(self) -> None:
        """Give the pooled connections back to the system."""
        self._transport.close()

    @property
    def server(self) -> str:
        """The API server's address, `https://host:port`."""
        return self._transport.server

    @property
    def on_request(self) -> OnRequest:
        """Called as `(verb, plural, status, seconds)` after each request; status 0 where no answer came."""
        return self._transport.on_request

    @on_request.setter
    def on_request(self, hook: OnRequest) -> None:
        self._transport.on_request = hook

    def get(self, kind: Kind, namespace: str | None, name: str) -> dict[str, Any]:
        """One object."""
        return self._read(Request("get", kind, namespace, name))

    def list(
        self,
        kind: Kind,
        namespace: str | None = None,
        *,
        label_selector: str | None = None,
        field_selector: str | None = None,
        page: int = PAGE,
    ) -> tuple[Objects, str]:
        """Every object, and the resourceVersion to watch from. A token that expires between pages begins again."""

        def once() -> tuple[Objects, str]:
            pages = [
                *self.pages(kind, namespace, label_selector=label_selector, field_selector=field_selector, page=page)
            ]
            return [item for items, _ in pages for item in items], pages[0][1]

        for _ in range(RESTARTS):  # at once, so by hand: tenacity would cost every command 20 ms at its start
            with suppress(Expired):
                return once()
        return once()

    def pages(
        self,
        kind: Kind,
        namespace: str | None = None,
        *,
        label_selector: str | None = None,
        field_selector: str | None = None,
        page: int = PAGE,
    ) -> Iterator[tuple[Objects, str]]:
        """`(objects, resourceVersion)` page by page, so that a caller can project each and let it go.

        All pages carry the first one's version. They are one snapshot by the API's contract; where a server does not
        keep it, a watch from there still tells of everything that changed in between. Raises Expired when the snapshot
        is gone: begin again.
        """
        query = _selectors(label_selector, field_selector) | {"limit": str(page)}
        version = ""
        while True:
            request = Request("list", kind, namespace, query=query)
            answer = self._read(request)
            items, metadata = answer.get("items"), answer.get("metadata")
            if not isinstance(items, list) or not isinstance(metadata, dict):
                raise Unavailable(f"cannot {request.deed}: the answer is not a list")
            for item in items:
                # items of a list carry neither; a watch event and a get do
                item.setdefault("apiVersion", kind.api_version)
                item.setdefault("kind", kind.kind)
            version = version or str(metadata.get("resourceVersion", ""))
            yield items, version
            token = metadata.get("continue")
            if not token:
                return
            query = {**query, "continue": str(token)}

    def watch(
        self,
        kind: Kind,
        namespace: str | None = None,
        *,
        resource_version: str,
        timeout_seconds: float,
        label_selector: str | None = None,
        field_selector: str | None = None,
    ) -> Watch:
        """What changed since `resource_version`, with bookmarks, for about `timeout_seconds`.

        Use it in a `with` block. `close()` from another thread ends it at once.
        """
        from canary.cluster.watch import Watch

        query = _selectors(label_selector, field_selector) | {
            "watch": "1",
            "allowWatchBookmarks": "true",
            "resourceVersion": resource_version,
            "timeoutSeconds": str(max(1, round(timeout_seconds))),
        }
        request = Request("watch", kind, namespace, query=query)
        response = self._transport.open(request, self.timeout_seconds, timeout_seconds + self.timeout_seconds)
        return Watch(response, request.deed)

    def create(
        self, kind: Kind, namespace: str | None, obj: Mapping[str, Any], *, subresource: str | None = None
    ) -> dict[str, Any]:
        """Create an object; `obj` carries its name or generateName. Conflict when the name is taken.

        With a `subresource` (`binding`, `eviction`) it is made for the object of that name.
        """
        named = obj.get("metadata", {}).get("name") or ""
        if subresource:
            return self._write(Request("create", kind, namespace, named, subresource, body=orjson.dumps(obj)))
        return self._write(Request("create", kind, namespace, named=named, body=orjson.dumps(obj)))

    def patch(
        self,
        kind: Kind,
        namespace: str | None,
        name: str,
        body: Mapping[str, Any] | Sequence[Mapping[str, Any]],
        *,
        patch_type: PatchType,
        subresource: str | None = None,
        force: bool = False,
        dry_run: bool = False,
    ) -> dict[str, Any]:
        """Change part of an object; the content type is always explicit. `force` takes fields over, for apply only.

        With `dry_run` it is admitted or refused as ever, and nothing is stored.
        """
        query = {"force": "true"} if force and patch_type == "apply" else {}
        if dry_run:
            query["dryRun"] = "All"
        return self._write(
            Request(
                "patch",
                kind,
                namespace,
                name,
                subresource,
                query=query,
                body=orjson.dumps(body),
                content_type=CONTENT_TYPES[patch_type],
            )
        )

    def review(self, kind: Kind, spec: Mapping[str, Any]) -> dict[str, Any]:
        """Ask the API server something that it answers to a POST and keeps nothing of: the `status` of its answer.

        No write: it may be asked by who may write nowhere, and asking again is safe.
        """
        body = {"apiVersion": kind.api_version, "kind": kind.kind, "spec": spec}
        request = Request("create", kind, body=orjson.dumps(body))
        try:
            answer = self._answer(request, self.timeout_seconds)
        except Ambiguous as error:
            raise Unavailable(str(error)) from error
        status = answer.get("status")
        if not isinstance(status, dict):
            raise Unavailable(f"cannot {request.deed}: the answer has no status")
        return status

    def replace(self, kind: Kind, namespace: str | None, name: str, obj: Mapping[str, Any]) -> dict[str, Any]:
        """Put a whole object; its metadata.resourceVersion pins what it was decided on."""
        return self._write(Request("update", kind, namespace, name, body=orjson.dumps(obj)))

    def delete(
        self,
        kind: Kind,
        namespace: str | None,
        name: str,
        *,
        uid: str | None = None,
        resource_version: str | None = None,
        propagation: Literal["Background", "Foreground", "Orphan"] = "Background",
        grace_seconds: int | None = None,
    ) -> None:
        """Delete an object; with `uid` or `resource_version` only this very one, as it was read (else Conflict).

        `grace_seconds` 0 takes a Pod away whose process has ended, as its kubelet does; None is the object's own.
        """
        options: dict[str, Any] = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": propagation}
        if grace_seconds is not None:
            options["gracePeriodSeconds"] = grace_seconds
        pins = {"uid": uid, "resourceVersion": resource_version}
        if preconditions := {name: value for name, value in pins.items() if value is not None}:
            options["preconditions"] = preconditions
        self._write(Request("delete", kind, namespace, name, body=orjson.dumps(options)))

    def _read(self, request: Request) -> dict[str, Any]:
        return self._answer(request, self.timeout_seconds)

    def _write(self, request: Request) -> dict[str, Any]:
        asked = {"timeout": f"{round(self.write_timeout_seconds * 1000)}ms"}
        if request.verb != "delete":
            asked["fieldManager"] = self.field_manager
        with self.under_way(request):
            self.may_write(request.namespace)
            return self._answer(request.asking(asked), self.write_timeout_seconds + WRITE_SLACK_SECONDS)

    def _answer(self, request: Request, within_seconds: float) -> dict[str, Any]:
        return parsed(self._transport.send(request, within_seconds), request.deed, write=request.is_write)


def _selectors(label_selector: str | None, field_selector: str | None) -> dict[str, str]:
    chosen = {"labelSelector": label_selector, "fieldSelector": field_selector}
    return {key: value for key, value in chosen.items() if value}
