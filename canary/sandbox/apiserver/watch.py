"""Watches: the changes of a kind as a stream of JSON lines, resumed from a revision.

A selector makes its own history: an object that starts to match is ADDED, one that stops is DELETED. What is too old
to resume from is told by an ERROR event inside the 200 (as upstream), never by silence.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from dataclasses import dataclass

from canary.sandbox.apiserver.answers import ApiError, Json, expired
from canary.sandbox.apiserver.selectors import Predicate
from canary.sandbox.apiserver.store import Change, Collection, Store, Subscription
from canary.sandbox.apiserver.view import View

_BOOKMARK_SECONDS = 60.0


@dataclass(frozen=True)
class WatchOptions:
    """`since` None starts with the present objects; `initial_end` marks their end with a bookmark."""

    since: int | None
    timeout_seconds: float
    bookmarks: bool = False
    initial_end: bool = False


async def events(
    store: Store, collection: Collection, matches: Predicate, view: View, options: WatchOptions
) -> AsyncGenerator[Json]:
    """The watch events of one request, until its timeout; ends early only after an ERROR event."""
    deadline = asyncio.get_running_loop().time() + options.timeout_seconds
    subscription = Subscription()
    collection.subscriptions.add(subscription)
    try:
        # Nothing is awaited between subscribing and this snapshot: past and future meet without gap or overlap.
        seen = store.revision
        if options.since is not None and options.since < collection.forgotten:
            yield _error(expired(options.since, collection.forgotten))
            return
        for past in list(_past(collection, matches, view, options, seen)):
            yield past
        async for change in _changes(subscription, deadline):
            if change is not None:
                seen = change.revision
                if event := _event(change, matches, view):
                    yield event
            elif options.bookmarks:
                seen = store.revision if subscription.changes.empty() else seen
                yield {"type": "BOOKMARK", "object": view.bookmark(seen, initial_end=False)}
        if subscription.closed:
            yield _error(expired(seen, store.revision))
    finally:
        collection.subscriptions.discard(subscription)


def _past(
    collection: Collection, matches: Predicate, view: View, options: WatchOptions, revision: int
) -> Iterator[Json]:
    """What comes before the first new change: the present objects, or the history since a revision."""
    if options.since is not None:
        told = (_event(change, matches, view) for change in collection.since(options.since))
        yield from (event for event in told if event)
        return
    for _, obj in sorted(collection.objects.items()):
        if matches(obj):
            yield {"type": "ADDED", "object": view.event(obj)}
    if options.initial_end:
        yield {"type": "BOOKMARK", "object": view.bookmark(revision, initial_end=True)}


async def _changes(subscription: Subscription, deadline: float) -> AsyncIterator[Change | None]:
    """Changes as they come; None for each quiet minute and at the deadline."""
    clock = asyncio.get_running_loop().time
    while True:
        quiet_until = min(deadline, clock() + _BOOKMARK_SECONDS)
        try:
            async with asyncio.timeout_at(quiet_until):
                change = await subscription.changes.get()
        except TimeoutError:
            yield None
            if clock() >= deadline:
                return
            continue
        if change is None:
            return
        yield change


def _event(change: Change, matches: Predicate, view: View) -> Json | None:
    matched = change.previous is not None and matches(change.previous)
    match (matched, change.type != "DELETED" and matches(change.obj)):
        case (False, True):
            return {"type": "ADDED", "object": view.event(change.obj)}
        case (True, True):
            return {"type": "MODIFIED", "object": view.event(change.obj)}
        case (True, False):
            assert change.previous is not None
            last = {**change.previous["metadata"], "resourceVersion": str(change.revision)}
            return {"type": "DELETED", "object": view.event({**change.previous, "metadata": last})}
    return None


def _error(error: ApiError) -> Json:
    return {"type": "ERROR", "object": error.status()}
