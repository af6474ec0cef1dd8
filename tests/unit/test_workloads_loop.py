"""The controllers' loop: no error stops it, and every key that failed comes back."""

import threading

import pytest

from canary.errors import Conflict, Unavailable
from canary.sandbox.workloads.loop import Loop

KEY, OTHER = ("Deployment", "shop", "payment"), ("Deployment", "shop", "basket")


@pytest.mark.parametrize("error", [Unavailable("away"), Conflict("stale"), KeyError("spec")])
def test_a_key_that_failed_comes_back_and_the_others_are_not_held_up(error):
    calls, done = [], threading.Event()

    def reconcile(key):
        calls.append(key)
        if key == KEY and calls.count(KEY) < 3:
            raise error
        if calls.count(KEY) == 3 and OTHER in calls:
            done.set()

    loop = Loop(reconcile)
    loop.queue.add(KEY)
    loop.queue.add(OTHER)
    loop.start()
    try:
        assert done.wait(10)
    finally:
        loop.stop()

    assert (calls.count(KEY), calls.count(OTHER)) == (3, 1)
    assert calls[1] == OTHER


def test_a_key_that_asks_for_it_is_looked_at_again_later():
    done = threading.Event()
    answers = [0.01, None]

    def reconcile(_key):
        again = answers.pop(0)
        if not answers:
            done.set()
        return again

    loop = Loop(reconcile)
    loop.queue.add(KEY)
    loop.start()
    try:
        assert done.wait(10)
    finally:
        loop.stop()

    assert answers == []
