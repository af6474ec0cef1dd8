"""How far ReplicaSets may grow and shrink, checked against the promises of a rolling update."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from canary.sandbox.workloads.rolling import Bounds, Scale, plan, plan_paused


@pytest.mark.parametrize(
    ("strategy", "replicas", "surge", "unavailable"),
    [
        (None, 4, 1, 1),
        (None, 3, 1, 0),  # 25 % of 3: surge rounded up, unavailable down
        (None, 10, 3, 2),
        ({"rollingUpdate": {"maxSurge": 0, "maxUnavailable": 0}}, 3, 0, 1),  # else nothing could ever move
        ({"rollingUpdate": {"maxSurge": "100%", "maxUnavailable": 0}}, 3, 3, 0),
        ({"rollingUpdate": {"maxSurge": 2, "maxUnavailable": 5}}, 3, 2, 3),
    ],
)
def test_bounds_are_kubernetes_own(strategy, replicas, surge, unavailable):
    assert Bounds.of(strategy, replicas) == Bounds(surge, unavailable)


@given(
    replicas=st.integers(1, 12),
    surge=st.integers(0, 4),
    unavailable=st.integers(0, 4),
    chosen=st.randoms(use_true_random=False),
)
def test_a_rolling_update_never_leaves_its_bounds_and_always_ends(replicas, surge, unavailable, chosen):
    bounds = Bounds.of({"rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}}, replicas)
    wanted, available = {"old": replicas, "new": 0}, {"old": replicas, "new": 0}

    for _ in range(200):
        scales = {name: Scale(name, wanted[name], wanted[name], available[name]) for name in wanted}
        wanted |= plan(replicas, bounds, scales["new"], [scales["old"]])
        available = {name: min(available[name], wanted[name]) for name in wanted}
        assert sum(wanted.values()) <= replicas + bounds.surge
        assert sum(available.values()) >= replicas - bounds.unavailable
        if available["new"] < wanted["new"] and chosen.random() < 0.5:  # a new Pod becomes ready, or not yet
            available["new"] += 1

    assert wanted == {"old": 0, "new": replicas}


def test_new_pods_that_never_become_ready_leave_the_old_ones_serving():
    bounds = Bounds.of(None, 4)
    wanted = {"old": 4, "new": 0}

    for _ in range(20):
        new, old = Scale("new", wanted["new"], wanted["new"], 0), Scale("old", wanted["old"], wanted["old"], 4)
        wanted |= plan(4, bounds, new, [old])

    assert wanted == {"old": 3, "new": 2}


def test_old_pods_that_never_served_go_first():
    new, broken, serving = Scale("new", 1, 1, 0), Scale("broken", 2, 2, 0), Scale("serving", 3, 3, 3)

    assert plan(4, Bounds(surge=2, unavailable=0), new, [broken, serving])["broken"] == 1


def test_a_settled_deployment_is_left_alone():
    assert plan(3, Bounds.of(None, 3), Scale("new", 3, 3, 3), [Scale("old", 0, 0, 0)]) == {}


def test_a_scale_is_one_step():
    assert plan(5, Bounds.of(None, 5), Scale("new", 3, 3, 3), []) == {"new": 5}
    assert plan(0, Bounds.of(None, 0), Scale("new", 3, 3, 3), []) == {"new": 0}


def test_recreate_starts_the_new_only_when_the_old_are_gone():
    bounds = Bounds.of({"type": "Recreate"}, 3)

    assert plan(3, bounds, Scale("new", 0, 0, 0), [Scale("old", 3, 3, 3)]) == {"old": 0}
    assert plan(3, bounds, Scale("new", 0, 0, 0), [Scale("old", 0, 1, 1)]) == {}
    assert plan(3, bounds, Scale("new", 0, 0, 0), [Scale("old", 0, 0, 0)]) == {"new": 3}


def test_paused_in_the_middle_only_the_newest_takes_a_change_of_scale():
    scales = [Scale("new", 1, 1, 1), Scale("old", 3, 3, 3)]

    assert plan_paused(4, scales) == {}
    assert plan_paused(6, scales) == {"new": 3}
    assert plan_paused(3, scales) == {"new": 0}
    assert plan_paused(2, [Scale("old", 0, 0, 0)]) == {"old": 2}
    assert plan_paused(2, []) == {}
