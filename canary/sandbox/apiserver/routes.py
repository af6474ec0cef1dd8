"""From an HTTP request to an object operation and back: paths, methods, bodies, query parameters.

Decides nothing about objects (objects.py, deletion.py) and nothing about how they look (view.py).
"""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import aclosing, suppress
from typing import Any

import orjson
from aiohttp import web

from canary.sandbox.apiserver import answers, discovery, openapi, requests, scale, selectors
from canary.sandbox.apiserver.answers import Json
from canary.sandbox.apiserver.objects import Objects, Request
from canary.sandbox.apiserver.requests import APPLY_PATCH, JSON_PATCH, MERGE_PATCH, STRATEGIC_PATCH
from canary.sandbox.apiserver.rules import Target
from canary.sandbox.apiserver.selectors import Predicate
from canary.sandbox.apiserver.view import View
from canary.sandbox.apiserver.watch import WatchOptions, events

_PATCHES = (JSON_PATCH, MERGE_PATCH, APPLY_PATCH)


class Routes:
    """The aiohttp handlers over one set of objects."""

    def __init__(self, objects: Objects) -> None:
        self._objects, self._registry, self._store = objects, objects.registry, objects.store

    async def handle(self, http: web.Request) -> web.StreamResponse:
        """Any request but health checks. Raises `ApiError`."""
        parts = [part for part in http.path.split("/") if part]
        if http.method in ("GET", "HEAD") and (told := self._about_server(parts, http)) is not None:
            return told
        target = self._target(parts)
        match http.method:
            case "GET" if target.name:
                return self._get(target, http)
            case "GET" if requests.flag(http, "watch"):
                return await self._watch(target, http)
            case "GET":
                return self._list(target, http)
            case "POST" if not target.name and target.resource.verbs == ("create",):
                return await self._review(http)
            case "POST" if not target.name:
                return await self._create(target, http)
            case "PUT" if target.name:
                return await self._update(target, http)
            case "PATCH" if target.name:
                return await self._patch(target, http)
            case "DELETE" if not target.subresource:
                return await self._delete(target, http)
        raise answers.method_not_allowed()

    def _about_server(self, parts: list[str], http: web.Request) -> web.Response | None:
        """Discovery, OpenAPI and the version; None when the path is about objects."""
        registry, told = self._registry, None
        match parts:
            case ["version"]:
                told = discovery.VERSION
            case ["api" | "apis" as root] if discovery.wants_aggregated(http.headers.get("Accept", "")):
                body = discovery.aggregated(registry, core=root == "api")
                return web.Response(body=orjson.dumps(body), headers={"Content-Type": discovery.AGGREGATED})
            case ["api"]:
                told = discovery.core_versions()
            case ["apis"]:
                told = discovery.groups(registry)
            case ["apis", group]:
                told = discovery.group(registry, group)
            case ["api", version]:
                told = discovery.resources(registry, "", version)
            case ["apis", group, version]:
                told = discovery.resources(registry, group, version)
            case ["openapi", "v3"]:
                told = openapi.index(registry)
            case ["openapi", "v3", "api", version]:
                told = openapi.document(registry, "", version)
            case ["openapi", "v3", "apis", group, version]:
                told = openapi.document(registry, group, version)
            case _:
                return None
        if told is None:
            raise answers.no_such_path()
        return _json(told)

    def _target(self, parts: list[str]) -> Target:
        match parts:
            case ["api", version, *rest]:
                group = ""
            case ["apis", group, version, *rest]:
                pass
            case _:
                raise answers.no_such_path()
        namespace = ""
        if len(rest) > 2 and rest[0] == "namespaces" and self._registry.find(group, rest[2]):
            namespace, rest = rest[1], rest[2:]
        if not 1 <= len(rest) <= 3:
            raise answers.no_such_path()
        plural, name, subresource = (*rest, "", "")[:3]
        resource = self._registry.find(group, plural)
        found = resource.version(version) if resource else None
        if not resource or not found or (namespace and not resource.namespaced):
            raise answers.no_such_path()
        if subresource not in ("", *(("status",) if found.has_status else ()), *(("scale",) if found.scale else ())):
            raise answers.no_such_path()
        return Target(resource, found, namespace, name, subresource)

    def _view(self, target: Target, http: web.Request) -> View:
        accept, include = http.headers.get("Accept", ""), http.query.get("includeObject", "")
        return View.wanted(target.resource, target.version, accept, include)

    def _get(self, target: Target, http: web.Request) -> web.Response:
        obj = self._objects.get(target)
        if target.subresource == "scale" and target.version.scale:
            return _json(scale.read(target.version.scale, obj))
        return _json(self._view(target, http).single(obj))

    def _matches(self, target: Target, http: web.Request) -> Predicate:
        """What a list or watch selects: namespace, labels, fields."""
        allowed = {"metadata.name", "metadata.namespace", *target.version.selectable}
        by_label = selectors.labels(http.query.get("labelSelector", ""))
        by_field = selectors.fields(http.query.get("fieldSelector", ""), allowed)
        namespace = target.namespace

        def matches(obj: Json) -> bool:
            at_home = not namespace or obj["metadata"].get("namespace") == namespace
            return at_home and by_label(obj) and by_field(obj)

        return matches

    def _list(self, target: Target, http: web.Request) -> web.Response:
        collection = self._store.collection(target.resource.key)
        self._revision(http)
        matches, start = self._matches(target, http), ("", "")
        limit = requests.number(http, "limit") or 0
        if token := http.query.get("continue"):
            revision, start = requests.place(token)
            if revision < collection.forgotten:
                raise answers.expired(revision, collection.forgotten)
        else:
            revision = self._store.revision
        found = [name for name, obj in sorted(collection.objects.items()) if name > start and matches(obj)]
        page = found[:limit] if limit else found
        metadata: Json = {"resourceVersion": str(revision)}
        if len(page) < len(found):
            # Later pages show later states under the first page's revision: a watch from it repeats, never misses.
            metadata["continue"] = requests.token(revision, page[-1])
            if not http.query.keys() & {"labelSelector", "fieldSelector"}:
                metadata["remainingItemCount"] = len(found) - len(page)
        return _json(self._view(target, http).page([collection.objects[name] for name in page], metadata))

    def _revision(self, http: web.Request) -> int:
        """The query's resourceVersion, 0 when there is none. 504 when it is of a future this server never had."""
        revision = requests.number(http, "resourceVersion") or 0
        if revision > self._store.revision:
            raise answers.too_large_version(revision, self._store.revision)
        return revision

    async def _watch(self, target: Target, http: web.Request) -> web.StreamResponse:
        revision, initial = self._revision(http), requests.flag(http, "sendInitialEvents")
        if initial and http.query.get("resourceVersionMatch") != "NotOlderThan":
            raise answers.bad_request("sendInitialEvents requires resourceVersionMatch=NotOlderThan")
        options = WatchOptions(
            since=None if initial else revision or None,
            timeout_seconds=requests.number(http, "timeoutSeconds") or random.uniform(1800, 3600),
            bookmarks=requests.flag(http, "allowWatchBookmarks"),
            initial_end=initial,
        )
        matches, collection = self._matches(target, http), self._store.collection(target.resource.key)
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(http)
        with suppress(ConnectionError):  # the client went away just now: nobody is left to tell
            async with aclosing(events(self._store, collection, matches, self._view(target, http), options)) as stream:
                async for event in stream:
                    await response.write(orjson.dumps(event) + b"\n")
            await response.write_eof()
        return response

    async def _review(self, http: web.Request) -> web.Response:
        """SelfSubjectAccessReview: the sandbox has one user, who may do everything."""
        body = await requests.body(http)
        return _json({**body, "status": {"allowed": True, "reason": "the sandbox has one user"}}, 201)

    async def _create(self, target: Target, http: web.Request) -> web.Response:
        body, request = await requests.body(http), requests.request(http)
        if target.resource.namespaced and not target.namespace:
            raise answers.method_not_allowed()
        created = self._objects.create(target, body, request)
        return self._written(target, http, created, request, 201)

    async def _update(self, target: Target, http: web.Request) -> web.Response:
        body, request = await requests.body(http), requests.request(http)
        if target.subresource == "scale":
            return self._scaled(target, lambda _: body, request)
        return self._written(target, http, self._objects.update(target, body, request), request)

    async def _patch(self, target: Target, http: web.Request) -> web.Response:
        kind = http.content_type
        accepted = _PATCHES if target.resource.custom else (*_PATCHES, STRATEGIC_PATCH)
        if kind not in accepted:
            raise answers.unsupported_media_type(accepted)
        body = await requests.decoded(http)
        request = requests.request(http)
        if kind == APPLY_PATCH:
            if not http.query.get("fieldManager"):
                required = answers.Cause(
                    "FieldValueRequired", "Required value: is required for apply patch", "fieldManager"
                )
                raise answers.invalid("meta.k8s.io", "PatchOptions", "", [required])
            if target.subresource == "scale":
                raise answers.unsupported_media_type(_PATCHES[:2])
            applied, created = self._objects.apply(target, requests.as_object(body), request)
            return self._written(target, http, applied, request, 201 if created else 200)
        change = requests.patcher(kind, body, target)
        if target.subresource == "scale":
            return self._scaled(target, change, request)
        return self._written(target, http, self._objects.patch(target, change, request), request)

    def _scaled(self, target: Target, change: Callable[[Json], Any], request: Request) -> web.Response:
        paths = target.version.scale
        assert paths
        resource = target.resource
        done = self._objects.patch(
            target, lambda live: scale.written(resource, paths, live, change(scale.read(paths, live))), request
        )
        return _json(scale.read(paths, done))

    async def _delete(self, target: Target, http: web.Request) -> web.Response:
        options = await requests.body(http) if http.can_read_body else {}
        for name in ("propagationPolicy", "orphanDependents", "dryRun"):
            if name in http.query and name not in options:
                options[name] = http.query[name]
        deletion, resource = self._objects.deletion, target.resource
        if target.name:
            live = self._objects.get(target)
            last = deletion.delete(resource, live, options)
            if options.get("dryRun") or self._store.place(live["metadata"]["uid"]):
                return _json(self._view(target, http).single(last))
            return _json(answers.success(target.name, resource.group, resource.plural, live["metadata"]["uid"]))
        matches = self._matches(target, http)
        found = [obj for _, obj in sorted(self._store.collection(resource.key).objects.items()) if matches(obj)]
        # A dependent may already have gone with its owner.
        gone = [deletion.delete(resource, obj, options) for obj in found if self._store.place(obj["metadata"]["uid"])]
        metadata = {"resourceVersion": str(self._store.revision)}
        return _json(self._view(target, http).page(gone, metadata))

    def _written(self, target: Target, http: web.Request, obj: Json, request: Request, code: int = 200) -> web.Response:
        response = _json(self._view(target, http).single(obj), code)
        for warning in request.warnings:
            quoted = warning.replace("\\", "\\\\").replace('"', '\\"')
            response.headers.add("Warning", f'299 - "{quoted}"')
        return response


def _json(body: Json, code: int = 200) -> web.Response:
    return web.Response(body=orjson.dumps(body), status=code, content_type="application/json")
