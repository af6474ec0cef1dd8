"""The embedded API server's watches: resuming, expiring, selecting, ending."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from kubernetes import client, config

Event = dict[str, Any]


class ConfigMaps:
    """Watches and writes of one namespace's ConfigMaps."""

    def __init__(self, core: client.CoreV1Api, namespace: str) -> None:
        self.core, self.namespace = core, namespace

    def put(self, name: str, **labels: str | None) -> str:
        """Create or relabel; returns the new resourceVersion."""
        names = {item.metadata.name for item in self.core.list_namespaced_config_map(self.namespace).items}
        body = {"metadata": {"name": name, "labels": labels}}
        if name in names:
            written = self.core.patch_namespaced_config_map(name, self.namespace, body)
        else:
            written = self.core.create_namespaced_config_map(self.namespace, body)
        return str(written.metadata.resource_version)

    def version(self) -> str:
        return str(self.core.list_namespaced_config_map(self.namespace).metadata.resource_version)

    def events(self, timeout_seconds: int = 1, **query: Any) -> list[Event]:
        """Everything one watch says until it times out."""
        return list(self.stream(timeout_seconds=timeout_seconds, **query))

    def stream(self, **query: Any) -> Iterator[Event]:
        """A watch, event by event."""
        answer = self.core.list_namespaced_config_map(
            self.namespace, watch=True, _preload_content=False, _request_timeout=20, **query
        )
        buffered = b""
        for chunk in answer.stream(amt=None):
            *lines, buffered = (buffered + chunk).split(b"\n")
            yield from map(json.loads, lines)


@pytest.fixture
def config_maps(api: client.ApiClient, namespace: str) -> ConfigMaps:
    return ConfigMaps(client.CoreV1Api(api), namespace)


def told(events: list[Event]) -> list[tuple[str, str]]:
    return [(event["type"], event["object"]["metadata"].get("name", "")) for event in events]


def test_a_watch_resumes_after_the_version_it_is_given(config_maps: ConfigMaps) -> None:
    config_maps.put("before")
    since = config_maps.version()
    config_maps.put("a")
    config_maps.put("a", app="x")
    config_maps.core.delete_namespaced_config_map("a", config_maps.namespace)

    events = config_maps.events(resource_version=since)

    assert told(events) == [("ADDED", "a"), ("MODIFIED", "a"), ("DELETED", "a")]
    versions = [int(event["object"]["metadata"]["resourceVersion"]) for event in events]
    assert versions == sorted(versions)
    assert versions[0] > int(since)


@pytest.mark.parametrize("version", [None, "0"])
def test_a_watch_from_nowhere_starts_with_what_is_there(config_maps: ConfigMaps, version: str | None) -> None:
    config_maps.put("a")
    config_maps.put("b")

    query = {"resource_version": version} if version else {}

    assert told(config_maps.events(**query)) == [("ADDED", "a"), ("ADDED", "b")]


def test_a_running_watch_hears_of_a_write_at_once(config_maps: ConfigMaps) -> None:
    stream = config_maps.stream(timeout_seconds=10)
    started = time.monotonic()
    threading.Timer(0.1, config_maps.put, ("late",)).start()

    event = next(stream)

    assert told([event]) == [("ADDED", "late")]
    assert time.monotonic() - started < 5


def test_a_watch_ends_at_its_timeout_with_a_bookmark(config_maps: ConfigMaps) -> None:
    started = time.monotonic()
    since = config_maps.version()

    events = config_maps.events(timeout_seconds=1, resource_version=since, allow_watch_bookmarks=True)

    assert 0.9 < time.monotonic() - started < 6
    assert told(events) == [("BOOKMARK", "")]
    assert int(events[0]["object"]["metadata"]["resourceVersion"]) >= int(since)


def test_objects_enter_and_leave_a_selected_watch_as_their_labels_change(config_maps: ConfigMaps) -> None:
    since = config_maps.version()
    config_maps.put("a", app="other")
    config_maps.put("a", app="web")
    config_maps.put("a", app="web", track="canary")
    config_maps.put("a", app="other")
    config_maps.put("a", app=None)

    events = config_maps.events(resource_version=since, label_selector="app=web")

    assert told(events) == [("ADDED", "a"), ("MODIFIED", "a"), ("DELETED", "a")]


def test_a_watch_of_one_object_is_silent_about_others(config_maps: ConfigMaps) -> None:
    since = config_maps.version()
    config_maps.put("a")
    config_maps.put("b")

    assert told(config_maps.events(resource_version=since, field_selector="metadata.name=b")) == [("ADDED", "b")]


def test_initial_events_end_with_a_marked_bookmark(config_maps: ConfigMaps) -> None:
    config_maps.put("a")

    events = config_maps.events(
        send_initial_events=True, resource_version_match="NotOlderThan", allow_watch_bookmarks=True
    )

    assert told(events)[:2] == [("ADDED", "a"), ("BOOKMARK", "")]
    assert events[1]["object"]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}


def test_a_version_of_the_future_is_an_error_not_a_silent_wait(config_maps: ConfigMaps) -> None:
    future = str(int(config_maps.version()) + 1_000_000)

    with pytest.raises(client.ApiException) as refused:
        config_maps.events(resource_version=future)

    assert refused.value.status == 504
    assert json.loads(refused.value.body)["details"]["causes"][0]["reason"] == "ResourceVersionTooLarge"


def test_too_old_a_version_is_a_410_inside_the_stream(start_apiserver: Callable[..., Any]) -> None:
    server = start_apiserver("--history", "5")
    with config.new_client_from_config(str(server.kubeconfig)) as api:
        config_maps = ConfigMaps(client.CoreV1Api(api), "default")
        since = config_maps.version()
        recent = [config_maps.put(f"item-{number}") for number in range(8)][-3]

        events = config_maps.events(timeout_seconds=20, resource_version=since)
        resumed = config_maps.events(resource_version=recent)

    assert [event["type"] for event in events] == ["ERROR"]
    assert (events[0]["object"]["code"], events[0]["object"]["reason"]) == (410, "Expired")
    assert told(resumed) == [("ADDED", "item-6"), ("ADDED", "item-7")]


def test_many_watches_all_hear_every_write(config_maps: ConfigMaps, api: client.ApiClient) -> None:
    since, heard = config_maps.version(), [0] * 20
    api.configuration.connection_pool_maxsize = 30

    def listen(index: int) -> None:
        stream = config_maps.stream(resource_version=since, timeout_seconds=15)
        for _ in stream:
            heard[index] += 1
            if heard[index] == 50:
                break

    listeners = [threading.Thread(target=listen, args=(index,)) for index in range(len(heard))]
    for listener in listeners:
        listener.start()
    for number in range(50):
        config_maps.core.create_namespaced_config_map(config_maps.namespace, {"metadata": {"name": f"n{number}"}})
    for listener in listeners:
        listener.join(20)

    assert heard == [50] * len(heard)
