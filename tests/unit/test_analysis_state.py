"""The state of a judge, written down and read back: exactly, small, and never more than what it names."""

from __future__ import annotations

import copy
import json
import math
import random
from collections import deque
from collections.abc import Iterator, Mapping
from enum import Enum
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from canary.analysis import Judge
from canary.analysis.state import dump, load
from canary.model.policy import Policy
from canary.model.verdict import ArmCounts, Baseline, Ejections, Window

BOUNDS = (10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1000.0)
KNOWN = Baseline(
    errors_phi=1.7, latency_phi=dict.fromkeys(BOUNDS, 1.3), p99_phi=1.1, unattributed_bound=0.002, history_s=600.0
)


def policy(**analysis: Any) -> Policy:
    strategy = {
        "match": {"headers": {"x-debug-user": {"exact": "true"}}, "hold": "30s"},
        "weights": [10, 50, 100],
        "hold": "30s",
    }
    metrics = [{"name": f"own-{number}", "query": "q", "max": 1000} for number in range(16)]
    judged = {
        "warmup": "10s",
        "errorRate": {"max": "5%"},
        "p99": {"max": "500ms"},
        "harmBudget": {"errors": 20},
        "frozenBound": True,
        "metrics": metrics,
        **analysis,
    }
    return Policy.model_validate({"name": "story", "strategy": strategy, "analysis": judged})


EVERYTHING = policy()


def arm(rng: random.Random, requests: int, bad: float) -> ArmCounts:
    errors = sum(rng.random() < bad for _ in range(requests))
    timed = requests - errors
    tail = sorted((sum(rng.random() < bad + share for _ in range(timed)) for share in (0.3, 0.1, 0.02)), reverse=True)
    slower = dict(zip(BOUNDS, (*tail, tail[-1] // 2, tail[-1] // 3, 0, 0), strict=True))
    return ArmCounts(requests, errors, timed, slower)


def rollout(seed: int, windows: int = 40, length: float = 5.0) -> Iterator[Window]:
    rng = random.Random(seed)
    start = rng.choice((0.0, 1_764_000_000.0))
    bad = rng.choice((0.0, 0.01, 0.05)), rng.choice((0.0, 0.01))
    oddity = rng.choice((0.0, 0.2))
    for index in range(windows):
        odd = rng.random() < oddity
        step = 4 * index // windows
        weight = (0, 10, 50, 100)[step]
        yield Window(
            start + index * length,
            start + (index + 1) * length,
            step,
            weight,
            arm(rng, 0 if odd else max(3, weight), bad[0]),
            arm(rng, 100 - weight, 0.8 if rng.random() < oddity / 3 else bad[1]),
            unattributed=ArmCounts(5, rng.randrange(3)) if odd else ArmCounts(),
            ejections=Ejections(1, 2, rng.randrange(2), 2) if odd else None,
            warm=index > 3,
            noise="CPU steal" if oddity and index % 13 in (5, 6) else "",
            metrics={f"own-{number}": rng.uniform(0, 900) for number in range(16) if rng.random() > oddity},
        )


def fed(windows: list[Window], of: Policy = EVERYTHING) -> Judge:
    judge = Judge(of, KNOWN)
    for window in windows:
        judge.observe(window, window.end + 2)
    return judge


def through_json(judge: Judge, of: Policy = EVERYTHING) -> Judge:
    again = Judge(of, KNOWN)
    load(again, json.loads(json.dumps(dump(judge), allow_nan=False)))
    return again


def contents(thing: Any, seen: frozenset[int] = frozenset()) -> Any:
    """All that hangs on an object, as values that compare bit for bit; nothing of `state` is used to find it."""
    if id(thing) in seen or isinstance(thing, Policy | Enum):
        return str(thing)
    seen |= {id(thing)}
    if isinstance(thing, float):
        return float(thing).hex()
    if isinstance(thing, list | tuple | deque):
        return [type(thing).__name__, getattr(thing, "maxlen", None), *(contents(one, seen) for one in thing)]
    if isinstance(thing, Mapping):
        return [[contents(key, seen), contents(value, seen)] for key, value in thing.items()]
    names = [name for kind in type(thing).__mro__ for name in getattr(kind, "__slots__", ())] or list(
        getattr(thing, "__dict__", {})
    )
    if not names or isinstance(thing, type):
        return [type(thing).__name__, thing]
    return [type(thing).__name__, *([name, contents(getattr(thing, name), seen)] for name in sorted(names))]


def are_same(one: Judge, other: Judge) -> bool:
    """Bit for bit. Not a comparison for pytest to explain: that takes minutes for so much."""
    return bool(contents(one) == contents(other))


# Exactly


@settings(max_examples=30)
@given(st.integers(0, 2**32), st.integers(0, 40))
def test_at_any_point_of_any_rollout_what_is_read_back_is_the_same_judge_bit_for_bit(seed: int, cut: int):
    windows = list(rollout(seed))
    judge = fed(windows[:cut])

    again = through_json(judge)

    assert are_same(again, judge)
    for window in windows[cut:]:
        assert again.observe(window, window.end + 2) == judge.observe(window, window.end + 2)
    assert are_same(again, judge)


def test_a_judge_in_the_middle_of_noise_is_read_back_with_what_it_heard():
    cut = [part[:20] for seed in range(12) for part in [list(rollout(seed, 24))] if part[19].noise and part[19].warm]
    assert cut

    for part in cut:
        judge = fed(part)
        assert judge._witnesses._under_noise._hearing is not None
        again = through_json(judge)
        assert are_same(again, judge)
        assert again._witnesses._under_noise.quiet[0] is again._witnesses._latency[0]
        assert again._witnesses._under_noise._hearing[0] is not again._witnesses._latency[0]


def test_a_judge_that_has_failed_still_says_so():
    windows = list(rollout(0))
    bad = ArmCounts(50, 50, 0, {})
    judge = fed(windows[:20])
    for index in range(3):
        start = windows[19].end + 5 * index
        failed = judge.observe(Window(start, start + 5, 3, 50, bad, arm(random.Random(1), 50, 0)), start + 7)

    again = through_json(judge)

    assert again.verdict(0.0, None) == failed  # type: ignore[arg-type]


def test_a_fresh_judge_is_written_and_read_as_well():
    assert are_same(through_json(Judge(EVERYTHING, KNOWN)), Judge(EVERYTHING, KNOWN))


def test_the_same_windows_after_a_restart_give_the_same_dump():
    for seed in range(5):
        windows = list(rollout(seed))
        assert json.dumps(dump(fed(windows))) == json.dumps(dump(fed(windows)))


def test_writing_changes_nothing():
    judge = fed(list(rollout(7)))
    before = contents(judge)

    dump(judge)

    assert contents(judge) == before


# Small


def test_with_everything_a_policy_can_ask_for_and_tiles_of_a_second_it_stays_under_24_kb():
    """Two hundred windows of a second: a minute of them in each of three sums, twice while noise is heard."""
    judge = fed(list(rollout(11, windows=200, length=1.0)))

    sizes = []
    last = judge._last
    assert last is not None
    for index in range(90):
        start = last.end + index
        window = Window(start, start + 1, 3, 100, arm(random.Random(index), 999, 0.01), ArmCounts(), noise="steal")
        judge.observe(window, start + 2)
        sizes.append(len(json.dumps(dump(judge), separators=(",", ":"))))

    assert max(sizes) < 24_000
    assert sizes[-1] < 1.1 * sizes[-25]  # a minute is a minute


# From anybody

json_values = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.integers(2**60, 2**90),
        st.floats(allow_nan=True),
        st.sampled_from(["", "inf", "-inf", "nan", "judge", "Judge", "_failed", "__class__", "policy"]),
        st.text(max_size=5),
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=8), inner, max_size=4)),
    max_leaves=12,
)
MIDDLE = fed(list(rollout(3))[:25])
DUMPED = dump(MIDDLE)


FRESH = dump(Judge(EVERYTHING, KNOWN))


def load_or_refuse(dumped: Any) -> Judge | None:
    """A judge that read this, None when it was refused with a ValueError and left as it was."""
    judge = Judge(EVERYTHING, KNOWN)
    try:
        load(judge, dumped)
    except ValueError as refused:
        message = str(refused)
    else:
        return judge
    assert 10 < len(message) < 1000
    assert dump(judge) == FRESH
    return None


@settings(max_examples=100)
@given(json_values)
def test_what_is_no_state_is_refused_with_a_sentence(value: Any):
    assert load_or_refuse(value) is None
    assert load_or_refuse({"judge": value}) is None


def paths(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from paths(inner, (*path, key))
    elif isinstance(value, list):
        for place, inner in enumerate(value):
            yield from paths(inner, (*path, place))


PATHS = [path for path in paths(DUMPED) if path]


@settings(max_examples=150)
@given(st.data())
def test_a_state_that_somebody_changed_is_refused_or_read_as_a_state_and_nothing_else(data: st.DataObject):
    changed = copy.deepcopy(DUMPED)
    *parents, last = data.draw(st.sampled_from(PATHS))
    place: Any = changed
    for key in parents:
        place = place[key]
    what = data.draw(st.sampled_from(["replace", "delete", "add"]))
    if what == "replace":
        place[last] = data.draw(json_values)
    elif what == "delete":
        del place[last]
    elif isinstance(place, dict):
        place[data.draw(st.sampled_from(["observe", "__class__", "policy", "_policy", "evil"]))] = data.draw(
            json_values
        )
    else:
        place.insert(last, data.draw(json_values))

    judge = load_or_refuse(changed)
    if judge is None:
        return
    fresh = Judge(EVERYTHING, KNOWN)
    assert vars(judge).keys() == vars(fresh).keys()
    assert judge.policy is EVERYTHING
    assert vars(judge._witnesses).keys() == vars(fresh._witnesses).keys()
    for ours, theirs in zip(judge._witnesses._quiet, fresh._witnesses._quiet, strict=True):
        assert type(ours) is type(theirs)
        assert vars(ours).keys() == vars(theirs).keys()
    for window in list(rollout(3))[25:28]:
        try:
            judge.observe(window, window.end + 2)
        except (ValueError, ArithmeticError):
            return  # a judge of absurd sums: who replays it turns these into a sentence


@pytest.mark.parametrize("name", ["observe", "policy", "_witnesses2", "__class__", "__dict__"])
def test_an_attribute_that_is_not_the_judges_own_is_refused(name: str):
    changed = copy.deepcopy(DUMPED)
    changed["judge"][name] = 5

    assert load_or_refuse(changed) is None


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("_witnesses", "_errors", 0, "_worse", "mixture", "log_e"), "high"),
        (("_witnesses", "_errors", 0, "_worse", "mixture", "log_e"), math.nan),
        (("_witnesses", "_errors", 0, "_worse", "mixture", "_log_stakes"), [0.0] * 12),
        (("_witnesses", "_errors", 0, "_sums"), [1, 2, 3]),
        (("_witnesses", "_errors", 0, "_sums"), [1, 2, 3, -4]),
        (("_witnesses", "_errors", 0, "_sums"), [1, 2, 3, 4.5]),
        (("_witnesses", "_errors"), []),
        (("_witnesses", "_metrics", 0, "_values"), [1.0] * 6),
        (("_minute", "_entries"), [[0.0, 1.0, [1, 2, 3]]]),
        (("_failed",), {"outcome": "maybe", "reason": "healthy", "sentence": "", "evidence": []}),
        (("_last",), 7),
        (("_step", "canary", "requests"), None),
    ],
)
def test_a_figure_of_another_kind_or_number_is_refused(path: tuple[Any, ...], value: Any):
    changed = copy.deepcopy(DUMPED)
    place = changed["judge"]
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value

    assert load_or_refuse(changed) is None


@pytest.mark.parametrize(
    "other",
    [
        {"p99": {"vsStable": "off"}},
        {"frozenBound": False},
        {"metrics": []},
        {"errorRate": {"vsStable": "off"}},
        {"metrics": [{"name": "own", "query": "q", "max": 1, "of": 3}]},
    ],
)
def test_the_state_of_a_judge_of_another_policy_is_refused(other: dict[str, Any]):
    judge = Judge(policy(**other), KNOWN)

    with pytest.raises(ValueError, match="this is not the state of a judge"):
        load(judge, DUMPED)


def test_a_state_nested_without_end_is_refused():
    nested: Any = []
    for _ in range(50_000):
        nested = [nested]

    assert load_or_refuse({"judge": nested}) is None
    changed = copy.deepcopy(DUMPED)
    changed["judge"]["_last"] = {"start": nested}
    assert load_or_refuse(changed) is None
